"""Sample table: the images of a dataset, their annotation files, their part of the split, and their shard.

The main process makes it once, from the file system, and freezes it; jobs read the frozen table.
Functions here take plain values and never the config model.
"""

import glob
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cellmill.planning.annotation_tables import TableIndex
from cellmill.planning.patterns import fill_pattern, find_files, fixed_folder, refuse_dangling, wildcards_of
from cellmill.planning.splits import assign_splits
from cellmill.shards import assign_shards

UNLABELLED = "unlabelled"
MAX_NAMED = 5  # names listed in a message about many samples
# file systems allow 255, and results add a suffix and, while they are written, a longer one
MAX_NAME_BYTES = 200
# control characters, and the surrogates that represent bytes that are not UTF-8: tables cannot store them
UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Sample:
    """One image and the information that jobs need about it."""

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
    # position in a stack: [axis, position or projection, size] for each of its axes
    plane: list[list[Any]] = field(default_factory=list)
    # whether its annotation is a stack of the same planes
    is_annotated_as_stack: bool = False
    # further files: ignore, markers, tracks
    extra: dict[str, str] = field(default_factory=dict)
    # only for an image that is a folder (OME-Zarr)
    image_digest: str = ""

    def as_settings(self) -> dict[str, Any]:
        """Return the row as job settings, without anything that could change and leave the result unchanged."""
        row: dict[str, Any] = {
            "sample": self.sample,
            "image": self.image,
            "annotations": self.annotations,
            "sequence": self.sequence,
            "frame": self.frame,
            "class": self.class_name,
        }
        # Fields that most images lack are left out when empty, so that the settings contain only what is needed.
        for name in ("rows_digest", "plane", "is_annotated_as_stack", "extra", "image_digest"):
            if value := getattr(self, name):
                row[name] = value
        return row


# A sample and the text of its wildcards
Found = tuple[Sample, dict[str, str]]


class SampleError(ValueError):
    """Mistakes in the files of a dataset, one line for each."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(mistakes))


def scan_images(pattern: str, *, where: str) -> list[Found]:
    """Find the images that match a pattern, and derive the sample names.

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
                f"Check the path, which is relative to the working directory{_nearest_folder(folder)}."
            ]
        )
    found = [(_named(path, values, pattern, where), values) for path, values in find_files(pattern)]
    if not found:
        raise SampleError(
            [
                f"{where}: expected files that match {pattern!r}, found none. {folder} contains "
                f"{_listing(folder)}. Check folders and suffix, including upper and lower case."
            ]
        )
    mistakes = _double_frames(found, where=where)
    first: dict[str, str] = {}
    for sample, _ in found:
        if sample.sample in first:
            mistakes.append(
                f"{where}: expected one image per sample, found {first[sample.sample]} and {sample.image} for "
                f"{sample.sample!r}. Put {{sample}} where the paths differ, or narrow the pattern."
            )
        first.setdefault(sample.sample, sample.image)
        if wrong := _wrong_name(sample.sample):
            mistakes.append(f"{where}: {_printable(sample.image)}: {wrong}. Rename the file.")
        elif wrong := _wrong_path(sample.image):
            mistakes.append(f"{where}: {wrong}")
    if mistakes:
        raise SampleError(mistakes[:20])
    return sorted(found, key=lambda item: natural_key(item[0].sample))


def _double_frames(found: list[Found], *, where: str) -> list[str]:
    """List the frames for which there are two files, such as t1 and t001."""
    first: dict[tuple[str, int], str] = {}
    mistakes = []
    for sample, values in found:
        twin = first.setdefault((sample.sequence, sample.frame), sample.image)
        if "frame" in values and twin != sample.image and "sample" not in values:
            mistakes.append(
                f"{where}: expected one image for each frame, found {twin} and {sample.image} for frame {sample.frame} "
                f"of sequence {sample.sequence!r}. Remove one, or put {{sequence}} where the paths differ."
            )
    return mistakes


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Return a sort key that puts t2 before t10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part]


def _stem(path: str) -> str:
    """Return a file's name without its suffix; .ome.tif and .ome.zarr count as one suffix."""
    name = Path(path).name
    stem = re.sub(r"\.ome\.(tiff?|zarr)$", "", name, flags=re.IGNORECASE)
    return Path(name).stem if stem == name else stem


def _named(path: str, values: Mapping[str, str], pattern: str, where: str) -> Sample:
    frame = 0
    if "frame" in values:
        digits = re.search(r"\d+", values["frame"])
        if digits is None:
            raise SampleError(
                [
                    f"{where}: {path}: expected a number for {{frame}}, found {values['frame']!r}. Put {{frame}} where "
                    "the number is."
                ]
            )
        frame = int(digits.group())
    sequence = values.get("sequence", "all" if "frame" in values else "")
    if "sample" in values:
        name = values["sample"]
    elif "sequence" in values and "frame" in values:
        name = f"{sequence}_{values['frame']}"
    else:
        name = _stem(path)
    return Sample(sample=name, image=path, sequence=sequence, frame=frame)


def _wrong_name(name: str) -> str:
    found = f"expected a valid file name, found the sample name {name!r}"
    if re.search(r"[/\\{}]", name) or UNPRINTABLE.search(name):
        return f"{found}, which contains a character that paths must not contain (control, slash, brace, or not UTF-8)"
    if name.startswith(".") or name in ("", "geometry", "manifest"):
        return f"{found}, which is hidden or reserved"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"{found}, which is longer than {MAX_NAME_BYTES} bytes"
    return ""


def _wrong_path(path: str) -> str:
    if not UNPRINTABLE.search(path):
        return ""
    return (
        f"{_printable(path)}: expected a path of printable UTF-8 characters, found other characters. "
        "Rename the file or folder."
    )


def _printable(path: str) -> str:
    return UNPRINTABLE.sub(lambda match: repr(match.group())[1:-1], path)


def attach_annotations(found: list[Found], *, path: str, many: bool, where: str) -> tuple[list[Sample], list[str]]:
    """Match annotation files to their images by the wildcards that both paths share.

    Parameters
    ----------
    found : list of tuple
        Samples and wildcards of ``scan_images``.
    path : str
        Pattern of the annotation files.
    many : bool
        Whether an image has several files (a mask for each object).
    where : str
        Key path of the pattern, for messages.

    Returns
    -------
    samples : list of Sample
        A sample without annotation files has an empty list.
    remarks : list of str
        A remark on annotation files that belong to no image, if there are any.

    Raises
    ------
    SampleError
        If the pattern has a wildcard that no image has, or an image has several files where one is allowed.
    """
    samples, mistakes, used = [], [], set()
    ties = FileTies(path, found, where=where)
    for sample, values in found:
        files, is_stack = ties.files(sample, values)
        used.update(files)
        if len(files) > 1 and not many:
            mistakes.append(
                f"{where}: expected one file for {sample.sample!r}, found {len(files)} ({files[0]}, {files[1]}, …). "
                "Narrow the pattern, or use format: mask_folder."
            )
        samples.append(replace(sample, annotations=files, is_annotated_as_stack=is_stack))
    if mistakes:
        raise SampleError(mistakes[:20])
    orphans = [] if "*" in path else [file for file, _ in find_files(path) if file not in used]
    return samples, [_explain_orphans(orphans, where=where)] if orphans else []


def attach_extra(samples: list[Sample], found: list[Found], *, name: str, path: str, where: str) -> list[Sample]:
    """Add one further file to each image that has it, such as the mask of its ignored pixels."""
    ties = FileTies(path, found, where=where)
    tied = []
    for sample, (_, values) in zip(samples, found, strict=True):
        files, _ = ties.files(sample, values)
        tied.append(replace(sample, extra={**sample.extra, name: files[0]}) if files else sample)
    return tied


class FileTies:
    """Lookup of the files of a pattern by the wildcards of an image.

    Raises
    ------
    SampleError
        If the pattern has a wildcard that no image has.
    """

    def __init__(self, path: str, found: list[Found], *, where: str) -> None:
        unknown = [name for name in wildcards_of(path) if name != "sample" and name not in found[0][1]]
        if unknown:
            raise SampleError(
                [
                    f"{where}: expected wildcards of the images, found {{{'}, {'.join(unknown)}}}, which their paths "
                    f"do not contain. Use the wildcards of images ({', '.join(sorted({*found[0][1], 'sample'}))})."
                ]
            )
        self._path = path
        self._where = where

    def files(self, sample: Sample, values: Mapping[str, str]) -> tuple[list[str], bool]:
        """Return the files of a sample, and whether they belong to the whole stack of which it is a plane."""
        # {sample} is taken from the image file, because a plane of a stack has a different sample name.
        stem = values.get("sample", _stem(sample.image) if sample.plane else sample.sample)
        if files := self._fill({**values, "sample": stem}):
            is_plane = any(isinstance(place, int) for _, place, _ in sample.plane)
            return files, is_plane and "frame" not in wildcards_of(self._path)
        if stem != sample.sample and (files := self._fill({**values, "sample": sample.sample})):
            return files, False
        if "frame" in wildcards_of(self._path):
            key = self._key({**values, "sample": stem, "frame": str(sample.frame)})
            return self._by_number.get(key, []), False
        return [], False

    def _fill(self, values: Mapping[str, str]) -> list[str]:
        filled = fill_pattern(self._path, dict(values))
        if "*" in filled:
            files = sorted(glob.glob(filled))
            for file in files:
                refuse_dangling(file)
                if wrong := _wrong_path(file):
                    raise ValueError(f"{self._where}: {wrong}")
            return files
        return [filled] if Path(filled).exists() else []

    def _key(self, values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((name, values[name]) for name in wildcards_of(self._path)))

    @cached_property
    def _by_number(self) -> dict[tuple[tuple[str, str], ...], list[str]]:
        """Files by their wildcards, with frames compared as numbers: man_seg001 belongs to t1."""
        files: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for file, values in find_files(self._path):
            if digits := re.search(r"\d+", values["frame"]):
                files.setdefault(self._key({**values, "frame": str(int(digits.group()))}), []).append(file)
        return files


def _explain_orphans(files: list[str], *, where: str) -> str:
    return (
        f"{where}: {len(files)} annotation files belong to no image, such as {', '.join(files[:3])}. Check that "
        "their names match those of the images"
    )


def attach_table(samples: list[Sample], *, index: TableIndex) -> list[Sample]:
    """Set for each sample the digest of its rows in a shared annotation table ("" without rows)."""
    return [replace(sample, rows_digest=index.digest(sample.sample)) for sample in samples]


def split_samples(
    samples: list[Sample],
    *,
    labelled: set[str],
    split: Mapping[str, Any],
    groups: Mapping[str, str],
    strata: Mapping[str, str],
    where: str,
    needs: Sequence[str],
) -> tuple[list[Sample], list[str]]:
    """Assign each labelled sample to a part of the split; the others are predicted only.

    Returns
    -------
    tuple
        Samples with `split` and `group`, and remarks for the user.
    """
    chosen = [sample for sample in samples if sample.sample in labelled]
    sides, remarks = assign_splits(chosen, split=split, groups=groups, strata=strata, where=where, needs=needs)
    return [
        replace(
            sample,
            split=sides.get(sample.sample, UNLABELLED),
            group=groups.get(sample.sample) or sample.sequence or sample.sample,
        )
        for sample in samples
    ], remarks


def all_test(samples: list[Sample], *, labelled: set[str], groups: Mapping[str, str]) -> list[Sample]:
    """Make each labelled sample a test image, where nothing is trained; the others are predicted only."""
    return [
        replace(
            sample,
            split="test" if sample.sample in labelled else UNLABELLED,
            group=groups.get(sample.sample) or sample.sequence or sample.sample,
        )
        for sample in samples
    ]


def shard_samples(samples: list[Sample], *, images_per_job: int) -> list[Sample]:
    """Assign each sample to a shard; sequences (and blocks of them) stay whole."""
    keys = {sample.sample: sample.sequence or sample.sample for sample in samples}
    shards: dict[str, str] = {}
    for part in {sample.split for sample in samples}:
        members = [sample.sample for sample in samples if sample.split == part]
        placed = assign_shards(part, [keys[name] for name in members], images_per_job=images_per_job)
        shards.update({name: placed[keys[name]] for name in members})
    return [replace(sample, shard=shards[sample.sample]) for sample in samples]


def reassign(samples: list[Sample], parts: Mapping[str, str], *, images_per_job: int) -> list[Sample]:
    """Change the part of some samples, and assign all samples to shards again."""
    changed = [replace(sample, split=parts.get(sample.sample, sample.split)) for sample in samples]
    return shard_samples(changed, images_per_job=images_per_job)


def some(names: list[str]) -> str:
    """Join names with commas, only the first few of a long list."""
    shown = ", ".join(names[:MAX_NAMED])
    return shown if len(names) <= MAX_NAMED else f"{shown} and {len(names) - MAX_NAMED} more"


def dump_samples(samples: list[Sample]) -> str:
    """Write a table as JSON text, one sample per line."""
    return "[\n" + ",\n".join(json.dumps(asdict(sample), sort_keys=True) for sample in samples) + "\n]\n"


def load_samples(text: str) -> list[Sample]:
    """Read a table written by ``dump_samples``."""
    return [Sample(**row) for row in json.loads(text)]


def _nearest_folder(folder: Path) -> str:
    for parent in folder.parents:
        if parent.is_dir():
            return f" ({parent.as_posix()} exists and contains {_listing(parent)})"
    return ""


def _listing(folder: Path) -> str:
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
    return some(names) if names else "nothing"
