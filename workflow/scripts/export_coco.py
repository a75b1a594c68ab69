"""Rule export_coco. The work is in cellmill/stages/export_coco.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.export_coco import export_coco

export_coco(
    output_path=snakemake.output.objects,
    segmentation_dirs=list(snakemake.input.segmentation),
    **snakemake.params.settings,
)
