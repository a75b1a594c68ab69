"""Stage `masks`: objects of a run from the masks of another program or annotator, in place of a model.

Reads   masks of a shard, in the formats of annotations; images and raw images, to measure the objects
Writes  results/{dataset}/{run}/segmentation/{shard}/     instance labels, uint16 (uint32 if needed), YX,
                                                          geometry of the raw image; objects.csv, rle.csv,
                                                          counts.csv, flags.csv
"""


rule masks:
    """Convert the masks of one shard to objects and measure them."""
    input:
        unpack(shard_with_raw("images")),
    output:
        segmentation=directory("results/{dataset}/{run}/segmentation/{shard}"),
        seal="results/{dataset}/{run}/segmentation/.{shard}.sha256",
    log:
        "logs/{dataset}/masks/{run}/{shard}.log",
    benchmark:
        "benchmarks/{dataset}/masks/{run}/{shard}.tsv"
    wildcard_constraints:
        run=pattern_of_runs(MASK_RUNS),
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing_with_images(60),
        gpu=0,
    params:
        settings=settings_of("masks"),
        code=code_of("masks"),
    script:
        "../scripts/masks.py"
