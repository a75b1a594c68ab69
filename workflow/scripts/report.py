"""Rule report. The work is in cellmill/stages/report.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.provenance import describe_run
from cellmill.stages.report import write_report

write_report(
    output_path=snakemake.output.page,
    check_paths=list(snakemake.input.findings),
    metrics_path=snakemake.input.metrics,
    scores_path=snakemake.input.scores,
    comparisons_path=snakemake.input.comparisons,
    curves_path=snakemake.input.curves,
    sizes_path=snakemake.input.sizes,
    confidence_path=snakemake.input.confidence,
    benchmarks_dir=f"benchmarks/{snakemake.wildcards.dataset}",
    provenance=describe_run(snakemake.scriptdir),
    **snakemake.params.settings,
)
