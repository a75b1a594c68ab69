"""Scores with intervals from the counts of images: means over images, pooled scores, percentile bootstrap."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellmill.evaluation.row_file import BLOCK_ROWS, Rows
from cellmill.metrics.borders import BORDER_COUNTS, BORDER_METRICS, score_borders
from cellmill.metrics.calibration import CALIBRATION_METRICS, brier_score, calibration_error
from cellmill.metrics.instance import INSTANCE_METRICS, IOU_PERCENT, OBJECT_COUNTS, SIZE_COUNTS, SIZES, score_instances
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
from cellmill.shards import stable_hash

METRICS = (*PIXEL_METRICS, *INSTANCE_METRICS, *BORDER_METRICS)
# Threshold-free scores of the probabilities, independent of postprocessing
FREE_METRICS = (*SWEEP_METRICS, *CALIBRATION_METRICS)
CONFIDENCE = 0.95
# Replicates are drawn in pieces, so that 25,000 images need megabytes and not gigabytes.
MAX_DRAWS = 1 << 20
# Layout of the counts of an image as a row of numbers that can be summed: name -> number of entries.
LAYOUT: dict[str, int] = {
    **dict.fromkeys(COUNTS, 1), **dict.fromkeys(OBJECT_COUNTS, 1), "matches": len(IOU_PERCENT),
    "matches_inclusive": len(IOU_PERCENT), **dict.fromkeys(BORDER_COUNTS, 1), "squared_error": 1, "confidence": BINS,
    **dict.fromkeys(SIZE_COUNTS, SIZES), "background": BINS, "foreground": BINS,
}  # fmt: skip

# Name -> its columns in such a row
PLACES = {
    name: slice(last - width, last)
    for (name, width), last in zip(LAYOUT.items(), itertools.accumulate(LAYOUT.values()), strict=True)
}


@dataclass(frozen=True)
class Bootstrap:
    """Bootstrap over images, drawing the images of a group together.

    Parameters
    ----------
    replicates : int, >= 0
        Number of replicates; 0 for no interval.
    seeds : numpy.random.SeedSequence
        Seeds of the draws; equal seeds draw the same images.
    groups : ndarray of int, shape (images,)
        Group number of each image. Images of a sequence, well or patient are alike, so drawing them independently would
        make the interval too narrow. If there is only one group, its images are drawn independently.
    """

    replicates: int
    seeds: np.random.SeedSequence
    groups: np.ndarray

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(np.unique(self.groups))

    def weights(self) -> Iterator[np.ndarray]:
        """Draw how often each image occurs in each replicate, in pieces of shape (some replicates, images)."""
        images, groups = len(self.groups), self.n_groups
        rng = np.random.default_rng(self.seeds)
        if images < 2:
            return
        if groups in (1, images):
            yield from bootstrap_weights(images, replicates=self.replicates, rng=rng)
            return
        _, members = np.unique(self.groups, return_inverse=True)
        for drawn in bootstrap_weights(groups, replicates=self.replicates, rng=rng):
            yield drawn[:, members]


def seeds_of_split(split: str, *, seed: int) -> np.random.SeedSequence:
    """Return the seeds of the draws of a split's images: the same for all runs, so that one score has one interval."""
    return np.random.SeedSequence([seed, stable_hash(f"comparison/{split}", purpose="bootstrap")])


def number_groups(names: Sequence[str]) -> np.ndarray:
    """Number names from 0 in the order of their first appearance: int64, shape (names,)."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)


def pack_counts(counted: Mapping[str, Any]) -> np.ndarray:
    """Convert the counts of an image to a row of numbers, in the order of LAYOUT; zeros for what was not counted."""
    return np.concatenate(
        [np.atleast_1d(np.asarray(counted.get(name, np.zeros(width)), np.float64)) for name, width in LAYOUT.items()]
    )


def unpack_counts(numbers: np.ndarray) -> dict[str, np.ndarray]:
    """Split rows of numbers by name: name -> array of shape (rows,) or (rows, entries)."""
    parts = {name: numbers[:, place] for name, place in PLACES.items()}
    return {name: part[:, 0] if LAYOUT[name] == 1 else part for name, part in parts.items()}


def score_counts(numbers: Rows, *, with_free: bool = True) -> dict[str, np.ndarray]:
    """Turn rows of counts into every score.

    Parameters
    ----------
    numbers : ndarray of float64, or RowFile, shape (rows, numbers of LAYOUT)
        From `pack_counts`: rows of single images, of pooled images, or of bootstrap replicates.
    with_free : bool
        Whether to include FREE_METRICS.

    Returns
    -------
    dict
        Each of METRICS, and of FREE_METRICS if included, as an array of shape (rows,), NaN where undefined.
    """
    # In blocks, because the threshold sweeps take twenty times the memory of the counts
    blocks = [
        _score_block(numbers[first : first + BLOCK_ROWS], with_free=with_free)
        for first in range(0, max(1, len(numbers)), BLOCK_ROWS)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _score_block(numbers: np.ndarray, *, with_free: bool) -> dict[str, np.ndarray]:
    counts = unpack_counts(numbers)
    histogram = np.stack([counts["background"], counts["foreground"]], axis=1)
    scores = {**score_pixels(counts), **score_instances(counts), **score_borders(counts)}
    if with_free:
        scores |= {
            "auc_roc": auc_roc(histogram),
            "average_precision": average_precision(histogram),
            "brier": brier_score(counts["squared_error"], histogram),
            "ece": calibration_error(counts["confidence"], histogram),
        }
    # In an image without known truth, the scores of its objects are undefined, too.
    is_known = histogram.sum(axis=(1, 2)) + sum(counts[name] for name in COUNTS) > 0
    names = (*METRICS, *FREE_METRICS) if with_free else METRICS
    return {name: np.where(is_known, scores[name], np.nan) for name in names}


def summarize_counts(numbers: Rows, *, bootstrap: Bootstrap, with_free: bool) -> Iterator[dict[str, Any]]:
    """Summarise the images of one run, split, stage and geometry.

    Parameters
    ----------
    numbers : ndarray of float64, or RowFile, shape (images, numbers of LAYOUT)
        As for `score_counts`, one row per image.
    bootstrap : Bootstrap
        Draws of these images.
    with_free : bool
        Whether to include FREE_METRICS.

    Yields
    ------
    dict
        metric, aggregation, value, ci_low, ci_high, n, n_undefined; NaN where undefined.
    """
    images = len(numbers)
    each = score_counts(numbers, with_free=False)
    values = np.stack([each[name] for name in METRICS], axis=1)
    names = (*METRICS, *FREE_METRICS) if with_free else METRICS
    pooled = score_counts(numbers.sum(axis=0, keepdims=True), with_free=with_free)
    means, pools = [], []
    for weights in bootstrap.weights():
        means.append(weighted_means(values, weights))
        replicate = score_counts(weights @ numbers, with_free=with_free)
        pools.append(np.stack([replicate[name] for name in names], axis=1))
    # COUNTS come first in LAYOUT
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
    pool_ends = _interval(pools, len(names))
    for k, name in enumerate(names):
        value = float(pooled[name][0])
        n = images if np.isfinite(value) else 0
        yield {
            "metric": name, "aggregation": "pooled", "value": value,
            "ci_low": pool_ends[0][k], "ci_high": pool_ends[1][k], "n": n, "n_undefined": images - n,
        }  # fmt: skip


def bootstrap_weights(images: int, *, replicates: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Draw how often each image, or group of images, occurs in each bootstrap replicate.

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
        The draws do not depend on the size of the pieces.

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
    """Compute the mean of each score in each replicate, over the images where it is defined.

    Parameters
    ----------
    values : ndarray of float64, shape (images, scores)
        NaN where undefined.
    weights : ndarray of float64, shape (replicates, images)
        From `bootstrap_weights`.

    Returns
    -------
    ndarray of float64, shape (replicates, scores)
        NaN where a replicate contains no image with the score.
    """
    defined = np.isfinite(values)
    totals = weights @ np.where(defined, values, 0.0)
    counts = weights @ defined.astype(np.float64)
    means = np.full(totals.shape, np.nan)
    np.divide(totals, counts, out=means, where=counts > 0)
    return means


def percentile_interval(replicates: np.ndarray, *, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute the central interval of the replicates of each score.

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
