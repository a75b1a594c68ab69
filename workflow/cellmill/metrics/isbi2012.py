"""The scores of the ISBI 2012 challenge: how well the cells of a section are kept apart.

Pixel accuracy is nearly blind to what matters in neurons: a membrane of twice the width costs much of it and
separates the same cells, one missing pixel of membrane costs nothing and joins two. Here the proposed membranes are
thinned to a line first, and the regions that it separates are compared with the true cells: by the Rand index of
their pixels (V_rand) and by the information that they share (V_info), both 1 for equal partitions.

Cells are foreground, membranes background; both partitions are 4-connected.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

ISBI2012_METRICS = ("v_rand", "v_info")
# SOURCE Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142, and Fiji's Trainable_Segmentation: 0, 0.1 .. 1
THRESHOLDS = tuple(step / 10 for step in range(11))


def label_cells(cells_yx: np.ndarray) -> np.ndarray:
    """Number the 4-connected components of a mask 1 .. n.

    Parameters
    ----------
    cells_yx : ndarray of bool, shape (rows, columns)
        True inside cells, False on membranes.

    Returns
    -------
    ndarray of int32, shape (rows, columns)
        0 on membranes.
    """
    labels_yx, _ = ndimage.label(cells_yx)
    return labels_yx


def thin_membranes(cells_yx: np.ndarray) -> np.ndarray:
    """Let the cells of a proposal grow until only a line one pixel wide separates them, and number them.

    Parameters
    ----------
    cells_yx : ndarray of bool, shape (rows, columns)
        True inside cells, False on membranes.

    Returns
    -------
    ndarray of int32, shape (rows, columns)
        4-connected regions 1 .. n, 0 on the line. Two regions never share an edge. Nothing but 0 where there is no
        cell at all.

    Notes
    -----
    A watershed of a flat landscape: the cells grow at one speed, in 4-connected steps. It may cut single pixels off
    a region, which are regions of their own then, as in the challenge's own scoring of components.
    """
    markers_yx = label_cells(cells_yx)
    if not cells_yx.any():
        return markers_yx
    flat_yx = np.zeros(cells_yx.shape, dtype=np.uint8)
    return label_cells(watershed(flat_yx, markers_yx, connectivity=1, watershed_line=True) > 0)


def compare_regions(regions_yx: np.ndarray, truth_yx: np.ndarray) -> tuple[float, float]:
    """Compare a proposed partition with the true cells.

    Parameters
    ----------
    regions_yx : ndarray of non-negative integers, shape (rows, columns)
        Proposed regions, 0 on the line between them.
    truth_yx : ndarray of non-negative integers, shape (rows, columns)
        True cells, 0 on membranes and where the truth is unknown: such pixels count nowhere.

    Returns
    -------
    tuple of float
        V_rand and V_info, each in [0, 1]; NaN for both where there is no true cell.

    Notes
    -----
    Each pixel of a true cell that lies on the proposed line is a region of its own. V_info is 1 where both sides
    are one region, so that neither has an entropy. A proposal without any cell (every pixel a region of its own) has
    a V_rand near 0, but a V_info of 2 H(S) / (H(S) + log n), which is about one half for real sections.
    """
    in_cell = truth_yx > 0
    pixels = int(np.count_nonzero(in_cell))
    if pixels == 0:
        return np.nan, np.nan
    cells, regions = truth_yx[in_cell].astype(np.int64), regions_yx[in_cell].astype(np.int64)
    on_line = regions == 0
    singletons = int(np.count_nonzero(on_line))
    pairs = cells * (int(regions.max()) + 1) + regions
    joint, true, proposed = (_sizes(labels) for labels in (pairs[~on_line], cells, regions[~on_line]))
    both, of_truth, of_proposal = (
        _squares(sizes) + extra for sizes, extra in ((joint, singletons), (true, 0), (proposed, singletons))
    )
    v_rand = 2 * both / (of_truth + of_proposal)
    if len(true) == 1 and len(proposed) + singletons == 1:
        return v_rand, 1.0
    h_joint, h_true, h_proposed = (
        _entropy(sizes, singletons=extra, pixels=pixels)
        for sizes, extra in ((joint, singletons), (true, 0), (proposed, singletons))
    )
    v_info = 2 * (h_true + h_proposed - h_joint) / (h_true + h_proposed)
    return v_rand, float(np.clip(v_info, 0.0, 1.0))  # rounding may pass 0 and 1


def score_thresholds(
    probability_yx: np.ndarray, truth_yx: np.ndarray, *, valid_yx: np.ndarray, thresholds: Sequence[float]
) -> np.ndarray:
    """Score the cells of one section at several thresholds.

    Parameters
    ----------
    probability_yx : ndarray of float, shape (rows, columns)
        Probability of the inside of cells, in [0, 1]; a pixel is cell where it has at least the threshold.
    truth_yx : ndarray of bool, shape (rows, columns)
        True inside cells.
    valid_yx : ndarray of bool, shape (rows, columns)
        False where the truth is unknown.
    thresholds : sequence of float
        The challenge's are THRESHOLDS.

    Returns
    -------
    ndarray of float64, shape (2, thresholds)
        V_rand and V_info; NaN where there is no true cell.
    """
    truth_labels_yx = np.where(valid_yx, label_cells(truth_yx), 0)
    scores = [compare_regions(thin_membranes(probability_yx >= t), truth_labels_yx) for t in thresholds]
    return np.array(scores, dtype=np.float64).reshape(len(thresholds), 2).T


def best_of_slices(scores: np.ndarray) -> np.ndarray:
    """Give each section the best of its thresholds.

    Parameters
    ----------
    scores : ndarray of float64, shape (sections, 2, thresholds)
        From `score_thresholds`.

    Returns
    -------
    ndarray of float64, shape (sections, 2)
    """
    best: np.ndarray = scores.max(axis=2)
    return best


def best_of_stack(means: np.ndarray) -> np.ndarray:
    """Give the best threshold's mean over the sections, the challenge's own way.

    Parameters
    ----------
    means : ndarray of float64, shape (..., 2, thresholds)
        Means of `score_thresholds` over the sections of a stack; one threshold serves all of them.

    Returns
    -------
    ndarray of float64, shape (..., 2)
        Never above the mean of `best_of_slices`.
    """
    best: np.ndarray = means.max(axis=-1)
    return best


def _sizes(labels: np.ndarray) -> np.ndarray:
    """Count how often each label stands there; labels may be as large as the number of pairs."""
    return np.unique(labels, return_counts=True)[1]


def _squares(sizes: np.ndarray) -> float:
    return float((sizes.astype(np.float64) ** 2).sum())


def _entropy(sizes: np.ndarray, *, singletons: int, pixels: int) -> float:
    shares = sizes / pixels
    return float(-(shares * np.log(shares)).sum() + singletons / pixels * np.log(pixels))
