"""Trained models that are shipped with cellmill and used by name: where they are, and the copies that jobs read.

A shipped model is resources/weights/{name}.cellmill with its card {name}.md, beside the presets. Jobs read a copy below
the working directory, whose path is the same wherever cellmill is installed: a moved checkout changes no input of a
job, and a container needs no access to the checkout's resources.
"""

import filecmp
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from cellmill.config.errors import nearest
from cellmill.exports.model_file import MODEL_SUFFIX
from cellmill.shards import atomic_path

WEIGHTS_FOLDER = "weights"
COPIES = ".snakemake/cellmill/weights"
CARD_SUFFIX = ".md"
TO_REPAIR = "Restore it with `git checkout -- resources/weights`, or get cellmill again."


def is_shipped_name(reference: str | None) -> bool:
    """Return whether a reference is the name of a shipped model: neither dataset/run nor a path."""
    return reference is not None and "/" not in reference and not reference.endswith(MODEL_SUFFIX)


def weights_folder(presets_dir: Path) -> Path:
    """Return the folder of the shipped models, which is beside that of the presets."""
    return presets_dir.parent / WEIGHTS_FOLDER


def list_shipped(presets_dir: Path) -> dict[str, Path]:
    """List the shipped models: name -> file. Empty if the folder is missing."""
    return {path.stem: path for path in sorted(weights_folder(presets_dir).glob(f"*{MODEL_SUFFIX}"))}


def path_of_copy(name: str) -> str:
    """Return the path of the copy of a shipped model, relative to the working directory."""
    return f"{COPIES}/{name}{MODEL_SUFFIX}"


def shipped_name(path: str | None) -> str | None:
    """Return the name of the shipped model that a path from `path_of_copy` belongs to; None for other references."""
    is_copy = path is not None and path.startswith(f"{COPIES}/")
    return Path(path).stem if path is not None and is_copy else None


def name_source(reference: str) -> str:
    """Return a reference to a trained model for messages, with shipped models by name."""
    name = shipped_name(reference)
    return reference if name is None else f"the shipped model {name}"


def explain_unknown(reference: str, *, presets_dir: Path, runs: Iterable[str]) -> str:
    """Return the message on a name that no shipped model has, without its place in the config.

    Parameters
    ----------
    reference : str
        The unknown name.
    presets_dir : Path
        Folder of the presets.
    runs : iterable of str
        The trained runs of the config as dataset/run.
    """
    folder, shipped, known = weights_folder(presets_dir), list_shipped(presets_dir), sorted(runs)
    namesakes = [run for run in known if run.endswith(f"/{reference}")]
    example = f", such as {(namesakes or known)[0]}" if known else ""
    others = f"For a run of this config set dataset/run{example}. For a file set its path, ending in {MODEL_SUFFIX}."
    if not folder.is_dir():
        return f"expected a shipped model in {folder}, found no such folder, so no model {reference!r}. {TO_REPAIR}"
    hint = f"{nearest(reference, shipped)} (in {folder})" if shipped else f"There are none in {folder}"
    return f"expected the name of a shipped model, found {reference!r}. {hint}. {others}"


def copy_shipped(references: Iterable[str | None], *, presets_dir: Path) -> list[str]:
    """Copy shipped models with their cards to where jobs read them.

    A copy that is up to date is left alone, so that its time stamp reruns nothing.

    Parameters
    ----------
    references : iterable of str or None
        `apply` and `init_from` of runs: paths from `path_of_copy`; others are left out.
    presets_dir : Path
        Folder of the presets.

    Returns
    -------
    list of str
        Mistakes: copies that cannot be written.
    """
    wanted = {shipped_name(reference) for reference in references}
    mistakes = []
    for name, source in list_shipped(presets_dir).items():
        if name not in wanted:
            continue
        for path in (source, source.with_suffix(CARD_SUFFIX)):
            try:
                _copy(path, Path(COPIES) / path.name)
            except (ValueError, OSError) as error:
                mistakes.append(str(error))
    return mistakes


def _copy(source: Path, copy: Path) -> None:
    if not source.is_file():
        copy.unlink(missing_ok=True)
        return
    is_new = not copy.is_file()
    if not is_new and filecmp.cmp(source, copy, shallow=False):
        return
    with atomic_path(copy) as partial:
        shutil.copyfile(source, partial)
        # A first copy is as old as its source. One that replaces another is newer than all results, because Snakemake
        # compares contents only where an input is newer.
        if is_new:
            times = source.stat()
            os.utime(partial, ns=(times.st_atime_ns, times.st_mtime_ns))
