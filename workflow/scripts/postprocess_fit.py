"""Rule postprocess_fit. The work is in cellmill/stages/postprocess_fit.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.postprocess_fit import fit_postprocess

roles = ("train_images", "train_labels", "train_probabilities",
         "validation_images", "validation_labels", "validation_probabilities")  # fmt: skip
fit_postprocess(
    output_path=snakemake.output.fit, export_path=snakemake.output.export, weights_path=snakemake.input.weights,
    **{role: list(snakemake.input[role]) for role in roles}, **snakemake.params.settings,
)  # fmt: skip
