"""Threshold, contrast and polarity of one image, from the histogram of its grey values."""

from dataclasses import dataclass

import numpy as np

# Plateaus of Otsu's criterion, as between two separate peaks, differ by rounding only.
SAME = 1e-12
# SOURCE objects and background must differ by three standard deviations of the noise, as in matching/otsu.py. The
# halves into which Otsu's threshold cuts pure noise differ by 1.6 of them.
SMALLEST_SEPARATION = 3.0
# A few extreme pixels, such as those of debris, would decide alone: values that are further beyond these shares of the
# pixels than these are apart count as the farthest.
EXTREMES = (0.001, 0.999)
# Probability is the logistic function of STEEPNESS times the distance from the threshold, in units of the distance
# between background and objects: slope 1 at the threshold, .12 and .88 half a unit away from it.
STEEPNESS = 4.0
# Further away, the probability is 0 or 1 in float16.
FARTHEST = 20.0


@dataclass(frozen=True, eq=False)
class Histogram:
    """Pixels of an image by grey value: `counts`, in bins of equal width from `low` to `high`.

    `noise` is the standard deviation of its noise, 0 if unknown.
    """

    counts: np.ndarray
    low: float
    high: float
    noise: float


@dataclass(frozen=True)
class Level:
    """Where an image is cut: `threshold`, and `separation`, the distance between the means of its two sides.

    In the unit of the image. `is_dark`: objects are the side below the threshold.
    """

    threshold: float
    separation: float
    is_dark: bool


def find_level(histogram: Histogram, *, polarity: str) -> Level | None:
    """Find the threshold that separates the grey values of an image best.

    Parameters
    ----------
    histogram : Histogram
    polarity : "bright", "dark" or "image"
        image: the side with fewer pixels are the objects; the bright side if both have equally many.

    Returns
    -------
    Level or None
        None if the image is constant, or if its two sides differ by less than three standard deviations of the noise:
        it shows no objects.

    Notes
    -----
    Otsu 1979, doi:10.1109/TSMC.1979.4310076; extreme values are gathered. Of several equally good
    thresholds, the middle one.
    """
    if histogram.high <= histogram.low or np.count_nonzero(histogram.counts) < 2:
        return None
    edges = np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)
    pixels = _gather_extremes(histogram.counts).astype(np.float64)
    sums = pixels * (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(pixels)[:-1], np.cumsum(pixels[::-1])[::-1][1:]
    is_cut = (below > 0) & (above > 0)
    mean_below = np.cumsum(sums)[:-1] / np.maximum(below, 1)
    mean_above = np.cumsum(sums[::-1])[::-1][1:] / np.maximum(above, 1)
    between = np.where(is_cut, below * above * (mean_above - mean_below) ** 2, -1.0)
    best = np.flatnonzero(between >= between.max() * (1 - SAME))
    place = int(best[0] + best[-1]) // 2
    separation = float(mean_above[place] - mean_below[place])
    if separation < SMALLEST_SEPARATION * histogram.noise:
        return None
    is_dark = bool(below[place] < above[place]) if polarity == "image" else polarity == "dark"
    return Level(float(edges[place + 1]), separation, is_dark)


def _gather_extremes(counts: np.ndarray) -> np.ndarray:
    """Move the pixels of extreme bins to the nearest bin that is not extreme."""
    reached = np.cumsum(counts) / counts.sum()
    first, last = (int(np.searchsorted(reached, share)) for share in EXTREMES)
    low, high = max(0, first - (last - first)), min(len(counts) - 1, last + (last - first))
    gathered: np.ndarray = np.zeros_like(counts)
    gathered[low : high + 1] = counts[low : high + 1]
    gathered[low] += counts[:low].sum()
    gathered[high] += counts[high + 1 :].sum()
    return gathered


def find_probability(values_yx: np.ndarray, *, level: Level | None) -> np.ndarray:
    """Turn the grey values of an image into values from 0 to 1, which rise towards its objects.

    Parameters
    ----------
    values_yx : ndarray of float, shape (rows, columns)
        The image whose histogram `level` was found in, or a part of it.
    level : Level or None
        None: 0 everywhere.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        0.5 at the threshold. It is no probability in the sense of a frequency.
    """
    if level is None:
        return np.zeros(values_yx.shape, dtype=np.float32)
    distance_yx = (values_yx - np.float32(level.threshold)) / np.float32(level.separation)
    np.clip(distance_yx, -FARTHEST, FARTHEST, out=distance_yx)
    sign = 1 if level.is_dark else -1
    probability_yx: np.ndarray = (1 / (1 + np.exp(np.float32(sign * STEEPNESS) * distance_yx))).astype(np.float32)
    return probability_yx
