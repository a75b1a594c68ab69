"""Rule evaluate. The work is in cellmill/stages/evaluate.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.evaluate import summarize_evaluation

summarize_evaluation(
    metrics_path=snakemake.output.metrics,
    scores_path=snakemake.output.scores,
    comparisons_path=snakemake.output.comparisons,
    curves_path=snakemake.output.curves,
    sizes_path=snakemake.output.sizes,
    confidence_path=snakemake.output.confidence,
    shard_paths=list(snakemake.input.shards),
    **snakemake.params.settings,
)
