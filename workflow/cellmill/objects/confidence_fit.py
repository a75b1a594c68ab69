"""Fit the confidence of objects on validation images: a logistic regression on their traits."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from cellmill.metrics.instance import count_overlaps, list_right
from cellmill.objects.confidence import TraitSums, list_traits, uncalibrated

logger = logging.getLogger(__name__)

# With fewer right or wrong objects, the weights of four traits are not determined.
FEWEST = 10
# Inverse strength of the penalty on the weights of standardised traits, scikit-learn's default
COST = 1.0
DIGITS = 6


@dataclass(frozen=True)
class Rated:
    """Objects of one validation image without its padding, or of a window, with the truth and the predicted maps.

    Attributes
    ----------
    labels_yx : ndarray of int64, shape (rows, columns)
        Final objects, 0 is background.
    truth_yx, known_yx : ndarray of integers and of bool
        True objects, and where the truth is known.
    maps_cyx : ndarray of float32, shape (channels, rows, columns)
    """

    labels_yx: np.ndarray
    truth_yx: np.ndarray
    known_yx: np.ndarray
    maps_cyx: np.ndarray


def fit_confidence(images: Iterable[Rated], *, output: str, threshold: float) -> dict[str, Any]:
    """Fit the probability that an object is right.

    Parameters
    ----------
    images : iterable of Rated
        Validation images only; read one by one.
    output : str
        `network.output`, which determines the traits.
    threshold : float
        Of the probability of foreground.

    Returns
    -------
    dict
        Section confidence of postprocess.json: traits, calibrated, reason, and the numbers of right and wrong objects;
        if calibrated also weights and offset, otherwise leading.
    """
    traits = list_traits(output)
    of_images, are_right = [np.zeros((0, len(traits)))], [np.zeros(0, dtype=bool)]
    for image in images:
        overlaps = count_overlaps(image.labels_yx, image.truth_yx, valid_yx=image.known_yx)
        sums = TraitSums(int(image.labels_yx.max(initial=0)), traits=traits, threshold=threshold)
        sums.add(image.labels_yx, image.maps_cyx, rows=len(image.labels_yx))
        of_images.append(sums.finish().means_nt[overlaps.predicted_labels])
        are_right.append(list_right(overlaps))
    traits_nt, is_right = np.concatenate(of_images), np.concatenate(are_right)
    right, wrong = int(np.count_nonzero(is_right)), int(np.count_nonzero(~is_right))
    counted = {"right": right, "wrong": wrong}
    if min(right, wrong) < FEWEST:
        reason = (
            f"not calibrated, because the validation images have {right} right and {wrong} wrong objects; "
            f"{FEWEST} of each are needed"
        )
        return uncalibrated(output, reason=reason) | counted
    scaler = StandardScaler().fit(traits_nt)
    model = LogisticRegression(C=COST, max_iter=1000).fit(scaler.transform(traits_nt), is_right)
    weights = model.coef_[0] / scaler.scale_
    offset = float(model.intercept_[0] - weights @ scaler.mean_)
    return {
        "traits": list(traits),
        "calibrated": True,
        "weights": [round(float(weight), DIGITS) for weight in weights],
        "offset": round(offset, DIGITS),
        "reason": f"logistic regression on {right + wrong} objects of the validation images",
        **counted,
    }
