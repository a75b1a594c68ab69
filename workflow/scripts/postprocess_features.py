"""Rule postprocess_features. The work is in cellmill/stages/postprocess_features.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.postprocess_features import measure_features

measure_features(
    output_path=snakemake.output.features,
    segmentation_dir=snakemake.input.segmentation[0],
    images_dir=snakemake.input.images[0],
    **snakemake.params.settings,
)
