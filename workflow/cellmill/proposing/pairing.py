"""Which files belong to which images, by their names."""

from collections.abc import Iterator
from dataclasses import dataclass

from cellmill.proposing.columns import plain_number
from cellmill.proposing.families import Family, mask_ends

# Of the files of a family, this share has to belong to images
COVERED = 0.5


@dataclass(frozen=True)
class Pairing:
    """How the files of a family belong to images.

    `way` is "equal" (names are equal), "end" (`text` follows the name of the image), "start" (`text` precedes it),
    "columns" (the parts that differ are equal) or "folder" (the files of a folder belong to the image in the same
    place). `images` are the numbers of the images that have files, `files` those of the paired files; `is_many` is true
    if an image has several files.
    """

    family: Family
    way: str
    text: str
    images: frozenset[int]
    files: frozenset[int]
    is_many: bool


def pair(images: Family, others: Family) -> Pairing | None:
    """Find out how the files of a family belong to the images of another.

    Returns
    -------
    Pairing or None
        None if less than half of the files belong to an image, or less than one image in a hundred has a file.
    """
    best: Pairing | None = None
    for way, text, keys_of_images, keys_of_others in _ways(images, others):
        found = _match(others, way, text, keys_of_images, keys_of_others)
        if found is not None and (best is None or len(found.files) > len(best.files)):
            best = found
    return best


def _match(
    others: Family, way: str, text: str, keys_of_images: list[tuple[str, ...]], keys_of_others: list[tuple[str, ...]]
) -> Pairing | None:
    image_of: dict[tuple[str, ...], int] = {}
    for number, key in enumerate(keys_of_images):
        if image_of.setdefault(key, number) != number:
            return None  # the parts do not tell the images apart
    taken: dict[int, list[int]] = {}
    for number, key in enumerate(keys_of_others):
        if key in image_of:
            taken.setdefault(image_of[key], []).append(number)
    files = [number for numbers in taken.values() for number in numbers]
    if len(files) < COVERED * len(keys_of_others) or len(taken) < 0.01 * len(image_of) or not files:
        return None
    is_many = any(len(numbers) > 1 for numbers in taken.values())
    if is_many and way in ("equal", "columns"):
        return None
    return Pairing(others, way, text, frozenset(taken), frozenset(files), is_many)


def _ways(images: Family, others: Family) -> Iterator[tuple[str, str, list[tuple[str, ...]], list[tuple[str, ...]]]]:
    """Yield ways of pairing with the keys of the images and of the files."""
    is_same_depth = len(images.folder_names) == len(others.folder_names)
    own: list[tuple[str, ...]] = list(images.places) if is_same_depth else [()] * len(images.files)
    theirs: list[tuple[str, ...]] = list(others.places) if is_same_depth else [()] * len(others.files)
    stems = [file.stem for file in images.files]
    names = [file.stem for file in others.files]
    own_stems = [(*place, stem) for place, stem in zip(own, stems, strict=True)]
    yield "equal", "", own_stems, [(*place, name) for place, name in zip(theirs, names, strict=True)]
    for text in _ends(images, others):
        cut = [name[: -len(text)] if name.endswith(text) else "\0" for name in names]
        yield "end", text, own_stems, [(*place, name) for place, name in zip(theirs, cut, strict=True)]
    for text in _starts(images, others):
        cut = [name[len(text) :] if name.startswith(text) else "\0" for name in names]
        yield "start", text, own_stems, [(*place, name) for place, name in zip(theirs, cut, strict=True)]
    yield from _ways_of_columns(images, others, own, theirs)
    if is_same_depth and images.folder_names and len(set(images.places)) == len(images.places):
        yield "folder", "", own, theirs


def _ways_of_columns(
    images: Family, others: Family, own: list[tuple[str, ...]], theirs: list[tuple[str, ...]]
) -> Iterator[tuple[str, str, list[tuple[str, ...]], list[tuple[str, ...]]]]:
    """Yield the pairing by the columns that differ; a last number of the files may count the objects of an image."""
    count, other_count = len(images.table.varying), len(others.table.varying)
    keys, other_keys = images.table.keys(), others.table.keys()
    mine = [(*place, *keys[row]) for place, row in zip(own, images.rows, strict=True)]
    if count == other_count and count:
        yield "columns", "", mine, [(*place, *other_keys[row]) for place, row in zip(theirs, others.rows, strict=True)]
    if other_count == count + 1:
        last = others.table.columns[others.table.varying[-1]]
        if all(plain_number(value).isdecimal() for value in last.values):
            yield (
                "objects",
                "",
                mine,
                [(*place, *other_keys[row][:-1]) for place, row in zip(theirs, others.rows, strict=True)],
            )


def _ends(images: Family, others: Family) -> list[str]:
    """Return the texts that the names of the files may have after those of the images."""
    first = others.files[0].stem
    found = [first[len(name) :] for name in mask_ends(first)]
    stems = {file.stem for file in images.files}
    found += [first[place:] for place in range(len(first) - 1, 0, -1) if first[:place] in stems]
    return list(dict.fromkeys(found))


def _starts(images: Family, others: Family) -> list[str]:
    first = others.files[0].stem
    stems = {file.stem for file in images.files}
    return [first[:place] for place in range(1, len(first)) if first[place:] in stems]
