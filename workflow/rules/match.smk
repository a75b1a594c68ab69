"""Stage `match`: fit the simulation to the images of another dataset.

Reads   at most 64 raw images of that dataset, and their labels; training images if it has annotations
Writes  results/{dataset}/match.json      settings of the simulation for each of these images; counts and px
        results/{dataset}/match.csv       one row per statistic: real images, simulated ones before and after, distances
"""


rule match:
    """Fit the simulation to images of another dataset, by statistics measured on both."""
    input:
        unpack(reference_data),
    output:
        references="results/{dataset}/match.json",
        table="results/{dataset}/match.csv",
    log:
        "logs/{dataset}/match/match.log",
    benchmark:
        "benchmarks/{dataset}/match/match.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
        gpu=0,
    params:
        settings=settings_of("match"),
        code=code_of("match"),
    script:
        "../scripts/match.py"
