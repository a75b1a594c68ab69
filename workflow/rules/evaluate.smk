"""Stage `evaluate`: scores against the ground truth, with confidence intervals.

Reads   ground truth, probabilities (but not of masks from elsewhere) and segmentation of a shard
Writes  results/{dataset}/{run}/evaluation/{shard}.json   counts, histograms and matches of a shard
        results/{dataset}/metrics.csv                     tidy: one value per row
        results/{dataset}/scores.csv                      one row per image and run
        results/{dataset}/comparisons.csv                 models over their seeds, pairs of models on the same images
        results/{dataset}/curves.csv, sizes.csv           pixels by probability, objects by size
        results/{dataset}/confidence.csv                  right and wrong objects by confidence
"""


rule evaluate_shard:
    """Count pixels and match objects in one shard of one run."""
    input:
        unpack(evaluated_shard),
    output:
        counts="results/{dataset}/{run}/evaluation/{shard}.json",
    log:
        "logs/{dataset}/evaluate/{run}/{shard}.log",
    benchmark:
        "benchmarks/{dataset}/evaluate/{run}/{shard}.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing_with_images(60),
        gpu=0,
    params:
        settings=settings_of("evaluate_shard"),
        code=code_of("evaluate_shard"),
    script:
        "../scripts/evaluate_shard.py"


rule evaluate:
    """Summarise the shards of all runs of a dataset."""
    input:
        shards=evaluations_of_dataset,
    output:
        metrics=report(
            "results/{dataset}/metrics.csv",
            caption="../report/metrics.rst",
            category="{dataset}",
            labels={"file": "metrics.csv", "content": "All scores"},
        ),
        scores="results/{dataset}/scores.csv",
        comparisons=report(
            "results/{dataset}/comparisons.csv",
            caption="../report/comparisons.rst",
            category="{dataset}",
            labels={"file": "comparisons.csv", "content": "Models compared"},
        ),
        curves="results/{dataset}/curves.csv",
        sizes="results/{dataset}/sizes.csv",
        confidence="results/{dataset}/confidence.csv",
    log:
        "logs/{dataset}/evaluate/summary.log",
    benchmark:
        "benchmarks/{dataset}/evaluate/summary.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000, thousand=20),
        runtime=growing(60),
        gpu=0,
    params:
        settings=settings_of("evaluate"),
        code=code_of("evaluate"),
    script:
        "../scripts/evaluate.py"
