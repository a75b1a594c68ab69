"""Rule postprocess_fit. The work is in cellmill/stages/postprocess_fit.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.postprocess_fit import fit_postprocess

fit_postprocess(
    output_path=snakemake.output.fit,
    export_path=snakemake.output.export,
    weights_path=snakemake.input.weights,
    train_images=list(snakemake.input.train_images),
    train_labels=list(snakemake.input.train_labels),
    train_probabilities=list(snakemake.input.train_probabilities),
    validation_images=list(snakemake.input.validation_images),
    validation_labels=list(snakemake.input.validation_labels),
    validation_probabilities=list(snakemake.input.validation_probabilities),
    diameter_path=snakemake.input.get("diameter"),
    checked_path=snakemake.input.checked,
    start_paths=list(snakemake.input.starts),
    choices_paths=list(snakemake.input.choices),
    **snakemake.params.settings,
)
