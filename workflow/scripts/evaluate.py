"""Rule evaluate. The work is in cellmill/evaluate.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.evaluate import summarize_evaluation

summarize_evaluation(
    metrics_path=snakemake.output.metrics, scores_path=snakemake.output.scores,
    comparisons_path=snakemake.output.comparisons, shard_paths=list(snakemake.input.shards), **snakemake.params.settings,
)  # fmt: skip
