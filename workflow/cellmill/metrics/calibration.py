"""Calibration of probabilities: Brier score and expected calibration error.

Both are computed from sums that can be added over images: squared errors, and for each of the 256 bins of
`cellmill.metrics.pixel.histogram_classes` the pixels by class and the sum of their probabilities.
"""

from typing import Any

import numpy as np

from cellmill.metrics.pixel import BINS, FOREGROUND, divide, place_in_bins

CALIBRATION_METRICS = ("brier", "ece")
EQUAL_MASS_BINS = 15
# Probabilities are stored as float16, in steps of 1/2048 near 1, so sums lose nothing by rounding to six decimals.
DIGITS = 6


def count_calibration(probability_yx: np.ndarray, truth_yx: np.ndarray, *, valid_yx: np.ndarray) -> dict[str, Any]:
    """Compute the sums of one image for Brier score and calibration error.

    Parameters
    ----------
    probability_yx : ndarray of float, shape (rows, columns)
        In [0, 1].
    truth_yx, valid_yx : ndarray of bool, shape (rows, columns)
        True where an object is; True where the truth is known.

    Returns
    -------
    dict
        squared_error, and confidence: 256 sums of probability. Plain numbers, for JSON.
    """
    probability = probability_yx[valid_yx].astype(np.float64)
    confidence = np.bincount(place_in_bins(probability), weights=probability, minlength=BINS)
    error = float(np.square(probability - truth_yx[valid_yx]).sum())
    return {"squared_error": round(error, DIGITS), "confidence": np.round(confidence, DIGITS).tolist()}


def brier_score(squared_error: np.ndarray, histogram: np.ndarray) -> np.ndarray:
    """Compute the mean squared difference of probability and truth (Brier 1950).

    Parameters
    ----------
    squared_error : ndarray of shape (...)
        From `count_calibration`, or a sum of such.
    histogram : ndarray of shape (..., 2, 256)
        From `histogram_classes`, or a sum of such.

    Returns
    -------
    ndarray of float64, shape (...)
        0 is best; NaN without a pixel.
    """
    return divide(squared_error, np.asarray(histogram, dtype=np.float64).sum(axis=(-2, -1)), undefined=np.nan)


def reliability(confidence: np.ndarray, histogram: np.ndarray) -> dict[str, np.ndarray]:
    """Group pixels by probability into 15 bins of equal mass, and compare probability with foreground frequency.

    Parameters
    ----------
    confidence : ndarray of shape (256,)
        Sum of the probabilities in each bin.
    histogram : ndarray of shape (2, 256)
        Pixels of each class in each bin.

    Returns
    -------
    dict
        mass (share of the pixels), confidence (mean probability) and accuracy (share of foreground), each of shape
        (15,), NaN without a pixel. If an edge falls into one of the 256 bins, that bin is divided in proportion.
    """
    pixels = np.asarray(histogram, dtype=np.float64)
    total = pixels.sum()
    nothing = np.full(EQUAL_MASS_BINS, np.nan)
    if total == 0:
        return {"mass": nothing, "confidence": nothing, "accuracy": nothing}
    reached = np.concatenate([[0.0], np.cumsum(pixels.sum(axis=0))])
    edges = np.linspace(0, total, EQUAL_MASS_BINS + 1)
    mass = total / EQUAL_MASS_BINS

    def share(values: np.ndarray) -> np.ndarray:
        so_far = np.concatenate([[0.0], np.cumsum(values)])
        return np.diff(np.interp(edges, reached, so_far)) / mass

    return {
        "mass": np.full(EQUAL_MASS_BINS, 1 / EQUAL_MASS_BINS),
        "confidence": share(np.asarray(confidence, dtype=np.float64)),
        "accuracy": share(pixels[FOREGROUND]),
    }


def calibration_error(confidence: np.ndarray, histogram: np.ndarray) -> np.ndarray:
    """Compute the expected calibration error: mean gap of probability and foreground share, 15 bins of equal mass.

    Parameters
    ----------
    confidence : ndarray of shape (..., 256)
    histogram : ndarray of shape (..., 2, 256)
        As for `reliability`.

    Returns
    -------
    ndarray of float64, shape (...)
        0 is best; NaN without a pixel.

    Notes
    -----
    Naeini, Cooper and Hauskrecht 2015, AAAI; bins of equal mass as in Nixon et al. 2019, CVPR workshops.
    """
    shape = np.shape(confidence)[:-1]
    result = np.full(shape, np.nan)
    for place in np.ndindex(shape):
        found = reliability(confidence[place], histogram[place])
        result[place] = (found["mass"] * np.abs(found["confidence"] - found["accuracy"])).sum()
    return result
