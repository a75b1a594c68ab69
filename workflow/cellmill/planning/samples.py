"""Sample table: the images of a dataset, their annotation files, their part of the split, and their shard.

The main process makes it once, from the file system, and freezes it; jobs read the frozen table.
Functions here take plain values and never the config model.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cellmill.images.content import files_of_annotation
from cellmill.planning.frame_numbers import frame_number, has_seconds
from cellmill.planning.patterns import find_files, fixed_folder, hint_at_signs, is_matched, wildcards_of
from cellmill.planning.splits import assign_splits
from cellmill.provenance import canonical
from cellmill.shards import ShardSize, assign_shards

UNLABELLED = "unlabelled"
MAX_NAMED = 5  # names listed in a message about many samples
# file systems allow 255, and results add a suffix and, while they are written, a longer one
MAX_NAME_BYTES = 200
# control characters, and the surrogates that represent bytes that are not UTF-8: tables cannot store them
UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
# Columns whose values have parts whose order or kind is not settled
NESTED = frozenset({"extra", "plane"})
# Columns of a sample that are left out of settings when they are empty
LEFT_OUT = frozenset({
    "rows_digest", "entry", "plane", "is_annotated_as_stack", "extra", "correction", "members", "image_digest",
    "annotation_digest",
})  # fmt: skip
OME_SUFFIX = re.compile(r"\.ome\.(tiff?|zarr)$", re.IGNORECASE)


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
    # name of its entry in a shared annotation table, where that is not the sample's name
    entry: str = ""
    # position in a stack: [axis, position or projection, size] for each of its axes
    plane: list[list[Any]] = field(default_factory=list)
    # whether its annotation is a stack of the same planes
    is_annotated_as_stack: bool = False
    # further files: ignore, markers, tracks
    extra: dict[str, str] = field(default_factory=dict)
    # file that takes the place of its annotation
    correction: str = ""
    # masks of models that are no models of ours: model -> the fields above that say where they are
    masks: dict[str, dict[str, Any]] = field(default_factory=dict)
    # in an experiment: condition, replicate, plate and well
    treated: dict[str, str] = field(default_factory=dict)
    # further files of an image in several files
    members: list[str] = field(default_factory=list)
    # digests of the content of the files of image and annotation; "" for simulated ones, which are results
    image_digest: str = ""
    annotation_digest: str = ""

    def changed(self, **fields: Any) -> "Sample":
        """Return a copy with other values of some fields; `dataclasses.replace` takes ten times as long."""
        new = object.__new__(Sample)
        new.__dict__.update(self.__dict__, **fields)
        return new

    def as_settings(self, *names: str) -> dict[str, Any]:
        """Return columns of the row as job settings, in canonical form, without what is empty and most images lack.

        Parameters
        ----------
        *names : str
            Columns in order of their names.
        """
        row, settings = vars(self), {}
        for name in names:
            value = row["class_name" if name == "class" else name]
            if value or name not in LEFT_OUT:
                settings[name] = canonical(value) if name in NESTED else value
        return settings

    def annotation_files(self) -> list[str]:
        """List the files of its annotation, with those of a correction."""
        return files_of_annotation(vars(self))

    @property
    def is_annotated(self) -> bool:
        """Whether there is an annotation or a correction, even an empty one."""
        return bool(self.annotations or self.rows_digest or self.correction)

    def has_masks(self, model: str) -> bool:
        """Return whether there are masks of a model, even empty ones."""
        place = self.masks.get(model, {})
        return bool(place.get("annotations") or place.get("rows_digest"))

    def mask_files(self) -> list[str]:
        """List the files with the masks of all models."""
        return [file for place in self.masks.values() for file in files_of_annotation(place)]


# A sample and the text of its wildcards
Found = tuple[Sample, dict[str, str]]


class SampleError(ValueError):
    """Mistakes in the files of a dataset, one line for each."""

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = mistakes
        super().__init__("\n".join(mistakes))


def scan_images(pattern: str, *, where: str, exclude: Sequence[str] = ()) -> list[Found]:
    """Find the images that match a pattern, and derive the sample names.

    Parameters
    ----------
    pattern : str
        Path with wildcards.
    where : str
        Key path of the pattern in the config, for messages.
    exclude : sequence of str
        Patterns of files that are left out.

    Returns
    -------
    list of tuple
        Sample (path and names only) and the text of its wildcards, in natural order of the names. If names occur in
        several folders, they begin with the wildcards of the folders.

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
                f"{hint_at_signs(pattern)}"
            ]
        )
    matched = list(find_files(pattern))
    paths = [(path, values) for path, values in matched if not is_matched(path, exclude)]
    if matched and not paths:
        raise SampleError(
            [
                f"{where}: expected images that are not excluded, found {len(matched)} files that match {pattern!r}, "
                f"all of which match exclude ({', '.join(exclude)}). Narrow exclude."
            ]
        )
    found = _name_folders([(_named(path, values, where), values) for path, values in paths], pattern=pattern)
    if not found:
        raise SampleError(
            [
                f"{where}: expected files that match {pattern!r}, found none. {folder} contains "
                f"{_listing(folder)}. Check folders and suffix, including upper and lower case.{hint_at_signs(pattern)}"
            ]
        )
    mistakes = [*_double_frames(found, where=where), *_mixed_times(found, where=where)]
    mistakes += _double_names(found, pattern=pattern, where=where)
    for sample, _ in found:
        if wrong := _wrong_name(sample.sample):
            mistakes.append(f"{where}: {_printable(sample.image)}: {wrong}. Rename the file.")
        elif wrong := wrong_path(sample.image):
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


def _double_names(found: list[Found], *, pattern: str, where: str) -> list[str]:
    """Return one message if there are several images of a name."""
    images: dict[str, list[str]] = {}
    for sample, _ in found:
        images.setdefault(sample.sample, []).append(sample.image)
    double = [name for name, paths in images.items() if len(paths) > 1]
    if not double:
        return []
    first, second, *_ = images[double[0]]
    more = f" (as for {len(double) - 1} more)" if len(double) > 1 else ""
    return [
        f"{where}: expected one image per sample, found {first} and {second} for {double[0]!r}{more}. "
        f"{_advise_on_names(pattern)}"
    ]


def _mixed_times(found: list[Found], *, where: str) -> list[str]:
    """Return a message if some frames are times with seconds and others are not, since their numbers differ in unit."""
    units = {has_seconds(values["frame"]): values["frame"] for _, values in found if "frame" in values}
    if len(units) < 2:
        return []
    return [
        f"{where}: expected frames in one unit, found {units[True]} (seconds) and {units[False]}. Rename the files, or "
        "use separate datasets."
    ]


def _name_folders(found: list[Found], *, pattern: str) -> list[Found]:
    """Put the wildcards of the folders before the names of all samples if names occur in several folders."""
    if len({sample.sample for sample, _ in found}) == len(found):
        return found
    folder, _, name = pattern.rpartition("/")
    inside = set(wildcards_of(name))
    outside = [wildcard for wildcard in wildcards_of(folder) if wildcard not in {*inside, "sample", "frame"}]
    if not outside or any("frame" in values and "sample" not in values for _, values in found):
        return found
    return [
        (sample.changed(sample="_".join([*(values[wildcard] for wildcard in outside), sample.sample])), values)
        for sample, values in found
    ]


def _advise_on_names(pattern: str) -> str:
    folder, _, _ = pattern.rpartition("/")
    if "**" in folder:
        return (
            "Write a wildcard such as {folder} for each folder in place of **, so that samples are named by their "
            "folders as well; folders of another depth are another dataset. Or rename the files."
        )
    if "*" in folder:
        return (
            "Write a wildcard such as {folder} in place of each * in the folders, so that samples are named by their "
            "folders as well, or narrow the pattern."
        )
    return "Put {sample} where the paths differ, or narrow the pattern."


def explain_names(found: list[Found], *, where: str) -> list[str]:
    """Return a remark if samples are named by their folders as well."""
    renamed = [
        (sample, name)
        for sample, values in found
        if not sample.plane
        and "frame" not in values
        and (name := values.get("sample", stem_of(sample.image))) != sample.sample
    ]
    if not renamed:
        return []
    sample, name = renamed[0]
    return [
        f"{where}: files in different folders have the same name, so samples are named by their folders as well, such "
        f"as {sample.sample} for {sample.image}"
    ]


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Return a sort key that puts t2 before t10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text) if part]


def stem_of(path: str) -> str:
    """Return a file's name without its suffix; .ome.tif and .ome.zarr count as one suffix."""
    name = path.rstrip("/").rpartition("/")[2]
    if ".ome." in name.lower() and (stem := OME_SUFFIX.sub("", name)) != name:
        return stem
    dot = name.rfind(".")
    return name[:dot] if 0 < dot < len(name) - 1 else name


def _named(path: str, values: Mapping[str, str], where: str) -> Sample:
    frame = 0
    if "frame" in values:
        number = frame_number(values["frame"])
        if number is None:
            raise SampleError(
                [
                    f"{where}: {path}: expected a number for {{frame}}, found {values['frame']!r}. Put {{frame}} where "
                    "the number is."
                ]
            )
        frame = number
    sequence = values.get("sequence", "all" if "frame" in values else "")
    if "sample" in values:
        name = values["sample"]
    elif "sequence" in values and "frame" in values:
        name = f"{sequence}_{values['frame']}"
    else:
        name = stem_of(path)
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


def wrong_path(path: str) -> str:
    """Return a message if a path has characters that tables cannot store, else ""."""
    if not UNPRINTABLE.search(path):
        return ""
    return (
        f"{_printable(path)}: expected a path of printable UTF-8 characters, found other characters. "
        "Rename the file or folder."
    )


def _printable(path: str) -> str:
    return UNPRINTABLE.sub(lambda match: repr(match.group())[1:-1], path)


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
        sample.changed(
            split=sides.get(sample.sample, UNLABELLED),
            group=groups.get(sample.sample) or sample.sequence or sample.sample,
        )
        for sample in samples
    ], remarks


def all_test(samples: list[Sample], *, labelled: set[str], groups: Mapping[str, str]) -> list[Sample]:
    """Make each labelled sample a test image, where nothing is trained; the others are predicted only."""
    return [
        sample.changed(
            split="test" if sample.sample in labelled else UNLABELLED,
            group=groups.get(sample.sample) or sample.sequence or sample.sample,
        )
        for sample in samples
    ]


def shard_samples(samples: list[Sample], *, images_per_job: ShardSize) -> list[Sample]:
    """Assign each sample to a shard; sequences (and blocks of them) stay whole."""
    keys = {sample.sample: sample.sequence or sample.sample for sample in samples}
    shards: dict[str, str] = {}
    for part in {sample.split for sample in samples}:
        members = [sample.sample for sample in samples if sample.split == part]
        placed = assign_shards(part, [keys[name] for name in members], images_per_job=images_per_job)
        shards.update({name: placed[keys[name]] for name in members})
    return [sample.changed(shard=shards[sample.sample]) for sample in samples]


def reassign(samples: list[Sample], parts: Mapping[str, str], *, images_per_job: ShardSize) -> list[Sample]:
    """Change the part of some samples, and assign all samples to shards again."""
    changed = [sample.changed(split=parts.get(sample.sample, sample.split)) for sample in samples]
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
