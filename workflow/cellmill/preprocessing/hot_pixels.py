"""Find and replace defective pixels: single pixels far beyond the range of all other pixels of an image.

A point of light covers several pixels, because optics blur it. A pixel whose neighbours are all ordinary, and whose
value is several ranges away from every other pixel, is a defect of the camera or of a division by a dark frame.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cellmill.images.stored import list_bands

# A defect is at least this many times farther from the median than all other pixels are from each other.
RANGES = 4
# A defect covers at most this many adjacent pixels.
MOST_ADJACENT = 2
# Larger groups that are as far away are objects; fewer pixels than this may also be a group of defects.
SMALLEST_OBJECT = 10
# More isolated pixels of extreme value are taken for signal, such as points in an image without blur.
MOST_DEFECTS, MOST_DEFECTS_SHARE = 16, 1e-4
# Part of the height or width that a defective column or row of the camera covers
LINE_SHARE = 0.5
# Pixels from which the median is computed
MEDIAN_PIXELS = 2**20
# Pixels searched at a time, so that equal pixels do not take much memory.
PART_PIXELS = 2**18
# One of so many pixels is sampled to find a level that few pixels exceed.
SAMPLE_STEP = 61


@dataclass(frozen=True)
class HotPixel:
    """A defective pixel: its place in px, its value in counts."""

    row: int
    column: int
    value: float


@dataclass(frozen=True)
class Defects:
    """Pixels far beyond the range of all others.

    `pixels` are isolated and can be replaced. `lines` are defective columns and rows, each ("column" or "row", its
    number). `spots` counts other pixels of extreme value, in groups too small for most objects or too many to be
    defects, which may be signal. `lowest` and `highest` are the range of
    all other pixels, in counts.
    """

    pixels: tuple[HotPixel, ...] = ()
    lines: tuple[tuple[str, int], ...] = ()
    spots: int = 0
    lowest: float = 0.0
    highest: float = 0.0


class DefectSearch:
    """Search for defective pixels, band by band; the result does not depend on the bands.

    Parameters
    ----------
    shape : tuple of int
        (rows, columns) of the image.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._step = max(1, math.ceil(math.sqrt(shape[0] * shape[1] / MEDIAN_PIXELS)))
        self._sampled: list[np.ndarray] = []
        # room for two defective columns and rows, and for the largest ordinary pixel
        count = MOST_DEFECTS + 2 * (shape[0] + shape[1]) + 1
        self._ends = [_Largest(count, sign=sign) for sign in (1, -1)]
        self._row = 0

    def add(self, band_yx: np.ndarray) -> None:
        """Add the next rows, of any real dtype, finite."""
        for end in self._ends:
            end.add(band_yx, first=self._row * self._shape[1])
        self._sampled.append(np.array(band_yx[-self._row % self._step :: self._step, :: self._step]).ravel())
        self._row += len(band_yx)

    def result(self) -> Defects:
        """Return the defects of the image after its last band."""
        centre = float(np.median(np.concatenate(self._sampled)))
        (high, high_places), (low, low_places) = (end.sorted() for end in self._ends)
        up, down = high - centre, centre - low
        above_gaps = _list_gaps(up, high_places, shape=self._shape)
        below_gaps = _list_gaps(down, low_places, shape=self._shape)
        above, below = above_gaps[0], below_gaps[0]
        # A smaller set at one end widens the range of the others.
        for _ in range(2):
            above = next(n for n in above_gaps if n == 0 or up[n - 1] >= RANGES * (high[n] - low[below]))
            below = next(n for n in below_gaps if n == 0 or down[n - 1] >= RANGES * (high[above] - low[n]))
        if not (above or below) or high[above] <= low[below]:
            return Defects()
        values = np.concatenate((high[:above], low[:below]))
        places = np.concatenate((high_places[:above], low_places[:below]))
        pixels, lines, spots = _sort_out(places, values, shape=self._shape)
        return Defects(pixels, lines, spots, float(low[below]), float(high[above]))


class _Largest:
    """The largest or smallest values of an image and their places in its flat array."""

    def __init__(self, count: int, *, sign: int) -> None:
        self._count, self._sign = count, sign
        self._values: np.ndarray | None = None
        self._places = np.zeros(0, dtype=np.int64)

    def add(self, band_yx: np.ndarray, *, first: int) -> None:
        """Add rows; `first` is the place of their first pixel."""
        flat = band_yx.ravel()
        for start in range(0, len(flat), PART_PIXELS):
            self._add_part(flat[start : start + PART_PIXELS], first=first + start)

    def _add_part(self, flat: np.ndarray, *, first: int) -> None:
        places = self._candidates(flat)
        if len(places) > self._count:
            places = places[self._choose(flat[places])]
        values = flat[places].astype(np.float64)
        if self._values is not None:
            values = np.concatenate((self._values, values))
        places = np.concatenate((self._places, places + first))
        if len(values) > self._count:
            chosen = self._choose(values)
            values, places = values[chosen], places[chosen]
        self._values, self._places = values, places

    def _candidates(self, flat: np.ndarray) -> np.ndarray:
        """Return the places of pixels that may be among the most extreme, few of the pixels if possible."""
        if self._values is not None and len(self._values) == self._count:
            return np.flatnonzero(flat > self._values.min() if self._sign > 0 else flat < self._values.max())
        sample = flat[::SAMPLE_STEP]
        # twice the expected number of such pixels in the sample, and a margin
        rank = 2 * self._count // SAMPLE_STEP + 8
        if rank < len(sample):
            if self._sign > 0:
                places = np.flatnonzero(flat >= np.partition(sample, len(sample) - rank)[len(sample) - rank])
            else:
                places = np.flatnonzero(flat <= np.partition(sample, rank - 1)[rank - 1])
            if len(places) >= self._count:
                return places
        return np.arange(len(flat))

    def _choose(self, values: np.ndarray) -> np.ndarray:
        if self._sign > 0:
            return np.argpartition(values, len(values) - self._count)[-self._count :]
        return np.argpartition(values, self._count - 1)[: self._count]

    def sorted(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the values, the most extreme first, and their places."""
        assert self._values is not None
        order = np.lexsort((self._places, -self._sign * self._values))
        return self._values[order], self._places[order]


def _list_gaps(distances: np.ndarray, places: np.ndarray, *, shape: tuple[int, int]) -> list[int]:
    """List how many pixels are beyond each wide gap of the distances from the median, the most pixels first; then 0.

    Gaps below an object are left out: they separate the object from the background.
    """
    gaps = np.flatnonzero((distances[1:] > 0) & (distances[:-1] >= RANGES * distances[1:])) + 1
    return [int(n) for n in gaps[::-1] if not _group(places[:n], shape=shape).is_object.any()] + [0]


@dataclass(frozen=True)
class _Groups:
    """Groups of touching pixels: the group of each pixel, and for each group its size and kind."""

    numbers: np.ndarray
    sizes: np.ndarray
    is_column: np.ndarray
    is_row: np.ndarray

    @property
    def is_object(self) -> np.ndarray:
        return (self.sizes >= SMALLEST_OBJECT) & ~self.is_column & ~self.is_row


def _group(places: np.ndarray, *, shape: tuple[int, int]) -> _Groups:
    """Group pixels, given by their places in the flat image, that touch at an edge or corner."""
    rows, columns = np.divmod(places, shape[1])
    order = np.argsort(places)
    pairs = []
    for down, across in ((0, 1), (1, -1), (1, 0), (1, 1)):
        wanted = places + down * shape[1] + across
        found = order[np.minimum(np.searchsorted(places, wanted, sorter=order), len(places) - 1)]
        is_pair = (places[found] == wanted) & (columns + across >= 0) & (columns + across < shape[1])
        pairs.append((np.flatnonzero(is_pair), found[is_pair]))
    start, end = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(start), dtype=bool), (start, end)), shape=(len(places),) * 2)
    count, numbers = connected_components(graph, directed=False)
    spans = []
    for along in (rows, columns):
        first, last = np.full(count, max(shape)), np.full(count, -1)
        np.minimum.at(first, numbers, along)
        np.maximum.at(last, numbers, along)
        spans.append(last - first + 1)
    height, width = spans
    return _Groups(
        numbers,
        np.bincount(numbers, minlength=count),
        (width <= MOST_ADJACENT) & (height >= max(LINE_SHARE * shape[0], MOST_ADJACENT + 1)),
        (height <= MOST_ADJACENT) & (width >= max(LINE_SHARE * shape[1], MOST_ADJACENT + 1)),
    )


def _sort_out(
    places: np.ndarray, values: np.ndarray, *, shape: tuple[int, int]
) -> tuple[tuple[HotPixel, ...], tuple[tuple[str, int], ...], int]:
    """Split pixels of extreme value into isolated pixels, defective lines, and the number of all others."""
    groups = _group(places, shape=shape)
    rows, columns = np.divmod(places, shape[1])
    in_column, in_row = groups.is_column[groups.numbers], groups.is_row[groups.numbers]
    lines = [("column", int(number)) for number in np.unique(columns[in_column])]
    lines += [("row", int(number)) for number in np.unique(rows[in_row])]
    is_isolated = (groups.sizes[groups.numbers] <= MOST_ADJACENT) & ~in_column & ~in_row
    isolated = int(np.count_nonzero(is_isolated))
    others = int(np.count_nonzero(~is_isolated & ~in_column & ~in_row))
    if isolated > max(MOST_DEFECTS, MOST_DEFECTS_SHARE * shape[0] * shape[1]):
        return (), tuple(lines), others + isolated
    found = sorted(
        zip(rows[is_isolated].tolist(), columns[is_isolated].tolist(), values[is_isolated].tolist(), strict=True)
    )
    return tuple(HotPixel(*pixel) for pixel in found), tuple(lines), others


def find_defects(bands: Iterable[np.ndarray], *, shape: tuple[int, int]) -> Defects:
    """Find the defective pixels of an image.

    Parameters
    ----------
    bands : iterable of ndarray, shape (some rows, columns)
        The image from first to last row, of any real dtype, finite.
    shape : tuple of int
        (rows, columns) of the image.

    Notes
    -----
    A pixel is a defect if it is at least 4 times farther from the median than the range of all other pixels, and has at
    most one such neighbour. The neighbours of a point of light count towards that range: with a blur of 0.52 px or more
    (standard deviation; 1.2 px full width at half maximum) they have at least a quarter of its brightness.
    """
    search = DefectSearch(shape)
    for band_yx in bands:
        search.add(band_yx)
    return search.result()


def find_replacements(
    pixels: Sequence[HotPixel], read: Callable[[int, int], np.ndarray], *, shape: tuple[int, int]
) -> dict[tuple[int, int], float]:
    """Compute the values that replace defective pixels: the median of their ordinary neighbours.

    Parameters
    ----------
    pixels : sequence of HotPixel
    read : function
        Takes the first row and the end row (excluded); returns their pixels, shape (rows, columns).
    shape : tuple of int
        (rows, columns) of the image.

    Returns
    -------
    dict
        (row, column) -> counts.
    """
    defective = {(pixel.row, pixel.column) for pixel in pixels}
    found = {}
    for row, column in sorted(defective):
        top, left = max(0, row - 1), max(0, column - 1)
        around_yx = read(top, min(row + 2, shape[0]))[:, left : column + 2]
        values = [value for (y, x), value in np.ndenumerate(around_yx) if (y + top, x + left) not in defective]
        found[row, column] = float(np.median(values))
    return found


def replace_pixels(band_yx: np.ndarray, replacements: dict[tuple[int, int], float], *, first: int) -> np.ndarray:
    """Return a band of rows with defective pixels replaced; the same array if it has none.

    Parameters
    ----------
    band_yx : ndarray of shape (rows, columns)
    replacements : dict
        From `find_replacements`.
    first : int
        Row of the image at which the band begins.
    """
    inside = {place: value for place, value in replacements.items() if first <= place[0] < first + len(band_yx)}
    if not inside:
        return band_yx
    clean_yx = band_yx.copy()
    for (row, column), value in inside.items():
        clean_yx[row - first, column] = np.rint(value) if band_yx.dtype.kind in "ui" else value
    return clean_yx


def replace_defects(image_yx: np.ndarray) -> np.ndarray:
    """Return a whole image, shape (rows, columns), with its defective pixels replaced; the same array without any."""
    pixels = find_defects([image_yx], shape=image_yx.shape).pixels
    replacements = find_replacements(pixels, lambda first, last: image_yx[first:last], shape=image_yx.shape)
    return replace_pixels(image_yx, replacements, first=0)


def read_without_defects(
    read_rows: Callable[[slice], np.ndarray], *, shape: tuple[int, int]
) -> Callable[[slice], np.ndarray]:
    """Return a function that reads rows of an image with its defective pixels replaced.

    Parameters
    ----------
    read_rows : function
        Takes a slice of rows; returns their pixels, shape (rows, columns).
    shape : tuple of int
        (rows, columns) of the image.
    """
    pixels = find_defects((read_rows(rows) for rows in list_bands(shape)), shape=shape).pixels
    replacements = find_replacements(pixels, lambda first, last: read_rows(slice(first, last)), shape=shape)
    if not replacements:
        return read_rows
    return lambda rows: replace_pixels(read_rows(rows), replacements, first=rows.indices(shape[0])[0])
