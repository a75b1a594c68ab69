"""Stage `contrast`: maps of a run without a network, in place of `train` and `predict`.

Reads   results/{dataset}/images, labels              float32 and uint16, YX; labels only to choose the numbers
Writes  results/{dataset}/{run}/classical.json        smoothing, window, polarity, and what else was tried
        results/{dataset}/{run}/probabilities/{shard}/    float16, CYX, geometry of the preprocessed image
"""


rule contrast_fit:
    """Choose smoothing, window and polarity of a run on training and validation shards."""
    input:
        unpack(choosing_data),
    output:
        recipe="results/{dataset}/{run}/classical.json",
    log:
        "logs/{dataset}/contrast/{run}/fit.log",
    benchmark:
        "benchmarks/{dataset}/contrast/{run}/fit.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(60),
        gpu=0,
    params:
        settings=settings_of("contrast_fit"),
        code=code_of("contrast_fit"),
    script:
        "../scripts/contrast_fit.py"


rule contrast:
    """Map the contrast of one shard of images, band by band."""
    input:
        unpack(shard_inputs("images")),
        recipe=recipe_of_run,
    output:
        probabilities=directory("results/{dataset}/{run}/probabilities/{shard}"),
        seal="results/{dataset}/{run}/probabilities/.{shard}.sha256",
    log:
        "logs/{dataset}/contrast/{run}/{shard}.log",
    benchmark:
        "benchmarks/{dataset}/contrast/{run}/{shard}.tsv"
    wildcard_constraints:
        run=pattern_of_runs(CLASSICAL_RUNS),
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing_with_images(60),
        gpu=0,
    params:
        settings=settings_of("contrast"),
        code=code_of("contrast"),
    script:
        "../scripts/contrast.py"
