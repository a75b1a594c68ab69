"""Rule evaluate. The work is in cellmill/stages/evaluate.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.evaluate import summarize_evaluation

tables = {f"{name}_path": snakemake.output[name] for name in ("metrics", "scores", "comparisons", "curves", "sizes")}
summarize_evaluation(
    **tables, shard_paths=list(snakemake.input.shards), **snakemake.params.settings,
)  # fmt: skip
