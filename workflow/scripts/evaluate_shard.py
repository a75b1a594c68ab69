"""Rule evaluate_shard. The work is in cellmill/stages/evaluate_shard.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.evaluate_shard import evaluate_shard

rooms = {f"{room}_dir": snakemake.input[room][0] for room in ("images", "labels", "probabilities", "segmentation")}
evaluate_shard(output_path=snakemake.output.counts, fit_path=snakemake.input.fit, **rooms, **snakemake.params.settings)
