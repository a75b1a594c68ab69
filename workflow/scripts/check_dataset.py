"""Rule check_dataset. The work is in cellmill/findings.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.findings import summarize_check

summarize_check(
    summary_path=snakemake.output.summary, images_path=snakemake.output.images,
    annotations_path=snakemake.output.annotations, findings_paths=snakemake.input.findings,
    **snakemake.params.settings,
)  # fmt: skip
