"""Statistics of an experiment: means of replicates, differences from a control, and many comparisons.

All numbers come from one value for each replicate. A bootstrap is not used: from three wells it draws intervals that
hold the true value in about 75 % of the cases.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

CONFIDENCE = 0.95
# Values that differ by less than this share of their size differ by rounding only.
ROUNDING = 1e-12
NAN = math.nan


@dataclass(frozen=True)
class Mean:
    """Mean over replicates with its 95 % interval; nan where it is undefined."""

    n: int
    value: float
    low: float
    high: float
    sd: float


@dataclass(frozen=True)
class Effect:
    """Difference of the mean of a condition from that of the control; nan where it is undefined."""

    difference: float = NAN
    low: float = NAN
    high: float = NAN
    percent: float = NAN
    hedges_g: float = NAN
    p: float = NAN


def estimate_mean(values: Sequence[float] | np.ndarray) -> Mean:
    """Compute the mean of the replicates of a condition, with a t interval.

    Parameters
    ----------
    values : sequence of float
        One value for each replicate; nan for a replicate without one.

    Returns
    -------
    Mean
        Without an interval if there are fewer than two values, or if all are equal: then their spread is unknown.
    """
    known = _known(values)
    if not known.size:
        return Mean(0, NAN, NAN, NAN, NAN)
    value = float(known.mean())
    if known.size == 1:
        return Mean(1, value, NAN, NAN, NAN)
    sd = _spread(known)
    if sd == 0:
        return Mean(known.size, value, NAN, NAN, 0.0)
    half = _quantile(known.size - 1) * sd / math.sqrt(known.size)
    return Mean(known.size, value, value - half, value + half, sd)


def compare_means(values: Sequence[float] | np.ndarray, control: Sequence[float] | np.ndarray) -> Effect:
    """Compare the replicates of a condition with those of the control by Welch's t test.

    Parameters
    ----------
    values, control : sequence of float
        One value for each replicate; nan for a replicate without one.

    Returns
    -------
    Effect
        `percent` is the difference in per cent of the control's mean, if that is positive. Interval, `p` and
        `hedges_g` need two replicates on both sides and some spread.

    Notes
    -----
    Welch 1947, doi:10.1093/biomet/34.1-2.28: the variances of both sides may differ. Hedges 1981,
    doi:10.3102/10769986006002107, with the exact correction for few replicates.
    """
    own, other = _known(values), _known(control)
    if not own.size or not other.size:
        return Effect()
    difference, reference = float(own.mean() - other.mean()), float(other.mean())
    percent = 100 * (difference / reference) if reference > 0 else NAN
    if min(own.size, other.size) < 2:
        return Effect(difference=difference, percent=percent)
    errors = [_spread(side) ** 2 / side.size for side in (own, other)]
    error = math.sqrt(sum(errors))
    if error == 0:
        return Effect(difference=difference, percent=percent)
    # SOURCE Welch-Satterthwaite. Divided by the sum first, so that small variances do not underflow.
    shares = [one / sum(errors) for one in errors]
    degrees = 1 / sum(share**2 / (side.size - 1) for share, side in zip(shares, (own, other), strict=True))
    half = _quantile(degrees) * error
    return Effect(
        difference=difference,
        low=difference - half,
        high=difference + half,
        percent=percent,
        hedges_g=_standardise(difference, own, other),
        p=float(2 * stats.t.sf(abs(difference) / error, degrees)),
    )


def correct_p_values(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number by Benjamini and Hochberg; nan is left out of the number and stays nan.

    Notes
    -----
    Benjamini and Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x: of all comparisons with a corrected value
    below 0.05, at most 5 % are expected to be false.
    """
    corrected = np.asarray(p_values, dtype=np.float64)
    is_known = ~np.isnan(corrected)
    if is_known.any():
        corrected[is_known] = stats.false_discovery_control(corrected[is_known], method="bh")
    return [float(value) for value in corrected]


def _standardise(difference: float, own: np.ndarray, other: np.ndarray) -> float:
    """Return Hedges' g: the difference in units of the pooled standard deviation, corrected for few replicates."""
    degrees = own.size + other.size - 2
    pooled = math.sqrt(sum((side.size - 1) * _spread(side) ** 2 for side in (own, other)) / degrees)
    log_correction = special.gammaln(degrees / 2) - special.gammaln((degrees - 1) / 2) - math.log(degrees / 2) / 2
    return difference / pooled * math.exp(log_correction)


def _known(values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    return array[~np.isnan(array)]


def _spread(values: np.ndarray) -> float:
    """Return the standard deviation, 0 if the values differ by rounding only."""
    sd = float(values.std(ddof=1))
    return sd if sd > ROUNDING * float(np.abs(values).max()) else 0.0


def _quantile(degrees: float) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees))
