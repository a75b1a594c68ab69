"""Rule check_dataset. The work is in cellmill/findings.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.findings import summarize_check

summarize_check(
    output_path=snakemake.output.summary, findings_paths=snakemake.input.findings, **snakemake.params.settings
)
