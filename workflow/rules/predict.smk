"""Stage `predict`: probability maps of every image.

Reads   weights of a run, results/{dataset}/images/{shard}/, and neighbouring frames if the network uses
        temporal context; the stage contrast takes its place for a run without a network
Writes  results/{dataset}/{run}/probabilities/{shard}/    float16, CYX, geometry of the preprocessed image
"""


rule predict:
    """Predict one shard with one run, tile by tile."""
    input:
        unpack(frames_to_predict),
        weights=weights_of_run,
    output:
        probabilities=directory("results/{dataset}/{run}/probabilities/{shard}"),
        seal="results/{dataset}/{run}/probabilities/.{shard}.sha256",
    log:
        "logs/{dataset}/predict/{run}/{shard}.log",
    benchmark:
        "benchmarks/{dataset}/predict/{run}/{shard}.tsv"
    wildcard_constraints:
        run=pattern_of_runs(CLASSICAL_RUNS, but=True),
    conda:
        "../../envs/torch.yaml"
    threads: 4
    resources:
        mem_mb=growing(6000),
        runtime=growing_with_images(240),
        gpu=0,
    params:
        settings=settings_of("predict"),
        code=code_of("predict"),
    script:
        "../scripts/predict.py"
