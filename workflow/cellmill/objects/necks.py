"""Necks of objects: the parts of each object, and the depth of the saddles between parts.

Each object has a height map: the distance to the background, or a predicted map. Its parts are the regions around the
local maxima. The depth of a neck between two parts is the height of the lower peak above the highest saddle between
them. One watershed serves all depths, so that trying several costs little.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage import morphology, segmentation

from cellmill.objects.morphology import label_components, number_objects

# 8-connected, as `label_components`.
CONNECTIVITY = 2

# Pairs of neighbouring pixels, each once: here and there
_FROM, _TO, _ALL = slice(1, None), slice(None, -1), slice(None)
NEIGHBOURING = (
    ((_FROM, _ALL), (_TO, _ALL)),
    ((_ALL, _FROM), (_ALL, _TO)),
    ((_FROM, _FROM), (_TO, _TO)),
    ((_FROM, _TO), (_TO, _FROM)),
)


@dataclass(frozen=True)
class Necks:
    """Parts of a mask and the necks between them.

    `parts_yx` numbers the parts 1 .. n, 0 is background. `peaks[k]` is the largest height in part k. Neck e joins
    parts `first[e]` and `second[e]` of the same base object, with `saddles[e]` the height of its highest saddle;
    necks are sorted by it from high to low.
    """

    parts_yx: np.ndarray
    peaks: np.ndarray
    first: np.ndarray
    second: np.ndarray
    saddles: np.ndarray


def find_necks(base_yx: np.ndarray, *, heights_yx: np.ndarray | None = None) -> Necks:
    """Cut objects at every neck, however shallow.

    Parameters
    ----------
    base_yx : ndarray of int, shape (rows, columns)
        Objects; parts of different objects are never joined.
    heights_yx : ndarray of float, shape (rows, columns), or None
        Height map; None: the distance to the background, px.

    Returns
    -------
    Necks
        Input of `join_parts`.
    """
    mask_yx = base_yx > 0
    if not mask_yx.any():
        none = np.zeros(0, dtype=np.int64)
        return Necks(np.zeros(base_yx.shape, dtype=np.int64), np.zeros(1), none, none, np.zeros(0))
    if heights_yx is None:
        # ASSUME an image without background has no necks; the distance transform needs a background
        heights_yx = np.ones(mask_yx.shape) if mask_yx.all() else ndimage.distance_transform_edt(mask_yx)
    heights_yx = np.where(mask_yx, heights_yx, np.minimum(heights_yx.min(), 0) - 1)
    markers_yx = label_components(morphology.local_maxima(heights_yx, connectivity=CONNECTIVITY) & mask_yx)
    basins_yx = segmentation.watershed(-heights_yx, markers_yx, connectivity=CONNECTIVITY, mask=mask_yx)
    parts_yx, n_parts = _cross(base_yx, basins_yx)
    peaks = np.zeros(n_parts + 1)
    np.maximum.at(peaks, parts_yx.ravel(), heights_yx.ravel())
    pairs, heights = _touching_pairs(parts_yx, base_yx, heights_yx)
    pairs, saddles = _highest(pairs, heights)
    order = np.argsort(-saddles, kind="stable")
    first, second = np.divmod(pairs[order], n_parts + 1)
    return Necks(parts_yx, peaks, first, second, saddles[order])


def join_parts(necks: Necks, *, depth: float) -> np.ndarray:
    """Join the parts whose neck is shallower than a depth.

    Parameters
    ----------
    necks : Necks
        From `find_necks`.
    depth : float, > 0
        A neck at least this far below the lower of its two peaks separates two objects.

    Returns
    -------
    ndarray of int64, shape (rows, columns)
        Objects 1 .. n, 0 background.

    Notes
    -----
    The peaks that survive are those of the h-maxima transform with h = `depth` (Soille 2003,
    Morphological Image Analysis, section 6.3.4); merging by depth gives them for every h from one watershed.
    """
    root = np.arange(len(necks.peaks))
    peak = necks.peaks.copy()

    def find(part: int) -> int:
        while root[part] != part:
            root[part] = root[root[part]]
            part = root[part]
        return part

    for a, b, saddle in zip(necks.first, necks.second, necks.saddles, strict=True):
        high, low = find(a), find(b)
        if high == low:
            continue
        if peak[high] < peak[low]:
            high, low = low, high
        if peak[low] - saddle < depth:
            root[low] = high
    lookup = np.array([find(part) for part in range(len(root))])
    return number_objects(lookup[necks.parts_yx])[0]


def _cross(base_yx: np.ndarray, basins_yx: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the intersections of objects and basins 1 .. n, by object, then basin."""
    n_basins = int(basins_yx.max())
    # Nearly every basin lies in one object, so only pixels of the others are sorted.
    owner = np.zeros(n_basins + 1, dtype=np.int64)
    owner[basins_yx] = base_yx
    owner[0] = 0  # an object without a local maximum is in no basin
    is_other_yx = owner[basins_yx] != base_yx
    codes = base_yx[is_other_yx].astype(np.int64) * (n_basins + 1) + basins_yx[is_other_yx]
    others, place = np.unique(codes, return_inverse=True)
    parts_yx = basins_yx.astype(np.int64)
    parts_yx[is_other_yx] = n_basins + 1 + place
    every = np.concatenate([owner * (n_basins + 1) + np.arange(n_basins + 1), others])
    every[0] = -1  # the background comes first
    rank = np.empty(len(every), dtype=np.int64)
    rank[np.argsort(every, kind="stable")] = np.arange(len(every))
    return number_objects(rank[parts_yx])


def _touching_pairs(parts_yx: np.ndarray, base_yx: np.ndarray, heights_yx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find neighbouring pixels in two parts of one object; return a code of the parts, and the lower height."""
    base = int(parts_yx.max()) + 1
    pairs, heights = [], []
    for here, there in NEIGHBOURING:
        a, b = parts_yx[here], parts_yx[there]
        touching = (a != b) & (base_yx[here] == base_yx[there]) & (base_yx[here] > 0)
        a, b = a[touching].astype(np.int64), b[touching].astype(np.int64)
        pairs.append(np.minimum(a, b) * base + np.maximum(a, b))
        heights.append(np.minimum(heights_yx[here], heights_yx[there])[touching])
    return np.concatenate(pairs), np.concatenate(heights)


def _highest(pairs: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the largest height of each pair."""
    order = np.lexsort((-heights, pairs))
    unique, first = np.unique(pairs[order], return_index=True)
    return unique, heights[order][first]
