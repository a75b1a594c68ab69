"""Rule postprocess. The work is in cellmill/stages/postprocess.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.postprocess import postprocess_shard

postprocess_shard(
    output_dir=snakemake.output.segmentation,
    images_dir=snakemake.input.images[0],
    probabilities_dir=snakemake.input.probabilities[0],
    fit_path=snakemake.input.fit,
    **snakemake.params.settings,
)
