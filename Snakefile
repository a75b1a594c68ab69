"""cellmill: from raw microscope images to masks, measurements and a report. This file lists the parts of the workflow.

`snakemake` runs config.yaml; `snakemake --configfile FILE` runs FILE instead; `snakemake check` only checks the data;
`snakemake propose --config look=FOLDER` writes a config for a folder of images; `snakemake status` shows a run.
"""

from snakemake.utils import min_version

min_version("9.27")


if "datasets" not in config and "look" not in config:

    configfile: f"{workflow.basedir}/config.yaml"


report: "workflow/report/pipeline.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/sources.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/objects.smk"
include: "workflow/rules/stopping.smk"
include: "workflow/rules/remake.smk"
include: "workflow/rules/measuring.smk"
include: "workflow/rules/match.smk"
include: "workflow/rules/simulate.smk"
include: "workflow/rules/check.smk"
include: "workflow/rules/preprocess.smk"
include: "workflow/rules/rasterize.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/predict.smk"
include: "workflow/rules/contrast.smk"
include: "workflow/rules/masks.smk"
include: "workflow/rules/postprocess_features.smk"
include: "workflow/rules/postprocess.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/export_objects.smk"
include: "workflow/rules/export_measurements.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/worklist.smk"
include: "workflow/rules/conditions.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/crate.smk"
include: "workflow/rules/propose.smk"


wildcard_constraints:
    dataset=DATASET_PATTERN,
    run=RUN_PATTERN,
    shard=SHARD_PATTERN,


onstart:
    begin()


onsuccess:
    name_reports()


localrules:
    all,
    check,
    propose,


rule all:
    """Build the report, final masks and object tables of every dataset in the config."""
    default_target: True
    input:
        INDEX,
        [dataset_path(dataset, REPORT) for dataset in PLAN.samples],
        [check_paths(dataset)[0] for dataset in PLAN.samples],
        [
            run_path(run.dataset, run.name, table)
            for dataset in PLAN.runs
            for run in PLAN.listed_runs(dataset)
            for table in ("objects.csv", "rle.csv")
        ],
        # reports need no exported model, so one that is deleted would not be missed
        [
            run_path(run.dataset, run.name, "model.cellmill")
            for dataset in PLAN.runs
            for run in PLAN.listed_runs(dataset)
            if run.is_fitted and not run.members
        ],
        exported_files(PLAN.config, PLAN.runs),
        # reports need the table of a worklist only
        [
            dataset_path(dataset, LABELS_TO_CORRECT)
            for dataset in PLAN.samples
            if worklist_run(PLAN, dataset) is not None
        ],
        [
            dataset_path(dataset, CRATE)
            for dataset in PLAN.samples
            if PLAN.config.datasets[dataset].report.ro_crate
        ],
