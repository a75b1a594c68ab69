"""Rule simulate. The work is in cellmill/simulate.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.simulate import simulate_shard

simulate_shard(output_dir=snakemake.output.raw, match_path=snakemake.input.get("match"), **snakemake.params.settings)
