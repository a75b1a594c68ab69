"""Rule crate. The work is in cellmill/stages/crate.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.provenance import describe_run
from cellmill.stages.crate import write_crate

write_crate(
    output_path=snakemake.output.crate, provenance=describe_run(snakemake.scriptdir), **snakemake.params.settings
)
