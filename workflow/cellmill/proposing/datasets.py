"""Choose datasets: which families are images, which of the others are their annotations, and what is left over."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cellmill.proposing.annotating import OUTLINES
from cellmill.proposing.evidence import HEADERS, MASKS, Codes, Headers, is_mask, read_codes, read_headers, spread
from cellmill.proposing.families import MASK_WORDS, PART_WORDS, Family
from cellmill.proposing.listing import File
from cellmill.proposing.naming import Channels, choose_channel, find_channels, find_parallels
from cellmill.proposing.pairing import Pairing, pair
from cellmill.proposing.tables import RunTable, read_coco_names, read_run_table

# Families that are looked at, the largest first
MOST_FAMILIES = 24
MOST_DATASETS = 6
# Share of the images that entries of a table have to name
IN_TABLE = 0.5
# Files that list the files of a set of images
SET_SUFFIXES = (".nd", ".companion.ome")
# Of equal names, formats that keep the numbers of the camera are images rather than copies of them
BY_FORMAT = (".tif", ".tiff", ".zarr", ".png", ".jpg", ".jpeg")


@dataclass
class Group:
    """Images of a dataset: the family, its channels, its annotations (the best first), and families of equal names."""

    family: Family
    channels: Channels | None = None
    channel: str = ""
    pairings: list[Pairing] = field(default_factory=list)
    run_tables: list[tuple[str, RunTable]] = field(default_factory=list)
    coco: list[tuple[str, int]] = field(default_factory=list)
    twins: list[Family] = field(default_factory=list)

    @property
    def is_annotated(self) -> bool:
        return bool(self.pairings or self.run_tables or self.coco)

    @property
    def stems(self) -> set[str]:
        return {file.stem for file in self.family.files}


@dataclass
class Content:
    """What a folder contains: groups of images, and files that are not used, with the reason."""

    groups: list[Group]
    unused: list[tuple[str, str]]


class Reader:
    """Content of families, each read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root_text = "" if str(root) == "." else root.as_posix()
        self._start = [self.root_text.rstrip("/")] if self.root_text else []
        self._headers: dict[tuple[str, ...], Headers] = {}
        self._codes: dict[str, Codes | None] = {}

    def path(self, file: File) -> str:
        """Return the path of a file as it stands in the config."""
        return "/".join([*self._start, *file.folders, file.name])

    def headers(self, family: Family) -> Headers:
        """Return the headers of some files."""
        paths = [self.path(file) for file in spread(family.files, HEADERS)]
        key = tuple(paths)
        if key not in self._headers:
            self._headers[key] = read_headers(paths)
        return self._headers[key]

    def codes(self, family: Family, numbers: Sequence[int] | None = None) -> list[Codes | None]:
        """Return the numbers of some files."""
        chosen = spread(range(len(family.files)) if numbers is None else sorted(numbers), MASKS)
        return [self._read(self.path(family.files[number])) for number in chosen]

    def _read(self, path: str) -> Codes | None:
        if path not in self._codes:
            self._codes[path] = read_codes(path)
        return self._codes[path]

    def is_mask(self, family: Family) -> bool:
        """Return whether the files look like masks."""
        return is_mask(self.codes(family))


@dataclass
class Chooser:
    """Choice of the datasets among the families of a folder."""

    reader: Reader
    families: list[Family]
    others: list[File]

    def choose(self) -> Content:
        """Sort families and tables into groups of images with their annotations."""
        unused: list[tuple[str, str]] = []
        self.families = [part for family in self.families for part in self._cut_by_content(family)]
        images, masks = self._sort(unused)
        if not images and masks:  # masks alone are images, for want of others
            images, masks = masks[:1], masks[1:]
        groups = [_with_channels(family) for family in images]
        groups = self._join_twins(groups)
        for family in masks:
            if self._attach(family, groups):
                continue
            if family.role == "image" and family.files[0].is_image and not family.words & MASK_WORDS:
                groups.append(_with_channels(family))  # nothing but even areas speaks for masks
            else:
                unused.append((self._describe(family), "masks or outlines, but their names fit no image"))
        for group in groups:
            group.pairings.sort(key=_preference)
        self._attach_tables(groups)
        groups.sort(key=lambda group: (not group.is_annotated, _part_rank(group.family), group.family.folders))
        for group in groups[MOST_DATASETS:]:
            unused.append((self._describe(group.family), f"not among the first {MOST_DATASETS} sets of images"))
        return Content(groups[:MOST_DATASETS], unused)

    def _cut_by_content(self, family: Family) -> list[Family]:
        """Cut a family into images and masks if both have the same names but for a word or a folder."""
        if not family.files[0].is_image:
            return [family]
        for parts in find_parallels(family):
            if len({self.reader.is_mask(part) for part in parts.values()}) > 1:
                return [cut for part in parts.values() for cut in self._cut_by_content(part)]
        return [family]

    def _describe(self, family: Family) -> str:
        return f"{family.describe()} ({len(family.files)})"

    def _sort(self, unused: list[tuple[str, str]]) -> tuple[list[Family], list[Family]]:
        """Sort the families into images and annotations."""
        ranked = sorted(self.families, key=lambda family: -len(family.files))
        for family in ranked[MOST_FAMILIES:]:
            unused.append((self._describe(family), f"not among the {MOST_FAMILIES} largest kinds of files"))
        images, masks = [], []
        for family in self.families:
            if family not in ranked[:MOST_FAMILIES]:
                continue
            if family.suffix.lower() in OUTLINES:
                masks.append(family)
            elif _is_part_of_set(family, self.families):
                unused.append((self._describe(family), "parts of the sets that a file beside them lists"))
            elif family.role == "by-product":
                unused.append((self._describe(family), "written by a program beside the images, as the names suggest"))
            elif not self.reader.headers(family).layouts:
                why = str(self.reader.headers(family).damaged[0]).rstrip(".")
                unused.append((self._describe(family), f"not readable: {why}"))
            elif len(self.families) > 1 and self.reader.is_mask(family):
                masks.append(family)
            elif family.role == "mask" and _fits_another(family, self.families):
                unused.append((self._describe(family), "named like masks, but they contain grey levels"))
            else:
                images.append(family)
        return images, masks

    def _join_twins(self, groups: list[Group]) -> list[Group]:
        """Join families of equal names, such as a PNG of each TIFF, unless their folders are parts such as train."""
        kept: list[Group] = []
        for group in sorted(groups, key=lambda one: _twin_rank(one.family)):
            twin = next((other for other in kept if _are_twins(other.family, group.family)), None)
            if twin is None:
                kept.append(group)
            else:
                twin.twins.append(group.family)
        return kept

    def _attach(self, family: Family, groups: list[Group]) -> bool:
        """Attach masks to the images that most of them fit; return whether there are any."""
        best: tuple[tuple[int, bool, int, int], Group, Pairing, str] | None = None
        for group in groups:
            for channel, images in group.channels.families.items() if group.channels else [("", group.family)]:
                found = pair(images, family)
                if found is None:
                    continue
                shared = _shared_folders(images, family)
                score = (len(found.files), found.way == "equal", shared, -abs(len(images.files) - len(found.images)))
                if best is None or score > best[0]:
                    best = (score, group, found, channel)
        if best is None:
            return False
        _, group, found, channel = best
        if group.channels and not group.pairings:
            group.channel, group.family = channel, group.channels.families[channel]
        elif group.channels and channel != group.channel:
            return False
        group.pairings.append(found)
        return True

    def _attach_tables(self, groups: list[Group]) -> None:
        """Attach tables of runs and COCO files to the images that they name."""
        for file in self.others:
            path = self.reader.path(file)
            if file.suffix.lower() == ".csv":
                every = set().union(*(group.stems for group in groups)) if groups else set()
                table = read_run_table(path, stems=every)
                group = _best(groups, table.names) if table else None
                if table and group:
                    group.run_tables.append((path, table))
            elif file.suffix.lower() == ".json" and (names := read_coco_names(path)):
                group = _best(groups, names)
                if group:
                    group.coco.append((path, len(names & group.stems)))

    @cached_property
    def suffixes(self) -> dict[str, int]:
        """Number of files by suffix, of those that are no images."""
        counts: dict[str, int] = {}
        for file in self.others:
            counts[file.suffix.lower()] = counts.get(file.suffix.lower(), 0) + 1
        return counts


def _with_channels(family: Family) -> Group:
    channels = find_channels(family)
    if channels is None:
        return Group(family)
    chosen = choose_channel(channels)
    return Group(channels.families[chosen], channels, chosen)


def _best(groups: Sequence[Group], names: frozenset[str]) -> Group | None:
    """Return the group with the most images among some names; None if they are few in all groups."""
    fits = [group for group in groups if len(group.stems & names) >= min(IN_TABLE * len(group.stems), len(names))]
    return max((g for g in fits if g.stems & names), key=lambda group: len(group.stems & names), default=None)


def _is_part_of_set(family: Family, families: Sequence[Family]) -> bool:
    """Check whether the files of a family are listed by files of another one, whose names theirs begin with."""
    lists = [one for one in families if one.suffix.lower() in SET_SUFFIXES and one is not family]
    heads = {(file.folders, file.stem) for one in lists for file in one.files}
    return bool(heads) and all(
        any(file.folders == folders and file.stem.startswith(stem) for folders, stem in heads) for file in family.files
    )


def _fits_another(family: Family, families: Sequence[Family]) -> bool:
    return any(other is not family and other.role == "image" and pair(other, family) for other in families)


def _twin_rank(family: Family) -> tuple[bool, int, tuple[str, ...]]:
    suffix = "." + family.suffix.lower().rsplit(".", 1)[-1]
    rank = BY_FORMAT.index(suffix) if suffix in BY_FORMAT else 0
    return (bool(family.words & MASK_WORDS), rank, family.folders)


def _are_twins(one: Family, other: Family) -> bool:
    if one.words & PART_WORDS != other.words & PART_WORDS or len(one.places[0]) != len(other.places[0]):
        return False
    names = [{(place, file.stem) for place, file in zip(f.places, f.files, strict=True)} for f in (one, other)]
    return len(names[0] & names[1]) >= 0.9 * max(map(len, names))


def _shared_folders(one: Family, other: Family) -> int:
    """Count the equal folders of two families, from the top."""
    shared = 0
    for first, second in zip(one.folders, other.folders, strict=False):
        if first.split("_")[0] != second.split("_")[0]:
            break
        shared += 1
    return shared


def _preference(pairing: Pairing) -> tuple[int, int, tuple[str, ...]]:
    """Return a sort key of annotations: outlines of the Cell Tracking Challenge before its markers, then by number."""
    folders = "/".join(pairing.family.folders).upper()
    ranks = [r"_GT/SEG", r"_ST/SEG|_ST", r"(?!.*(?:_GT/TRA|_RES)).*", r"_RES", r"_GT/TRA"]
    rank = next((i for i, pattern in enumerate(ranks) if re.search(pattern, folders)), len(ranks))
    return (rank, -len(pairing.images), pairing.family.folders)


def _part_rank(family: Family) -> int:
    """Return 0 for a family that is not named test or validation, so that it stands first."""
    return int(bool(family.words & (PART_WORDS - {"train", "training"})))
