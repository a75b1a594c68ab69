"""Rule index. The work is in cellmill/stages/index.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.provenance import describe_run
from cellmill.stages.index import summarize_for_index, write_index

counts = snakemake.params.settings["datasets"]
tables = zip(snakemake.params.settings["order"], snakemake.input.metrics, snakemake.input.comparisons, strict=True)
rows = [summarize_for_index(dataset=d, images=counts[d], metrics_path=m, comparisons_path=c) for d, m, c in tables]
write_index(output_path=snakemake.output.page, reports=rows, provenance=describe_run(snakemake.scriptdir))
