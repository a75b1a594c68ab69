"""Pixel scores: counts of one image, threshold sweeps from histograms, and scores computed from both.

Every score takes arrays of counts of any shape, so that the same code handles one image, a pooled dataset and a
thousand bootstrap replicates.
"""

from collections.abc import Mapping

import numpy as np

COUNTS = ("tp", "fp", "fn", "tn")
PIXEL_METRICS = ("dice", "iou", "accuracy", "precision", "recall", "specificity", "mcc")
SWEEP_METRICS = ("auc_roc", "average_precision")
BINS = 256
BACKGROUND, FOREGROUND = 0, 1


def count_pixels(predicted_yx: np.ndarray, truth_yx: np.ndarray, *, valid_yx: np.ndarray) -> dict[str, int]:
    """Count correct and wrong pixels of one image.

    Parameters
    ----------
    predicted_yx, truth_yx : ndarray of bool, shape (rows, columns)
        True where an object is.
    valid_yx : ndarray of bool, shape (rows, columns)
        False where the truth is unknown or padded; such pixels are excluded.

    Returns
    -------
    dict
        tp, fp, fn, tn in pixels.
    """
    predicted = predicted_yx & valid_yx
    truth = truth_yx & valid_yx
    tp = int(np.count_nonzero(predicted & truth))
    fp = int(np.count_nonzero(predicted)) - tp
    fn = int(np.count_nonzero(truth)) - tp
    return {"tp": tp, "fp": fp, "fn": fn, "tn": int(np.count_nonzero(valid_yx)) - tp - fp - fn}


def score_pixels(counts: Mapping[str, np.ndarray | float]) -> dict[str, np.ndarray]:
    """Turn counts of pixels into scores.

    Parameters
    ----------
    counts : mapping
        tp, fp, fn, tn: numbers or arrays of one shape, in pixels.

    Returns
    -------
    dict
        Each of PIXEL_METRICS as a float64 array of that shape; NaN where the score is undefined:

        =========== ========== ================ =====================
        score       both empty only truth empty only prediction empty
        =========== ========== ================ =====================
        iou, dice   1          0                0
        accuracy    1          TN/N             TN/N
        precision   NaN        0                NaN
        recall      NaN        NaN              0
        specificity 1          TN/N             1
        mcc         0          0                0
        =========== ========== ================ =====================

        All are NaN where no pixel was valid. `mcc_is_conventional` marks where mcc is 0 by convention.

    Notes
    -----
    Dice = 2 IoU / (1 + IoU) for every pair of masks; this is asserted here.
    """
    tp, fp, fn, tn = (np.asarray(counts[name], dtype=np.float64) for name in COUNTS)
    total = tp + fp + fn + tn
    scores = {
        "dice": divide(2 * tp, 2 * tp + fp + fn, undefined=1.0),
        "iou": divide(tp, tp + fp + fn, undefined=1.0),
        "accuracy": divide(tp + tn, total, undefined=np.nan),
        "precision": divide(tp, tp + fp, undefined=np.nan),
        "recall": divide(tp, tp + fn, undefined=np.nan),
        "specificity": divide(tn, tn + fp, undefined=np.nan),
        "mcc": matthews_correlation(tp, fp, fn, tn),
    }
    assert np.allclose(scores["dice"], 2 * scores["iou"] / (1 + scores["iou"]), rtol=0, atol=1e-12)
    assert np.all(scores["iou"] <= scores["dice"] + 1e-12)
    return {name: np.where(total > 0, score, np.nan) for name, score in scores.items()}


def matthews_correlation(
    tp: np.ndarray | float, fp: np.ndarray | float, fn: np.ndarray | float, tn: np.ndarray | float
) -> np.ndarray:
    """Compute Matthews' correlation coefficient, 0 where one class is missing on either side.

    Computed in float64, because the product of four factors exceeds the largest int64 from about 5e4 pixels each.

    Notes
    -----
    Matthews 1975, doi:10.1016/0005-2795(75)90109-9.
    """
    tp, fp, fn, tn = (np.asarray(count, dtype=np.float64) for count in (tp, fp, fn, tn))
    # With this grouping, a perfect prediction scores exactly 1: the root of a rounded square is exact.
    scale = np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
    # Rounding may exceed 1 by an ulp.
    return np.clip(divide(tp * tn - fp * fn, scale, undefined=0.0), -1.0, 1.0)


def mcc_is_conventional(counts: Mapping[str, np.ndarray | float]) -> np.ndarray:
    """Mark where Matthews' coefficient is 0/0 and set to 0 by convention: prediction or truth has only one class."""
    tp, fp, fn, tn = (np.asarray(counts[name], dtype=np.float64) for name in COUNTS)
    return (tp + fp == 0) | (tp + fn == 0) | (tn + fp == 0) | (tn + fn == 0)


def histogram_classes(probability_yx: np.ndarray, truth_yx: np.ndarray, *, valid_yx: np.ndarray) -> np.ndarray:
    """Count the valid pixels of each class by probability.

    Parameters
    ----------
    probability_yx : ndarray of float, shape (rows, columns)
        In [0, 1].
    truth_yx, valid_yx : ndarray of bool, shape (rows, columns)
        True where an object is; True where the truth is known.

    Returns
    -------
    ndarray of int64, shape (2, 256)
        Background, foreground. Bin k contains k/256 <= probability < (k + 1)/256; the last bin includes 1.
        Multiplication by 256 is exact in binary, so `probability >= k/256` and `bin >= k` select the same pixels.
        Each 8-bit probability, j/255, has a separate bin.

    Raises
    ------
    ValueError
        If a probability is not in [0, 1].
    """
    probability = probability_yx[valid_yx]
    if probability.size and not (probability.min() >= 0 and probability.max() <= 1):  # also for NaN
        raise ValueError(
            f"probability image: expected values in [0, 1], found {probability.min()} to {probability.max()}. "
            "Give the network's probabilities, not its logits; NaN means that training diverged."
        )
    code = place_in_bins(probability) + BINS * truth_yx[valid_yx]
    return np.bincount(code, minlength=2 * BINS).reshape(2, BINS)


def place_in_bins(probability: np.ndarray) -> np.ndarray:
    """Return the bin of `histogram_classes` for each probability in [0, 1]: int64, the same shape."""
    return np.minimum((probability * np.float32(BINS)).astype(np.int64), BINS - 1)


def sweep_counts(histogram: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the counts at every threshold k/256, k = 0 .. 255, from a histogram of both classes.

    Parameters
    ----------
    histogram : ndarray of shape (..., 2, 256)
        From `histogram_classes`, or a sum of such; a histogram with fewer bins has as many thresholds as bins.

    Returns
    -------
    dict
        tp, fp, fn, tn as float64 arrays of shape (..., 256); foreground is `probability >= k/256`.
    """
    histogram = np.asarray(histogram, dtype=np.float64)
    above = np.cumsum(histogram[..., ::-1], axis=-1)[..., ::-1]
    below = histogram.sum(axis=-1, keepdims=True) - above
    return {
        "tp": above[..., FOREGROUND, :],
        "fp": above[..., BACKGROUND, :],
        "fn": below[..., FOREGROUND, :],
        "tn": below[..., BACKGROUND, :],
    }


def best_threshold(histogram: np.ndarray) -> tuple[float, float]:
    """Find the threshold with the best Matthews correlation.

    Parameters
    ----------
    histogram : ndarray of shape (2, 256)
        Pooled over the images to choose on.

    Returns
    -------
    tuple of float
        Threshold k/256 with k in 1 .. 255, and its coefficient. Ties go to the threshold nearest 0.5, then to
        the lower threshold.
    """
    mcc = matthews_correlation(**sweep_counts(histogram))[1:]
    steps = np.arange(1, BINS)
    best = steps[mcc == mcc.max()]
    step = best[np.argmin(np.abs(best - BINS // 2))]
    return float(step) / BINS, float(mcc[step - 1])


def auc_roc(histogram: np.ndarray) -> np.ndarray:
    """Compute the area under the ROC curve by the trapezoid rule, (0, 0) and (1, 1) included.

    Parameters
    ----------
    histogram : ndarray of shape (..., 2, 256)
        From `histogram_classes`, or a sum of such.

    Returns
    -------
    ndarray of float64, shape (...)
        NaN where one class has no pixel.
    """
    tpr, fpr = _rising_rates(histogram)
    return ((fpr[..., 1:] - fpr[..., :-1]) * (tpr[..., 1:] + tpr[..., :-1]) / 2).sum(axis=-1)


def average_precision(histogram: np.ndarray) -> np.ndarray:
    """Compute the mean precision over recall, as a step function without interpolation.

    Parameters
    ----------
    histogram : ndarray of shape (..., 2, 256)
        From `histogram_classes`, or a sum of such.

    Returns
    -------
    ndarray of float64, shape (...)
        NaN where no pixel is foreground.

    Notes
    -----
    The definition of scikit-learn's average_precision_score. Not the AP of instance matching.
    """
    counts = sweep_counts(histogram)
    precision = divide(counts["tp"], counts["tp"] + counts["fp"], undefined=0.0)[..., ::-1]
    positives = np.asarray(histogram, dtype=np.float64)[..., FOREGROUND, ::-1]
    total = positives.sum(axis=-1)
    return divide((positives * precision).sum(axis=-1), total, undefined=np.nan)


def _rising_rates(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute true and false positive rates from a threshold above 1 down to 0, each of shape (..., 257)."""
    falling = np.asarray(histogram, dtype=np.float64)[..., ::-1]
    reached = np.concatenate([np.zeros((*falling.shape[:-1], 1)), np.cumsum(falling, axis=-1)], axis=-1)
    rates = divide(reached, reached[..., -1:], undefined=np.nan)
    return rates[..., FOREGROUND, :], rates[..., BACKGROUND, :]


def divide(numerator: np.ndarray, denominator: np.ndarray, *, undefined: float | np.ndarray) -> np.ndarray:
    """Divide; `undefined` where the denominator is 0, without a warning."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    result = np.full(numerator.shape, undefined, dtype=np.float64)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result
