"""Show stored pixels as viewers do: orientation, MinIsWhite, and colour tables.

Orientations are numbered as in EXIF and TIFF (tag 274): 1 is upright, 5 to 8 exchange rows and columns.
"""

import struct
from collections.abc import Sequence

import numpy as np

# SOURCE TIFF 6.0 and EXIF 2.3: what a viewer does to the stored picture
TURNS = {
    2: "mirrored left to right",
    3: "turned by 180 degrees",
    4: "mirrored top to bottom",
    5: "mirrored left to right and turned by 90 degrees anticlockwise",
    6: "turned by 90 degrees clockwise",
    7: "mirrored left to right and turned by 90 degrees clockwise",
    8: "turned by 90 degrees anticlockwise",
}
ORIENTATION_TAG = 274
# TIFF types of an integer: byte, 16 bits, 32 bits
_INTEGERS = {1: "B", 3: "H", 4: "I"}
# Integers of more bits have no brightness at which they are white.
MOST_BITS_OF_WHITE = 16
# SOURCE ITU-R BT.601, luma of R, G, B
_LUMA = np.array([0.299, 0.587, 0.114])
# A look-up table shades intensities without jumps: nearly all of its steps are below this fraction of the range.
_SMOOTH_STEP, _SMOOTH_SHARE = 1 / 8, 0.95


def known_orientation(value: object) -> int:
    """Return an orientation from 1 to 8; 1, as viewers do, for any other value, such as 0 for unknown."""
    return value if isinstance(value, int) and value in TURNS else 1


def exchanges_axes(orientation: int) -> bool:
    """Return whether the shown picture has as many rows as the stored one has columns."""
    return orientation >= 5


def read_orientation(exif: bytes) -> int:
    """Read the orientation from EXIF data; 1 if they are damaged or do not contain it.

    Parameters
    ----------
    exif : bytes
        A TIFF structure, with or without ``Exif`` and two zero bytes in front.
    """
    data = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return 1
    try:
        [start] = struct.unpack_from(f"{order}I", data, 4)
        [count] = struct.unpack_from(f"{order}H", data, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, _ = struct.unpack_from(f"{order}HHI", data, entry)
            if tag == ORIENTATION_TAG and kind in _INTEGERS:
                return known_orientation(*struct.unpack_from(order + _INTEGERS[kind], data, entry + 8))
    except struct.error:
        pass
    return 1


def stored_rows(first: int, last: int, *, orientation: int, rows: int) -> tuple[int, int]:
    """Return the range of stored rows that contains a range of shown rows.

    Parameters
    ----------
    first, last : int
        Range of shown rows; `last` is excluded.
    orientation : int
    rows : int
        Number of stored rows.
    """
    if exchanges_axes(orientation):
        return 0, rows
    return (rows - last, rows - first) if orientation in (3, 4) else (first, last)


def turn(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels as viewers show them: shape (rows, columns, ...), rows and columns exchanged from 5 to 8."""
    if orientation == 1:
        return array
    if exchanges_axes(orientation):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def can_invert(dtype: np.dtype, bits: int) -> bool:
    """Return whether MinIsWhite defines the brightness of these pixels: unsigned integers of up to 16 bits."""
    return dtype.kind in "ub" and bits <= MOST_BITS_OF_WHITE


def invert(array: np.ndarray, *, bits: int) -> np.ndarray:
    """Invert MinIsWhite pixels over the range of their bits, so that white is the largest number; dtype kept."""
    if array.dtype == bool:
        return ~array
    return array.dtype.type(2**bits - 1) - array


def read_table(colours: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Interpret the colour table of a TIFF.

    Parameters
    ----------
    colours : ndarray of uint16, shape (3, entries)
        Red, green, blue.

    Returns
    -------
    table : ndarray of uint8, shape (entries,) or (entries, 3), or None
        Grey values or colours that replace the stored numbers; None if the stored numbers are the intensities.
    ramp : str
        "rising" or "other" if the table only shades intensities, and does or does not grow brighter with them.

    Notes
    -----
    ASSUME a table without jumps is a look-up table for display, as microscopes and ImageJ write it: the numbers are
    intensities. A table of mixed colours is a picture with few colours.
    """
    table = (colours.T >> 8).astype(np.uint8)
    steps = np.diff(table.astype(np.float64), axis=0)
    if (table == table[:, :1]).all():
        grey = table[:, 0]
        return (None if np.array_equal(grey, np.arange(len(grey))) else grey), ""
    if (np.abs(steps).max(axis=1) <= 255 * _SMOOTH_STEP).mean() < _SMOOTH_SHARE:
        return table, ""
    luma = table @ _LUMA
    is_rising = luma[-1] > luma[0] and (steps @ _LUMA >= 0).mean() >= _SMOOTH_SHARE
    return None, "rising" if is_rising else "other"


def explain_exchange(found: Sequence[object], expected: Sequence[object]) -> str:
    """Return a hint for an annotation whose (rows, columns) are those of its image exchanged; else an empty text."""
    if tuple(found) != tuple(expected)[::-1]:
        return ""
    return (
        " Rows and columns are exchanged: if the image has an orientation (EXIF or TIFF), it is shown turned, and its "
        "annotation must be turned, too."
    )
