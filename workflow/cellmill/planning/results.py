"""List a dataset's results and inputs for its RO-Crate."""

from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

from cellmill.exports.model_file import MODEL_SUFFIX
from cellmill.planning.exports import exported_files
from cellmill.planning.layout import (
    EXPORTED,
    FIT,
    LABELS_TO_CORRECT,
    OF_CLASSICAL_RUN,
    OF_DATASET,
    OF_EXPERIMENT,
    OF_FITTED_RUN,
    OF_FLAT,
    OF_RESCALED,
    OF_RUN,
    OF_SIMULATION_LIKE,
    OF_TRAINED_RUN,
    OF_WORKLIST,
    WEIGHTS,
    dataset_path,
    shard_path,
)
from cellmill.planning.plan import Plan
from cellmill.planning.runs import MEAN_SUFFIX, Run
from cellmill.planning.worklists import worklist_run
from cellmill.shards import seal_path

RAW = "Simulated images and their annotations"
SEGMENTATION = "Label images of the objects, at the size of the raw images"


def list_results(plan: Plan, dataset: str) -> dict[str, dict[str, str]]:
    """List the files and folders that rules write for a dataset and that are worth keeping.

    Parameters
    ----------
    plan : Plan
        The plan of the run.
    dataset : str
        Name of a dataset.

    Returns
    -------
    dict
        Keys files, shards (folders with a manifest and a seal) and folders (all others). Each value maps a path
        relative to results/{dataset} to its description.
    """
    root = PurePath(dataset_path(dataset))

    def folder(room: str, shard: str, run: str = "") -> str:
        return PurePath(shard_path(room, dataset=dataset, run=run, shard=shard)).relative_to(root).as_posix()

    files = dict(OF_DATASET) if plan.like_of(dataset) is None else OF_DATASET | OF_SIMULATION_LIKE
    files |= OF_WORKLIST if worklist_run(plan, dataset) else {}
    files |= OF_RESCALED if plan.is_measured(dataset) else {}
    files |= OF_FLAT if plan.flat_field_path(dataset) else {}
    files |= OF_EXPERIMENT if plan.run_of_conditions(dataset) else {}
    shards = {folder("raw", shard): RAW for shard in plan.shards(dataset) if plan.is_simulated(dataset)}
    for run in plan.listed_runs(dataset):
        of_run = OF_RUN | (OF_FITTED_RUN if run.is_fitted else {})
        of_run |= OF_TRAINED_RUN if run.is_trained else OF_CLASSICAL_RUN if run.is_classical else {}
        files |= {f"{run.name}/{name}": meaning for name, meaning in of_run.items()}
        shards |= {folder("segmentation", shard, run.name): SEGMENTATION for shard in plan.shards(dataset)}
    exports = [PurePath(path) for path in exported_files(plan.config, plan.runs)]
    exported = {path.relative_to(root): EXPORTED[path.name] for path in exports if path.is_relative_to(root)}
    files |= {path.as_posix(): meaning for path, meaning in exported.items() if path.suffix}
    folders = {path.as_posix(): meaning for path, meaning in exported.items() if not path.suffix}
    if worklist_run(plan, dataset):
        folders[LABELS_TO_CORRECT] = "Predicted labels of the first images of the worklist"
    return {"files": files, "shards": shards, "folders": folders}


def result_paths(plan: Plan, dataset: str) -> dict[str, list[str]]:
    """Return the paths of the results from `list_results`: files, folders, and the seals of shard folders."""
    root, found = Path(dataset_path(dataset)), list_results(plan, dataset)
    return {
        "files": [(root / name).as_posix() for name in found["files"]],
        "folders": [(root / name).as_posix() for name in (*found["shards"], *found["folders"])],
        "seals": [seal_path(root / name).as_posix() for name in found["shards"]],
    }


# Keys of a section that no result of another dataset depends on
OF_PAGES_ONLY = ("report", "evaluate", "export", "measure", "conditions", "worklist")


def list_inputs(plan: Plan, dataset: str) -> dict[str, list[str]]:
    """List the files that a dataset's results were made from: images, annotations and models, each once.

    Parameters
    ----------
    plan : Plan
        The plan of the run.
    dataset : str
        Name of a dataset. If it is simulated, its images and annotations are results and are not listed.
    """
    section = plan.config.datasets[dataset]
    rows = [] if plan.is_simulated(dataset) else plan.samples[dataset]
    annotations = [path for row in rows for path in (*row.annotation_files(), *row.mask_files())]
    sections = [section.annotations, *(entry.masks for entry in section.models)]
    sheet = None if section.conditions is None else section.conditions.table
    tables = (*(one.table for one in sections if one is not None), section.split.table, sheet)
    return {
        "images": _once(row.image for row in rows),
        "annotations": _once([*annotations, *(path for path in tables if path is not None)]),
        "models": _once(path for run in plan.runs[dataset] for path in _foreign_models(plan, run)),
    }


def _foreign_models(plan: Plan, run: Run) -> list[str]:
    """List the model files that a run takes from outside its dataset: exports, and files of other datasets' runs."""
    found = []
    for source, names in ((run.apply, (plan.learned_file(run), FIT)), (run.init_from, (WEIGHTS,))):
        if source is not None and source.endswith(MODEL_SUFFIX):
            found.append(source)
        elif source is not None and not source.startswith(f"{run.dataset}/"):
            found += [dataset_path(source, name) for name in names]
    return found


def list_settings(plan: Plan, dataset: str) -> dict[str, Any]:
    """Return the part of the config that a dataset's results depend on, as written, with the sources of its models."""
    asked = _written_section(plan, dataset)
    # Requesting the crate later must not rebuild the report.
    if "report" in asked and asked["report"].pop("ro_crate", None) is not None and not asked["report"]:
        del asked["report"]
    sections = {dataset: asked}
    for source, models in sorted(_sources(plan, dataset).items()):
        section = _written_section(plan, source)
        section["models"] = [entry for entry in section.get("models", []) if entry.pop("model") in models]
        sections[source] = {key: value for key, value in section.items() if key not in OF_PAGES_ONLY}
    for entry in asked.get("models", []):
        del entry["model"]
    return {"seed": plan.config.seed, "images_per_job": plan.config.images_per_job, "datasets": sections}


def _written_section(plan: Plan, dataset: str) -> dict[str, Any]:
    """Return a dataset's section as written, with the added key `model` (the name of its runs) in each model entry."""
    section = plan.config.datasets[dataset]
    asked = section.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    for entry, model in zip(asked.get("models", []), section.models, strict=False):
        entry.update(entry.pop("overrides", {}))
        if model.apply is not None and "name" not in model.model_fields_set:
            entry.pop("name", None)
        entry["model"] = model.run_name
    return asked


def _sources(plan: Plan, dataset: str) -> dict[str, set[str]]:
    """Return the other datasets that a dataset's results depend on, each with the names of the models used.

    For the reference dataset of a simulation (`like`) the set of models can be empty.
    """
    needed: dict[str, set[str]] = {}
    waiting = list(plan.runs[dataset])
    likes = [dataset]
    while waiting or likes:
        if likes:
            like = plan.like_of(likes.pop())
            if like is not None and like not in needed:
                needed[like] = set()
            continue
        run = waiting.pop()
        for source in (run.apply, run.init_from):
            if source is None or source.endswith(MODEL_SUFFIX):
                continue
            other, name = source.split("/", 1)
            found = plan.run(other, name)
            model = found.model.removesuffix(MEAN_SUFFIX)
            if other not in needed:
                likes.append(other)
            if model not in needed.setdefault(other, set()):
                needed[other].add(model)
                waiting.append(found)
    needed.pop(dataset, None)
    return needed


def _once(paths: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(paths))
