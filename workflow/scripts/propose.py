"""Rule propose. The work is in cellmill/stages/propose.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.propose import propose_config

propose_config(**snakemake.params.settings)
