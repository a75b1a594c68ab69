"""Stage `train`: a network from the images and labels of the training and validation shards.

Reads   results/{dataset}/images, labels              float32 and uint16, YX
Writes  results/{dataset}/{run}/weights.pt            best or last weights, with the network's settings
        results/{dataset}/{run}/history.csv           one row an epoch
        results/{dataset}/{run}/train.json            parameters, device, versions, time
The checkpoint lies beside them as a hidden file and is no output: Snakemake deletes the outputs of a failed job.
"""


rule train:
    """Train one run; a killed job resumes where it was."""
    input:
        unpack(training_data),
    output:
        weights="results/{dataset}/{run}/weights.pt",
        history="results/{dataset}/{run}/history.csv",
        summary="results/{dataset}/{run}/train.json",
    log:
        "logs/{dataset}/train/{run}.log",
    benchmark:
        "benchmarks/{dataset}/train/{run}.tsv"
    conda:
        "../../envs/torch.yaml"
    threads: 4
    resources:
        mem_mb=8000,
        runtime=1440,
        gpu=0,
    params:
        settings=settings_of("train"),
        code=code_of("train"),
    script:
        "../scripts/train.py"
