"""Rule export_rois. The work is in cellmill/stages/export_rois.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.export_rois import export_rois

export_rois(
    output_dir=snakemake.output.folder,
    segmentation_dirs=list(snakemake.input.segmentation),
    **snakemake.params.settings,
)
