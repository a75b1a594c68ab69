"""Rule join_seeds. The work is in cellmill/stages/join_seeds.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.join_seeds import join_runs

join_runs(
    output_path=snakemake.output.weights, weights_paths=list(snakemake.input.weights), **snakemake.params.settings
)
