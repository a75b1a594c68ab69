"""Images of a dataset that are the same, or nearly so.

Near means: the same field after a crop by a few pixels, a change of brightness, JPEG, noise or another sampling.
Copies that were turned or mirrored are not looked for.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Signatures that agree better are of one field. Of 154 real images of six sets, different fields came to 0.59 at most,
# neighbouring sections of a tissue to 0.70; of 229, copies cropped by 2 px came to 0.77 at least.
NEAR_CORRELATION = 0.75
# Signatures of which fewer cells hold anything agree by chance: a dark field with one bright object.
MIN_CELLS = 8.0
# Images compared with one another at a time.
BLOCK = 2048
SHOWN_PAIRS = 3
UNLABELLED = "unlabelled"


@dataclass
class Twins:
    """Pairs of image numbers, the later image first; and the images that have a twin across sides in their sequence."""

    across: dict[int, int] = field(default_factory=dict)
    beside: dict[int, int] = field(default_factory=dict)
    in_sequence: set[int] = field(default_factory=set)


def find_duplicates(images: Sequence[Mapping[str, Any]], *, dataset: str) -> list[dict[str, str]]:
    """Find images that are equal or nearly equal, in whichever shards: one may train while the other judges.

    Parameters
    ----------
    images : sequence of mappings
        sample, sequence ("" without), split ("train", "fold0", "unlabelled", ...), sha256 and thumbnail of each image.
    dataset : str
        Named as the place of a finding.

    Returns
    -------
    list of dict
        At most four findings, and one for each sequence: equal and nearly equal images on two sides of the split
        (warnings) and on one (notes). Frames of a sequence are expected to be alike on one side; on two they are
        counted once for the sequence.
    """
    exact, near = find_exact(images), find_near(images)
    findings = []
    for relation, twins in (("the same pixels as", exact), ("nearly the same picture as", near)):
        findings += _describe_pairs(images, twins.across, relation=relation, is_across=True, dataset=dataset)
        findings += _describe_pairs(images, twins.beside, relation=relation, is_across=False, dataset=dataset)
    members: dict[str, int] = {}
    for index in sorted(near.in_sequence):
        sequence = str(images[index]["sequence"])
        members[sequence] = members.get(sequence, 0) + 1
    for sequence, count in members.items():
        findings.append(
            {
                "severity": "warning",
                "sample": "",
                "where": f"{dataset}, sequence {sequence}",
                "finding": f"{count} frames have a nearly equal one of the same sequence on another side of the split",
                "advice": "Split by sequence, or leave a larger gap: scores hold for these sequences only",
            }
        )
    return findings


def find_exact(images: Sequence[Mapping[str, Any]]) -> Twins:
    """Pair images of equal pixels, each with one on another side of the split if there is one.

    Parameters
    ----------
    images : sequence of mappings
        split and sha256 of each image.

    Returns
    -------
    Twins
    """
    groups: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(str(image["sha256"]), []).append(index)
    twins = Twins()
    for group in groups.values():
        for place, index in enumerate(group[1:], start=1):
            other = next((j for j in group[:place] if _is_across(images[index]["split"], images[j]["split"])), None)
            if other is None:
                twins.beside[index] = group[0]
            else:
                twins.across[index] = other
    return twins


def find_near(images: Sequence[Mapping[str, Any]]) -> Twins:
    """Pair images whose thumbnails agree, except those of equal pixels.

    Parameters
    ----------
    images : sequence of mappings
        sequence, split, sha256 and thumbnail of each image.

    Returns
    -------
    Twins
        Images with an empty thumbnail, or one of which fewer than 8 cells hold anything, are in no pair.

    Notes
    -----
    A product of matrices, block by block: 25,000 images take seconds and under 500 MB.
    """
    kept, units = _unit_signatures([str(image["thumbnail"]) for image in images])
    parts, sequences, digests = (_codes([str(images[i][key]) for i in kept]) for key in ("split", "sequence", "sha256"))
    is_judged = np.array([images[i]["split"] != UNLABELLED for i in kept], dtype=bool)
    has_sequence = np.array([bool(images[i]["sequence"]) for i in kept], dtype=bool)
    twins = Twins()
    for first, second in _block_pairs(len(kept)):
        is_near = units[first] @ units[second].T >= NEAR_CORRELATION
        if first == second:
            is_near = np.triu(is_near, 1)
        if not is_near.any():
            continue
        is_near &= digests[first, None] != digests[None, second]
        is_one = (sequences[first, None] == sequences[None, second]) & has_sequence[first, None]
        across = (parts[first, None] != parts[None, second]) & is_judged[first, None] & is_judged[None, second]
        _record(twins.across, is_near & across & ~is_one, kept[first], kept[second])
        _record(twins.beside, is_near & ~across & ~is_one, kept[first], kept[second])
        shared = is_near & across & is_one
        twins.in_sequence.update(kept[first][shared.any(axis=1)].tolist(), kept[second][shared.any(axis=0)].tolist())
    for index in twins.across:
        twins.beside.pop(index, None)
    return twins


def _unit_signatures(thumbnails: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Give the numbers of the images that can be compared, and their signatures of length 1 as float32."""
    kept, units = [], []
    for index, text in enumerate(thumbnails):
        if not text:
            continue
        signature = np.frombuffer(base64.b64decode(text), dtype=np.int8).astype(np.float32)
        squares = signature**2
        # the participation ratio: n where n cells hold all, equally
        if squares.sum() ** 2 >= MIN_CELLS * (squares**2).sum():
            kept.append(index)
            units.append(signature / np.sqrt(squares.sum()))
    return np.array(kept, dtype=int), np.stack(units) if units else np.zeros((0, 1), dtype=np.float32)


def _codes(words: Sequence[str]) -> np.ndarray:
    return np.unique(words, return_inverse=True)[1]


def _block_pairs(count: int) -> Iterator[tuple[slice, slice]]:
    blocks = [slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    for place, first in enumerate(blocks):
        for second in blocks[place:]:
            yield first, second


def _record(pairs: dict[int, int], is_pair: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Note for each image of `second` the first image of `first` that it pairs with, unless one is known."""
    for column in np.flatnonzero(is_pair.any(axis=0)):
        pairs.setdefault(int(second[column]), int(first[is_pair[:, column].argmax()]))


def _is_across(one: str, other: str) -> bool:
    return one != other and UNLABELLED not in (one, other)


def _describe_pairs(
    images: Sequence[Mapping[str, Any]], pairs: Mapping[int, int], *, relation: str, is_across: bool, dataset: str
) -> list[dict[str, str]]:
    """Make one finding of all pairs of a kind, or none."""
    if not pairs:
        return []
    shown = [f"{images[i]['sample']} and {images[j]['sample']}" for i, j in sorted(pairs.items())[:SHOWN_PAIRS]]
    rest = f" and {len(pairs) - SHOWN_PAIRS} more" if len(pairs) > SHOWN_PAIRS else ""
    subject = "1 image has" if len(pairs) == 1 else f"{len(pairs)} images have"
    if relation.startswith("nearly"):
        subject = subject.replace("has", "shows").replace("have", "show")
    side = "on another side of the split" if is_across else "on the same side of the split"
    advice = "Leave one of each pair out: it would be judged on what was learnt from the other"
    return [
        {
            "severity": "warning" if is_across else "note",
            "sample": "",
            "where": dataset,
            "finding": f"{subject} {relation} another {side} ({'; '.join(shown)}{rest})",
            "advice": advice if is_across else "Leave one of each pair out, unless they are meant to count twice",
        }
    ]
