"""Stage `export`: a trained run in formats that other programs read, only if requested under `export`.

Reads   results/{dataset}/{run}/model.cellmill            network, weights, threshold, preprocessing
Writes  results/{dataset}/{run}/model.onnx                float32, normalised images to probabilities
        results/{dataset}/{run}/model.bioimageio.zip      the same graph, packaged for the tools of bioimage.io
"""


rule export_onnx:
    """Write a run as an ONNX graph with its weights."""
    input:
        model="results/{dataset}/{run}/model.cellmill",
    output:
        graph="results/{dataset}/{run}/model.onnx",
    log:
        "logs/{dataset}/export/{run}/onnx.log",
    benchmark:
        "benchmarks/{dataset}/export/{run}/onnx.tsv"
    conda:
        "../../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(30),
        gpu=0,
    params:
        settings=settings_of("export_onnx"),
        code=code_of("export_onnx"),
    script:
        "../scripts/export_onnx.py"


rule export_bioimageio:
    """Package the ONNX graph of a run for bioimage.io, with a test image and its probabilities."""
    input:
        model="results/{dataset}/{run}/model.cellmill",
        graph="results/{dataset}/{run}/model.onnx",
    output:
        package="results/{dataset}/{run}/model.bioimageio.zip",
    log:
        "logs/{dataset}/export/{run}/bioimageio.log",
    benchmark:
        "benchmarks/{dataset}/export/{run}/bioimageio.tsv"
    conda:
        "../../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(30),
        gpu=0,
    params:
        settings=settings_of("export_bioimageio"),
        code=code_of("export_bioimageio"),
    script:
        "../scripts/export_bioimageio.py"
