"""From the counts of images to scores with intervals: means over images, pooled, percentile bootstrap."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from cellmill.metrics.instance import INSTANCE_METRICS, IOU_PERCENT, score_instances
from cellmill.metrics.pixel import (
    BINS,
    COUNTS,
    PIXEL_METRICS,
    SWEEP_METRICS,
    auc_roc,
    average_precision,
    mcc_is_conventional,
    score_pixels,
)

METRICS = (*PIXEL_METRICS, *INSTANCE_METRICS)
CONFIDENCE = 0.95
# Replicates are drawn in pieces, so that 25,000 images need megabytes and not gigabytes.
MAX_DRAWS = 1 << 22


def score_counts(numbers: np.ndarray) -> dict[str, np.ndarray]:
    """Turn rows of counts into every score.

    Parameters
    ----------
    numbers : ndarray of float64, shape (rows, 528)
        Rows of one image each, of pooled images, or of bootstrap replicates: tp, fp, fn, tn in pixels,
        n_true, n_predicted, matches at ten thresholds, 256 bins of background, 256 of foreground.

    Returns
    -------
    dict
        Each of METRICS and SWEEP_METRICS as an array of shape (rows,), NaN where undefined.
    """
    pixels = dict(zip(COUNTS, numbers[:, : len(COUNTS)].T, strict=True))
    first = len(COUNTS)
    n_true, n_predicted = numbers[:, first], numbers[:, first + 1]
    matches = numbers[:, first + 2 : first + 2 + len(IOU_PERCENT)]
    histogram = numbers[:, -2 * BINS :].reshape(-1, 2, BINS)
    scores = {
        **score_pixels(pixels),
        **score_instances(n_true, n_predicted, matches),
        "auc_roc": auc_roc(histogram),
        "average_precision": average_precision(histogram),
    }
    # An image of which nothing is known says nothing about its objects either.
    is_known = histogram.sum(axis=(1, 2)) > 0
    return {name: np.where(is_known, scores[name], np.nan) for name in (*METRICS, *SWEEP_METRICS)}


def summarize_counts(numbers: np.ndarray, *, bootstrap: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Summarise the images of one run, split, stage and geometry.

    Parameters
    ----------
    numbers : ndarray of float64, shape (images, 528)
        As for `score_counts`, a row an image.
    bootstrap : int, >= 0
        Replicates.
    rng : numpy.random.Generator
        Source of the replicates.

    Yields
    ------
    dict
        metric, aggregation, value, ci_low, ci_high, n, n_undefined; NaN where undefined.
    """
    images = len(numbers)
    each = score_counts(numbers)
    values = np.stack([each[name] for name in METRICS], axis=1)
    totals = numbers.sum(axis=0, keepdims=True)
    pooled = score_counts(totals)
    means, pools = [], []
    for weights in bootstrap_weights(images, replicates=bootstrap if images > 1 else 0, rng=rng):
        means.append(weighted_means(values, weights))
        replicate = score_counts(weights @ numbers)
        pools.append(np.stack([replicate[name] for name in (*METRICS, *SWEEP_METRICS)], axis=1))
    is_conventional = mcc_is_conventional(dict(zip(COUNTS, numbers[:, : len(COUNTS)].T, strict=True)))
    mean_ends = _interval(means, len(METRICS))
    for k, name in enumerate(METRICS):
        defined = np.isfinite(values[:, k])
        n = int(np.count_nonzero(defined))
        flagged = int(np.count_nonzero(defined & is_conventional)) if name == "mcc" else 0
        yield {
            "metric": name, "aggregation": "image_mean",
            "value": float(values[defined, k].mean()) if n else np.nan,
            "ci_low": mean_ends[0][k], "ci_high": mean_ends[1][k],
            "n": n, "n_undefined": images - n + flagged,
        }  # fmt: skip
    pool_ends = _interval(pools, len(METRICS) + len(SWEEP_METRICS))
    for k, name in enumerate((*METRICS, *SWEEP_METRICS)):
        value = float(pooled[name][0])
        n = images if np.isfinite(value) else 0
        yield {
            "metric": name, "aggregation": "pooled", "value": value,
            "ci_low": pool_ends[0][k], "ci_high": pool_ends[1][k], "n": n, "n_undefined": images - n,
        }  # fmt: skip


def bootstrap_weights(images: int, *, replicates: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Draw how often each image stands in each bootstrap replicate.

    Parameters
    ----------
    images : int, > 0
        Number of images; a replicate draws as many, with replacement.
    replicates : int, >= 0
        Number of replicates.
    rng : numpy.random.Generator
        Source of the draws.

    Yields
    ------
    ndarray of float64, shape (some replicates, images)
        Counts; each row sums to `images`. A sum over the images of a replicate is `weights @ values`.
        The same draws whatever the size of the pieces.

    Notes
    -----
    Efron 1979, doi:10.1214/aos/1176344552.
    """
    piece = max(1, MAX_DRAWS // images)
    for start in range(0, replicates, piece):
        rows = min(piece, replicates - start)
        draws = rng.integers(images, size=(rows, images)) + images * np.arange(rows)[:, None]
        yield np.bincount(draws.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float64)


def weighted_means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Give the mean of each score in each replicate, over the images where it is defined.

    Parameters
    ----------
    values : ndarray of float64, shape (images, scores)
        NaN where undefined.
    weights : ndarray of float64, shape (replicates, images)
        From `bootstrap_weights`.

    Returns
    -------
    ndarray of float64, shape (replicates, scores)
        NaN where a replicate holds no image with the score.
    """
    defined = np.isfinite(values)
    totals = weights @ np.where(defined, values, 0.0)
    counts = weights @ defined.astype(np.float64)
    means = np.full(totals.shape, np.nan)
    np.divide(totals, counts, out=means, where=counts > 0)
    return means


def percentile_interval(replicates: np.ndarray, *, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Give the central interval of the replicates of each score.

    Parameters
    ----------
    replicates : ndarray of float64, shape (replicates, scores)
        NaN entries are left out.
    level : float in (0, 1)
        Share of the replicates inside, 0.95 for the usual interval.

    Returns
    -------
    tuple of ndarray of float64, shape (scores,)
        Lower and upper end; NaN for a score that is defined in no replicate.
    """
    ends = np.full((2, replicates.shape[1]), np.nan)
    for column, values in enumerate(replicates.T):
        known = values[np.isfinite(values)]
        if known.size:
            ends[:, column] = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return ends[0], ends[1]


def _interval(replicates: list[np.ndarray], scores: int) -> tuple[np.ndarray, np.ndarray]:
    stacked = np.concatenate([np.zeros((0, scores)), *replicates])
    return percentile_interval(stacked, level=CONFIDENCE)
