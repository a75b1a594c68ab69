"""Families of files: those that one pattern matches, over folders of equal content."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from cellmill.experiment.wells import find_well
from cellmill.proposing.columns import STAINS, Table, cut_names
from cellmill.proposing.listing import File

IMAGE_WORDS = {
    "image",
    "images",
    "img",
    "imgs",
    "raw",
    "input",
    "inputs",
    "original",
    "originals",
    "picture",
    "pictures",
}
MASK_WORDS = {
    "mask", "masks", "label", "labels", "gt", "groundtruth", "seg", "segmentation", "segmentations", "annotation",
    "annotations", "truth", "instance", "instances", "tra", "st", "res", "target", "targets", "roi", "rois",
}  # fmt: skip
PART_WORDS = {"train", "training", "test", "testing", "val", "valid", "validation"}
ROLE_WORDS = IMAGE_WORDS | MASK_WORDS | PART_WORDS
# Ends of the names of folders that lie beside each other: 01 and 01_GT, a_images and a_masks
FOLDER_END = re.compile(r"(.+?)([_-](?:gt|st|res|masks?|labels?|seg|images?|imgs?))", re.IGNORECASE)
# Ends of the names of masks, and starts, as Cellpose, StarDist, ilastik, CellProfiler and the Cell Tracking Challenge
# write them
MASK_END = re.compile(
    r"(?:[ _.-](?:cp|gt|cell|nuclei|stardist))?[ _.-]?(?:masks?|labels?|labelled|seg|segmentation|annotations?|gt|"
    r"ground[_-]?truth|instances?|truth|objects|object[_ ]identities|simple[_ ]segmentation)[ _.-]?\d*",
    re.IGNORECASE,
)
MASK_START = re.compile(r"(?:man[_-])?(?:mask|label|seg|track|gt|truth)s?(?:[ _.-](?=[^\W_])|(?=\d))", re.IGNORECASE)
# Files that programs write beside an image, and that are neither images nor masks
BY_PRODUCT = re.compile(
    r".*[ _.-](?:flows?|outlines?|cellprob|probabilit(?:y|ies)|uncertainty|thumb(?:nail)?s?|preview|overlay)\d*",
    re.IGNORECASE,
)
ANNOTATION_SUFFIXES = (".zip", ".roi", ".geojson")
# Of folders side by side, this share has to have the same content as most
ALIKE = 0.5


@dataclass(frozen=True)
class Family:
    """Files of one pattern.

    `folders` are the folders below the looked-at one, with "*" and a fixed end for those that differ; `places` holds
    for each file the texts of these; `role` is image, mask or by-product as the names suggest.
    """

    folders: tuple[str, ...]
    suffix: str
    role: str
    files: tuple[File, ...]
    places: tuple[tuple[str, ...], ...]
    table: Table
    folder_names: tuple[str, ...] = field(default=())

    @cached_property
    def rows(self) -> list[int]:
        """For each file the row of its name in the table of names."""
        row_of = {name: row for row, name in enumerate(self.table.names)}
        return [row_of[file.stem] for file in self.files]

    @property
    def words(self) -> set[str]:
        """The words of its fixed folders, in lower case."""
        return {word for folder in self.folders for word in words_of(folder)}

    def describe(self) -> str:
        """Return a pattern with stars, for comments."""
        fixed = len(self.table.columns) == 1 and self.table.varying == [0]
        name = self.table.after if fixed else "".join(
            column.before + (column.values[0] if column.is_fixed else "*") for column in self.table.columns
        ) + self.table.after  # fmt: skip
        name = f"*{name}" if fixed else name
        return "/".join([*self.folders, name + self.suffix])


def restrict(family: Family, numbers: Iterable[int]) -> Family:
    """Return the family of some files, by their numbers; columns in which these agree become fixed texts."""
    chosen = sorted(numbers)
    files = tuple(family.files[number] for number in chosen)
    rows = sorted({family.rows[number] for number in chosen})
    columns = tuple(
        replace(column, values=tuple(column.values[row] for row in rows)) for column in family.table.columns
    )
    table = Table(tuple(family.table.names[row] for row in rows), columns, family.table.after)
    return replace(family, files=files, places=tuple(family.places[number] for number in chosen), table=table)


def fix_folder(family: Family, level: int) -> Family:
    """Return a family in which a folder that is equal for all files is a fixed one."""
    [text] = {place[level] for place in family.places}
    stars = [number for number, folder in enumerate(family.folders) if folder.startswith("*")]
    folders = list(family.folders)
    folders[stars[level]] = text + folders[stars[level]][1:]
    return replace(
        family,
        folders=tuple(folders),
        places=tuple((*place[:level], *place[level + 1 :]) for place in family.places),
        folder_names=(*family.folder_names[:level], *family.folder_names[level + 1 :]),
    )


def words_of(name: str) -> list[str]:
    """Cut a name into words, in lower case, without numbers."""
    return [word for word in re.split(r"[\W_\d]+", name.lower()) if word]


def find_families(files: Iterable[File]) -> list[Family]:
    """Sort image files, and files with outlines, into families.

    Returns
    -------
    list of Family
        Sorted by folder, suffix and name.
    """
    tree = _Node()
    for file in files:
        if file.is_image or file.suffix.lower() in ANNOTATION_SUFFIXES:
            tree.add(file)
    groups: dict[tuple[tuple[str, ...], str, str], list[tuple[File, tuple[str, ...]]]] = {}
    _descend([(tree, ())], (), groups)
    families = []
    for (folders, suffix, role), members in groups.items():
        families += _cut_family(folders, suffix, role, members)
    return sorted(families, key=lambda one: (one.folders, one.suffix, one.role, one.files[0].stem))


class _Node:
    """A folder: its files and the folders in it."""

    def __init__(self) -> None:
        self.files: list[File] = []
        self.below: dict[str, _Node] = {}

    def add(self, file: File) -> None:
        node = self
        for name in file.folders:
            node = node.below.setdefault(name, _Node())
        node.files.append(file)

    @cached_property
    def content(self) -> frozenset[str]:
        """Kinds of files at the places below the folder, with * for names without a role."""
        own = {f"*{file.suffix}" for file in self.files}
        for name, node in self.below.items():
            key = name if is_role(name) else "*"
            own |= {f"{key}/{kind}" for kind in node.content}
        return frozenset(own)


def is_role(name: str) -> bool:
    """Return whether a word in the name of a folder is that of a role: images, masks, train, test, …"""
    return bool(ROLE_WORDS & set(words_of(name)))


def _descend(
    nodes: Sequence[tuple[_Node, tuple[str, ...]]],
    folders: tuple[str, ...],
    groups: dict[tuple[tuple[str, ...], str, str], list[tuple[File, tuple[str, ...]]]],
) -> None:
    """Sort the files of folders that have the same place, then those of the folders in them."""
    for node, place in nodes:
        for file in node.files:
            groups.setdefault((folders, file.suffix, role_of(file.stem)), []).append((file, place))
    named: dict[str, list[tuple[_Node, tuple[str, ...]]]] = {}
    for node, place in nodes:
        for name, below in node.below.items():
            named.setdefault(name, []).append((below, place))
    ends = _ends_of(named)
    alike: dict[str, list[str]] = {}
    for name in named:
        if name in ends or not is_role(name):
            alike.setdefault(ends.get(name, ("", ""))[1], []).append(name)
    joined: set[str] = set()
    for end, names in alike.items():
        chosen = _alike(names, named)
        if len(chosen) < 2 and not end and not any(base == name for name in chosen for base, _ in ends.values()):
            continue
        joined |= set(chosen)
        members = [(node, (*place, ends.get(name, (name, ""))[0])) for name in chosen for node, place in named[name]]
        _descend(members, (*folders, f"*{end}"), groups)
    for name in sorted(set(named) - joined):
        _descend(named[name], (*folders, name), groups)


def _ends_of(named: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return base and end of the folders that lie beside a folder of the same base, such as 01_GT beside 01."""
    names = set(named)
    found = {name: match.groups() for name in names if (match := FOLDER_END.fullmatch(name))}
    counts = Counter(base for base, _ in found.values())
    return {name: (base, end) for name, (base, end) in found.items() if (base in names or counts[base] > 1) and base}


def _alike(names: list[str], named: dict[str, list[tuple[_Node, tuple[str, ...]]]]) -> list[str]:
    """Return the folders with the content that most of them have, or a part of it."""
    content = {name: frozenset().union(*(node.content for node, _ in named[name])) for name in names}
    counts = Counter(content.values())
    if not counts:
        return []
    most = min(counts, key=lambda kinds: (-counts[kinds], -len(kinds), sorted(kinds)))
    if not most or (counts[most] < ALIKE * len(names)) or (len(names) > 1 and counts[most] < 2):
        return []
    return [name for name in names if content[name] and content[name] <= most]


def role_of(stem: str) -> str:
    """Return what the name of a file suggests: mask, by-product or image."""
    if BY_PRODUCT.fullmatch(stem):
        return "by-product"
    is_named = bool(words_of(stem)) and set(words_of(stem)) <= MASK_WORDS
    return "mask" if is_named or MASK_START.match(stem) or mask_ends(stem) else "image"


def mask_ends(stem: str) -> list[str]:
    """Return the name without its end that is that of a mask, in all readings, the longest name first."""
    # an end begins at a separator or after a number: 7masks, but not unmasked
    starts = [place for place in range(1, len(stem)) if stem[place] in " _.-" or stem[place - 1].isdigit()]
    return [stem[:place] for place in reversed(starts) if MASK_END.fullmatch(stem, place)]


def _cut_family(
    folders: tuple[str, ...], suffix: str, role: str, members: list[tuple[File, tuple[str, ...]]]
) -> list[Family]:
    stems = list(dict.fromkeys(file.stem for file, _ in members))
    families = []
    for table in cut_names(stems):
        own = set(table.names)
        chosen = [(file, place) for file, place in members if file.stem in own]
        files, places = tuple(file for file, _ in chosen), tuple(place for _, place in chosen)
        families.append(
            Family(folders, suffix, role, files, places, table, _name_folders(folders, places, table, files))
        )
    return families


def _name_folders(
    folders: tuple[str, ...], places: Sequence[tuple[str, ...]], table: Table, files: Sequence[File]
) -> tuple[str, ...]:
    """Choose names for the folders that differ."""
    used = {table.columns[place].name for place in table.varying}
    names = []
    for level, _ in enumerate(folder for folder in folders if folder.startswith("*")):
        texts = {place[level] for place in places}
        if len(texts) > 1 and all(find_well(text) is not None for text in texts):
            wanted = "well"
        elif all(words_of(text)[:1] == ["plate"] for text in texts):
            wanted = "plate"
        elif len(texts) > 1 and {text.lower() for text in texts} <= set(STAINS):
            wanted = "channel"
        else:
            wanted = "folder"
        name, count = wanted, 1
        while name in used:
            count += 1
            name = f"{wanted}{count}"
        used.add(name)
        names.append(name)
    return tuple(names)
