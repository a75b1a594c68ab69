"""Rule check_shard. The work is in cellmill/stages/check_shard.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.check_shard import check_shard

check_shard(
    output_path=snakemake.output.findings,
    raw_dirs=list(snakemake.input.get("raw", [])),
    **snakemake.params.settings,
)
