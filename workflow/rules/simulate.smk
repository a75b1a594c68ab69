"""Stage `simulate`: microscope images with known ground truth.

Reads   settings and seed only; also match.json if the simulation is fitted to a dataset
Writes  results/{dataset}/raw/{shard}/    images/*.tif uint8 or uint16, (C)YX, camera counts; objects.csv (true
                                          parameters, px); images.csv. Single images: annotations.csv (row-major RLE),
                                          visible/*.tif. Sequences: {sequence}_GT/SEG and TRA as in the Cell Tracking
                                          Challenge, tracks.csv (lineage)
"""


rule simulate:
    """Simulate one shard of raw images and annotations, in file formats that labs use."""
    input:
        unpack(match_of_dataset),
    output:
        raw=directory("results/{dataset}/raw/{shard}"),
        seal="results/{dataset}/raw/.{shard}.sha256",
    log:
        "logs/{dataset}/simulate/{shard}.log",
    benchmark:
        "benchmarks/{dataset}/simulate/{shard}.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing_with_images(60),
        gpu=0,
    params:
        settings=settings_of("simulate"),
        code=code_of("simulate"),
    script:
        "../scripts/simulate.py"
