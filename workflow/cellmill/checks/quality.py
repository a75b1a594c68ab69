"""Quality of one image plane: range, saturation, focus, and a fingerprint to detect duplicates.

A plane is processed in bands of rows, so that memory does not grow with the image. Results do not depend on the bands.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter

# Above this fraction of pixels at the top of the range, intensities are no longer measurements.
SATURATED_FRACTION = 0.01
# Largest counts of cameras with fewer bits, stored in 16 bits.
CAMERA_TOPS = tuple(2**bits - 1 for bits in (10, 12, 14))
# Pixels processed at a time.
STRIP_PIXELS = 2_000_000
# Side lengths in cells of the fingerprint, and of the neighbourhood whose mean is subtracted.
SIGNATURE_SIDE = 24
NEIGHBOURHOOD = 7


class Moments:
    """Number, mean and variance of values, updated incrementally (Chan et al. 1983, doi:10.2307/2683386)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Add more values."""
        if values.size == 0:
            return
        mean = float(values.mean(dtype=np.float64))
        squares = float(values.var(dtype=np.float64)) * values.size
        total = self.count + values.size
        step = mean - self.mean
        self.squares += squares + step**2 * self.count * values.size / total
        self.mean += step * values.size / total
        self.count = total

    @property
    def variance(self) -> float:
        """Variance of all values; 0 if there are none."""
        return self.squares / self.count if self.count else 0.0


class PlaneMeter:
    """Measurement of a plane, updated strip by strip from the first row to the last."""

    def __init__(self, shape: tuple[int, int], *, top: int | None) -> None:
        self.shape = shape
        self.top = top  # largest value of the file's integer type
        self.minimum, self.maximum = np.inf, -np.inf
        self.highest, self.at_highest = -1, 0  # level (integer), number of pixels
        self.bits = 0  # bits set in at least one pixel
        self.origin: float | None = None
        self.plane, self.binned, self.edges = Moments(), Moments(), Moments()
        self.cells_yx = np.zeros((SIGNATURE_SIDE, SIGNATURE_SIDE))
        self.row = 0
        self.carried_yx: np.ndarray | None = None

    def add(self, strip_yx: np.ndarray) -> None:
        """Add the next rows; their number must be even, except in the last strip."""
        if self.origin is None:
            self.origin = float(strip_yx[0, 0])
        self.minimum = min(self.minimum, float(strip_yx.min()))
        self.maximum = max(self.maximum, float(strip_yx.max()))
        if self.top is not None:
            self._count_highest(strip_yx)
        # subtract the offset first: float32 cannot resolve small differences on a large offset
        real_yx = (strip_yx.astype(np.float64) - self.origin).astype(np.float32)
        self.plane.add(real_yx)
        rows, columns = self.shape
        down_ir = share_cells(self.row, self.row + len(real_yx), length=rows)
        self.cells_yx += down_ir @ real_yx @ share_cells(0, columns, length=columns).T
        self.row += len(real_yx)
        binned_yx = average_pairs(real_yx)
        self.binned.add(binned_yx)
        if self.carried_yx is not None:
            binned_yx = np.concatenate((self.carried_yx, binned_yx))
        self.edges.add(find_edges(binned_yx))
        self.carried_yx = binned_yx[-2:].copy()

    def _count_highest(self, strip_yx: np.ndarray) -> None:
        # rounding errors may put the luminance of white slightly below the top
        levels_yx = np.rint(strip_yx) if strip_yx.dtype.kind == "f" else strip_yx
        highest = int(levels_yx.max())
        if highest > self.highest:
            self.highest, self.at_highest = highest, 0
        if highest == self.highest:
            self.at_highest += int(np.count_nonzero(levels_yx == highest))
        if strip_yx.dtype.kind in "ui":
            self.bits |= int(np.bitwise_or.reduce(strip_yx, axis=None))

    def result(self) -> dict[str, Any]:
        """Return the measurements listed in `measure_plane`."""
        unused = (self.bits & -self.bits).bit_length() - 1 if self.bits > 0 else 0
        return {
            "minimum": self.minimum,
            "maximum": self.maximum,
            "mean": float(self.origin or 0.0) + self.plane.mean,
            "contrast": float(np.sqrt(self.plane.variance)),
            "saturated_fraction": self._saturated(unused),
            "significant_bits": self.bits.bit_length() - unused if self.bits > 0 else None,
            "focus": self.edges.variance / self.binned.variance if self.binned.variance and self.edges.count else None,
            "thumbnail": sign_thumbnail(self.cells_yx),
        }

    def _saturated(self, unused: int) -> float:
        fraction = self.at_highest / (self.shape[0] * self.shape[1])
        if self.top is None or self.highest == self.top:
            return fraction
        is_camera_top = self.top > 255 and self.highest >> unused in CAMERA_TOPS
        return fraction if is_camera_top and fraction > SATURATED_FRACTION else 0.0


def measure_plane(bands: Iterable[np.ndarray], *, shape: tuple[int, int], top: int | None) -> dict[str, Any]:
    """Measure a plane in one pass.

    Parameters
    ----------
    bands : iterable of ndarray, shape (some rows, columns)
        The plane from first to last row, of any real dtype, finite.
    shape : tuple of int
        (rows, columns) of all bands together.
    top : int or None
        Largest value of the file's integer type; None for floating-point numbers and weighted sums of channels.

    Returns
    -------
    dict
        minimum, maximum, mean, contrast (standard deviation), all in counts; saturated_fraction (pixels at the top of
        the type, or at 2**10 - 1, 2**12 - 1 or 2**14 - 1, ignoring unused low bits, if that is the maximum and more
        than 1 % reach it); significant_bits (from the highest to the lowest bit set in any pixel; None for
        floating-point numbers, negative numbers and all zeros); focus (see Notes; None for a constant image or sides
        below 6 px); thumbnail (from `sign_thumbnail`).

    Notes
    -----
    Focus is the variance of the Laplacian (Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548; among the best of
    36 measures in Pertuz et al. 2013, doi:10.1016/j.patcog.2012.11.011) divided by the variance of the image. To first
    order it is independent of exposure, offset and the number of cells. It is computed on means of 2 x 2 pixels, which
    halves the noise; without averaging, noise of 5 % hides every blur beyond 1 px.
    """
    meter = PlaneMeter(shape, top=top)
    for strip_yx in cut_strips(bands):
        meter.add(strip_yx)
    return meter.result()


def cut_strips(bands: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Cut bands of any height into strips of equal, even height; only the last may differ."""
    held_yx: np.ndarray | None = None
    for band_yx in bands:
        joined_yx = band_yx if held_yx is None or not len(held_yx) else np.concatenate((held_yx, band_yx))
        rows = max(2, STRIP_PIXELS // joined_yx.shape[1] // 2 * 2)
        whole = len(joined_yx) // rows * rows
        for first in range(0, whole, rows):
            yield joined_yx[first : first + rows]
        held_yx = joined_yx[whole:]
    if held_yx is not None and len(held_yx):
        yield held_yx


def average_pairs(image_yx: np.ndarray) -> np.ndarray:
    """Average squares of 2 x 2 pixels; an odd last row or column is left out."""
    rows, columns = (side // 2 * 2 for side in image_yx.shape)
    even_yx = image_yx[:rows, :columns]
    return (even_yx[::2, ::2] + even_yx[1::2, ::2] + even_yx[::2, 1::2] + even_yx[1::2, 1::2]) / 4


def find_edges(image_yx: np.ndarray) -> np.ndarray:
    """Apply the 4-neighbour Laplacian; the result lacks a border of 1 px on every side."""
    if min(image_yx.shape) < 3:
        return np.zeros((0, 0), dtype=image_yx.dtype)
    neighbours_yx = image_yx[:-2, 1:-1] + image_yx[2:, 1:-1] + image_yx[1:-1, :-2] + image_yx[1:-1, 2:]
    return neighbours_yx - 4 * image_yx[1:-1, 1:-1]


def share_cells(start: int, stop: int, *, length: int) -> np.ndarray:
    """Compute the fraction of each fingerprint cell covered by each pixel from `start` to `stop`, excluded.

    Returns
    -------
    ndarray of float32, shape (24, stop - start)
        The fractions of each cell sum to 1 over all `length` pixels.
    """
    pixels = np.arange(start, stop)
    edges = np.linspace(0, length, SIGNATURE_SIDE + 1)
    overlap = np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None])
    return (np.clip(overlap, 0, None) * (SIGNATURE_SIDE / length)).astype(np.float32)


def sign_thumbnail(cells_yx: np.ndarray) -> str:
    """Encode a thumbnail as text for comparison.

    Parameters
    ----------
    cells_yx : ndarray of float, shape (24, 24)
        Mean of the image in each cell.

    Returns
    -------
    str
        The cells as int8 in base64. The local mean over 7 x 7 cells is subtracted, so that two fields do not match
        merely because of their illumination; then all are scaled to a maximum of 127. Empty for a constant image.
    """
    local_yx = cells_yx - uniform_filter(cells_yx, NEIGHBOURHOOD, mode="nearest")
    largest = np.abs(local_yx).max()
    if largest <= 1e-6 * max(1.0, float(np.abs(cells_yx).max())):
        return ""
    return base64.b64encode(np.rint(local_yx * (127 / largest)).astype(np.int8).tobytes()).decode("ascii")


class PixelDigest:
    """SHA-256 of the pixels of an image, independent of the file format: PNG and TIFF of the same picture are equal.

    Grey that is stored as equal colours counts as grey. If one channel was selected, only that channel is hashed.
    """

    def __init__(self) -> None:
        self.is_grey = True
        self.grey, self.colours = hashlib.sha256(), hashlib.sha256()
        self.kind = ""

    def add(self, band: np.ndarray, plane_yx: np.ndarray) -> None:
        """Add the next rows as stored, without transparency, and the plane selected from them."""
        self.kind = band.dtype.name
        # other bands of the same image may still be grey
        self.is_grey = self.is_grey and not _is_mixed(band, plane_yx)
        if self.is_grey:
            self.grey.update(_plain_bytes(plane_yx if band.ndim == 3 else band))
        if band.ndim == 3:
            self.colours.update(_plain_bytes(band))

    def result(self, shape: tuple[int, int]) -> str:
        """Return the digest of an image of this size."""
        digest = self.grey if self.is_grey else self.colours
        digest.update(f"{self.kind} {shape[0]} {shape[1]}".encode())
        return digest.hexdigest()


def _is_mixed(band: np.ndarray, plane_yx: np.ndarray) -> bool:
    """Return whether a plane was computed from several channels and is not one of them."""
    if band.ndim == 2:
        return False
    if plane_yx.dtype != band.dtype:
        return True
    # float32 is the type of mixtures
    return plane_yx.dtype == np.float32 and not any(
        np.array_equal(plane_yx, band[:, :, i]) for i in range(band.shape[2])
    )


def _plain_bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data
