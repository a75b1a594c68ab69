"""Rule export_geojson. The work is in cellmill/stages/export_geojson.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.export_geojson import export_geojson

export_geojson(
    output_dir=snakemake.output.folder,
    segmentation_dirs=list(snakemake.input.segmentation),
    **snakemake.params.settings,
)
