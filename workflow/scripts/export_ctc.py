"""Rule export_ctc. The work is in cellmill/stages/export_ctc.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.export_ctc import export_ctc

export_ctc(
    output_dir=snakemake.output.folder,
    segmentation_dirs=list(snakemake.input.segmentation),
    **snakemake.params.settings,
)
