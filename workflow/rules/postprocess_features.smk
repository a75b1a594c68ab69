"""Stage `postprocess`: features of objects that are added to objects.csv, only if requested under `measure`.

Reads   segmentation of a shard with its objects.csv, all channels of the raw images, images for the pixel size
Writes  results/{dataset}/{run}/features/{shard}.csv      one row per object, float as text: px, um, counts, degrees
"""


def measured_shard(wildcards):
    """Return the segmentation, the images and the raw images of a shard.

    The raw images are ordinary files, because a channel that is only measured does not change the preprocessed images.
    """
    found = shard_inputs("images", "segmentation")(wildcards)
    raw = raw_images_of_shard(wildcards)
    found["seals"] += raw.get("seals", [])
    found["raw"] = raw.get("raw", raw.get("images"))
    return found


def tables_of_run(wildcards):
    """Return the segmentation of every shard of a dataset by one run, and the features of its objects, if requested."""
    found = segmentation_of_run(wildcards)
    words = dict(wildcards)
    if PLAN.measures_features(wildcards.dataset):
        found["features"] = [
            shard_path("features", shard=shard, **words)
            for shard in PLAN.shards(wildcards.dataset)
        ]
    return found


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
        mem_mb=4000,
        runtime=120,
        gpu=0,
    params:
        settings=settings_of("postprocess_features"),
        code=code_of("postprocess_features"),
    script:
        "../scripts/postprocess_features.py"
