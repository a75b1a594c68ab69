"""Normalise images for a network, identically in training, validation and prediction.

Pixels added by a crop-and-pad fit are not part of the image. They are excluded from the statistics and become zero,
the mean of an image normalised by `zscore`.
"""

from dataclasses import dataclass

import numpy as np

from cellmill.images.noise import measure_noise
from cellmill.images.windows import release_pages, sample_pixels
from cellmill.preprocessing.geometry import Geometry, valid_box

# Percentiles of an image that `percentile` maps to LOW and HIGH: sparse bright objects fill less than 1 % of an image,
# and single hot pixels less than 0.2 %.
PERCENTILES = (1.0, 99.8)
LOW, HIGH = -1.0, 3.0
# Percentiles that the median is compared with to find the polarity of an image
ENDS = (1.0, 50.0, 99.0)
# Larger images are sampled for percentiles: every n-th row and column.
MAX_PIXELS = 1 << 21
# Noise is measured in the centre of larger images.
CENTRE_PX = 1024


@dataclass(frozen=True)
class InputScale:
    """Normalisation of one image: (value - offset) / scale inside the valid box, 0 outside.

    The scale is negative if the image is inverted. `stretch` is by how much its size is larger than without a least
    contrast.
    """

    offset: float
    scale: float
    valid_rows: tuple[int, int]
    valid_columns: tuple[int, int]
    stretch: float = 1.0


def measure_input(
    image_yx: np.ndarray, *, geometry: Geometry, normalise: str, polarity: str, min_contrast: float = 0.0
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
        An image whose contrast (`measure_contrast`) is lower is not amplified further than one that has this contrast:
        without objects, noise and uneven light would otherwise look like objects. `none` ignores it.

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
    stretch = 1.0
    if min_contrast and (contrast := measure_contrast(image_yx[top:bottom, left:right])) is not None:
        stretch = max(1.0, min_contrast / contrast)
    if normalise == "percentile":
        offset, scale = _measure_percentiles(image_yx[top:bottom, left:right], is_inverted=is_inverted, stretch=stretch)
        return InputScale(offset, sign * scale, rows, columns, stretch)
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
    deviation = stretch * float(np.sqrt(squares / max(count, 1)))
    return InputScale(float(mean), sign * (deviation if deviation > 0 else 1.0), rows, columns, stretch)


def measure_contrast(image_yx: np.ndarray) -> float | None:
    """Measure the contrast of an image: its standard deviation over that of its noise.

    White noise has a contrast of 1. None for an image that is constant or has no noise.
    """
    if min(image_yx.shape) < 2:
        return None
    middle = tuple(slice(max(0, (size - CENTRE_PX) // 2), (size + CENTRE_PX) // 2) for size in image_yx.shape)
    part_yx = np.asarray(image_yx[middle], dtype=np.float64)
    noise = measure_noise(part_yx, is_known_yx=np.ones(part_yx.shape, dtype=bool))
    deviation = float(sample_pixels(image_yx, max_pixels=MAX_PIXELS).astype(np.float64).std())
    return deviation / noise if noise > 0 and deviation > 0 else None


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


def _measure_percentiles(image_yx: np.ndarray, *, is_inverted: bool, stretch: float) -> tuple[float, float]:
    """Return the offset and the positive scale that map the lower percentile of an image to LOW, the upper to HIGH.

    With a stretch above 1 the upper one comes that much closer to LOW.
    """
    if image_yx.size == 0:
        return 0.0, 1.0
    sampled = sample_pixels(image_yx, max_pixels=MAX_PIXELS).astype(np.float64)
    first, last = (100 - percent for percent in PERCENTILES) if is_inverted else PERCENTILES
    low, high = (float(value) for value in np.percentile(sampled, (first, last)))
    if low == high:
        # A few bright pixels on an otherwise constant ground
        high = float(sampled.min() if is_inverted else sampled.max())
    if low == high:
        return low, 1.0
    scale = stretch * (high - low) / (HIGH - LOW)
    return low - LOW * scale, abs(scale)


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
