"""Rule train. The work is in cellmill/stages/train.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.train import train_model

train_model(
    weights_path=snakemake.output.weights,
    history_path=snakemake.output.history,
    summary_path=snakemake.output.summary,
    choices_path=snakemake.output.choices,
    train_images=list(snakemake.input.train_images),
    train_labels=list(snakemake.input.train_labels),
    validation_images=list(snakemake.input.validation_images),
    validation_labels=list(snakemake.input.validation_labels),
    around_images=list(snakemake.input.get("around", [])),
    init_from=snakemake.input.get("init_from"),
    threads=snakemake.threads,
    gpu=snakemake.resources.gpu,
    code=snakemake.params.code,
    **snakemake.params.settings,
)
