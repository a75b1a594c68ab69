"""Maps of probabilities from an image itself, without a network: smoothing, threshold and polarity, by bands of rows.

The threshold is Otsu's, of the smoothed image or of its difference from the local mean.

Axes  c channels (one, the foreground), y rows, x columns
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cellmill.classical.levels import Histogram, Level, find_level, find_probability
from cellmill.classical.recipes import Recipe
from cellmill.images.stored import central_part, list_bands, open_plane
from cellmill.images.windows import release_pages
from cellmill.preprocessing.geometry import Geometry, valid_box
from cellmill.preprocessing.stored_images import StoredImage

logger = logging.getLogger(__name__)

# Bins of the histogram: one grey value each in 16-bit images
BINS = 1 << 16
# Radius of the Gaussian in standard deviations
TRUNCATE = 4.0
# Standard deviation of normal noise over the median of the absolute differences of neighbours
NOISE_OF_DIFFERENCE = 1 / (0.67449 * np.sqrt(2))


@dataclass(frozen=True)
class Flattened:
    """An image smoothed by `sigma_px`, minus its mean in a square of `window_px` (None: minus nothing).

    Parameters
    ----------
    image_yx : ndarray of float32, shape (rows, columns)
        Without padding; may be a memory map.
    """

    image_yx: np.ndarray
    sigma_px: float
    window_px: int | None

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns), px."""
        return self.image_yx.shape[0], self.image_yx.shape[1]

    @property
    def halo_px(self) -> int:
        """Distance to the farthest pixel that affects a pixel, along an axis."""
        return int(TRUNCATE * self.sigma_px + 0.5) + (self.window_px or 0) // 2

    def read(self, rows: slice, columns: slice = slice(None)) -> np.ndarray:
        """Compute a region: float32. It equals that part of the whole image, apart from rounding."""
        whole = [slice(*each.indices(size)[:2]) for each, size in zip((rows, columns), self.shape, strict=True)]
        grown = [
            slice(max(0, each.start - self.halo_px), min(size, each.stop + self.halo_px))
            for each, size in zip(whole, self.shape, strict=True)
        ]
        part_yx = np.array(self.image_yx[tuple(grown)], dtype=np.float32)
        release_pages(self.image_yx)
        if self.sigma_px:
            part_yx = ndimage.gaussian_filter(part_yx, self.sigma_px, mode="nearest", truncate=TRUNCATE)
        if self.window_px is not None:
            part_yx -= ndimage.uniform_filter(part_yx, self.window_px, mode="reflect")
        inner = tuple(
            slice(each.start - wide.start, each.stop - wide.start) for each, wide in zip(whole, grown, strict=True)
        )
        found_yx: np.ndarray = part_yx[inner]
        return found_yx

    def count_values(self) -> Histogram:
        """Count the pixels of the whole image by grey value; reads the image twice, by bands."""
        bands = list_bands(self.shape)
        ends = [(float(part.min()), float(part.max())) for part in (self.image_yx[rows] for rows in bands)]
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        if self.window_px is not None:
            low, high = low - high, high - low
        counts = np.zeros(BINS, dtype=np.int64)
        for rows in bands if high > low else ():
            places = (self.read(rows).astype(np.float64) - low) * (BINS / (high - low))
            counts += np.bincount(np.clip(places, 0, BINS - 1).astype(np.int64).ravel(), minlength=BINS)
        return Histogram(counts, low, high, self._measure_noise())

    def _measure_noise(self) -> float:
        """Measure the standard deviation of the noise that smoothing leaves, in the centre of the image."""
        part_yx = np.array(self.image_yx[central_part(self.shape)], dtype=np.float64)
        if part_yx.shape[1] < 2:
            return 0.0
        noise = float(np.median(np.abs(np.diff(part_yx, axis=1)))) * NOISE_OF_DIFFERENCE
        # Gaussian smoothing by sigma scales the sd of white noise by 1 / (2 sqrt(pi) sigma), if sigma is not tiny.
        return noise / max(1.0, 2 * np.sqrt(np.pi) * self.sigma_px)


def open_flat(image: StoredImage, *, sigma_px: float, window_px: int | None) -> Flattened | None:
    """Open the part of a preprocessed image that the raw image covers; None if that is nothing."""
    image_yx = open_plane(image.image_path)
    inside_yx = image_yx[tuple(slice(*ends) for ends in valid_box(image.geometry))]
    return Flattened(inside_yx, sigma_px, window_px) if inside_yx.size else None


def read_map(
    flat: Flattened, level: Level, *, geometry: Geometry, rows: slice, columns: slice = slice(None)
) -> np.ndarray:
    """Compute a region of the map of an image.

    Parameters
    ----------
    flat : Flattened
        From `open_flat`.
    level : Level
        Of the whole image.
    geometry : Geometry
        Of the preprocessed image.
    rows, columns : slice
        Region in the preprocessed image, px.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        In [0, 1], see `find_probability`; 0 where the image is padded.
    """
    ends = [slice(*each.indices(size)[:2]) for each, size in zip((rows, columns), geometry.shape, strict=True)]
    map_yx = np.zeros([each.stop - each.start for each in ends], dtype=np.float32)
    pairs = list(zip(ends, valid_box(geometry), strict=True))
    here = tuple(slice(max(low, end.start) - end.start, min(high, end.stop) - end.start) for end, (low, high) in pairs)
    there = [slice(max(low, end.start) - low, min(high, end.stop) - low) for end, (low, high) in pairs]
    if all(part.start < part.stop for part in there):
        map_yx[here] = find_probability(flat.read(*there), level=level)
    return map_yx


def map_bands(image: StoredImage, *, recipe: Recipe) -> Iterator[np.ndarray]:
    """Compute the map of an image from top to bottom.

    Parameters
    ----------
    image : StoredImage
        Preprocessed image of any size.
    recipe : Recipe

    Yields
    ------
    ndarray of float32, shape (1, rows of the band, columns)
        See `read_map`. An image without contrast is 0 everywhere.

    Notes
    -----
    Memory holds one band of about 4 million pixels with its halo.
    """
    flat = open_flat(image, sigma_px=recipe["sigma_px"], window_px=recipe["window_px"])
    level = None if flat is None else find_level(flat.count_values(), polarity=recipe["polarity"])
    if level is None:
        logger.info("%s: no contrast above the noise, so nothing will be found", image.sample)
    for rows in list_bands(image.geometry.shape):
        if flat is None or level is None:
            yield np.zeros((1, rows.stop - rows.start, image.geometry.columns), dtype=np.float32)
        else:
            yield read_map(flat, level, geometry=image.geometry, rows=rows)[np.newaxis]
