"""Stage `report`: an HTML report per dataset, and an index page.

Reads   tables, and the folders from which the gallery picks images
Writes  results/{dataset}/report.html                 one file, opens offline
        results/index.html                            links to the reports of all datasets
"""


rule report:
    """Write the report of one dataset."""
    input:
        unpack(report_data),
    output:
        page=report(
            "results/{dataset}/report.html",
            caption="../report/page.rst",
            category="{dataset}",
            labels={"file": "report.html", "content": "Report"},
        ),
    log:
        "logs/{dataset}/report/report.log",
    benchmark:
        "benchmarks/{dataset}/report/report.tsv"
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(3000, thousand=10),
        runtime=growing(30),
        gpu=0,
    params:
        settings=settings_of("report"),
        code=code_of("report"),
    script:
        "../scripts/report.py"


rule index:
    """Write the index page that links to the reports of all datasets."""
    input:
        metrics=[table_paths(dataset)["metrics"] for dataset in PLAN.samples],
        comparisons=[table_paths(dataset)["comparisons"] for dataset in PLAN.samples],
    output:
        page="results/index.html",
    log:
        "logs/index.log",
    benchmark:
        "benchmarks/index.tsv"
    conda:
        "../../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        settings=settings_of("index"),
        code=code_of("index"),
    script:
        "../scripts/index.py"
