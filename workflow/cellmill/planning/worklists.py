"""The run whose predictions are corrected: its confidences decide which images to annotate next."""

from cellmill.planning.plan import Plan
from cellmill.planning.runs import MEAN_SUFFIX, Run
from cellmill.planning.samples import UNLABELLED


def has_unlabelled(plan: Plan, dataset: str) -> bool:
    """Return whether a dataset has images without annotation; those that a split leaves out do not count."""
    return any(plan.shown_part(dataset, row) == UNLABELLED for row in plan.samples[dataset])


def worklist_run(plan: Plan, dataset: str) -> Run | None:
    """Return the run of a dataset's worklist.

    Parameters
    ----------
    plan : Plan
    dataset : str
        Name of a dataset.

    Returns
    -------
    Run or None
        Of the model in the config, or of the first network, or the run without a network. Of several seeds the mean
        is preferred to the first, of several folds the first. None for simulated images, whose annotation is known,
        for datasets with masks of other programs only, and without the key `worklist` if all images are annotated.
    """
    section = plan.config.datasets[dataset]
    is_wanted = section.worklist is not None or has_unlabelled(plan, dataset)
    if section.simulate is not None or not is_wanted:
        return None
    runs = [run for run in plan.listed_runs(dataset) if run.masks is None]
    wanted = None if section.worklist is None else section.worklist.model
    if wanted is not None:
        runs = [run for run in runs if run.model in (wanted, f"{wanted}{MEAN_SUFFIX}")]
    networks = [run for run in runs if not plan.is_classical(run)] or runs
    if not networks:
        return None
    model = networks[0].model.removesuffix(MEAN_SUFFIX)
    return max(
        (run for run in networks if run.model.removesuffix(MEAN_SUFFIX) == model),
        key=lambda run: run.model.endswith(MEAN_SUFFIX),
    )
