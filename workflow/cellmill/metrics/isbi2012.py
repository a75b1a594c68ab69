"""Scores of the ISBI 2012 challenge: how well the cells of a section are separated.

Pixel accuracy is a poor measure for neurons. A membrane of twice the width lowers it considerably but separates the
same cells; one missing membrane pixel hardly changes it but merges two cells. These scores thin the proposed membranes
to a line and compare the regions that it separates with the true cells: by the Rand index of their pixels (V_rand) and
by their shared information (V_info). Both are 1 for equal partitions.

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
    """Grow the cells of a proposal until only a line one pixel wide separates them, and number them.

    Parameters
    ----------
    cells_yx : ndarray of bool, shape (rows, columns)
        True inside cells, False on membranes.

    Returns
    -------
    ndarray of int32, shape (rows, columns)
        4-connected regions 1 .. n, 0 on the line. Two regions never share an edge. All 0 if there is no cell.

    Notes
    -----
    This is a watershed of a constant image: all cells grow at the same speed, in 4-connected steps. It may cut single
    pixels off a region. They count as separate regions, as in the challenge's scoring of components.
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
        True cells, 0 on membranes and where the truth is unknown; such pixels are excluded.

    Returns
    -------
    tuple of float
        V_rand and V_info, each in [0, 1]; NaN for both if there is no true cell.

    Notes
    -----
    Each pixel of a true cell that lies on the proposed line is a separate region. V_info is 1 if both sides are a
    single region, so that both entropies are 0. A proposal without cells (every pixel a separate region) has a V_rand
    near 0, but a V_info of 2 H(S) / (H(S) + log n), which is about 0.5 for real sections.
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
    return v_rand, float(np.clip(v_info, 0.0, 1.0))  # rounding may exceed [0, 1]


def score_thresholds(
    probability_yx: np.ndarray, truth_yx: np.ndarray, *, valid_yx: np.ndarray, thresholds: Sequence[float]
) -> np.ndarray:
    """Score the cells of one section at several thresholds.

    Parameters
    ----------
    probability_yx : ndarray of float, shape (rows, columns)
        Probability of the inside of cells, in [0, 1]; pixels with at least the threshold are inside cells.
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
    """Return the scores of each section at its best threshold.

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
    """Return the mean over the sections at the best common threshold, as in the challenge.

    Parameters
    ----------
    means : ndarray of float64, shape (..., 2, thresholds)
        Means of `score_thresholds` over the sections of a stack, which share the threshold.

    Returns
    -------
    ndarray of float64, shape (..., 2)
        Never above the mean of `best_of_slices`.
    """
    best: np.ndarray = means.max(axis=-1)
    return best


def _sizes(labels: np.ndarray) -> np.ndarray:
    """Count how often each label occurs; labels may be as large as the number of possible pairs."""
    return np.unique(labels, return_counts=True)[1]


def _squares(sizes: np.ndarray) -> float:
    return float((sizes.astype(np.float64) ** 2).sum())


def _entropy(sizes: np.ndarray, *, singletons: int, pixels: int) -> float:
    shares = sizes / pixels
    return float(-(shares * np.log(shares)).sum() + singletons / pixels * np.log(pixels))
