"""Scores in the tables of the papers: rates of both classes, scores at a threshold of 0.5, ISBI 2012, baselines.

They are written to metrics.csv with the other scores, with intervals from the same draws of images.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cellmill.evaluation.bootstrap import CONFIDENCE, Bootstrap, percentile_interval, weighted_means
from cellmill.images.stored import IGNORE_LABEL
from cellmill.metrics.baselines import GreyCounts, choose_grey_threshold, count_greys, count_with_grey
from cellmill.metrics.isbi2012 import (
    ISBI2012_METRICS,
    THRESHOLDS,
    best_of_slices,
    best_of_stack,
    compare_regions,
    label_cells,
    score_thresholds,
)
from cellmill.metrics.pixel import BINS, COUNTS, PIXEL_METRICS, mcc_is_conventional, score_pixels, sweep_counts

RATE_METRICS = ("fpr", "f1_macro")
ALL_PIXEL_METRICS = (*PIXEL_METRICS, *RATE_METRICS)
# Stages of scores at a probability of 0.5, whatever the fitted threshold, and of predictors without a network.
# In the column `model`, names of such predictors have parentheses, which names of runs cannot have.
HALF, BASELINE = "at_0.50", "baseline"
CONSTANT, GREY = "(constant)", "(grey)"
SECTION_AGGREGATIONS = AT_FITTED, BEST_PER_STACK, BEST_PER_SLICE = "image_mean", "best_per_stack", "best_per_slice"

Row = dict[str, Any]
Sections = Mapping[str, Mapping[str, Any]]


def score_rates(counts: Mapping[str, np.ndarray | float]) -> dict[str, np.ndarray]:
    """Turn counts of pixels into the scores of `score_pixels`, fpr and f1_macro.

    Parameters
    ----------
    counts : mapping
        tp, fp, fn, tn: numbers or arrays of one shape, in pixels.

    Returns
    -------
    dict
        Each of ALL_PIXEL_METRICS as a float64 array of that shape. fpr is FP / (FP + TN), NaN without true
        background. f1_macro is the mean F1 score (Dice) of foreground and background, each 1 if the class is empty on
        both sides.
    """
    scores = score_pixels(counts)
    swapped = score_pixels({"tp": counts["tn"], "fp": counts["fn"], "fn": counts["fp"], "tn": counts["tp"]})
    return scores | {"fpr": 1 - scores["specificity"], "f1_macro": (scores["dice"] + swapped["dice"]) / 2}


def count_at_half(histogram: np.ndarray) -> np.ndarray:
    """Compute tp, fp, fn, tn at a threshold of 0.5.

    Parameters
    ----------
    histogram : ndarray of shape (..., 2, 256)
        From `histogram_classes`.

    Returns
    -------
    ndarray of float64, shape (..., 4)
    """
    halves = histogram.reshape(*histogram.shape[:-1], 2, BINS // 2).sum(axis=-1)
    sweep = sweep_counts(halves)
    return np.stack([sweep[name][..., 1] for name in COUNTS], axis=-1)


def count_section(
    probability_yx: np.ndarray, truth_yx: np.ndarray, image_yx: np.ndarray, *, threshold: float
) -> dict[str, Any]:
    """Score one section as in ISBI 2012, and count its pixels by grey value for the baselines.

    Parameters
    ----------
    probability_yx : ndarray of float, shape (rows, columns)
        Probability of the inside of cells.
    truth_yx : ndarray of integers, shape (rows, columns)
        0 on membranes, 65535 where unknown.
    image_yx : ndarray of float, shape (rows, columns)
        Preprocessed image.
    threshold : float
        Fitted threshold.

    Returns
    -------
    dict
        v_rand and v_info: lists of scores at the fitted threshold, at each of THRESHOLDS, and of the constant predictor
        (None without a true cell). grey: values, background and foreground of `GreyCounts`. Plain values, for JSON.
    """
    valid_yx = truth_yx != IGNORE_LABEL
    is_cell_yx = (truth_yx > 0) & valid_yx
    scores = score_thresholds(probability_yx, is_cell_yx, valid_yx=valid_yx, thresholds=(threshold, *THRESHOLDS))
    constant = compare_regions(np.ones(truth_yx.shape, dtype=np.int32), label_cells(is_cell_yx))
    whole = np.concatenate([scores, np.array(constant)[:, None]], axis=1)
    greys = count_greys(image_yx, is_cell_yx, valid_yx=valid_yx)
    return {
        **{
            metric: [None if np.isnan(score) else float(score) for score in row]
            for metric, row in zip(ISBI2012_METRICS, whole, strict=True)
        },
        "grey": {
            "values": greys.values.tolist(),
            "background": greys.background.tolist(),
            "foreground": greys.foreground.tolist(),
        },
    }


def summarize_rates(counts: np.ndarray, *, metrics: Sequence[str], bootstrap: Bootstrap) -> Iterator[Row]:
    """Summarise pixel scores of some images, as a mean over images and pooled.

    Parameters
    ----------
    counts : ndarray of float64, shape (images, 4)
        tp, fp, fn, tn.
    metrics : sequence of str
        Some of ALL_PIXEL_METRICS.
    bootstrap : Bootstrap
        Draws of these images.

    Yields
    ------
    dict
        metric, aggregation, value, ci_low, ci_high, n, n_undefined; NaN where undefined. An mcc of 0/0 enters the mean
        as 0 and is also counted in `n_undefined`.
    """

    def score(rows: np.ndarray) -> np.ndarray:
        scores = score_rates(dict(zip(COUNTS, rows.T, strict=True)))
        return np.stack([scores[name] for name in metrics], axis=1)

    each = score(counts)
    is_conventional = mcc_is_conventional(dict(zip(COUNTS, counts.T, strict=True)))
    for name, row, values in zip(metrics, _summarize(each, _mean(each), bootstrap=bootstrap), each.T, strict=True):
        flagged = int(np.count_nonzero(np.isfinite(values) & is_conventional)) if name == "mcc" else 0
        yield {"metric": name, "aggregation": "image_mean", **row, "n_undefined": row["n_undefined"] + flagged}
    # An image adds its pixels to the pooled counts even if its score is undefined.
    pooled = _summarize(np.zeros(each.shape), lambda weights: score(weights @ counts), bootstrap=bootstrap)
    for name, row in zip(metrics, pooled, strict=True):
        yield {"metric": name, "aggregation": "pooled", **row}


def summarize_sections(scores: np.ndarray, *, bootstrap: Bootstrap) -> Iterator[Row]:
    """Summarise V_rand and V_info of some sections.

    Parameters
    ----------
    scores : ndarray of float64, shape (sections, 2, 1 + thresholds)
        At the fitted threshold, then at each of THRESHOLDS; NaN where there is no true cell.
    bootstrap : Bootstrap
        Draws of these sections.

    Yields
    ------
    dict
        As `summarize_rates`, with the aggregations image_mean (at the fitted threshold), best_per_stack (at the common
        threshold with the best mean, the challenge's score) and best_per_slice (each section at its best threshold).
    """
    sweeps = scores[:, :, 1:]
    flat = sweeps.reshape(len(sweeps), -1)

    def stack(weights: np.ndarray) -> np.ndarray:
        return best_of_stack(weighted_means(flat, weights).reshape(-1, *sweeps.shape[1:]))

    at_fitted, best = scores[:, :, 0], best_of_slices(sweeps)
    for aggregation, values, pool in (
        (AT_FITTED, at_fitted, _mean(at_fitted)),
        (BEST_PER_STACK, best, stack),
        (BEST_PER_SLICE, best, _mean(best)),
    ):
        for name, row in zip(ISBI2012_METRICS, _summarize(values, pool, bootstrap=bootstrap), strict=True):
            yield {"metric": name, "aggregation": aggregation, **row}


def summarize_baselines(sections: Mapping[str, Sections], *, bootstraps: Mapping[str, Bootstrap]) -> Iterator[Row]:
    """Score the constant predictor (all foreground) and a grey threshold.

    Parameters
    ----------
    sections : mapping
        Split -> sample -> its counts in one geometry, with the entries of `count_section`.
    bootstraps : mapping
        Split -> bootstrap over its sections.

    Yields
    ------
    dict
        model (CONSTANT or GREY), split, and the entries of `summarize_rates`. The grey threshold is chosen on the
        training images, else on the validation images, else on the first split.
    """
    greys = {split: [_read_greys(one["grey"]) for one in of_split.values()] for split, of_split in sections.items()}
    chosen_on = next((split for split in ("train", "validation") if split in greys), next(iter(greys)))
    threshold = choose_grey_threshold(greys[chosen_on])
    for split, of_split in sections.items():
        ones = [(sum(one["foreground"]), sum(one["background"]), 0, 0) for one in of_split.values()]
        with_grey = [count_with_grey(grey, threshold) for grey in greys[split]]
        for model, counts in ((CONSTANT, ones), (GREY, with_grey)):
            numbers = np.array(counts, dtype=np.float64)
            for row in summarize_rates(numbers, metrics=ALL_PIXEL_METRICS, bootstrap=bootstraps[split]):
                yield {"model": model, "split": split, **row}
        constant = np.stack([read_sections(one)[:, -1] for one in of_split.values()])
        rows = _summarize(constant, _mean(constant), bootstrap=bootstraps[split])
        for aggregation in SECTION_AGGREGATIONS:  # it is the same at any threshold
            for name, row in zip(ISBI2012_METRICS, rows, strict=True):
                yield {"model": CONSTANT, "split": split, "metric": name, "aggregation": aggregation, **row}


def read_sections(counted: Mapping[str, Any]) -> np.ndarray:
    """Convert V_rand and V_info of `count_section` to an array, shape (2, 2 + thresholds), constant predictor last."""
    rows = [[np.nan if score is None else score for score in counted[metric]] for metric in ISBI2012_METRICS]
    return np.array(rows, dtype=np.float64)


def _read_greys(counted: Mapping[str, Any]) -> GreyCounts:
    return GreyCounts(**{key: np.array(numbers) for key, numbers in counted.items()})


def _mean(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda weights: weighted_means(values, weights)


def _summarize(values: np.ndarray, pool: Callable[[np.ndarray], np.ndarray], *, bootstrap: Bootstrap) -> list[Row]:
    """Compute value, interval and numbers of images of each score.

    `values` (images, scores) is finite where an image has a score; `pool` converts weights of images
    (replicates, images) to scores (replicates, scores).
    """
    images = len(values)
    value = pool(np.ones((1, images)))[0]
    drawn = [pool(weights) for weights in bootstrap.weights()]
    low, high = percentile_interval(np.concatenate([np.zeros((0, values.shape[1])), *drawn]), level=CONFIDENCE)
    known = np.where(np.isfinite(value), np.count_nonzero(np.isfinite(values), axis=0), 0)
    return [
        {
            "value": float(value[k]), "ci_low": low[k], "ci_high": high[k],
            "n": int(known[k]), "n_undefined": images - int(known[k]),
        }
        for k in range(values.shape[1])
    ]  # fmt: skip
