"""Stage `conditions`: what the objects of one run say about the conditions of an experiment.

Reads   objects.csv of a run                          one row per object, in px and um
Writes  results/{dataset}/conditions.csv              one row per feature and condition: mean over its replicates, and
                                                      difference from the control, with intervals
        results/{dataset}/replicates.csv              one row per feature and replicate
"""


rule conditions:
    """Compare the conditions of a dataset by the means of their replicates."""
    input:
        objects=lambda wildcards: run_path(
            wildcards.dataset,
            PLAN.run_of_conditions(wildcards.dataset).name,
            "objects.csv",
        ),
    output:
        conditions=report(
            "results/{dataset}/conditions.csv",
            caption="../report/conditions.rst",
            category="{dataset}",
            labels={"file": "conditions.csv", "content": "Conditions compared"},
        ),
        replicates="results/{dataset}/replicates.csv",
    log:
        "logs/{dataset}/conditions/conditions.log",
    benchmark:
        "benchmarks/{dataset}/conditions/conditions.tsv"
    conda:
        "../../envs/image.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
        gpu=0,
    params:
        settings=settings_of("conditions"),
        code=code_of("conditions"),
    script:
        "../scripts/conditions.py"
