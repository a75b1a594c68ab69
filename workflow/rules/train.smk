"""Stage `train`: train a network on the training shards, monitored on the validation shards.

Reads   results/{dataset}/images, labels              float32 and uint16, YX
Writes  results/{dataset}/{run}/weights.pt            best or last weights, with the network's settings
        results/{dataset}/{run}/history.csv           one row per epoch
        results/{dataset}/{run}/train.json            parameters, device, versions, time
        results/{dataset}/{run}/choices.json          settings that the training images decided, and why
        results/{dataset}/{model}.mean/weights.pt     with `average_seeds`: the networks of all seeds in one file
The checkpoint is a hidden file beside them. It is not an output, because Snakemake deletes outputs of failed jobs.
"""


rule train:
    """Train one run; an interrupted job resumes from its checkpoint."""
    input:
        unpack(training_data),
    output:
        weights="results/{dataset}/{run}/weights.pt",
        history="results/{dataset}/{run}/history.csv",
        summary="results/{dataset}/{run}/train.json",
        choices="results/{dataset}/{run}/choices.json",
    log:
        "logs/{dataset}/train/{run}.log",
    benchmark:
        "benchmarks/{dataset}/train/{run}.tsv"
    wildcard_constraints:
        run=TRAINED_PATTERN,
    conda:
        "../../envs/torch.yaml"
    threads: 4
    resources:
        mem_mb=growing(8000),
        runtime=growing(1440),
        gpu=0,
    params:
        settings=settings_of("train"),
        code=code_of("train"),
    script:
        "../scripts/train.py"


rule join_seeds:
    """Combine the networks of all seeds of a model into one file that predicts their ensemble average."""
    input:
        weights=lambda wildcards: [
            run_path(wildcards.dataset, run, WEIGHTS)
            for run in PLAN.run(wildcards.dataset, wildcards.run).members
        ],
    output:
        weights="results/{dataset}/{run}/weights.pt",
    log:
        "logs/{dataset}/train/{run}.log",
    benchmark:
        "benchmarks/{dataset}/train/{run}.tsv"
    wildcard_constraints:
        run=MEAN_PATTERN,
    conda:
        "../../envs/torch.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
        gpu=0,
    params:
        settings=settings_of("join_seeds"),
        code=code_of("join_seeds"),
    script:
        "../scripts/join_seeds.py"
