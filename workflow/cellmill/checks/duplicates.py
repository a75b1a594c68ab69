"""Find identical and nearly identical images of a dataset.

Nearly identical images show the same field after a crop by a few pixels, a brightness change, JPEG compression, noise
or resampling. For mirrored and turned copies see `turned_copies.py`.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Fingerprints with at least this correlation show the same field. Among 154 real images of six datasets, different
# fields reached at most 0.59 and neighbouring tissue sections 0.70; among 229, copies cropped by 2 px reached at least
# 0.77.
NEAR_CORRELATION = 0.75
# Fingerprints with fewer effective non-zero cells agree by chance, such as a dark field with one bright object.
MIN_CELLS = 8.0
# Number of images per block of the pairwise comparison.
BLOCK = 2048
SHOWN_PAIRS = 3
# Images in no part of the split: without annotation, between two blocks, or left out by a table
NO_PART = ("unlabelled", "gap", "left out")


@dataclass
class Twins:
    """Duplicate pairs as indices, later image -> earlier image.

    `across` holds pairs on different sides of the split and `beside` the other pairs. `in_sequence` holds images with a
    duplicate of the same sequence on another side of the split.
    """

    across: dict[int, int] = field(default_factory=dict)
    beside: dict[int, int] = field(default_factory=dict)
    in_sequence: set[int] = field(default_factory=set)


def find_duplicates(images: Sequence[Mapping[str, Any]], *, dataset: str) -> list[dict[str, str]]:
    """Find equal and nearly equal images across all shards, because they may leak training images into testing.

    Parameters
    ----------
    images : sequence of mappings
        sample, sequence ("" without), split ("train", "fold0", "unlabelled", ...), sha256 and thumbnail of each image.
    dataset : str
        Location reported in the findings.

    Returns
    -------
    list of dict
        At most four findings, plus one for each sequence: equal and nearly equal images on different sides of the split
        (warnings) and on the same side (notes). Nearly equal frames of a sequence are not reported on the same side;
        across sides they are counted in one finding per sequence.
    """
    exact, near = find_exact(images), find_near(images)
    findings = []
    for relation, twins in (("the same pixels as", exact), ("nearly the same field as", near)):
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
                "finding": f"{count} frames have a near duplicate from the same sequence in another part of the split",
                "advice": "Split by sequence, or increase the gap: otherwise scores are valid for these sequences only",
            }
        )
    return findings


def find_exact(images: Sequence[Mapping[str, Any]]) -> Twins:
    """Pair images with equal pixels, preferably with an image on another side of the split.

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
    """Pair images with matching thumbnails, except those with equal pixels.

    Parameters
    ----------
    images : sequence of mappings
        sequence, split, sha256 and thumbnail of each image.

    Returns
    -------
    Twins
        Images whose thumbnail is empty or has fewer than 8 effective non-zero cells are excluded.

    Notes
    -----
    Computed as matrix products, block by block: 25,000 images take seconds and under 500 MB.
    """
    kept, units = read_fingerprints([str(image["thumbnail"]) for image in images])
    parts, sequences, digests = (_codes([str(images[i][key]) for i in kept]) for key in ("split", "sequence", "sha256"))
    is_judged = np.array([images[i]["split"] not in NO_PART for i in kept], dtype=bool)
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


def read_fingerprints(thumbnails: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of comparable images, and their fingerprints as float32 unit vectors."""
    kept: list[int] = []
    units = np.zeros((0, 1), dtype=np.float32)
    for index, text in enumerate(thumbnails):
        if not text:
            continue
        signature = np.frombuffer(base64.b64decode(text), dtype=np.int8).astype(np.float32)
        squares = signature**2
        # the participation ratio, which is n if n cells share the signal equally
        if squares.sum() ** 2 >= MIN_CELLS * (squares**2).sum():
            if not kept:  # in one piece: for many images, a list and its copy would be twice as large
                units = np.empty((len(thumbnails), len(signature)), dtype=np.float32)
            units[len(kept)] = signature / np.sqrt(squares.sum())
            kept.append(index)
    return np.array(kept, dtype=int), units[: len(kept)]


def _codes(words: Sequence[str]) -> np.ndarray:
    return np.unique(words, return_inverse=True)[1]


def _block_pairs(count: int) -> Iterator[tuple[slice, slice]]:
    blocks = [slice(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
    for place, first in enumerate(blocks):
        for second in blocks[place:]:
            yield first, second


def _record(pairs: dict[int, int], is_pair: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """Record for each image of `second` its first partner in `first`, unless it already has a partner."""
    for column in np.flatnonzero(is_pair.any(axis=0)):
        pairs.setdefault(int(second[column]), int(first[is_pair[:, column].argmax()]))


def _is_across(one: str, other: str) -> bool:
    return one != other and one not in NO_PART and other not in NO_PART


def _describe_pairs(
    images: Sequence[Mapping[str, Any]], pairs: Mapping[int, int], *, relation: str, is_across: bool, dataset: str
) -> list[dict[str, str]]:
    """Build one finding for all pairs of a kind; return an empty list if there are none."""
    if not pairs:
        return []
    shown = [f"{images[i]['sample']} and {images[j]['sample']}" for i, j in sorted(pairs.items())[:SHOWN_PAIRS]]
    rest = f" and {len(pairs) - SHOWN_PAIRS} more" if len(pairs) > SHOWN_PAIRS else ""
    subject = "1 image has" if len(pairs) == 1 else f"{len(pairs)} images have"
    if relation.startswith("nearly"):
        subject = subject.replace("has", "shows").replace("have", "show")
    side = "in another part of the split" if is_across else "in the same part of the split"
    advice = "Remove one image of each pair: otherwise a model is tested on an image that it was trained on"
    return [
        {
            "severity": "warning" if is_across else "note",
            "sample": "",
            "where": dataset,
            "finding": f"{subject} {relation} another image {side} ({'; '.join(shown)}{rest})",
            "advice": advice if is_across else "Remove one image of each pair, unless both are meant to count",
        }
    ]
