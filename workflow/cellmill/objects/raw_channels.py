"""All channels of raw images, read by rows, for measuring objects and for exports.

Axes as in `cellmill.images.axes`.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from cellmill.images.rasters import Raster, open_raster
from cellmill.images.stored import list_bands
from cellmill.images.windows import sampling_step
from cellmill.preprocessing.hot_pixels import DefectSearch, find_replacements, replace_pixels

# Larger images are subsampled for their grey range: every n-th row and column is enough.
MAX_RANGE_PIXELS = 1 << 24
# Quantiles that are the darkest and the brightest grey level of an image, so that single pixels do not decide
RANGE_QUANTILES = (0.001, 0.999)


def count_channels(raster: Raster) -> int:
    """Return the number of channels of an image without alpha."""
    return raster.channels - (raster.axes == "YXS" and raster.channels in (2, 4))


class RawChannels:
    """The channels of one plane of a raw image.

    Parameters
    ----------
    row : mapping
        Row of the sample table with image and plane.
    channels : "all" or sequence of (str, int)
        Names and numbers of the channels. All: each but alpha, with the names c0, c1, …

    Attributes
    ----------
    names : list of str
        Names of the channels.
    count : int
        Channels of the image, without alpha.
    shape : (rows, columns)
    dtype : dtype
    is_colour : bool
        Whether the channels are red, green and blue.
    pixel_size_um : (float, float) or None
        Edge lengths (row, column) of a pixel from the metadata.

    Raises
    ------
    ValueError
        As `cellmill.images.rasters.open_raster`.
    """

    def __init__(self, row: Mapping[str, Any], *, channels: str | Sequence[tuple[str, int]]) -> None:
        raster = self._raster = open_raster(row["image"], palette="colours", plane=row.get("plane", ()))
        self.count = count_channels(raster)
        chosen = [(f"c{number}", number) for number in range(self.count)] if isinstance(channels, str) else channels
        self.names = [name for name, _ in chosen]
        self._numbers = [number for _, number in chosen]
        self.shape, self.dtype, self.pixel_size_um = raster.shape, raster.dtype, raster.pixel_size_um
        self.is_colour = raster.axes == "YXS" and self.count == 3
        self._replacements: list[dict[tuple[int, int], float]] = [{} for _ in self.names]

    @cached_property
    def _read(self) -> Any:
        return self._raster.reader()

    def read(self, rows: slice) -> list[np.ndarray]:
        """Read some rows of each channel, shape (rows, columns), in the type of the file."""
        first, last, _ = rows.indices(self.shape[0])
        part = self._read(first, last)
        planes = [part if part.ndim == 2 else np.ascontiguousarray(part[:, :, number]) for number in self._numbers]
        return [
            replace_pixels(plane_yx, replacements, first=first)
            for plane_yx, replacements in zip(planes, self._replacements, strict=True)
        ]

    def bands(self) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """Read all channels from top to bottom, as slices of rows and their pixels."""
        for rows in list_bands(self.shape):
            yield rows, self.read(rows)

    def replace_defects(self) -> None:
        """Replace isolated defective pixels of each channel in all later reads, as the stage preprocess does."""
        searches = [DefectSearch(self.shape) for _ in self.names]
        for _, planes in self.bands():
            for search, plane_yx in zip(searches, planes, strict=True):
                search.add(plane_yx)
        self._replacements = [
            find_replacements(search.result().pixels, self._reader_of(place), shape=self.shape)
            for place, search in enumerate(searches)
        ]

    def _reader_of(self, place: int) -> Any:
        return lambda first, last: self.read(slice(first, last))[place]

    def grey_ranges(self) -> list[tuple[float, float]]:
        """Compute the 0.1 % and 99.9 % quantiles of each channel over the whole image, counts."""
        step = sampling_step(self.shape, max_pixels=MAX_RANGE_PIXELS)
        sampled: list[list[np.ndarray]] = [[] for _ in self.names]
        for rows, planes in self.bands():
            for values, plane_yx in zip(sampled, planes, strict=True):
                values.append(plane_yx[-rows.start % step :: step, ::step].ravel())
        quantiles = [np.quantile(np.concatenate(values), RANGE_QUANTILES) for values in sampled]
        return [(float(low), float(high)) for low, high in quantiles]
