"""Stage `rasterize`: annotations to instance labels.

Reads   annotations of a shard                        RLE tables, COCO, masks, label images, ImageJ ROIs
Writes  results/{dataset}/labels/{shard}/             uint16, YX, geometry of the raw image; 0 background, 65535 ignore;
                                                      faults.csv, overlaps.csv, objects.csv
"""


rule rasterize:
    """Convert the annotations of one shard to label images; list overlaps and repairs."""
    input:
        unpack(raw_images_of_shard),
    output:
        labels=directory("results/{dataset}/labels/{shard}"),
        seal="results/{dataset}/labels/.{shard}.sha256",
    log:
        "logs/{dataset}/rasterize/{shard}.log",
    benchmark:
        "benchmarks/{dataset}/rasterize/{shard}.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing_with_images(60),
        gpu=0,
    params:
        settings=settings_of("rasterize"),
        code=code_of("rasterize"),
    script:
        "../scripts/rasterize.py"
