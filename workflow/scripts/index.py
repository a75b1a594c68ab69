"""Rule index. The work is in cellmill/stages/index.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.provenance import describe_run
from cellmill.stages.index import write_index

write_index(
    output_path=snakemake.output.page,
    metrics_paths=list(snakemake.input.metrics),
    comparisons_paths=list(snakemake.input.comparisons),
    provenance=describe_run(snakemake.scriptdir),
    **snakemake.params.settings,
)
