"""Stage `preprocess`: background subtraction and cropping.

Reads   raw images of a shard                         any integer or float, camera counts
Writes  results/{dataset}/images/{shard}/             float32, YX, counts above background;
                                                      geometry.csv, which maps back to the raw image
"""


rule preprocess:
    """Subtract the background of one shard of images and bring them to a common size."""
    input:
        unpack(frames_of_shard),
    output:
        images=directory("results/{dataset}/images/{shard}"),
        seal="results/{dataset}/images/.{shard}.sha256",
    log:
        "logs/{dataset}/preprocess/{shard}.log",
    benchmark:
        "benchmarks/{dataset}/preprocess/{shard}.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
        gpu=0,
    params:
        settings=settings_of("preprocess"),
        code=code_of("preprocess"),
    script:
        "../scripts/preprocess.py"
