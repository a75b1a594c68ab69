"""Find shard folders that are incomplete or gone: their files are deleted, truncated or not those of the seal.

Snakemake only compares the time stamps of folders, so a folder that has lost files is up to date for it.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cellmill.planning.layout import ROOMS, SAMPLES, dataset_path, run_path, shard_path
from cellmill.planning.plan import Plan
from cellmill.shards import MANIFEST, SIZES, VERSIONS, file_digest, file_sizes, read_manifest, seal_path, seal_text

# The stage that writes each room, unless `_stage_of` names another
STAGE_OF = {
    "raw": "simulate",
    "images": "preprocess",
    "labels": "rasterize",
    "probabilities": "predict",
    "segmentation": "postprocess",
}
# Rooms in the order in which they are made: the folders of a level are made from those of earlier levels.
LEVELS = (("raw",), ("images", "labels"), ("probabilities",), ("segmentation",))
SHOWN = 3


@dataclass(frozen=True)
class Incomplete:
    """A shard folder that has to be made again: its path, its room, what was found, and the stage that makes it."""

    folder: str
    room: str
    finding: str
    stage: str

    def __str__(self) -> str:
        return f"{self.folder}: {self.finding}. {self.stage} makes this folder again."


def find_incomplete(plan: Plan, *, root: str | Path = ".", contents: bool | None = None) -> list[list[Incomplete]]:
    """Compare every shard folder of a plan with its manifest.

    A folder that was never written is not listed. One that is gone with its seal is listed if an earlier run planned
    it and a result exists that was made from it.

    Parameters
    ----------
    plan : Plan
    root : path
        Folder that contains `results`.
    contents : bool or None
        Whether to compare the SHA-256 of each file as well, which reads all files. None: as in the config.

    Returns
    -------
    list of lists
        Incomplete folders for each of LEVELS.
    """
    root, contents = Path(root), plan.config.recheck if contents is None else contents
    found: list[list[Incomplete]] = [[] for _ in LEVELS]
    for dataset in plan.samples:
        known = {*_planned_before(root / dataset_path(dataset, SAMPLES)), *plan.curve_shards(dataset)}
        for room, run, shard in _folders(plan, dataset):
            path = shard_path(room, dataset=dataset, run=run, shard=shard)
            finding = _inspect(root / path, contents=contents)
            if finding is None and shard in known and _was_used(plan, dataset, room, run=run, shard=shard, root=root):
                finding = "the folder is gone"
            if finding:
                level = next(number for number, rooms in enumerate(LEVELS) if room in rooms)
                stage = _stage_of(plan, dataset, room, run)
                found[level].append(Incomplete(path, room, finding, stage))
    return found


def _stage_of(plan: Plan, dataset: str, room: str, run: str) -> str:
    """Return the stage that writes the folders of a room, which may depend on the run."""
    if room == "probabilities" and plan.is_classical(plan.run(dataset, run)):
        return "contrast"
    if room == "segmentation" and plan.run(dataset, run).masks is not None:
        return "masks"
    return STAGE_OF[room]


def _folders(plan: Plan, dataset: str) -> Iterator[tuple[str, str, str]]:
    """Yield room, run and shard of each shard folder of a dataset."""
    of_curve = plan.curve_shards(dataset)
    shards, labelled = [*plan.shards(dataset), *of_curve], [*plan.labelled_shards(dataset), *of_curve]
    of_dataset = {"raw": shards if plan.is_simulated(dataset) else [], "images": shards, "labels": labelled}
    for room in ROOMS:
        if room in of_dataset:
            yield from ((room, "", shard) for shard in of_dataset[room])
        else:
            # Masks of other programs come without probabilities.
            runs = [run for run in plan.runs[dataset] if room == "segmentation" or run.masks is None]
            # Only the runs of a learning curve process shards of the curve: those that they are trained on.
            for run in runs:
                own = [] if run.subset is None else plan.training_shards(dataset, run)
                yield from ((room, run.name, shard) for shard in (*plan.shards(dataset), *own))


def _inspect(folder: Path, *, contents: bool) -> str | None:
    """Return what is wrong with a folder: an empty text if it is complete, None if neither folder nor seal exists."""
    seal = seal_path(folder)
    if not folder.is_dir():
        return "the folder is gone" if seal.exists() else None
    if not seal.exists():
        return f"its seal {seal.name} is gone"
    sealed = seal.read_text(errors="replace")
    has_sizes = sealed.count("\n") > 1  # folders of earlier versions have none
    own = (MANIFEST, SIZES, VERSIONS) if has_sizes else (MANIFEST, VERSIONS)
    gone = [name for name in own if not (folder / name).is_file()]
    if MANIFEST in gone:
        return _describe(gone, "missing")
    if not has_sizes and sealed != f"{file_digest(folder / MANIFEST)}\n":
        return "its manifest is not the sealed one"
    if has_sizes and not gone and sealed != seal_text(folder):
        return "its manifest is not the sealed one"
    try:
        gone += _list_gaps(folder)
    except json.JSONDecodeError:
        return "its manifest is unreadable"
    if gone:
        return _describe(gone, "missing or of another size")
    if contents:
        digests = read_manifest(folder)
        return _describe([name for name, digest in digests.items() if file_digest(folder / name) != digest], "changed")
    return ""


def _list_gaps(folder: Path) -> list[str]:
    """List the files of a manifest that are gone or have another size than when they were written."""
    manifest = read_manifest(folder)
    table = folder / SIZES
    sizes: dict[str, int] = json.loads(table.read_text()) if table.is_file() else {}
    found = file_sizes(folder)
    return sorted(name for name in manifest if name not in found or found[name] != sizes.get(name, found[name]))


def _describe(names: list[str], state: str) -> str:
    if not names:
        return ""
    files = "1 file is" if len(names) == 1 else f"{len(names)} files are"
    return f"{files} {state} ({', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''})"


def _planned_before(table: Path) -> set[str]:
    """Return the shards in a dataset's readable sample table, which the latest run wrote."""
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            return {row.get("shard") or "" for row in csv.DictReader(stream)}
    except FileNotFoundError:
        return set()


def _was_used(plan: Plan, dataset: str, room: str, *, run: str, shard: str, root: Path) -> bool:
    """Return whether a result exists that was made from a shard folder."""
    followers: dict[str, tuple[str, ...]] = {
        "raw": ("images", "labels", "check"),
        "images": ("probabilities", "segmentation", "evaluation"),
        "labels": ("evaluation",),
        "probabilities": ("segmentation", "evaluation"),
        "segmentation": ("evaluation",),
    }
    paths = []
    for user in plan.runs[dataset]:
        if run and user.name != run:
            continue
        paths += [shard_path(kind, dataset=dataset, run=user.name, shard=shard) for kind in followers[room]]
        learned_from = (*plan.training_shards(dataset, user), *plan.shards(dataset, parts=user.parts["validation"]))
        if room in ("images", "labels") and shard in learned_from:
            paths.append(run_path(dataset, user.name, plan.learned_file(user)))
        if room == "segmentation":
            paths.append(run_path(dataset, user.name, "objects.csv"))
    return any((root / path).exists() for path in paths)
