"""Stage `simulate`: microscope images with a known truth.

Reads   nothing; settings and seed
Writes  results/{dataset}/raw/{shard}/    images/*.tif uint16, YX, camera counts; annotations.csv (row-major RLE);
                                          objects.csv (true parameters, px)
"""


rule simulate:
    """Simulate one shard of images, as a lab would have them."""
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
        mem_mb=2000,
        runtime=60,
        gpu=0,
    params:
        settings=settings_of("simulate"),
        code=code_of("simulate"),
    script:
        "../scripts/simulate.py"
