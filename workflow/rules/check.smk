"""Stage `check`: inspect images and annotations without expensive computation.

Reads   raw images and annotations of a shard         as stored by the lab; digests in exported models
Writes  results/{dataset}/check/{shard}.json          findings; errors stop the workflow
        results/{dataset}/check/summary.csv           one row per finding
        results/{dataset}/check/images.csv            one row per image: size, type, range, saturation, focus
        results/{dataset}/check/annotations.csv       one row per annotated image: objects, sizes, faults
"""


rule check:
    """Check the data of every dataset and stop there (target of `snakemake check`)."""
    input:
        [check_paths(dataset)[0] for dataset in PLAN.samples],


rule check_shard:
    """Read the images and annotations of one shard and report warnings and errors."""
    input:
        unpack(raw_images_of_shard),
    output:
        findings="results/{dataset}/check/{shard}.json",
    log:
        "logs/{dataset}/check/{shard}.log",
    benchmark:
        "benchmarks/{dataset}/check/{shard}.tsv"
    # Before all other jobs that are ready, so that a broken file stops the workflow before training starts.
    priority: 100
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing_with_images(60),
        gpu=0,
    params:
        settings=settings_of("check_shard"),
        code=code_of("check_shard"),
    script:
        "../scripts/check_shard.py"


rule check_dataset:
    """Collect the findings of all shards in tables and report them on the terminal."""
    input:
        findings=lambda wildcards: [
            shard_path("check", dataset=wildcards.dataset, shard=shard)
            for shard in PLAN.shards(wildcards.dataset)
        ],
        models=lambda wildcards: [
            path_to_read(path) for path in PLAN.models_to_compare(wildcards.dataset)
        ],
    output:
        # The first two are kept if the check fails: without them, trained networks and their fits would count as
        # outdated and be made again.
        summary=report(
            update("results/{dataset}/check/summary.csv"),
            caption="../report/findings.rst",
            category="{dataset}",
            labels={"file": "check/summary.csv", "content": "Findings on the data"},
        ),
        images=update("results/{dataset}/check/images.csv"),
        annotations="results/{dataset}/check/annotations.csv",
    log:
        "logs/{dataset}/check/summary.log",
    benchmark:
        "benchmarks/{dataset}/check/summary.tsv"
    # Before all other jobs that are ready, so that a broken file stops the workflow before training starts.
    priority: 100
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000, thousand=30),
        runtime=growing(10),
        gpu=0,
    params:
        settings=settings_of("check_dataset"),
        code=code_of("check_dataset"),
    script:
        "../scripts/check_dataset.py"
