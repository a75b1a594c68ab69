"""Normalise images for a network, identically in training, validation and prediction.

Pixels added by a crop-and-pad fit are not part of the image. They are excluded from the statistics and become zero,
the mean of an image normalised by `zscore`.
"""

from dataclasses import dataclass

import numpy as np

from cellmill.images.noise import measure_noise
from cellmill.images.stored import central_part
from cellmill.images.windows import release_pages, sample_pixels
from cellmill.preprocessing.geometry import Geometry, valid_box

# Percentiles of an image that `percentile` maps to LOW and HIGH: sparse bright objects fill less than 1 % of an image,
# and single hot pixels less than 0.2 %.
PERCENTILES = (1.0, 99.8)
LOW, HIGH = -1.0, 3.0
# Percentiles that the median is compared with to find the polarity of an image
ENDS = (1.0, 50.0, 99.0)
# Range of PERCENTILES in white noise, in standard deviations: quantiles of the normal distribution, 2.878 + 2.326
RANGE_OF_NOISE = 5.204
# Larger images are sampled for percentiles: every n-th row and column.
MAX_PIXELS = 1 << 21


@dataclass(frozen=True)
class InputScale:
    """Normalisation of one image: (value - offset) / scale inside the valid box, 0 outside.

    The scale is negative if the image is inverted. `stretch` is the factor by which the least contrast enlarges it.
    """

    offset: float
    scale: float
    valid_rows: tuple[int, int]
    valid_columns: tuple[int, int]
    stretch: float = 1.0


def measure_input(
    image_yx: np.ndarray, *, geometry: Geometry, normalise: str, polarity: str, min_contrast: float
) -> InputScale:
    """Compute the normalisation of an image from its valid pixels.

    Parameters
    ----------
    image_yx : ndarray of float32, shape (rows, columns)
        A preprocessed image; may be a memory map, of which one block of rows is in memory at a time.
    geometry : Geometry
        Defines which pixels the raw image covers.
    normalise : str
        `zscore`: mean 0 and standard deviation 1 over the valid pixels. `percentile`: the 1st percentile becomes -1
        and the 99.8th 3. `none`: values stay unchanged.
    polarity : str
        `keep`, `invert`, or `bright`: images with a bright ground are inverted, see `has_bright_ground`.
    min_contrast : float, >= 0
        The divisor of an image is at least that of white noise with this many times the standard deviation of the
        noise of the image: noise would otherwise look like objects in an image without any. 0: no limit. `none` ignores
        it.

    Returns
    -------
    InputScale
        The scale of a constant image is 1, and all its pixels become 0.
    """
    (top, bottom), (left, right) = valid_box(geometry)
    rows, columns = (top, bottom), (left, right)
    is_inverted = polarity == "invert" or (polarity == "bright" and has_bright_ground(image_yx[top:bottom, left:right]))
    sign = -1.0 if is_inverted else 1.0
    if normalise == "none":
        return InputScale(0.0, sign, rows, columns)
    # The divisor of white noise whose contrast is the least one
    least = min_contrast * _measure_noise(image_yx[top:bottom, left:right]) if min_contrast else 0.0
    if normalise == "percentile":
        return _scale_percentiles(
            image_yx[top:bottom, left:right], is_inverted=is_inverted, least=least, rows=rows, columns=columns
        )
    assert normalise == "zscore", normalise
    count, mean, squares = 0, 0.0, 0.0
    for row in range(top, bottom, 512):
        block = np.asarray(image_yx[row : min(row + 512, bottom), left:right], dtype=np.float64)
        # Blocks are combined as in Chan et al. 1983, doi:10.1080/00031305.1983.10483115.
        shift = block.mean() - mean
        total = count + block.size
        squares += ((block - block.mean()) ** 2).sum() + shift**2 * count * block.size / total
        mean += shift * block.size / total
        count = total
        release_pages(image_yx)
    deviation = float(np.sqrt(squares / max(count, 1)))
    if deviation == 0:
        return InputScale(float(mean), sign, rows, columns)
    return InputScale(float(mean), sign * max(deviation, least), rows, columns, max(1.0, least / deviation))


def measure_contrast(image_yx: np.ndarray) -> float | None:
    """Measure the contrast of an image: its spread over that of its noise, 1 for white noise.

    The spread is the lower one of standard deviation and range of PERCENTILES, so that no normalisation divides the
    image by less than its contrast times the noise. None for an image without noise.
    """
    noise = _measure_noise(image_yx)
    if noise == 0:
        return None
    sampled = sample_pixels(image_yx, max_pixels=MAX_PIXELS).astype(np.float64)
    low, high = np.percentile(sampled, PERCENTILES)
    return float(min(sampled.std(), (high - low) / RANGE_OF_NOISE)) / noise


def _measure_noise(image_yx: np.ndarray) -> float:
    """Measure the standard deviation of the noise in the centre of an image; 0 if it is too small to have any."""
    if min(image_yx.shape) < 2:
        return 0.0
    part_yx = np.asarray(image_yx[central_part(image_yx.shape)], dtype=np.float64)
    return measure_noise(part_yx, is_known_yx=np.ones(part_yx.shape, dtype=bool))


def has_bright_ground(image_yx: np.ndarray) -> bool:
    """Return whether most of an image is bright: its median lies above the middle of its range.

    The range is from the 1st to the 99th percentile. A constant image has no bright ground.

    # ASSUME objects cover less than half of an image. On 637 nuclei images of the 2018 Data Science Bowl, this rule
    # and the annotations agree on whether objects are brighter than the ground, except in 3.
    """
    if image_yx.size == 0:
        return False
    low, median, high = np.percentile(sample_pixels(image_yx, max_pixels=MAX_PIXELS).astype(np.float64), ENDS)
    return bool(median - low > high - median)


def _scale_percentiles(
    image_yx: np.ndarray, *, is_inverted: bool, least: float, rows: tuple[int, int], columns: tuple[int, int]
) -> InputScale:
    """Compute the normalisation that maps the percentiles of an image to LOW and HIGH.

    The range of an image that is below that of white noise with a standard deviation of `least` is mapped as if it were
    that wide, so that its upper end becomes less than HIGH.
    """
    sign = -1.0 if is_inverted else 1.0
    if image_yx.size == 0:
        return InputScale(0.0, sign, rows, columns)
    sampled = sample_pixels(image_yx, max_pixels=MAX_PIXELS).astype(np.float64)
    first, last = (100 - percent for percent in PERCENTILES) if is_inverted else PERCENTILES
    low, high = (float(value) for value in np.percentile(sampled, (first, last)))
    if low == high:
        # A few bright pixels on an otherwise constant ground
        high = float(sampled.min() if is_inverted else sampled.max())
    if low == high:
        return InputScale(low, sign, rows, columns)
    stretch = max(1.0, least * RANGE_OF_NOISE / abs(high - low))
    scale = stretch * (high - low) / (HIGH - LOW)
    return InputScale(low - LOW * scale, scale, rows, columns, stretch)


def read_window(image_yx: np.ndarray, *, rows: np.ndarray, columns: np.ndarray, scale: InputScale) -> np.ndarray:
    """Cut a normalised window out of an image.

    Parameters
    ----------
    image_yx : ndarray of float32, shape (rows, columns)
        May be a memory map.
    rows, columns : ndarray of int
        Row and column indices of the window in the image, from `mirror`.
    scale : InputScale
        Normalisation of this image.

    Returns
    -------
    ndarray of float32, shape (len(rows), len(columns))
    """
    window = cut(image_yx, rows=rows, columns=columns).astype(np.float32, copy=False) - np.float32(scale.offset)
    window /= np.float32(scale.scale)
    window[(rows < scale.valid_rows[0]) | (rows >= scale.valid_rows[1]), :] = 0
    window[:, (columns < scale.valid_columns[0]) | (columns >= scale.valid_columns[1])] = 0
    return window


def cut(planes: np.ndarray, *, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Cut rows and columns, the last two axes, out of one or more planes.

    Parameters
    ----------
    planes : ndarray of any dtype, shape (..., rows, columns)
        May be a memory map, of which only the needed part is read.
    rows, columns : ndarray of int
        Indices from `mirror`.

    Returns
    -------
    ndarray, shape (..., len(rows), len(columns))
        A view of the planes if nothing is mirrored.
    """
    found = np.asarray(planes)[..., rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    for axis, places in ((-2, rows), (-1, columns)):
        # Indexing single rows and columns is slower than a slice.
        if not (np.diff(places) == 1).all():
            found = np.take(found, places - places.min(), axis=axis)
    return found


def mirror(start: int, length: int, size: int) -> np.ndarray:
    """Return the indices start .. start + length - 1, with those outside 0 .. size - 1 mirrored at the edge.

    The edge pixel is repeated (numpy's `symmetric`), so that an image of one row works too. A mirrored margin keeps
    the statistics of the image. A constant margin would change those of batch normalisation in training.
    """
    positions = np.arange(start, start + length) % (2 * size)
    return np.where(positions < size, positions, 2 * size - 1 - positions)
