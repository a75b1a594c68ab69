"""The sample table: which images a dataset has, what annotates them, and on which side they stand.

The main process makes it once, from the file system, and freezes it; jobs read the frozen table.
Everything here takes plain values: the config model stays outside.
"""

import glob
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cellmill.patterns import fill_pattern, find_files, fixed_folder, wildcards_of
from cellmill.shards import assign_shards
from cellmill.splits import assign_splits
from cellmill.tables import TableIndex

UNLABELLED = "unlabelled"
MAX_NAMED = 5  # of several samples with the same mistake, so many are named


@dataclass(frozen=True)
class Sample:
    """One image: what jobs need to know of it."""

    sample: str
    image: str
    annotations: list[str] = field(default_factory=list)
    sequence: str = ""
    frame: int = 0
    class_name: str = ""
    group: str = ""
    split: str = ""
    shard: str = ""
    rows_digest: str = ""

    def as_settings(self) -> dict[str, Any]:
        """Give the row as a job sees it: nothing in it that could change without changing the result."""
        row: dict[str, Any] = {
            "sample": self.sample,
            "image": self.image,
            "annotations": self.annotations,
            "sequence": self.sequence,
            "frame": self.frame,
            "class": self.class_name,
        }
        if self.rows_digest:
            row["rows_digest"] = self.rows_digest
        return row


class SampleError(ValueError):
    """What is wrong with the files of a dataset; several lines, each one mistake."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(mistakes))


def scan_images(pattern: str, *, where: str) -> list[tuple[Sample, dict[str, str]]]:
    """Find the images of a pattern and name the samples.

    Parameters
    ----------
    pattern : str
        Path with wildcards.
    where : str
        Key path of the pattern in the config, for messages.

    Returns
    -------
    list of tuple
        Sample (path and names only) and the text of its wildcards, in natural order of the names.

    Raises
    ------
    SampleError
        If the folder is missing, nothing matches, two images share a name, or a name cannot be used.
    """
    folder = fixed_folder(pattern)
    if not folder.is_dir():
        raise SampleError(
            [
                f"{where}: expected a folder {folder}, found none. "
                f"Check the path; it starts at the working directory{_nearest_folder(folder)}."
            ]
        )
    found = [(_named(path, values, pattern, where), values) for path, values in find_files(pattern)]
    if not found:
        raise SampleError(
            [
                f"{where}: expected files that match {pattern!r}, found none. {folder} holds "
                f"{_listing(folder)}. Check folders and suffix; upper and lower case differ."
            ]
        )
    mistakes = []
    first: dict[str, str] = {}
    for sample, _ in found:
        if sample.sample in first:
            mistakes.append(
                f"{where}: expected one image a sample, found {first[sample.sample]} and {sample.image} for "
                f"{sample.sample!r}. Put {{sample}} where the paths differ, or narrow the pattern."
            )
        first.setdefault(sample.sample, sample.image)
        if wrong := _wrong_name(sample.sample):
            mistakes.append(f"{where}: {sample.image}: {wrong}. Rename the file.")
    if mistakes:
        raise SampleError(mistakes[:20])
    return sorted(found, key=lambda item: natural_key(item[0].sample))


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sort key under which t2 comes before t10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", text) if part]


def _named(path: str, values: Mapping[str, str], pattern: str, where: str) -> Sample:
    stem = Path(path).name
    stem = re.sub(r"\.ome\.tiff?$", "", stem, flags=re.IGNORECASE)
    stem = Path(stem).stem if stem == Path(path).name else stem
    frame = 0
    if "frame" in values:
        digits = re.search(r"\d+", values["frame"])
        if digits is None:
            raise SampleError(
                [f"{where}: {path}: expected a number for {{frame}}, found {values['frame']!r}. Move {{frame}}."]
            )
        frame = int(digits.group())
    sequence = values.get("sequence", "all" if "frame" in values else "")
    if "sample" in values:
        name = values["sample"]
    elif "sequence" in values and "frame" in values:
        name = f"{sequence}_{values['frame']}"
    else:
        name = stem
    return Sample(sample=name, image=path, sequence=sequence, frame=frame)


def _wrong_name(name: str) -> str:
    if re.search(r"[\x00-\x1f\x7f/\\{}]", name):
        return f"sample name {name!r} holds a character that no path may have (control, slash, brace)"
    if name.startswith(".") or name in ("", "geometry", "manifest"):
        return f"sample name {name!r} is hidden or reserved"
    return ""


def attach_annotations(
    found: list[tuple[Sample, dict[str, str]]], *, path: str, many: bool, where: str
) -> list[Sample]:
    """Tie annotation files to their images through the wildcards that both paths share.

    Parameters
    ----------
    found : list of tuple
        Samples and wildcards of ``scan_images``.
    path : str
        Pattern of the annotation files.
    many : bool
        Whether an image has several files (a mask for each object).

    Returns
    -------
    list of Sample
        A sample without annotation files has an empty list.
    """
    unknown = [name for name in wildcards_of(path) if name != "sample" and name not in found[0][1]]
    if unknown:
        raise SampleError(
            [
                f"{where}: {{{'}, {'.join(unknown)}}} stands in no image path. "
                f"Use the wildcards of images ({', '.join(sorted({*found[0][1], 'sample'}))})."
            ]
        )
    samples = []
    mistakes = []
    for sample, values in found:
        filled = fill_pattern(path, {**values, "sample": sample.sample})
        files = sorted(glob.glob(filled)) if "*" in filled else [filled] if Path(filled).is_file() else []
        if len(files) > 1 and not many:
            mistakes.append(
                f"{where}: expected one file for {sample.sample!r}, found {len(files)} ({files[0]}, {files[1]}, …). "
                "Narrow the pattern, or use format: mask_folder."
            )
        samples.append(replace(sample, annotations=files))
    if mistakes:
        raise SampleError(mistakes[:20])
    return samples


def attach_table(samples: list[Sample], *, index: TableIndex) -> list[Sample]:
    """Give each sample the digest of its rows of a shared annotation table ("" without rows)."""
    return [replace(sample, rows_digest=index.digest(sample.sample)) for sample in samples]


def split_samples(
    samples: list[Sample],
    *,
    labelled: set[str],
    split: Mapping[str, Any],
    groups: Mapping[str, str],
    strata: Mapping[str, str],
    where: str,
) -> tuple[list[Sample], list[str]]:
    """Put each labelled sample on a side; the others are predicted only.

    Returns
    -------
    tuple
        Samples with `split` and `group`, and remarks a person should read.
    """
    chosen = [sample for sample in samples if sample.sample in labelled]
    sides, remarks = assign_splits(chosen, split=split, groups=groups, strata=strata, where=where)
    return [
        replace(
            sample,
            split=sides.get(sample.sample, UNLABELLED),
            group=groups.get(sample.sample) or sample.sequence or sample.sample,
        )
        for sample in samples
    ], remarks


def shard_samples(samples: list[Sample], *, images_per_job: int) -> list[Sample]:
    """Name the shard of each sample; sequences (and blocks of them) stay whole."""
    keys = {sample.sample: sample.sequence or sample.sample for sample in samples}
    shards: dict[str, str] = {}
    for part in {sample.split for sample in samples}:
        members = [sample.sample for sample in samples if sample.split == part]
        placed = assign_shards(part, [keys[name] for name in members], images_per_job=images_per_job)
        shards.update({name: placed[keys[name]] for name in members})
    return [replace(sample, shard=shards[sample.sample]) for sample in samples]


def some(names: list[str]) -> str:
    """List names, the first few of many."""
    shown = ", ".join(names[:MAX_NAMED])
    return shown if len(names) <= MAX_NAMED else f"{shown} and {len(names) - MAX_NAMED} more"


def dump_samples(samples: list[Sample]) -> str:
    """Write a table as JSON text, one sample a line."""
    return "[\n" + ",\n".join(json.dumps(asdict(sample), sort_keys=True) for sample in samples) + "\n]\n"


def load_samples(text: str) -> list[Sample]:
    """Read a table written by ``dump_samples``."""
    return [Sample(**row) for row in json.loads(text)]


def _nearest_folder(folder: Path) -> str:
    for parent in folder.parents:
        if parent.is_dir():
            return f" ({parent.as_posix()} exists and holds {_listing(parent)})"
    return ""


def _listing(folder: Path) -> str:
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
    return some(names) if names else "nothing"
