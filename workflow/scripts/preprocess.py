"""Rule preprocess. The work is in cellmill/stages/preprocess.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.preprocess import preprocess_shard

preprocess_shard(
    output_dir=snakemake.output.images,
    diameter_path=snakemake.input.get("diameter"),
    flat_field_path=snakemake.input.get("flat_field"),
    **snakemake.params.settings,
)
