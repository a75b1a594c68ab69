"""Background and autocorrelation length of an image."""

import math

import numpy as np
from scipy import fft, ndimage

from cellmill.images.stored import central_part

GRID = 8  # tiles along each axis, for the medians of the background
FEWEST_TILES = 5
FEWEST_PIXELS = 20  # of background in a tile
SMALLEST_SHARE = 0.1  # smallest fraction of a tile that must be background


def smooth_ground(image_yx: np.ndarray, *, is_ground_yx: np.ndarray, sigma_px: float) -> np.ndarray:
    """Interpolate the background under the objects by the Gaussian-weighted mean of nearby background pixels.

    Parameters
    ----------
    image_yx : ndarray of float, shape (rows, columns)
    is_ground_yx : ndarray of bool, shape (rows, columns)
        Background; at least one pixel.
    sigma_px : float, > 0
        Standard deviation of the Gaussian.

    Returns
    -------
    ndarray of float64, shape (rows, columns)
        The median of the background where no background is near.
    """
    level = float(np.median(image_yx[is_ground_yx]))
    # average into coarse bins first, since a wide Gaussian needs no finer grid
    step = max(1, int(sigma_px / 4))
    shape = tuple(-(-size // step) for size in image_yx.shape)
    bins_yx = (np.arange(image_yx.shape[0]) // step)[:, None] * shape[1] + np.arange(image_yx.shape[1]) // step
    bins = bins_yx[is_ground_yx]
    sums, counts = (
        np.bincount(bins, weights=weights, minlength=shape[0] * shape[1]).reshape(shape)
        for weights in (image_yx[is_ground_yx] - level, None)
    )
    light_yx, weight_yx = (
        ndimage.gaussian_filter(part.astype(np.float64), sigma_px / step, mode="constant") for part in (sums, counts)
    )
    is_near_yx = weight_yx > 1e-6 * step**2
    coarse_yx = np.zeros(shape)
    np.divide(light_yx, weight_yx, out=coarse_yx, where=is_near_yx)
    at = [
        np.clip((np.arange(size) + 0.5) / step - 0.5, 0, limit - 1)
        for size, limit in zip(image_yx.shape, shape, strict=True)
    ]
    return level + _interpolate(coarse_yx, at[0], at[1])


def _interpolate(coarse_yx: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolate bilinearly on the grid of fractional rows and columns."""
    top, left = rows.astype(int), columns.astype(int)
    bottom, right = (np.minimum(first + 1, size - 1) for first, size in zip((top, left), coarse_yx.shape, strict=True))
    down, across = (rows - top)[:, None], columns - left
    lines_yx = coarse_yx[top] * (1 - down) + coarse_yx[bottom] * down
    return lines_yx[:, left] * (1 - across) + lines_yx[:, right] * across


def measure_unevenness(image_yx: np.ndarray, is_ground_yx: np.ndarray, *, noise: float) -> float:
    """Return the sd of background medians on a grid, less the contribution of noise; NaN for fewer than 5 tiles."""
    medians, variances = [], []
    for row in np.array_split(np.arange(image_yx.shape[0]), GRID):
        for column in np.array_split(np.arange(image_yx.shape[1]), GRID):
            if row.size == 0 or column.size == 0:
                continue
            tile = np.s_[row[0] : row[-1] + 1, column[0] : column[-1] + 1]
            values = image_yx[tile][is_ground_yx[tile]]
            if values.size >= max(FEWEST_PIXELS, SMALLEST_SHARE * row.size * column.size):
                medians.append(float(np.median(values)))
                variances.append(math.pi / 2 * noise**2 / values.size)  # of the median of Gaussian noise
    if len(medians) < FEWEST_TILES:
        return math.nan
    return math.sqrt(max(float(np.var(medians)) - float(np.mean(variances)), 0.0))


def autocorrelation_length(image_yx: np.ndarray, *, noise: float) -> float:
    """Return the lag at which the autocorrelation of an image falls to 1/e.

    Parameters
    ----------
    image_yx : ndarray of float, shape (rows, columns)
        The mean is subtracted. Only the central 1024 x 1024 px of a larger image are used.
    noise : float, >= 0
        Standard deviation of white noise; its square is subtracted from the variance.

    Returns
    -------
    float
        In px, averaged over all directions and interpolated linearly between whole lags. NaN if the variance does not
        exceed the noise, or if the autocorrelation stays above 1/e up to half the shorter side.
    """
    centre_yx = image_yx[central_part(image_yx.shape)]
    part_yx = centre_yx - centre_yx.mean()
    variance = float(np.mean(part_yx**2)) - noise**2
    if variance <= 1e-12 * max(1.0, float(np.mean(centre_yx**2))):
        return math.nan
    reach = min(part_yx.shape) // 2
    size = [fft.next_fast_len(side + reach, real=True) for side in part_yx.shape]
    power = np.abs(fft.rfft2(part_yx, size)) ** 2
    sums_yx = fft.irfft2(power, size)
    down = np.arange(-reach, reach + 1)
    sums_yx = sums_yx[np.ix_(down, down)]
    overlap_yx = (part_yx.shape[0] - np.abs(down))[:, None] * (part_yx.shape[1] - np.abs(down))
    lag_yx = np.rint(np.hypot(down[:, None], down)).astype(int)
    is_near_yx = lag_yx <= reach
    ring = lag_yx[is_near_yx]
    pixels = np.bincount(ring)
    profile = np.bincount(ring, weights=(sums_yx / overlap_yx)[is_near_yx]) / pixels / variance
    lags = np.bincount(ring, weights=np.hypot(down[:, None], down)[is_near_yx]) / pixels
    profile[0] = 1.0
    below = np.flatnonzero(profile < math.exp(-1))
    if below.size == 0:
        return math.nan
    last = int(below[0])
    share = (profile[last - 1] - math.exp(-1)) / (profile[last - 1] - profile[last])
    return float(lags[last - 1] + share * (lags[last] - lags[last - 1]))
