"""Object scores: which predicted object matches which true one, and average precision.

The three meanings of 'AP' in this field are kept apart. Here, as on Kaggle (Data Science Bowl 2018,
Sartorius), precision is TP / (TP + FP + FN) of objects at one IoU threshold, a match has an IoU strictly
above it, and the score of an image is the mean over ten thresholds.
"""

from dataclasses import dataclass

import numpy as np

from cellmill.morphology import number_objects

# SOURCE Kaggle, Sartorius, "Evaluation": thresholds 0.5 to 0.95 in steps of 0.05, in per cent so that the
# comparison is one of integers.
IOU_PERCENT = tuple(range(50, 100, 5))
INSTANCE_METRICS = ("ap_kaggle", "ap_0.50", "ap_0.75", "count_error")
# A table of all pairs is counted directly up to this size, by sorting above it.
MAX_DENSE_PAIRS = 1 << 22


@dataclass(frozen=True)
class Overlaps:
    """Objects of two label images and the pixels they share.

    Areas in pixels, one entry an object, in the order of their labels. Pairs are those that touch:
    `pair_true` and `pair_predicted` are positions in the areas, `pair_pixels` their common pixels.
    """

    true_areas: np.ndarray
    predicted_areas: np.ndarray
    pair_true: np.ndarray
    pair_predicted: np.ndarray
    pair_pixels: np.ndarray

    def without_small(self, min_area_px: int) -> "Overlaps":
        """Leave out predicted objects below an area, and their pairs."""
        kept = self.predicted_areas >= min_area_px
        pairs = kept[self.pair_predicted]
        return Overlaps(
            true_areas=self.true_areas,
            predicted_areas=self.predicted_areas[kept],
            pair_true=self.pair_true[pairs],
            pair_predicted=(np.cumsum(kept) - 1)[self.pair_predicted[pairs]],
            pair_pixels=self.pair_pixels[pairs],
        )


def count_overlaps(predicted_yx: np.ndarray, truth_yx: np.ndarray, *, valid_yx: np.ndarray) -> Overlaps:
    """Count the pixels that predicted and true objects share.

    Parameters
    ----------
    predicted_yx, truth_yx : ndarray of integer, shape (rows, columns)
        Label images, 0 is background. Labels need not be consecutive.
    valid_yx : ndarray of bool, shape (rows, columns)
        False where the truth is unknown: such pixels belong to no object, and a predicted object with more
        than half of its pixels there is left out, as nobody knows whether it is right.

    Returns
    -------
    Overlaps
        Cost and memory grow with the pixels, not with the number of pairs.
    """
    predicted, n_predicted = number_objects(predicted_yx)
    whole = np.bincount(predicted.ravel(), minlength=n_predicted + 1)
    predicted = np.where(valid_yx, predicted, 0)
    judged = 2 * np.bincount(predicted.ravel(), minlength=n_predicted + 1) >= whole
    judged[0] = False
    predicted, n_predicted = number_objects(np.where(judged[predicted], predicted, 0))
    truth, n_true = number_objects(np.where(valid_yx, truth_yx, 0))
    both = (predicted > 0) & (truth > 0)
    code = truth[both].astype(np.int64) * (n_predicted + 1) + predicted[both]
    if (n_true + 1) * (n_predicted + 1) <= MAX_DENSE_PAIRS:
        table = np.bincount(code)
        pairs = np.flatnonzero(table)
        pixels = table[pairs]
    else:
        pairs, pixels = np.unique(code, return_counts=True)
    return Overlaps(
        true_areas=np.bincount(truth.ravel(), minlength=n_true + 1)[1:],
        predicted_areas=np.bincount(predicted.ravel(), minlength=n_predicted + 1)[1:],
        pair_true=pairs // (n_predicted + 1) - 1,
        pair_predicted=pairs % (n_predicted + 1) - 1,
        pair_pixels=pixels,
    )


def count_matches(overlaps: Overlaps) -> np.ndarray:
    """Count the pairs of one image whose IoU is strictly above each threshold.

    Parameters
    ----------
    overlaps : Overlaps
        From `count_overlaps`.

    Returns
    -------
    ndarray of int64, shape (10,)
        One count for each of IOU_PERCENT. Above one half an object has one partner at most, so the pairs
        are the matches; no assignment is needed.
    """
    union = (
        overlaps.true_areas[overlaps.pair_true]
        + overlaps.predicted_areas[overlaps.pair_predicted]
        - overlaps.pair_pixels
    )
    above = 100 * overlaps.pair_pixels[None, :] > np.array(IOU_PERCENT)[:, None] * union[None, :]
    return above.sum(axis=1)


def score_instances(
    n_true: np.ndarray | int, n_predicted: np.ndarray | int, matches: np.ndarray
) -> dict[str, np.ndarray]:
    """Turn counts of objects into scores.

    Parameters
    ----------
    n_true, n_predicted : array of shape (...)
        Objects of an image, or summed over images.
    matches : array of shape (..., 10)
        From `count_matches`, or summed over images.

    Returns
    -------
    dict
        Each of INSTANCE_METRICS as a float64 array of shape (...): average precision over the ten thresholds
        and at 0.50 and 0.75, 1 where both are empty and 0 where one is; count_error, the fraction
        |n_predicted - n_true| / n_true, 0 where both are empty and NaN where only the truth is.
    """
    true, predicted, matched = (np.asarray(x, dtype=np.float64) for x in (n_true, n_predicted, matches))
    union = (true + predicted)[..., None] - matched
    precision = np.ones(matched.shape)
    np.divide(matched, union, out=precision, where=union > 0)
    error = np.where(predicted == true, 0.0, np.nan)
    np.divide(np.abs(predicted - true), true, out=error, where=true > 0)
    return {
        "ap_kaggle": precision.mean(axis=-1),
        "ap_0.50": precision[..., IOU_PERCENT.index(50)],
        "ap_0.75": precision[..., IOU_PERCENT.index(75)],
        "count_error": error,
    }
