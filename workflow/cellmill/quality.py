"""What one plane of an image is worth: range, saturation, focus, and a signature that finds its twins.

A plane comes in bands of rows, so that memory does not grow with the image. Nothing depends on how it is cut.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter

# Above this fraction of pixels at the top of the range, intensities are no measurements any more.
SATURATED_FRACTION = 0.01
# Cameras of fewer bits, whose counts are stored in 16.
CAMERA_TOPS = tuple(2**bits - 1 for bits in (10, 12, 14))
# Pixels worked on at a time.
STRIP_PIXELS = 2_000_000
# Side of the signature, and of the neighbourhood whose mean is taken off, in cells.
SIGNATURE_SIDE = 24
NEIGHBOURHOOD = 7


class Moments:
    """Number, mean and variance of values that come in parts (Chan et al. 1983, doi:10.2307/2683386)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Take in more values."""
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
        """Variance of all values; 0 without any."""
        return self.squares / self.count if self.count else 0.0


class PlaneMeter:
    """Measures a plane that comes strip by strip, from the first row to the last."""

    def __init__(self, shape: tuple[int, int], *, top: int | None) -> None:
        self.shape = shape
        self.top = top  # largest value of the file's integer type
        self.minimum, self.maximum = np.inf, -np.inf
        self.highest, self.at_highest = -1, 0  # whole number, pixels
        self.bits = 0  # set in some pixel
        self.origin: float | None = None
        self.plane, self.binned, self.edges = Moments(), Moments(), Moments()
        self.cells_yx = np.zeros((SIGNATURE_SIDE, SIGNATURE_SIDE))
        self.row = 0
        self.carried_yx: np.ndarray | None = None

    def add(self, strip_yx: np.ndarray) -> None:
        """Take in the next rows; an even number of them, but for the last strip."""
        if self.origin is None:
            self.origin = float(strip_yx[0, 0])
        self.minimum = min(self.minimum, float(strip_yx.min()))
        self.maximum = max(self.maximum, float(strip_yx.max()))
        if self.top is not None:
            self._count_highest(strip_yx)
        # float32 keeps small differences on a large offset only once the offset is gone
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
        # the luminance of white may come out a hair below the top
        levels_yx = np.rint(strip_yx) if strip_yx.dtype.kind == "f" else strip_yx
        highest = int(levels_yx.max())
        if highest > self.highest:
            self.highest, self.at_highest = highest, 0
        if highest == self.highest:
            self.at_highest += int(np.count_nonzero(levels_yx == highest))
        if strip_yx.dtype.kind in "ui":
            self.bits |= int(np.bitwise_or.reduce(strip_yx, axis=None))

    def result(self) -> dict[str, Any]:
        """Give what `measure_plane` returns."""
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
        The plane from its first row to its last, of any real dtype, finite.
    shape : tuple of int
        (rows, columns) of all bands together.
    top : int or None
        Largest value of the integer type that the file has; None for floating-point numbers.

    Returns
    -------
    dict
        minimum, maximum, mean, contrast (standard deviation), counts; saturated_fraction (of pixels at the top of the
        type, or at 2**10 - 1, 2**12 - 1 or 2**14 - 1 where that is the maximum and more than 1 % are there);
        significant_bits (between the highest and the lowest bit that is set anywhere, None for floating-point numbers
        and negative ones); focus (see Notes, None for a constant image or one of fewer than 6 px); thumbnail (from
        `sign_thumbnail`).

    Notes
    -----
    Focus is the variance of the Laplacian (Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548; among the best of
    36 measures in Pertuz et al. 2013, doi:10.1016/j.patcog.2012.11.011) over the variance of the image, so that neither
    exposure nor offset nor the number of cells matters to first order. It is taken on means of 2 x 2 pixels, which
    halves the noise: without them, noise of 5 % hides every blur beyond 1 px.
    """
    meter = PlaneMeter(shape, top=top)
    for strip_yx in cut_strips(bands):
        meter.add(strip_yx)
    return meter.result()


def cut_strips(bands: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Cut bands of any height into strips of one even height, the last excepted."""
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
    """Apply the Laplacian of four neighbours, inside the image only: an edge of 1 px is lost on every side."""
    if min(image_yx.shape) < 3:
        return np.zeros((0, 0), dtype=image_yx.dtype)
    neighbours_yx = image_yx[:-2, 1:-1] + image_yx[2:, 1:-1] + image_yx[1:-1, :-2] + image_yx[1:-1, 2:]
    return neighbours_yx - 4 * image_yx[1:-1, 1:-1]


def share_cells(start: int, stop: int, *, length: int) -> np.ndarray:
    """Say how much of each signature cell the pixels from `start` to `stop` are.

    Returns
    -------
    ndarray of float32, shape (24, stop - start)
        Summed over all `length` pixels every cell comes to 1.
    """
    pixels = np.arange(start, stop)
    edges = np.linspace(0, length, SIGNATURE_SIDE + 1)
    overlap = np.minimum(pixels + 1, edges[1:, None]) - np.maximum(pixels, edges[:-1, None])
    return (np.clip(overlap, 0, None) * (SIGNATURE_SIDE / length)).astype(np.float32)


def sign_thumbnail(cells_yx: np.ndarray) -> str:
    """Write a thumbnail as a text that can be compared.

    Parameters
    ----------
    cells_yx : ndarray of float, shape (24, 24)
        Mean of the image in each cell.

    Returns
    -------
    str
        The cells as int8 in base64. The mean of 7 x 7 cells is taken off each, so that two fields have nothing in
        common only because one lamp lights them; then all are scaled to the largest. Empty for a constant image.
    """
    local_yx = cells_yx - uniform_filter(cells_yx, NEIGHBOURHOOD, mode="nearest")
    largest = np.abs(local_yx).max()
    if largest <= 1e-6 * max(1.0, float(np.abs(cells_yx).max())):
        return ""
    return base64.b64encode(np.rint(local_yx * (127 / largest)).astype(np.int8).tobytes()).decode("ascii")


class PixelDigest:
    """SHA-256 of what an image shows, whatever the file is: PNG and TIFF of the same picture are equal.

    Grey that is stored as equal colours counts as grey.
    """

    def __init__(self) -> None:
        self.is_grey = True
        self.grey, self.colours = hashlib.sha256(), hashlib.sha256()
        self.kind = ""

    def add(self, band: np.ndarray, plane_yx: np.ndarray) -> None:
        """Take in the next rows as the file has them, without transparency, and the plane that was chosen of them."""
        self.kind = band.dtype.name
        # a plane of another type is a mixture of colours, which other rows may lack
        self.is_grey = self.is_grey and plane_yx.dtype == band.dtype
        if self.is_grey:
            self.grey.update(_plain_bytes(plane_yx))
        if band.ndim == 3:
            self.colours.update(_plain_bytes(band))

    def result(self, shape: tuple[int, int]) -> str:
        """Give the digest of an image of this size."""
        digest = self.grey if self.is_grey else self.colours
        digest.update(f"{self.kind} {shape[0]} {shape[1]}".encode())
        return digest.hexdigest()


def _plain_bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data
