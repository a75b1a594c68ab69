"""Rule evaluate_shard. The work is in cellmill/stages/evaluate_shard.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.evaluate_shard import evaluate_shard

evaluate_shard(
    output_path=snakemake.output.counts,
    images_dir=snakemake.input.images[0],
    labels_dir=snakemake.input.labels[0],
    probabilities_dir=snakemake.input.get("probabilities"),
    segmentation_dir=snakemake.input.segmentation[0],
    fit_path=snakemake.input.get("fit"),
    **snakemake.params.settings,
)
