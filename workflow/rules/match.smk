"""Stage `match`: settings under which the simulation looks like the images of another dataset.

Reads   raw images of training shards of that dataset, 64 at most; their labels, where they are annotated
Writes  results/{dataset}/match.json      settings of the simulation for each of these images; counts and px
        results/{dataset}/match.csv       one row a statistic: real images, simulated ones before and after, distances
"""


rule match:
    """Fit the simulation to the training images of another dataset, by what can be measured on both."""
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
        mem_mb=4000,
        runtime=120,
        gpu=0,
    params:
        settings=settings_of("match"),
        code=code_of("match"),
    script:
        "../scripts/match.py"
