"""Paths of trained models: files of this config's own runs, and files that other configs left in results/."""

import os
from collections.abc import Container
from pathlib import Path

from cellmill.exports.model_file import MODEL_SUFFIX, read_description
from cellmill.planning.layout import RESULTS, run_path

MODEL_FILE = f"model{MODEL_SUFFIX}"


def name_run(reference: str | None, known: Container[str]) -> str | None:
    """Return dataset/run for the model file of a run of this config, and any other reference unchanged.

    Parameters
    ----------
    reference : str or None
        dataset/run, or the path of a .cellmill file: relative, absolute or a link.
    known : container of str
        The runs of this config as dataset/run.
    """
    if reference is None:
        return None
    run = _run_of_file(reference)
    return run if run is not None and run in known else reference


def path_to_read(reference: str) -> str:
    """Return the path under which rules take a model file that no run of this config writes.

    Below results/ it is absolute. A relative path there looks like the output of a rule, and Snakemake would try to
    make the file instead of reading it.
    """
    path = _absolute(reference)
    return path.as_posix() if path.is_relative_to(_absolute(RESULTS)) else reference


def explain_missing(reference: str) -> str:
    """Return a sentence on how a missing model file below results/ is made; empty for other paths."""
    run = _run_of_file(reference)
    if run is None:
        return ""
    dataset, name = run.split("/")
    return (
        f" Run the config that trains {name} on the dataset {dataset} first, in this folder; or copy that dataset's "
        f"section here and set {run}."
    )


def find_model_file(reference: str) -> str | None:
    """Return the model file in results/ that an unknown dataset/run has from an earlier config, if there is one."""
    if reference.count("/") != 1:
        return None
    dataset, _, run = reference.partition("/")
    path = run_path(dataset, run, MODEL_FILE)
    try:
        read_description(path)
    except ValueError:
        return None
    return path


def _run_of_file(reference: str) -> str | None:
    """Return dataset/run if a path is results/{dataset}/{run}/model.cellmill, as written or behind links."""
    if not reference.endswith(MODEL_SUFFIX):
        return None
    for place in (_absolute, Path.resolve):
        path, root = place(Path(reference)), place(Path(RESULTS))
        if path.is_relative_to(root):
            parts = path.relative_to(root).parts
            if len(parts) == 3 and parts[-1] == MODEL_FILE:
                return "/".join(parts[:2])
    return None


def _absolute(path: str | Path) -> Path:
    """Return an absolute path without `.` and `..`, but with its links."""
    return Path(os.path.normpath(Path(path).absolute()))
