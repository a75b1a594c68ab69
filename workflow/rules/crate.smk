"""Stage `crate`: machine-readable provenance of the results, only if `report.ro_crate` is set.

Reads   tables, report, models and shard folders of a dataset, and sizes and digests of its images and annotations
Writes  results/{dataset}/ro-crate-metadata.json      RO-Crate 1.1, Process Run Crate 0.5; its folder is the crate
"""


rule crate:
    """Describe the results of a dataset as an RO-Crate."""
    input:
        # Folders are ancient; a changed seal reruns the job.
        files=lambda wildcards: result_paths(PLAN, wildcards.dataset)["files"],
        folders=lambda wildcards: [
            ancient(folder)
            for folder in result_paths(PLAN, wildcards.dataset)["folders"]
        ],
        seals=lambda wildcards: result_paths(PLAN, wildcards.dataset)["seals"],
    output:
        crate="results/{dataset}/ro-crate-metadata.json",
    log:
        "logs/{dataset}/crate/crate.log",
    benchmark:
        "benchmarks/{dataset}/crate/crate.tsv"
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(120),
        gpu=0,
    params:
        settings=settings_of("crate"),
        code=code_of("crate"),
    script:
        "../scripts/crate.py"
