"""Rule estimate_flat_field. The work is in cellmill/stages/estimate_flat_field.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.estimate_flat_field import estimate_flat_field

estimate_flat_field(
    output_path=snakemake.output.flat_field,
    **snakemake.params.settings,
)
