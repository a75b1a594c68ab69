"""Rule predict. The work is in cellmill/stages/predict.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.predict import predict_shard

predict_shard(
    output_dir=snakemake.output.probabilities,
    images_dir=snakemake.input.images[0],
    around_dirs=list(snakemake.input.get("around", [])),
    weights_path=snakemake.input.weights,
    threads=snakemake.threads,
    gpu=snakemake.resources.gpu,
    **snakemake.params.settings,
)
