"""Rule export_onnx. The work is in cellmill/stages/export_onnx.py."""

from cellmill.runlog import start_log

start_log(snakemake.log[0], rule=snakemake.rule, params=snakemake.params)

from cellmill.stages.export_onnx import export_onnx

export_onnx(
    output_path=snakemake.output.graph,
    model_path=snakemake.input.model,
    threads=snakemake.threads,
    **snakemake.params.settings,
)
