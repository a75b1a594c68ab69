"""From probabilities to objects: mask, components, and the splitting of touching cells.

Touching cells are split where the distance to the background has a neck. A neck's depth is how much narrower
(in radius, px) it is than the smaller of the two parts that it joins; parts joined by a shallower neck than
`split_depth_px` are one object. All depths come from one watershed, so that a list of them costs little.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from skimage import morphology, segmentation

from cellmill.boundary import tune_boundary
from cellmill.morphology import (
    close_mask,
    drop_small,
    fill_holes,
    label_components,
    make_footprint,
    number_objects,
)

# 8-connected, as `label_components`.
CONNECTIVITY = 2


@dataclass(frozen=True)
class Necks:
    """Parts of a mask and the necks between them.

    `parts_yx` numbers the parts 1 .. n, 0 is background. `peaks_px[k]` is the largest distance to the
    background in part k. Neck e joins parts `first[e]` and `second[e]` of the same base object, with
    `saddles_px[e]` the distance to the background at its widest pixel; sorted from wide to narrow.
    """

    parts_yx: np.ndarray
    peaks_px: np.ndarray
    first: np.ndarray
    second: np.ndarray
    saddles_px: np.ndarray


def make_masks(
    probability_yx: np.ndarray, image_yx: np.ndarray, *, valid_yx: np.ndarray, fitted: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Turn probabilities into a semantic mask.

    Parameters
    ----------
    probability_yx : ndarray of float, shape (rows, columns)
        In [0, 1], fitted geometry.
    image_yx : ndarray of float, shape (rows, columns)
        Preprocessed image, read by boundary tuning only.
    valid_yx : ndarray of bool, shape (rows, columns)
        False where the frame was padded; nothing is predicted there.
    fitted : mapping
        Contents of postprocess.json: threshold, closing, boundary, instances.

    Returns
    -------
    core_yx, mask_yx : ndarray of bool
        The thresholded mask, and the final one. The truth takes no part.
    """
    core_yx = (probability_yx >= fitted["threshold"]["value"]) & valid_yx
    footprint = make_footprint(**fitted["closing"])
    mask_yx = close_mask(core_yx, footprint=footprint) & valid_yx
    if fitted["boundary"]["applied"]:
        mask_yx = tune_boundary(mask_yx, image_yx, model=fitted["boundary"]["model"], valid_yx=valid_yx)
        mask_yx = close_mask(mask_yx, footprint=footprint) & valid_yx
    return core_yx, fill_holes(mask_yx, max_hole_px=fitted["instances"]["fill_holes_px"])


def segment_image(
    probability_yx: np.ndarray, image_yx: np.ndarray, *, valid_yx: np.ndarray, fitted: Mapping[str, Any]
) -> np.ndarray:
    """Turn the probabilities of one image into objects.

    Parameters
    ----------
    probability_yx, image_yx, valid_yx, fitted
        As for `make_masks`.

    Returns
    -------
    ndarray of int64, shape (rows, columns)
        Objects 1 .. n, 0 background, in fitted geometry.
    """
    core_yx, mask_yx = make_masks(probability_yx, image_yx, valid_yx=valid_yx, fitted=fitted)
    sizes = {key: fitted["instances"][key] for key in ("method", "split_depth_px", "min_area_px")}
    return split_objects(core_yx, mask_yx, **sizes)


def grow_components(core_yx: np.ndarray, mask_yx: np.ndarray) -> np.ndarray:
    """Number the components of a core and let them fill a mask, so that closing joins no two cells.

    Parameters
    ----------
    core_yx : ndarray of bool, shape (rows, columns)
        The mask before closing: what is apart here stays apart.
    mask_yx : ndarray of bool, shape (rows, columns)
        The final mask.

    Returns
    -------
    ndarray of int, shape (rows, columns)
        Positive exactly on `mask_yx`. As many objects as `core_yx & mask_yx` has components, and one for each
        component of `mask_yx` that holds no core.
    """
    cores_yx = label_components(core_yx & mask_yx)
    whole_yx = label_components(mask_yx)
    n_whole = int(whole_yx.max(initial=0))
    cored = np.zeros(n_whole + 1, dtype=bool)
    cored[whole_yx[cores_yx > 0]] = True
    if int(cores_yx.max(initial=0)) == np.count_nonzero(cored):
        return whole_yx  # no component of the mask holds two cores
    extra = np.cumsum(~cored) - 1 + int(cores_yx.max())
    markers_yx = np.where((whole_yx > 0) & ~cored[whole_yx], extra[whole_yx], cores_yx)
    flat_yx = np.zeros(mask_yx.shape, dtype=np.uint8)
    return segmentation.watershed(flat_yx, markers_yx, connectivity=CONNECTIVITY, mask=mask_yx)


def find_necks(base_yx: np.ndarray) -> Necks:
    """Cut objects at every neck, however shallow.

    Parameters
    ----------
    base_yx : ndarray of int, shape (rows, columns)
        Objects from `grow_components`; parts of two of them are never joined again.

    Returns
    -------
    Necks
        For `join_parts`.
    """
    mask_yx = base_yx > 0
    if not mask_yx.any():
        none = np.zeros(0, dtype=np.int64)
        return Necks(np.zeros(base_yx.shape, dtype=np.int64), np.zeros(1), none, none, np.zeros(0))
    # ASSUME an image without background has no necks; the distance transform needs a background
    distance_yx = np.ones(mask_yx.shape) if mask_yx.all() else ndimage.distance_transform_edt(mask_yx)
    markers_yx = label_components(morphology.local_maxima(distance_yx, connectivity=CONNECTIVITY) & mask_yx)
    basins_yx = segmentation.watershed(-distance_yx, markers_yx, connectivity=CONNECTIVITY, mask=mask_yx)
    parts_yx, n_parts = number_objects(base_yx.astype(np.int64) * (int(basins_yx.max()) + 1) + basins_yx)
    peaks = np.zeros(n_parts + 1)
    np.maximum.at(peaks, parts_yx.ravel(), distance_yx.ravel())
    pairs, widths = _touching_pairs(parts_yx, base_yx, distance_yx)
    pairs, saddles = _widest(pairs, widths)
    order = np.argsort(-saddles, kind="stable")
    first, second = np.divmod(pairs[order], n_parts + 1)
    return Necks(parts_yx, peaks, first, second, saddles[order])


def join_parts(necks: Necks, *, split_depth_px: float) -> np.ndarray:
    """Join the parts whose neck is shallower than a depth.

    Parameters
    ----------
    necks : Necks
        From `find_necks`.
    split_depth_px : float, > 0
        A neck at least this much narrower, in radius, than the smaller part is a border between two objects.

    Returns
    -------
    ndarray of int64, shape (rows, columns)
        Objects 1 .. n, 0 background.

    Notes
    -----
    The peaks that survive are those of the h-maxima transform with h = `split_depth_px` (Soille 2003,
    Morphological Image Analysis, section 6.3.4); merging by depth gives them for every h from one watershed.
    """
    root = np.arange(len(necks.peaks_px))
    peak = necks.peaks_px.copy()

    def find(part: int) -> int:
        while root[part] != part:
            root[part] = root[root[part]]
            part = root[part]
        return part

    for a, b, saddle in zip(necks.first, necks.second, necks.saddles_px, strict=True):
        high, low = find(a), find(b)
        if high == low:
            continue
        if peak[high] < peak[low]:
            high, low = low, high
        if peak[low] - saddle < split_depth_px:
            root[low] = high
    lookup = np.array([find(part) for part in range(len(root))])
    return number_objects(lookup[necks.parts_yx])[0]


def split_objects(
    core_yx: np.ndarray, mask_yx: np.ndarray, *, method: str, split_depth_px: float | None, min_area_px: int
) -> np.ndarray:
    """Turn a semantic mask into objects.

    Parameters
    ----------
    core_yx, mask_yx : ndarray of bool, shape (rows, columns)
        The mask before closing and the final one, as for `grow_components`.
    method : "components" or "watershed"
        watershed also splits touching cells at their necks.
    split_depth_px : float or None
        For `join_parts`; not read for components.
    min_area_px : int, >= 0
        Smaller objects become background, after the splitting.

    Returns
    -------
    ndarray of int64, shape (rows, columns)
        Objects 1 .. n, 0 background.
    """
    objects_yx = grow_components(core_yx, mask_yx)
    if method == "watershed":
        assert split_depth_px is not None
        objects_yx = join_parts(find_necks(objects_yx), split_depth_px=split_depth_px)
    return drop_small(objects_yx, min_area_px=min_area_px)


def _touching_pairs(
    parts_yx: np.ndarray, base_yx: np.ndarray, distance_yx: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Neighbouring pixels of two parts of one object: code of the two parts, lower distance of the two."""
    base = int(parts_yx.max()) + 1
    pairs, widths = [], []
    for here, there in _SHIFTS:
        a, b = parts_yx[here], parts_yx[there]
        touching = (a != b) & (base_yx[here] == base_yx[there]) & (base_yx[here] > 0)
        a, b = a[touching].astype(np.int64), b[touching].astype(np.int64)
        pairs.append(np.minimum(a, b) * base + np.maximum(a, b))
        widths.append(np.minimum(distance_yx[here], distance_yx[there])[touching])
    return np.concatenate(pairs), np.concatenate(widths)


_FROM, _TO, _ALL = slice(1, None), slice(None, -1), slice(None)
_SHIFTS = (
    ((_FROM, _ALL), (_TO, _ALL)),
    ((_ALL, _FROM), (_ALL, _TO)),
    ((_FROM, _FROM), (_TO, _TO)),
    ((_FROM, _TO), (_TO, _FROM)),
)


def _widest(pairs: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the largest width of each pair."""
    order = np.lexsort((-widths, pairs))
    unique, first = np.unique(pairs[order], return_index=True)
    return unique, widths[order][first]
