"""Find images that are mirrored or turned copies of others, by a fingerprint that all eight orientations share.

The mean of a fingerprint over the eight symmetries of the square is equal for all orientations of an image. Images with
similar means are compared in all orientations.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cellmill.checks.duplicates import BLOCK, NO_PART, read_fingerprints

# Fingerprints of an image and of its turned copy differ by rounding only; compressed copies still reach this value.
COPY_CORRELATION = 0.95
# Correlation of the means from which on orientations are compared. A mean keeps less of the fingerprint than a copy
# loses, so it is no stricter.
MEAN_CORRELATION = 0.95
# Fingerprints that agree without being turned belong to duplicates and to symmetric images.
PLAIN_CORRELATION = 0.75
# Means that hold less of a fingerprint are those of noise: fraction of the sum of squares.
MIN_SHARE = 0.02
SHOWN_PAIRS = 3


def find_turned_copies(images: Sequence[Mapping[str, Any]], *, dataset: str) -> list[dict[str, str]]:
    """Find mirrored and turned copies of images across all shards.

    Parameters
    ----------
    images : sequence of mappings
        sample, split and thumbnail of each image.
    dataset : str
        Location reported in the findings.

    Returns
    -------
    list of dict
        At most two findings: copies in another part of the split (warning) and in the same part (note).

    Notes
    -----
    Computed as matrix products, block by block: 25,000 images take seconds.
    """
    across: dict[int, int] = {}
    beside: dict[int, int] = {}
    for first, second in pair_turned([str(image["thumbnail"]) for image in images]):
        parts = {str(images[first]["split"]), str(images[second]["split"])}
        pairs = across if len(parts) == 2 and parts.isdisjoint(NO_PART) else beside
        pairs.setdefault(second, first)
    findings = []
    for pairs, severity, side in ((across, "warning", "another"), (beside, "note", "the same")):
        if pairs:
            shown = [f"{images[i]['sample']} and {images[j]['sample']}" for i, j in sorted(pairs.items())[:SHOWN_PAIRS]]
            rest = f" and {len(pairs) - SHOWN_PAIRS} more" if len(pairs) > SHOWN_PAIRS else ""
            findings.append(
                {
                    "severity": severity,
                    "sample": "",
                    "where": dataset,
                    "finding": f"{len(pairs)} mirrored or turned {'copy' if len(pairs) == 1 else 'copies'} of images "
                    f"in {side} part of the split ({'; '.join(shown)}{rest})",
                    "advice": "Remove the copies: training mirrors and turns images anyway, and a copy in another part "
                    "makes scores too high",
                }
            )
    return findings


def pair_turned(thumbnails: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield pairs of images, earlier first, of which one is a mirrored or turned copy of the other.

    Parameters
    ----------
    thumbnails : sequence of str
        Fingerprints from `sign_thumbnail`, "" for none.
    """
    kept, units = read_fingerprints(thumbnails)
    if len(kept) < 2:
        return
    side = math.isqrt(units.shape[1])
    cells = units.reshape(-1, side, side)
    means = np.concatenate(
        [_average_orientations(cells[start : start + BLOCK]) for start in range(0, len(cells), BLOCK)]
    )
    lengths = np.sqrt((means**2).sum(axis=1))
    is_kept = lengths**2 >= MIN_SHARE
    places = np.flatnonzero(is_kept)
    means = (means[is_kept] / lengths[is_kept, None]).astype(np.float32)
    for start in range(0, len(places), BLOCK):
        near = means[start : start + BLOCK] @ means[start:].T >= MEAN_CORRELATION
        for row, column in np.argwhere(np.triu(near, 1)):
            first, second = places[start + row], places[start + column]
            one, other = cells[first], cells[second]
            if (one * other).sum() < PLAIN_CORRELATION and _is_turned(one, other):
                yield int(kept[first]), int(kept[second])


def turn(cells: np.ndarray, way: int) -> np.ndarray:
    """Return fingerprints, shape (..., 24, 24), in one of eight orientations: quarter turns, from 4 on transposed."""
    turned = np.rot90(cells, way % 4, axes=(-2, -1))
    return np.swapaxes(turned, -2, -1) if way >= 4 else turned


def _average_orientations(cells: np.ndarray) -> np.ndarray:
    """Average fingerprints over eight orientations; the cells of one eighth hold the mean, weighted by their number."""
    total = np.zeros_like(cells)
    for way in range(8):
        total += turn(cells, way)
    rows, columns = np.tril_indices(cells.shape[1] // 2)
    weights = np.sqrt(np.where(rows == columns, 4, 8)).astype(np.float32)
    return total[:, rows, columns] / 8 * weights


def _is_turned(one: np.ndarray, other: np.ndarray) -> bool:
    return any(float((turn(one, way) * other).sum()) >= COPY_CORRELATION for way in range(1, 8))
