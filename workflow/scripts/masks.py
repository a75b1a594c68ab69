"""Rule masks. The work is in cellmill/stages/masks.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.masks import read_masks_of_shard

read_masks_of_shard(
    output_dir=snakemake.output.segmentation, images_dir=snakemake.input.images[0], **snakemake.params.settings
)
