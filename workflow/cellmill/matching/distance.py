"""Distance between two samples of a statistic, and the distance expected if both have the same distribution."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


def distance(real: ArrayLike, simulated: ArrayLike) -> float:
    """Compute the distance between two samples of a statistic.

    Parameters
    ----------
    real, simulated : array-like of float
        One value per image; NaN (undefined) is ignored.

    Returns
    -------
    float
        Wasserstein distance (the mean distance by which one sample has to be moved to become the other) over the
        pooled standard deviation, in which both samples have equal weight. At most 2, reached if each sample is
        constant and the two differ. 0 if all values are equal, NaN if a sample has no values.
    """
    one, other = _defined(real), _defined(simulated)
    if one.size == 0 or other.size == 0:
        return math.nan
    means = one.mean(), other.mean()
    variance = (one.var() + other.var()) / 2 + (means[0] - means[1]) ** 2 / 4
    # equal except for rounding
    if variance <= (1e-12 * max(abs(means[0]), abs(means[1]))) ** 2:
        return 0.0
    values = np.concatenate([one, other])
    values.sort()
    below_one, below_other = (
        np.searchsorted(np.sort(part), values[:-1], side="right") / part.size for part in (one, other)
    )
    return float(np.sum(np.abs(below_one - below_other) * np.diff(values)) / math.sqrt(variance))


class ExpectedDistance(NamedTuple):
    """Interval with 95 % of the distances under equal distributions, and numbers of defined and undefined values."""

    low: float
    high: float
    n_real: int
    n_simulated: int
    n_undefined: int


def permutation_interval(
    real: ArrayLike, simulated: ArrayLike, *, permutations: int, rng: np.random.Generator
) -> ExpectedDistance:
    """Compute the distance expected if real and simulated values have the same distribution.

    Parameters
    ----------
    real, simulated : array of float
        As for `distance`.
    permutations : int, > 0
        Number of random reassignments of all values to two samples of these sizes.
    rng : numpy.random.Generator
        All permutations are drawn in a single call.

    Returns
    -------
    ExpectedDistance
        `low` and `high` are NaN if a sample has no values.
    """
    one, other = _defined(real), _defined(simulated)
    undefined = np.size(real) + np.size(simulated) - one.size - other.size
    if one.size == 0 or other.size == 0:
        return ExpectedDistance(math.nan, math.nan, one.size, other.size, undefined)
    values = np.sort(np.concatenate([one, other]))
    is_one = rng.permuted(np.tile(np.arange(values.size) < one.size, (permutations, 1)), axis=1)
    low, high = np.quantile(_distances_of_parts(values, is_one), [0.025, 0.975])
    return ExpectedDistance(float(low), float(high), one.size, other.size, undefined)


def _distances_of_parts(values: np.ndarray, is_one: np.ndarray) -> np.ndarray:
    """Compute `distance` between two subsets of sorted values, for each row of `is_one`, which marks the first."""
    shifted = values - values.mean()
    sizes = np.count_nonzero(is_one, axis=1), np.count_nonzero(~is_one, axis=1)
    below = [np.cumsum(part, axis=1) / size[:, None] for part, size in zip((is_one, ~is_one), sizes, strict=True)]
    means = [part @ shifted / size for part, size in zip((is_one, ~is_one), sizes, strict=True)]
    squares = [part @ shifted**2 / size for part, size in zip((is_one, ~is_one), sizes, strict=True)]
    variance = sum(square - mean**2 for square, mean in zip(squares, means, strict=True)) / 2
    variance = variance + (means[0] - means[1]) ** 2 / 4
    moved = np.abs(below[0] - below[1])[:, :-1] @ np.diff(values)
    is_equal = variance <= (1e-12 * np.abs(values).max()) ** 2
    return np.where(is_equal, 0.0, moved / np.sqrt(np.where(is_equal, 1.0, variance)))


def _defined(values: ArrayLike) -> np.ndarray:
    flat = np.asarray(values, dtype=np.float64).ravel()
    return flat[np.isfinite(flat)]
