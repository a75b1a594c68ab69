"""Stage `worklist`: which images to annotate next, with predicted labels to correct.

Reads   results/{dataset}/{run}/segmentation/, counts.csv    objects and confidences of one run
        results/{dataset}/check/images.csv, scores.csv       measurements of all images, scores of annotated ones
Writes  results/{dataset}/worklist.csv                       one row per image, the first to annotate first
        results/{dataset}/worklist/                          {sample}.tif (labels) and {sample}.zip (ROIs of ImageJ)
"""


rule worklist:
    """List images to annotate, the least sure first, and copy predicted labels."""
    input:
        unpack(worklist_data),
    output:
        table="results/{dataset}/worklist.csv",
        labels=directory("results/{dataset}/worklist"),
    log:
        "logs/{dataset}/worklist/worklist.log",
    benchmark:
        "benchmarks/{dataset}/worklist/worklist.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
        gpu=0,
    params:
        settings=settings_of("worklist"),
        code=code_of("worklist"),
    script:
        "../scripts/worklist.py"
