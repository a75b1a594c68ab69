"""Stage `postprocess`: features of objects that are added to objects.csv, only if requested under `measure`.

Reads   segmentation of a shard with its objects.csv, all channels of the raw images, images for the pixel size
Writes  results/{dataset}/{run}/features/{shard}.csv      one row per object, float as text: px, um, counts, degrees
"""


rule postprocess_features:
    """Measure the requested features of the objects of one shard."""
    input:
        unpack(measured_shard),
    output:
        features="results/{dataset}/{run}/features/{shard}.csv",
    log:
        "logs/{dataset}/postprocess/{run}/features/{shard}.log",
    benchmark:
        "benchmarks/{dataset}/postprocess/{run}/features/{shard}.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing_with_images(120),
        gpu=0,
    params:
        settings=settings_of("postprocess_features"),
        code=code_of("postprocess_features"),
    script:
        "../scripts/postprocess_features.py"
