"""Distances between pixels and cells: the two nearest cells, weights of gaps between cells, depth within a cell.

Distances are Euclidean, in px, between pixel centres. Labels are 0 for background, IGNORE_LABEL where the truth is
unknown, any other number for a cell. Ignored pixels belong to no cell and do not form an edge of a cell, since a cell
that is cut by the image border or the padding may continue beyond it.
"""

import math

import numpy as np
from scipy import ndimage

from cellmill.images.stored import IGNORE_LABEL
from cellmill.objects.morphology import number_objects, remove_ignored

# Weights below this fraction of the largest weight are neglected.
NEGLIGIBLE = 1e-8
FAR_SQUARED = np.iinfo(np.int32).max


def reach_px(*, sigma_px: float, factor: int) -> int:
    """Return the distance (px) beyond which a second cell adds negligible weight.

    Parameters
    ----------
    sigma_px : float, > 0
        As for `distance_weights`.
    factor : 1 or 2
        As for `distance_weights`.

    Returns
    -------
    int
        exp(-d**2 / (factor sigma**2)) is below 1e-8 beyond this distance d: 22 px for sigma 5 and factor 1.
    """
    return math.ceil(sigma_px * math.sqrt(factor * -math.log(NEGLIGIBLE)))


def separate_touching(labels_yx: np.ndarray) -> np.ndarray:
    """Insert a ridge of background, one pixel wide, between cells that touch.

    Parameters
    ----------
    labels_yx : ndarray of unsigned integers, shape (rows, columns)
        A label image.

    Returns
    -------
    ndarray, same dtype and shape
        0 on the ridge, everything else unchanged.

    Notes
    -----
    The ridge consists of cell pixels that have a cell with a higher number above, below, left or right of them, so it
    is taken from the cell with the lower number. Along straight and diagonal borders, a ridge pixel is 1 px from both
    cells. Cells that meet only at a corner count as separate already. A cell one pixel thin that would vanish keeps
    all its pixels and gets no ridge.
    """
    cells_yx = remove_ignored(labels_yx)
    ridge_yx = np.zeros(cells_yx.shape, dtype=bool)
    for cells, ridge in ((cells_yx, ridge_yx), (cells_yx.T, ridge_yx.T)):
        before, after = cells[:-1], cells[1:]
        touches = (before > 0) & (after > 0)
        ridge[:-1] |= touches & (before < after)
        ridge[1:] |= touches & (after < before)
    survives = np.zeros(int(cells_yx.max(initial=0)) + 1, dtype=bool)
    survives[cells_yx[~ridge_yx]] = True
    return np.where(ridge_yx & survives[cells_yx], labels_yx.dtype.type(0), labels_yx)


def find_two_nearest(labels_yx: np.ndarray, *, reach_px: int, reading: str) -> tuple[np.ndarray, np.ndarray]:
    """Measure the distance from each pixel to the nearest and the second nearest cell.

    Parameters
    ----------
    labels_yx : ndarray of unsigned integers, shape (rows, columns)
        A label image.
    reach_px : int, >= 0
        Largest distance that is measured.
    reading : "to_cell" or "to_border"
        to_cell: distance to any pixel of the cell, 0 inside. to_border: distance to the border pixels of the cell, from
        outside and from inside; they have another label above, below, left or right of them.

    Returns
    -------
    d1_yx, d2_yx : ndarrays of float64, shape (rows, columns)
        In px, d1 <= d2; infinite where no such cell lies within `reach_px`.

    Notes
    -----
    Each cell is measured only within its bounding box enlarged by the reach, so the cost grows with the area of the
    boxes and not with cells times pixels. Squared distances are integers, so the comparison with the reach is exact.
    """
    cells_yx, _ = number_objects(remove_ignored(labels_yx))
    # For to_cell, all pixels of a cell count
    counted_yx = _edges(labels_yx) if reading == "to_border" else np.ones(labels_yx.shape, dtype=bool)
    first_yx = np.full(labels_yx.shape, FAR_SQUARED, dtype=np.int32)
    second_yx = first_yx.copy()
    for number, box in enumerate(ndimage.find_objects(cells_yx), start=1):
        window = _grow(box, by=reach_px)
        mask_yx = (cells_yx[window] == number) & counted_yx[window]
        if not mask_yx.any():  # no edge of this cell is in the image
            continue
        squared_yx = _squared_distance(mask_yx)
        first, second = first_yx[window], second_yx[window]
        np.minimum(second, np.maximum(first, squared_yx), out=second)
        np.minimum(first, squared_yx, out=first)
    d1_yx, d2_yx = (np.where(yx <= reach_px**2, np.sqrt(yx, dtype=np.float64), np.inf) for yx in (first_yx, second_yx))
    return d1_yx, d2_yx


def distance_weights(
    labels_yx: np.ndarray, *, weight: float, sigma_px: float, factor: int, reading: str, inside: bool
) -> np.ndarray:
    """Compute the weight of pixels between neighbouring cells, which is added to their class weight.

    Parameters
    ----------
    labels_yx : ndarray of unsigned integers, shape (rows, columns)
        A label image. Cells up to `reach_px` outside the region of interest count, so include that much context.
    weight : float, > 0
        w0, the weight where both distances are 0.
    sigma_px : float, > 0
        Length scale of the decay.
    factor : 1 or 2
        Factor of sigma squared in the exponent.
    reading : "to_border" or "to_cell"
        As for `find_two_nearest`. It matters only with `inside`: outside cells, the nearest pixel of a cell is always
        on its border.
    inside : bool
        Whether pixels of cells get a weight.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        w0 exp(-(d1 + d2)**2 / (factor sigma**2)); 0 where fewer than two cells are within reach, at ignored pixels, and
        in cells unless `inside`. The neglected weight beyond the reach is below 1e-8 w0.

    Notes
    -----
    Touching cells are first separated by `separate_touching`; pixels of the ridge are outside cells.
    """
    # SOURCE paper 2, equation 8, with factor 1; Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28, with 2
    separated_yx = separate_touching(labels_yx)
    d1_yx, d2_yx = find_two_nearest(
        separated_yx,
        reach_px=reach_px(sigma_px=sigma_px, factor=factor),
        reading=reading if inside else "to_cell",
    )
    counts_yx = np.isfinite(d2_yx) & (labels_yx != IGNORE_LABEL)
    if not inside:
        counts_yx &= separated_yx == 0
    weights_yx = np.zeros(labels_yx.shape, dtype=np.float32)
    total = d1_yx[counts_yx] + d2_yx[counts_yx]
    weights_yx[counts_yx] = weight * np.exp(-(total**2) / (factor * sigma_px**2))
    return weights_yx


def normalised_distance(labels_yx: np.ndarray) -> np.ndarray:
    """Compute the depth of each pixel in its cell, as a fraction of the cell's largest depth.

    Parameters
    ----------
    labels_yx : ndarray of unsigned integers, shape (rows, columns)
        A label image.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        Distance to the nearest pixel of background or of another cell, divided by the largest distance in the cell: 1
        in its middle, 0 outside. Touching cells are separate. A cell with no edge in the image is 1 everywhere.
    """
    cells_yx, _ = number_objects(remove_ignored(labels_yx))
    is_ignored_yx = labels_yx == IGNORE_LABEL
    depths_yx = np.zeros(labels_yx.shape, dtype=np.float32)
    for number, box in enumerate(ndimage.find_objects(cells_yx), start=1):
        # Only one pixel more than the box, however large the padding is.
        window = _grow(box, by=1)
        mask_yx = cells_yx[window] == number
        is_open_yx = mask_yx | is_ignored_yx[window]
        if is_open_yx.all():
            depth = np.ones(np.count_nonzero(mask_yx))
        else:
            depth = ndimage.distance_transform_edt(is_open_yx)[mask_yx]
        depths_yx[window][mask_yx] = depth / depth.max()
    return depths_yx


def _grow(box: tuple[slice, ...], *, by: int) -> tuple[slice, ...]:
    # A slice may end beyond the image but not start before it.
    return tuple(slice(max(0, side.start - by), side.stop + by) for side in box)


def _edges(labels_yx: np.ndarray) -> np.ndarray:
    """Mark pixels with a known pixel of another label above, below, left or right of them."""
    is_known_yx = labels_yx != IGNORE_LABEL
    edges_yx = np.zeros(labels_yx.shape, dtype=bool)
    for labels, known, edges in (
        (labels_yx, is_known_yx, edges_yx),
        (labels_yx.T, is_known_yx.T, edges_yx.T),
    ):
        differs = (labels[:-1] != labels[1:]) & known[:-1] & known[1:]
        edges[:-1] |= differs
        edges[1:] |= differs
    return edges_yx


def _squared_distance(mask_yx: np.ndarray) -> np.ndarray:
    """Compute the squared distance to the nearest pixel of a mask: int32, exact."""
    nearest_ayx = ndimage.distance_transform_edt(~mask_yx, return_distances=False, return_indices=True)
    rows_yx, columns_yx = nearest_ayx
    rows_yx -= np.arange(mask_yx.shape[0], dtype=np.int32)[:, None]
    columns_yx -= np.arange(mask_yx.shape[1], dtype=np.int32)
    rows_yx *= rows_yx
    columns_yx *= columns_yx
    rows_yx += columns_yx
    return rows_yx
