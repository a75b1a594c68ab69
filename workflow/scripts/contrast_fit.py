"""Rule contrast_fit. The work is in cellmill/stages/contrast_fit.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.contrast_fit import fit_contrast

fit_contrast(
    output_path=snakemake.output.recipe,
    images_dirs=list(snakemake.input.get("images", [])),
    labels_dirs=list(snakemake.input.get("labels", [])),
    **snakemake.params.settings,
)
