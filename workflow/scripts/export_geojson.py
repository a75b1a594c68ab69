"""Rule export_geojson. The work is in cellmill/object_files.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.object_files import export_geojson

export_geojson(
    output_dir=snakemake.output.folder, segmentation_dirs=list(snakemake.input.segmentation),
    **snakemake.params.settings,
)  # fmt: skip
