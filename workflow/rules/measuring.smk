"""Measured diameters are brought up to date before the jobs of a run are planned.

Snakemake would preprocess all images again after any correction of an annotation. An equal diameter reruns nothing if a
snakemake of its own has measured it before. See workflow/decisions/0013-rescaling.md.
"""


def measure_objects_first():
    """Update measured diameters before the jobs are planned, if images were preprocessed with them."""
    if not workflow.is_main_process or REMAKING in os.environ:
        return
    measured = [name for name in PLAN.samples if PLAN.is_measured(name)]
    paths = [dataset_path(name, DIAMETER) for name in measured]
    found = [path for path in paths if Path(path).is_file()]
    if not found or (options := options_of_run()) is None:
        return
    if options.dryrun or options.targets == ["check"]:
        return
    if run_snakemake(found, options, forced=[]) != 0:
        raise WorkflowError(
            f"{found[0]}: expected to measure the annotated objects, found a failed job. Its message is above. Run "
            "snakemake again once its cause is removed."
        )


measure_objects_first()
