"""Rule export_table. The work is in cellmill/stages/export_table.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.export_table import export_table

export_table(output_path=snakemake.output.objects, objects_path=snakemake.input.objects, **snakemake.params.settings)
