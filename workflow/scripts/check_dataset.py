"""Rule check_dataset. The work is in cellmill/stages/check_dataset.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.check_dataset import summarize_check

summarize_check(
    summary_path=snakemake.output.summary,
    images_path=snakemake.output.images,
    annotations_path=snakemake.output.annotations,
    findings_paths=snakemake.input.findings,
    **snakemake.params.settings,
)
