"""Rule export_ome_zarr. The work is in cellmill/stages/export_ome_zarr.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.export_ome_zarr import export_ome_zarr

export_ome_zarr(
    output_dir=snakemake.output.folder,
    segmentation_dirs=list(snakemake.input.segmentation),
    **snakemake.params.settings,
)
