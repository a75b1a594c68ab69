"""The proposal for a folder: a draft of each dataset, from images, annotations and headers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellmill.proposing.datasets import Chooser, Content, Group, Reader
from cellmill.proposing.draft import Draft, count
from cellmill.proposing.drafting import draft_dataset, exclude_others
from cellmill.proposing.families import find_families
from cellmill.proposing.listing import File, list_files
from cellmill.proposing.tables import describe_table

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")
# Tables of the Cell Tracking Challenge, which are found beside the masks
TRACK_TABLES = ("man_track.txt", "res_track.txt")


@dataclass(frozen=True)
class Proposal:
    """Drafts of the datasets, and remarks on files that are not used."""

    folder: str
    drafts: list[Draft]
    remarks: list[str]


def propose(folder: str) -> Proposal:
    """Look at a folder and draft its datasets.

    Parameters
    ----------
    folder : str
        Path, as it is to stand in the config.

    Raises
    ------
    ValueError
        If the folder is missing or empty, or contains no image that can be read.
    """
    root = Path(folder)
    files = list_files(root)
    families = find_families(files)
    in_families = {file for family in families for file in family.files}
    others = [file for file in files if file not in in_families]
    reader = Reader(root)
    images = [family for family in families if family.files[0].is_image]
    if not images:
        suffixes = sorted({file.suffix for file in files if file.suffix})
        raise ValueError(
            f"look: expected images in {folder}, found {count(len(files), 'file')} of other kinds "
            f"({', '.join(suffixes[:8]) or 'without suffix'}). docs/inputs.md lists the formats that are read; "
            "convert others to OME-TIFF."
        )
    content = Chooser(reader, families, others).choose()
    if not content.groups:
        reasons = [message for family in images for message in reader.headers(family).damaged[:1]]
        raise ValueError(f"look: expected images that can be read in {folder}, found none. The first is {reasons[0]}")
    names = _dataset_names(root, content.groups)
    drafts: list[Draft] = []
    for name, group in zip(names, content.groups, strict=True):
        first = drafts[0] if drafts and drafts[0].annotated else None
        drafts.append(draft_dataset(name, group, files=files, reader=reader, first=first))
        exclude_others(drafts[-1], group, files=files, families=families, reader=reader)
    return Proposal(folder, drafts, _remarks(content, drafts, reader, others))


def _dataset_names(root: Path, groups: Sequence[Group]) -> list[str]:
    """Choose names of datasets: the looked-at folder, and the folders in which they differ if there are several."""
    base = _clean(root.resolve().name)
    names: list[str] = []
    for group in groups:
        fixed = [folder for folder in group.family.folders if not folder.startswith("*")]
        shared = [folder for folder in fixed if all(folder in other.family.folders for other in groups)]
        own = [folder for folder in fixed if folder not in shared and folder not in ("images", "image")]
        name = base if len(groups) == 1 else _clean("_".join([base, *own[:2]]))
        wanted, number = name, 1
        while name in names:
            number += 1
            name = f"{wanted}_{number}"
        names.append(name)
    return names


def _clean(text: str) -> str:
    cleaned = re.sub(r"[^A-Za-z0-9_+-]+", "_", text).strip("_+-")
    return cleaned if NAME.fullmatch(cleaned) else "images"


def _remarks(content: Content, drafts: Sequence[Draft], reader: Reader, others: Sequence[File]) -> list[str]:
    """List the files that are not used: those with a reason, tables that describe images, and the rest by suffix."""
    remarks = [f"{name}: {reason}." for name, reason in content.unused]
    used = {path for group in content.groups for path, _ in [*group.run_tables, *group.coco]}
    stems = set().union(*(group.stems for group in content.groups))
    is_tracked = any(draft.values.get("annotations", {}).get("format") == "ctc" for draft in drafts)
    rest: dict[str, list[str]] = {}
    for file in others:
        path = reader.path(file)
        if path in used or (file.name in TRACK_TABLES and is_tracked):
            continue
        if file.suffix.lower() == ".csv" and (found := describe_table(path, stems)):
            remarks.append(
                f"{path}: a table with names of images (column {found[0]}). If it says how the images were treated, "
                "the section conditions compares treatments."
            )
            continue
        rest.setdefault(file.suffix.lower() or "no suffix", []).append(file.name)
    for suffix, names in sorted(rest.items()):
        remarks.append(f"{count(len(names), 'other file')} ({suffix}), such as {names[0]}.")
    return remarks
