"""Score how well confidences rank right objects above wrong ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellmill.evaluation.bootstrap import CONFIDENCE, Bootstrap, percentile_interval
from cellmill.evaluation.row_file import Rows
from cellmill.metrics.pixel import BINS, auc_roc

METRIC = "confidence_auroc"


def count_ranked(counted: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Count the wrong and the right objects of one image by confidence.

    Parameters
    ----------
    counted : mapping
        right_at and wrong_at of `cellmill.evaluation.counting.count_confidences`.

    Returns
    -------
    ndarray of float64, shape (2 * BINS,)
        Wrong, then right objects.
    """
    sides = (counted["wrong_at"], counted["right_at"])
    counts = [np.bincount(np.array(side, dtype=np.int64), minlength=BINS) for side in sides]
    return np.concatenate(counts).astype(np.float64)


def summarize_ranking(ranked: Rows, *, bootstrap: Bootstrap) -> dict[str, Any]:
    """Compute the area under the ROC curve of confidences, with an interval over images.

    Parameters
    ----------
    ranked : ndarray of float64, or RowFile, shape (images, 2 * BINS)
        From `count_ranked`.
    bootstrap : Bootstrap
        Draws of these images.

    Returns
    -------
    dict
        metric, aggregation, value, ci_low, ci_high, n, n_undefined. The value is the probability that a right object
        has a higher confidence than a wrong one, ties counting half: 0.5 for no information, 1 for a perfect order,
        NaN without right or without wrong objects.
    """
    images = len(ranked)
    value = float(auc_roc(ranked.sum(axis=0).reshape(1, 2, BINS))[0])
    replicates = [auc_roc((weights @ ranked).reshape(-1, 2, BINS))[:, None] for weights in bootstrap.weights()]
    low, high = percentile_interval(np.concatenate([np.zeros((0, 1)), *replicates]), level=CONFIDENCE)
    n = images if np.isfinite(value) else 0
    return {
        "metric": METRIC, "aggregation": "pooled", "value": value, "ci_low": float(low[0]), "ci_high": float(high[0]),
        "n": n, "n_undefined": images - n,
    }  # fmt: skip
