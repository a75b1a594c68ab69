"""Axes of image files: rows, columns, channels, and the planes of a stack.

Axes: Y rows, X columns, S samples of one colour (RGB, RGBA, grey with alpha), C channels of any other kind, T time,
Z depth; any other letter is an axis that the metadata do not identify.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.images.showing import exchanges_axes

# Limit for one plane. A slide of 30,000 x 30,000 px is well below it; a larger size means a damaged or malicious file.
MAX_PIXELS = 2**31
# Memory limit for data that is decoded as a whole (PNG, JPEG, one strip of a TIFF).
MAX_DECODED_BYTES = 2**32

UNITS_UM = {
    "um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3, "mm": 1e3, "millimeter": 1e3, "millimetre": 1e3,
    "cm": 1e4, "centimeter": 1e4, "m": 1e6, "meter": 1e6, "metre": 1e6, "pm": 1e-6, "å": 1e-4, "angstrom": 1e-4,
}  # fmt: skip

# A plane of a stack in the settings: [axis, place, size of the axis] for each stack axis; for places see `read_place`
PlaneIndex = Sequence[Sequence[Any]]
PROJECTIONS = ("maximum", "mean", "channel")
# Word before a position that the config chooses for a whole dataset
ONLY = "only"
# Axis of the images in a microscope file, which may differ in size
SCENE = "scene"


@dataclass(frozen=True)
class Layout:
    """Ordered axes of a file with their sizes, and other properties from its header.

    `dtype` is the pixel type, `is_colour` is true if S is a colour or grey with alpha, `pixel_size_um` holds the edge
    lengths (row, column) of a pixel or is None, `bits` is the number of bits per sample in the file.

    Sizes and pixel size are those of the shown picture, see `cellmill.images.showing`: `orientation` (1 to 8),
    `is_min_is_white`, `table` and `ramp` (from `read_table`) state how stored pixels are shown. `printer_dpi` is a
    resolution in dots per inch that is not a pixel size, or None. `channel_names` are those of the file, if it has any.
    """

    sizes: dict[str, int]
    dtype: np.dtype
    is_colour: bool
    pixel_size_um: tuple[float, float] | None
    bits: int
    orientation: int = 1
    is_min_is_white: bool = False
    table: np.ndarray | None = field(default=None, compare=False)
    ramp: str = ""
    printer_dpi: float | None = None
    channel_names: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of a plane."""
        return self.sizes["Y"], self.sizes["X"]

    @property
    def stored_shape(self) -> tuple[int, int]:
        """(rows, columns) of a plane as stored, before it is turned."""
        return self.shape[::-1] if exchanges_axes(self.orientation) else self.shape

    @property
    def stack(self) -> dict[str, int]:
        """The axes of the stack of planes, with their sizes; empty for a single image."""
        return {axis: size for axis, size in self.sizes.items() if axis not in "YXSC" and size > 1}

    @property
    def channels(self) -> int:
        """Number of channels or samples of a plane."""
        return self.sizes.get("S", 1) * self.sizes.get("C", 1)

    @property
    def axes(self) -> str:
        """YX, YXS (colours) or YXC (channels) of a plane."""
        if self.channels == 1:
            return "YX"
        return "YXS" if self.is_colour and self.sizes.get("C", 1) == 1 else "YXC"

    def describe(self) -> str:
        """Describe axes and sizes in words."""
        return f"axes {''.join(self.sizes)} of {' x '.join(map(str, self.sizes.values()))}"


def read_place(place: int | str, *, size: int) -> tuple[str, range]:
    """Read a place along an axis of a stack.

    Parameters
    ----------
    place : int or str
        A position, whose plane is one image of the stack; "only n", the position n in every file; "maximum" or "mean",
        a projection, of all planes or of some ("maximum 2-6"); "channel", all planes as channels.
    size : int
        Number of planes.

    Returns
    -------
    str
        "" for a position, "only", "maximum", "mean" or "channel".
    range
        The positions.
    """
    if isinstance(place, int):
        return "", range(place, place + 1)
    how, _, part = place.partition(" ")
    first, _, last = part.partition("-")
    return how, range(int(first or 0), int(last or first or size - 1) + 1)


def check_axes(sizes: dict[str, int], *, where: str | Path) -> dict[str, int]:
    """Check that the axes form a plane that is neither empty nor implausibly large, and return them.

    Raises
    ------
    ValueError
        If they do not; the message contains the path.
    """
    if "Y" not in sizes or "X" not in sizes or (sizes.get("S", 1) > 1 and sizes.get("C", 1) > 1):
        raise ValueError(
            f"{where}: expected rows, columns and at most one axis of channels, found axes {''.join(sizes)} of "
            f"{' x '.join(map(str, sizes.values()))}. Save every channel in a separate file, or save RGB as channels."
        )
    check_size(sizes["Y"], sizes["X"], where=where)
    return sizes


def check_size(rows: int, columns: int, *, where: str | Path) -> None:
    """Check that a plane is neither empty nor implausibly large.

    Raises
    ------
    ValueError
        If it is; the message contains the path and the limit.
    """
    if min(rows, columns) < 1 or rows * columns > MAX_PIXELS:
        raise ValueError(
            f"{where}: expected 1 to {MAX_PIXELS} pixels, found {rows} rows and {columns} columns. "
            "Cut the image into tiles first."
        )


def unit_in_um(name: str) -> float:
    """Return the length of a unit in um; 0.0 for pixels and unknown units."""
    return UNITS_UM.get(name.strip().lower(), 0.0)
