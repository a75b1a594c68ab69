"""Working scale of a network: images resampled so that their objects have the diameter that the network works at.

A preprocessed image is resampled for the network, and the maps of the network are resampled back to the preprocessed
image. Both are a resize in the sense of `cellmill.preprocessing.geometry`: means over the covered area where an axis
shrinks, linear interpolation where it grows.
"""

import math
import os
import tempfile
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

from cellmill.images.stored import BAND_PIXELS, list_bands
from cellmill.images.windows import release_pages
from cellmill.preprocessing.geometry import Geometry, fit_rows, raw_rows_of, unfit_image_rows

# Factors beyond this are not used: objects below 1 px of the working scale would vanish, and memory would explode.
LARGEST_FACTOR = 8.0
# Resampled images are kept in memory up to this size together, and in temporary files beyond it.
MEMORY_BYTES = 1 << 28
# Sides of a resampled image are at least this long, px.
SHORTEST_PX = 8
# Factors this close to 1 leave an image unchanged: resampling would only blur it.
UNCHANGED = 1.02


@dataclass(frozen=True)
class WorkingScale:
    """The working scale of an image, as the factor of its sides, and the reason."""

    factor: float
    because: str


def plan_working_size(shape: tuple[int, int], *, factor: float) -> Geometry:
    """Plan the resize of an image to its working scale.

    Parameters
    ----------
    shape : (rows, columns)
        Of the preprocessed image, px.
    factor : float, > 0
        Working size over size. Limited to 1/8 to 8; 1 if it is within 2 % of 1.

    Returns
    -------
    Geometry
        With the preprocessed image as raw frame and the working size as fitted frame.
    """
    factor = limit_factor(factor)
    rows, columns = (max(min(SHORTEST_PX, side), round(side * factor)) for side in shape)
    return Geometry(shape[0], shape[1], "resize", rows, columns, 0, 0)


def limit_factor(factor: float) -> float:
    """Limit a factor to the range that is used, and return 1 if it is close to 1."""
    limited = min(max(factor, 1 / LARGEST_FACTOR), LARGEST_FACTOR)
    return 1.0 if 1 / UNCHANGED <= limited <= UNCHANGED else limited


def limit_scale(wanted: float, *, because: str) -> WorkingScale:
    """Return the factor that is used in place of a wanted one, and why; a factor that is limited is said."""
    factor = limit_factor(wanted)
    if factor != 1.0 and not math.isclose(factor, wanted):
        because += f"; a factor of {wanted:.3g} is beyond the limits of 1/{LARGEST_FACTOR:g} and {LARGEST_FACTOR:g}"
    return WorkingScale(factor, because)


def scale_box(ends: tuple[int, int], *, old: int, new: int) -> tuple[int, int]:
    """Scale the valid rows or columns of an image: first, end."""
    first, last = (end * new / old for end in ends)
    return math.ceil(first - 1e-9), math.floor(last + 1e-9)


class ScaledImages:
    """Images at their working scale, resampled once each; the oldest are dropped if more than `kept` are open.

    Parameters
    ----------
    kept : int or None
        Number of planes that stay resampled; None keeps all, as a training uses every image again and again.
    """

    def __init__(self, *, kept: int | None) -> None:
        self._kept = kept
        self._images: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._room = MEMORY_BYTES

    def find(self, name: Hashable, image_yx: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Return a plane resampled as `plan_working_size` plans: float32, or its map."""
        found = self._images.get(name)
        if found is not None and found.shape == geometry.shape:
            self._images.move_to_end(name)
            return found
        scaled_yx = self._allocate(geometry.shape)
        for rows in list_bands(geometry.shape):
            raw_rows = raw_rows_of(geometry, rows)
            part_yx = np.asarray(image_yx[raw_rows])
            scaled_yx[rows] = fit_rows(part_yx, geometry, rows=rows, raw_rows=raw_rows, pad_value=0.0)
            release_pages(image_yx)
        self._images[name] = scaled_yx
        while self._kept is not None and len(self._images) > self._kept:
            _, dropped_yx = self._images.popitem(last=False)
            self._room += 0 if isinstance(dropped_yx, np.memmap) else dropped_yx.nbytes
        return scaled_yx

    def _allocate(self, shape: tuple[int, int]) -> np.ndarray:
        size = 4 * shape[0] * shape[1]
        if size <= self._room:
            self._room -= size
            return np.empty(shape, dtype=np.float32)
        # The file has no name, so that nothing is left behind however the process ends.
        with tempfile.TemporaryFile(prefix="cellmill-") as file:
            return _map_file(file, dtype=np.dtype(np.float32), shape=shape)


def _map_file(file: IO[bytes], *, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Map an array to a file.

    Raises
    ------
    OSError
        If the disk is too full. Without the space reserved, the first access beyond it would kill the process.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, max(1, dtype.itemsize * math.prod(shape)))
    mapped: np.ndarray = np.memmap(
        file, dtype=dtype, mode="r+" if hasattr(os, "posix_fallocate") else "w+", shape=shape
    )
    return mapped


def unscale_bands(bands_cyx: Iterable[np.ndarray], geometry: Geometry) -> Iterator[np.ndarray]:
    """Resample maps of the working scale back to the preprocessed image, from top to bottom.

    Parameters
    ----------
    bands_cyx : iterable of ndarray of float, shape (channels, rows of the band, columns)
        Maps at the working scale.
    geometry : Geometry
        From `plan_working_size`.

    Yields
    ------
    ndarray of the same dtype, shape (channels, rows of a band, raw columns)
        Unit vectors between opposite ones become shorter, and probabilities stay within [0, 1].
    """
    if geometry.shape == geometry.raw_shape:
        yield from bands_cyx
        return
    with tempfile.TemporaryFile(prefix="cellmill-") as file:
        maps_cyx, dtype = _collect(bands_cyx, geometry, file=file)
        pixels = max(1, BAND_PIXELS // len(maps_cyx))
        for rows in list_bands(geometry.raw_shape, pixels=pixels):
            yield np.stack([unfit_image_rows(map_yx, geometry, rows) for map_yx in maps_cyx]).astype(dtype)


def _collect(bands_cyx: Iterable[np.ndarray], geometry: Geometry, *, file: IO[bytes]) -> tuple[np.ndarray, np.dtype]:
    """Return all bands as one array, in memory or mapped to a file, and the dtype of the bands."""
    maps_cyx: np.ndarray | None = None
    first = 0
    dtype = np.dtype(np.float32)
    for band_cyx in bands_cyx:
        if maps_cyx is None:
            dtype, shape = band_cyx.dtype, (len(band_cyx), *geometry.shape)
            is_small = dtype.itemsize * math.prod(shape) <= MEMORY_BYTES // 2
            maps_cyx = np.empty(shape, dtype) if is_small else _map_file(file, dtype=dtype, shape=shape)
        maps_cyx[:, first : first + band_cyx.shape[1]] = band_cyx
        first += band_cyx.shape[1]
    assert maps_cyx is not None
    assert first == geometry.rows
    return maps_cyx, dtype
