"""Rule worklist. The work is in cellmill/stages/worklist.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.worklist import list_images_to_annotate

list_images_to_annotate(
    table_path=snakemake.output.table,
    labels_dir=snakemake.output.labels,
    counts_path=snakemake.input.counts,
    images_path=snakemake.input.images,
    scores_path=snakemake.input.scores,
    segmentation_dirs=list(snakemake.input.segmentation),
    **snakemake.params.settings,
)
