"""Rule contrast. The work is in cellmill/stages/contrast.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.contrast import contrast_shard

contrast_shard(
    output_dir=snakemake.output.probabilities,
    images_dir=snakemake.input.images[0],
    recipe_path=snakemake.input.recipe,
    **snakemake.params.settings,
)
