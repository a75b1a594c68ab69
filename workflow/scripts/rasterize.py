"""Rule rasterize. The work is in cellmill/stages/rasterize.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.rasterize import rasterize_shard

rasterize_shard(output_dir=snakemake.output.labels, **snakemake.params.settings)
