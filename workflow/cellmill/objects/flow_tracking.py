"""Convert flows to objects: pixels follow the flow to the middle of their cell; those that converge form an object.

Axes    c components y and x, y rows, x columns
Signs   flow_y is positive downwards, flow_x to the right: position + flow is the next position

# SOURCE Stringer et al. 2021, doi:10.1038/s41592-020-01018-x: Euler steps, and the histogram of end points
"""

import numpy as np
from scipy import ndimage

from cellmill.objects.flows import unit_flows
from cellmill.objects.morphology import avoid_ignore_label, number_objects

STEPS = 200
# Paths in large cells are longer: steps continue while any pixel moves further than this (px) in MERGE_EVERY steps.
# Pixels that only oscillate around the middle do not.
MOVES_PX = 4.0
# Paths this close to each other (px) are merged, because flows converge and do not diverge again.
MERGE_PX = 1 / 16
# Number of steps between merges; merging more often costs more than it saves.
MERGE_EVERY = 8
# A convergence point is the maximum of the end-point density within this distance.
PEAK_REACH_PX = 2
# Convergence points with fewer pixels do not start an object.
# SOURCE cellpose: more than ten end points within 5 x 5 px
MIN_PILE_PIXELS = 10
# Pixels that end further than this from a convergence point, in steps of one pixel, do not belong to it.
PILE_REACH_PX = 3


def follow_flows(flows_cyx: np.ndarray, mask_yx: np.ndarray, *, steps: int | None = None) -> np.ndarray:
    """Move every pixel of a mask along the flow.

    Parameters
    ----------
    flows_cyx : ndarray of float, shape (2, rows, columns)
        Components y and x, of length 1 in cells; longer vectors are shortened to that.
    mask_yx : ndarray of bool, shape (rows, columns)
        Pixels to move, in Euler steps of the length of the flow. Outside the mask the flow is 0.
    steps : int or None
        Number of steps. None: 200, and more while some pixels still move, up to rows + columns.

    Returns
    -------
    ndarray of float32, shape (2, pixels of the mask)
        End points (row, column; 0 is the middle of the first pixel), in the order of ``np.nonzero(mask_yx)``.

    Notes
    -----
    The flow is interpolated bilinearly between pixels. Paths that come within 1/16 px of each other are merged, so that
    after a few steps only about one path per cell is left instead of one per pixel.
    """
    rows, columns = mask_yx.shape
    # A border of one pixel without flow, so that all four neighbours of a position exist.
    width = columns + 2
    field_yxc = np.zeros((rows + 2, width, 2), dtype=np.float32)
    lengths_yx = np.hypot(flows_cyx[0], flows_cyx[1])
    shortened_cyx = np.where(mask_yx, flows_cyx / np.maximum(lengths_yx, 1), 0)
    field_yxc[1:-1, 1:-1] = np.moveaxis(shortened_cyx, 0, -1)
    field = field_yxc.reshape(-1, 2)

    places = np.argwhere(mask_yx).astype(np.float32) + 1
    walker_of_pixel = np.arange(len(places))
    farthest = np.array([rows, columns], dtype=np.float32)
    most = max(STEPS, rows + columns) if steps is None else steps
    for first in range(0, most, MERGE_EVERY):
        if first:
            places, walker_of_pixel = _merge(places, walker_of_pixel, width=width)
        before = places.copy()
        for _ in range(min(MERGE_EVERY, most - first)):
            places += _interpolate(field, places, width=width)
            np.clip(places, 1, farthest, out=places)
        is_over = steps is None and first + MERGE_EVERY >= STEPS
        if is_over and not (np.abs(places - before) > MOVES_PX).any():
            break
    ends: np.ndarray = places[walker_of_pixel].T - 1
    return ends


def find_piles(ends_cn: np.ndarray, *, shape: tuple[int, int], min_pixels: int) -> np.ndarray:
    """Group pixels by the convergence point at which they end.

    Parameters
    ----------
    ends_cn : ndarray of float, shape (2, pixels)
        From `follow_flows`.
    shape : (rows, columns)
        Shape of the image.
    min_pixels : int, >= 1
        Convergence points with fewer pixels within 1 px are discarded.

    Returns
    -------
    ndarray of int64, shape (pixels,)
        Number of the convergence point, 1 .. n; 0 for pixels that end far from all of them.
    """
    if ends_cn.shape[1] == 0:
        return np.zeros(0, dtype=np.int64)
    rows, columns = (np.round(ends).astype(np.int64) for ends in ends_cn)
    counts_yx = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float32)
    # Pixels of one cell end on a few pixels around its middle, so all end points within 1 px are counted.
    crowds_yx = ndimage.uniform_filter(counts_yx, 3, mode="constant") * 9
    size = 2 * PEAK_REACH_PX + 1
    is_peak_yx = (
        (crowds_yx == ndimage.maximum_filter(crowds_yx, size, mode="constant"))
        & (counts_yx > 0)
        & (crowds_yx > min_pixels - 0.5)
    )
    # Adjacent equal peaks are merged.
    around = np.ones((3, 3), dtype=bool)
    grown_yx, _ = ndimage.label(ndimage.binary_dilation(is_peak_yx, around) & (counts_yx > 0), around)
    for _ in range(PILE_REACH_PX):
        around_yx = ndimage.maximum_filter(grown_yx, 3, mode="constant")
        grown_yx = np.where((grown_yx == 0) & (counts_yx > 0), around_yx, grown_yx)
    return grown_yx[rows, columns].astype(np.int64)


def track_objects(flows_cyx: np.ndarray, mask_yx: np.ndarray, *, max_flow_error: float | None) -> np.ndarray:
    """Convert predicted flows to objects.

    Parameters
    ----------
    flows_cyx : ndarray of float, shape (2, rows, columns)
        As for `follow_flows`.
    mask_yx : ndarray of bool, shape (rows, columns)
        Foreground.
    max_flow_error : float or None
        Objects whose computed flow differs more than this from the predicted flow (mean squared difference of the
        vectors, from 0 to 4) are dropped; None keeps all.

    Returns
    -------
    ndarray of int64, shape (rows, columns)
        Objects 1 .. n; 0 for background and for pixels that end at no convergence point.
    """
    labels_yx = np.zeros(mask_yx.shape, dtype=np.int64)
    labels_yx[mask_yx] = find_piles(follow_flows(flows_cyx, mask_yx), shape=mask_yx.shape, min_pixels=MIN_PILE_PIXELS)
    labels_yx, n_objects = number_objects(labels_yx)
    if max_flow_error is None or n_objects == 0:
        return labels_yx
    # SOURCE Stringer et al. 2021: objects that are inconsistent with the predicted flow are unreliable
    kept = np.concatenate([[False], measure_flow_errors(labels_yx, flows_cyx) <= max_flow_error])
    return number_objects(np.where(kept[labels_yx], labels_yx, 0))[0]


def measure_flow_errors(labels_yx: np.ndarray, flows_cyx: np.ndarray) -> np.ndarray:
    """Measure how far the flow of each object differs from the predicted flow.

    Parameters
    ----------
    labels_yx : ndarray of integers, shape (rows, columns)
        Objects 1 .. n, 0 background.
    flows_cyx : ndarray of float, shape (2, rows, columns)
        Predicted flow.

    Returns
    -------
    ndarray of float64, shape (n,)
        Mean squared difference of the vectors over the pixels of each object, about 0 to 4.
    """
    own_cyx = unit_flows(avoid_ignore_label(labels_yx))
    squared_yx = ((own_cyx - flows_cyx) ** 2).sum(axis=0)
    sums = np.bincount(labels_yx.ravel(), weights=squared_yx.ravel())
    errors: np.ndarray = (sums / np.maximum(np.bincount(labels_yx.ravel()), 1))[1:]
    return errors


def _merge(places: np.ndarray, walker_of_pixel: np.ndarray, *, width: int) -> tuple[np.ndarray, np.ndarray]:
    cells = np.round(places / MERGE_PX).astype(np.int64)
    codes = cells[:, 0] * (round(width / MERGE_PX) + 1) + cells[:, 1]
    _, first, walker = np.unique(codes, return_index=True, return_inverse=True)
    return places[first], walker[walker_of_pixel]


def _interpolate(field: np.ndarray, places: np.ndarray, *, width: int) -> np.ndarray:
    """Interpolate the flow between four pixels: `field` is (rows x columns, 2), its rows are `width` long."""
    corners = places.astype(np.int64)  # rounded down, since positions are not negative
    down, across = (places - corners).T[:, :, None]
    index = corners[:, 0] * width + corners[:, 1]
    # Both components of a vector are fetched as one item of 8 bytes.
    vectors = field.view(np.float64)[:, 0]
    near_left, near_right, far_left, far_right = (
        vectors.take(index + offset).view(np.float32).reshape(-1, 2) for offset in (0, 1, width, width + 1)
    )
    upper = near_left * (1 - across) + near_right * across
    lower = far_left * (1 - across) + far_right * across
    result: np.ndarray = upper * (1 - down) + lower * down
    return result
