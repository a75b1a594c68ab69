"""Rule export_bioimageio. The work is in cellmill/stages/export_bioimageio.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.export_bioimageio import export_bioimageio

export_bioimageio(
    output_path=snakemake.output.package,
    graph_path=snakemake.input.graph,
    model_path=snakemake.input.model,
    threads=snakemake.threads,
    **snakemake.params.settings,
)
