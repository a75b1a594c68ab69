"""Rule measure_objects. The work is in cellmill/stages/measure_objects.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.measure_objects import measure_objects

measure_objects(
    output_path=snakemake.output.diameter,
    labels_dirs=list(snakemake.input.labels),
    **snakemake.params.settings,
)
