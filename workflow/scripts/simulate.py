"""Rule simulate. The work is in cellmill/stages/simulate.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.simulate import simulate_shard

simulate_shard(output_dir=snakemake.output.raw, match_path=snakemake.input.get("match"), **snakemake.params.settings)
