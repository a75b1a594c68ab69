"""Boundary F1: agreement of predicted and true borders of objects within a tolerance."""

from collections.abc import Mapping

import numpy as np
from scipy import ndimage
from skimage.morphology import disk

from cellmill.metrics.pixel import divide

BORDER_COUNTS = ("border_true", "border_true_found", "border_predicted", "border_predicted_right")
BORDER_METRICS = ("boundary_f1",)


def count_borders(
    predicted_yx: np.ndarray,
    truth_yx: np.ndarray,
    *,
    valid_yx: np.ndarray,
    tolerance_px: int,
    rows: slice = slice(None),
) -> dict[str, int]:
    """Count the border pixels of one image, and those near a border of the other label image.

    Parameters
    ----------
    predicted_yx, truth_yx : ndarray of integers, shape (rows, columns)
        Label images, 0 is background. A border consists of the outermost pixels of an object, also where it touches
        another object. The edge of the image is not a border.
    valid_yx : ndarray of bool, shape (rows, columns)
        False where the truth is unknown; there are no borders there.
    tolerance_px : int, >= 0
        Distance up to which borders match.
    rows : slice
        Rows whose borders are counted; the others are only context.

    Returns
    -------
    dict
        BORDER_COUNTS in pixels.
    """
    borders = [_find_borders(labels_yx, valid_yx=valid_yx) for labels_yx in (truth_yx, predicted_yx)]
    near = [ndimage.binary_dilation(border_yx, structure=disk(tolerance_px)) for border_yx in borders]
    true_yx, predicted_border_yx = borders
    counts = (
        true_yx, true_yx & near[1], predicted_border_yx, predicted_border_yx & near[0],
    )  # fmt: skip
    return {name: int(np.count_nonzero(each[rows])) for name, each in zip(BORDER_COUNTS, counts, strict=True)}


def score_borders(counts: Mapping[str, np.ndarray | float]) -> dict[str, np.ndarray]:
    """Turn counts of border pixels into the boundary F1 score.

    Parameters
    ----------
    counts : mapping
        BORDER_COUNTS: numbers or arrays of one shape, for one image or summed over images.

    Returns
    -------
    dict
        boundary_f1: harmonic mean of the correct share of the predicted border and the share of the true border that
        is found. 1 if neither side has a border, 0 if only one side has a border.

    Notes
    -----
    Csurka, Larlus and Perronnin 2013, BMVC, with a tolerance in pixels instead of a share of the diagonal.
    """
    true, found, predicted, right = (np.asarray(counts[name], dtype=np.float64) for name in BORDER_COUNTS)
    precision, recall = divide(right, predicted, undefined=0.0), divide(found, true, undefined=0.0)
    score = divide(2 * precision * recall, precision + recall, undefined=0.0)
    return {"boundary_f1": np.where((true == 0) & (predicted == 0), 1.0, score)}


def _find_borders(labels_yx: np.ndarray, *, valid_yx: np.ndarray) -> np.ndarray:
    border_yx = np.zeros(labels_yx.shape, dtype=bool)
    for low, high in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        differ = (labels_yx[low] != labels_yx[high]) & valid_yx[low] & valid_yx[high]
        border_yx[low] |= differ
        border_yx[high] |= differ
    return border_yx & (labels_yx > 0)
