"""Process images larger than memory: overlapping windows, and label images stored in a file.

An object belongs to the window whose core contains its centroid. Around its core a window has a halo large enough for
whole objects. Processing within a window must not depend on pixels beyond the halo.
"""

import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellmill.images.stored import BAND_PIXELS, list_bands

# Images of up to this many pixels are a single window.
WHOLE_PIXELS = 3072 * 3072
CORE_PX = 2048
# Minimum; objects that are wider than the halo may be cut, see `halo_for`.
HALO_PX = 256
# Minimum width of a core in halos. With more, fewer pixels would be processed twice, but the memory of a window would
# grow faster with the square of the largest object size.
CORE_HALOS = 1
# Pixels of a memory map covered at a time while sampling it.
BLOCK_PIXELS = 1 << 24
# ASSUME hardly any object is wider than this multiple of the square root of the median area
HALO_SIDES = 5


@dataclass(frozen=True)
class Window:
    """A region of an image in px: the processed area (rows, columns) and its core, whose objects it owns."""

    rows: slice
    columns: slice
    core_rows: slice
    core_columns: slice

    def owns(self, middles: np.ndarray) -> np.ndarray:
        """Return which centroids, shape (n, 2), in px of the window, lie in its core."""
        row, column = middles[:, 0] + self.rows.start, middles[:, 1] + self.columns.start
        return (
            (row >= self.core_rows.start)
            & (row < self.core_rows.stop)
            & (column >= self.core_columns.start)
            & (column < self.core_columns.stop)
        )


def halo_for(median_area_px: float | None) -> int:
    """Return the halo (px) for objects of this median area, with room for objects much larger than the median."""
    return max(HALO_PX, round(HALO_SIDES * math.sqrt(median_area_px or 0)))


def plan_windows(shape: tuple[int, int], *, halo_px: int) -> list[list[Window]]:
    """Cut an image into windows, row by row: a single window up to 3072 x 3072 px, else equal cores with a halo.

    A core is at most 2048 px wide, or as wide as the halo if that is larger.
    """
    core = max(shape) if shape[0] * shape[1] <= WHOLE_PIXELS else max(CORE_PX, CORE_HALOS * halo_px)
    counts = [-(-size // core) for size in shape]
    cores = [cut_evenly(size, count) for size, count in zip(shape, counts, strict=True)]
    grown = [
        [slice(max(0, each.start - halo_px), min(size, each.stop + halo_px)) for each in axis]
        for axis, size in zip(cores, shape, strict=True)
    ]
    return [
        [
            Window(rows, columns, core_rows, core_columns)
            for columns, core_columns in zip(grown[1], cores[1], strict=True)
        ]
        for rows, core_rows in zip(grown[0], cores[0], strict=True)
    ]


def cut_evenly(size: int, count: int) -> list[slice]:
    """Split `size` rows or columns into `count` slices whose lengths differ by at most 1."""
    return [slice(size * number // count, size * (number + 1) // count) for number in range(count)]


def sampling_step(shape: tuple[int, ...], *, max_pixels: int) -> int:
    """Return the smallest n for which every n-th row and column leaves about `max_pixels` or fewer for a statistic."""
    step = 1
    # a side shorter than the step still leaves one row or column
    while max(1, shape[0] // step) * max(1, shape[1] // step) > max_pixels:
        step += 1
    return step


def sample_pixels(image_yx: np.ndarray, *, max_pixels: int) -> np.ndarray:
    """Sample every n-th row and column, so that about `max_pixels` or fewer are left.

    Parameters
    ----------
    image_yx : ndarray of shape (rows, columns)
        May be a memory map; only some of its rows are in memory at a time.
    max_pixels : int
        As for `sampling_step`.

    Returns
    -------
    ndarray of the same dtype, shape (rows, columns)
    """
    step = sampling_step(image_yx.shape, max_pixels=max_pixels)
    rows_at_once = step * max(1, BLOCK_PIXELS // max(1, image_yx.shape[1] * step))
    blocks = []
    for first in range(0, image_yx.shape[0], rows_at_once):
        blocks.append(np.array(image_yx[first : first + rows_at_once : step, ::step]))
        release_pages(image_yx)
    return np.concatenate(blocks) if blocks else np.array(image_yx)


def release_pages(image_yx: np.ndarray) -> None:
    """Release the pages read from a memory map, so that the file does not fill memory; ignore other arrays."""
    mapped: object = image_yx
    while isinstance(mapped, np.ndarray):
        mapped = mapped.base
    if isinstance(mapped, mmap.mmap) and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED)


def middles_of(labels_yx: np.ndarray, *, n_objects: int) -> np.ndarray:
    """Compute the centroids of objects 1 .. n in px, rounded down: int64, shape (n, 2), -1 for missing objects."""
    flat = labels_yx.ravel()
    areas = np.bincount(flat, minlength=n_objects + 1)[1:]
    places = []
    for axis in range(2):
        along = np.arange(labels_yx.shape[axis])
        number = np.broadcast_to(along[:, None] if axis == 0 else along, labels_yx.shape).ravel()
        sums = np.bincount(flat, weights=number, minlength=n_objects + 1)[1:]
        places.append(np.where(areas > 0, sums // np.maximum(areas, 1), -1))
    return np.stack(places, axis=1).astype(np.int64)


class LabelFile:
    """A label image in a file, read and written by regions; only the region in use is in memory.

    Parameters
    ----------
    path : path
        A new file, filled with zeros.
    shape : (rows, columns)
    """

    def __init__(self, path: str | Path, shape: tuple[int, int]) -> None:
        self._path = Path(path)
        self.shape = shape
        np.memmap(self._path, mode="w+", dtype=np.uint32, shape=shape)

    def read(self, rows: slice | np.ndarray, columns: slice = slice(None)) -> np.ndarray:
        """Read a region: uint32, shape (rows, columns)."""
        # Map the file anew each time, so that the pages of earlier regions do not stay in memory.
        mapped = np.memmap(self._path, mode="r", dtype=np.uint32, shape=self.shape)
        return np.array(mapped[rows, columns])

    def write(self, part_yx: np.ndarray, rows: slice, columns: slice = slice(None)) -> None:
        """Write a region to its position."""
        mapped = np.memmap(self._path, mode="r+", dtype=np.uint32, shape=self.shape)
        mapped[rows, columns] = part_yx

    def bands(self, max_pixels: int = BAND_PIXELS) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the image from top to bottom, as slices of rows and their labels."""
        for rows in list_bands(self.shape, pixels=max_pixels):
            yield rows, self.read(rows)

    def look_up(self, table: np.ndarray) -> None:
        """Replace each label by its entry in a table."""
        for rows, labels_yx in self.bands():
            self.write(table[labels_yx], rows)
