"""Rule conditions. The work is in cellmill/stages/conditions.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.conditions import summarize_conditions

summarize_conditions(
    conditions_path=snakemake.output.conditions,
    replicates_path=snakemake.output.replicates,
    objects_path=snakemake.input.objects,
    **snakemake.params.settings,
)
