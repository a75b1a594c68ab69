"""Rule match. The work is in cellmill/stages/match.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.match import match_dataset

match_dataset(
    references_path=snakemake.output.references, table_path=snakemake.output.table, **snakemake.params.settings
)
