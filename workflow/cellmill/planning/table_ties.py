"""Ties between images and the entries of a shared annotation table, by name, and by folder where names recur."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cellmill.planning.frame_numbers import find_shift_of_names, shift_last_number
from cellmill.planning.samples import Sample, some, stem_of


class TableTies(NamedTuple):
    """Sample -> name of its entry, and sample -> the text that readers look up, if that is not the sample."""

    names: dict[str, str]
    lookups: dict[str, str]
    respelt: list[str]


def tie_entries(
    samples: Sequence[Sample], entries: Mapping[str, str], *, where: str, frame_offset: int | None = None
) -> TableTies:
    """Find the entry of each image.

    Parameters
    ----------
    samples : sequence of Sample
        Samples with their paths.
    entries : mapping
        Name of an entry -> path as written in the table. The name is the sample, unless the table has several entries
        of that name in different folders.
    where : str
        Key path of the table, for messages.
    frame_offset : int or None
        Last number in the name of an entry minus that in the name of its image; None if they are equal.

    Returns
    -------
    TableTies
        A sample without entry is missing. Names that agree in another Unicode form only are listed in `respelt`.

    Raises
    ------
    ValueError
        If an image fits two entries equally, an entry fits two images equally, or the numbers of all entries are
        shifted against those of the images.

    Notes
    -----
    An entry with the name of a sample belongs to it. Otherwise the file names are compared, and among equal file names
    the number of equal folders before them decides.
    """
    if frame_offset is None and (shifted := _explain_shift(samples, entries, where=where)):
        raise ValueError(shifted)
    stems: dict[str, list[str]] = {}
    for name, path in entries.items():
        stems.setdefault(_plain(_stem(path)), []).append(name)
    names: dict[str, str] = {}
    claims: dict[str, list[tuple[int, Sample]]] = {}
    mistakes: list[str] = []
    for sample in samples:
        if not frame_offset and sample.sample in entries:
            names[sample.sample] = sample.sample
            continue
        own = [sample.sample] if sample.plane else [sample.sample, stem_of(sample.image)]
        own = [shift_last_number(text, frame_offset) or "" for text in own] if frame_offset else own
        fits = next((stems[_plain(text)] for text in own if _plain(text) in stems), [])
        scores = {name: _equal_folders(sample.image, entries[name]) for name in fits}
        best = [name for name in fits if scores[name] == max(scores.values())]
        if len(best) > 1:
            mistakes.append(
                f"{where}: expected one entry for {sample.image}, found {entries[best[0]]} and {entries[best[1]]}, "
                "which fit equally. Add the folders of the image files to the names in the table."
            )
        elif best:
            claims.setdefault(best[0], []).append((scores[best[0]], sample))
    taken = set(names.values())
    for name, claimants in claims.items():
        if name in taken:
            continue
        top = max(score for score, _ in claimants)
        first, *others = [sample for score, sample in claimants if score == top]
        if others:
            paths = some([first.image, *(sample.image for sample in others)])
            mistakes.append(
                f"{where}: expected one image for {entries[name]}, found {paths}, which fit equally. Add the folders "
                "of the image files to the names in the table."
            )
        names[first.sample] = name
    if mistakes:
        raise ValueError("\n".join(mistakes[:20]))
    lookups = {sample: entries[name] for sample, name in names.items() if name != sample}
    respelt = [
        sample
        for sample, path in lookups.items()
        if not frame_offset and _stem(path) != sample and _plain(_stem(path)) == _plain(sample)
    ]
    return TableTies(names, lookups, respelt)


def _explain_shift(samples: Sequence[Sample], entries: Mapping[str, str], *, where: str) -> str:
    """Return a message if all entries are numbered differently from the images by a constant, "" otherwise."""
    images = [(sample.sample, "") for sample in samples]
    shifted = find_shift_of_names(images, [(_stem(path), "") for path in entries.values()], numbers=None)
    if shifted is None:
        return ""
    own, found, shift = shifted
    count = "equally many, but shifted" if len(own) == len(found) else "shifted"
    return (
        f"{where}: expected names with the numbers of the images, found images {min(own)} to {max(own)} and names "
        f"{min(found)} to {max(found)}: {count} by {shift}. Set annotations.frame_offset: {shift} if "
        f"image {min(own)} belongs to name {min(found)}, or frame_offset: 0 if equal numbers belong together."
    )


def _stem(path: str) -> str:
    name = _parts(path)[-1]
    return re.sub(r"(\.ome)?\.[a-z][a-z0-9]{1,4}$", "", name, flags=re.IGNORECASE) or name


def _parts(path: str) -> list[str]:
    return [part for part in re.split(r"[/\\]", path) if part not in ("", ".")] or [path]


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _equal_folders(first: str, second: str) -> int:
    """Count the equal folders of two paths, from the files upwards."""
    count = 0
    for own, other in zip(_parts(first)[-2::-1], _parts(second)[-2::-1], strict=False):
        if _plain(own) != _plain(other):
            break
        count += 1
    return count
