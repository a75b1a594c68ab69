"""Wells of a plate and their names, such as A01 and P24."""

import re
from collections.abc import Iterable

# Rows and columns of plates with 6, 12, 24, 48, 96 and 384 wells
PLATES = ((2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24))
_NAME = re.compile(r"([A-Pa-p])0{0,2}([1-9]|1\d|2[0-4])")

Well = tuple[int, int]


def find_well(name: str) -> Well | None:
    """Return row and column of a well, counted from 0; None if the text is no name of a well.

    A1, A01, A001 and a01 are the same well.
    """
    match = _NAME.fullmatch(name)
    return None if match is None else (ord(match.group(1).upper()) - ord("A"), int(match.group(2)) - 1)


def write_well(well: Well) -> str:
    """Return the name of a well with two digits, such as A01."""
    return f"{name_row(well[0])}{well[1] + 1:02d}"


def name_row(row: int) -> str:
    """Return the letter of a row of wells."""
    return chr(ord("A") + row)


def plate_shape(wells: Iterable[Well]) -> tuple[int, int]:
    """Return rows and columns of the smallest plate that has all of some wells."""
    wells = list(wells)
    rows, columns = (1 + max(well[axis] for well in wells) for axis in range(2))
    return next(shape for shape in PLATES if shape[0] >= rows and shape[1] >= columns)
