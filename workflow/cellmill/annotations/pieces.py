"""Objects of masks and label images that are read band by band, merged from their parts in each band."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from scipy.ndimage import find_objects
from scipy.ndimage import label as label_components
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

# Up to this largest number all numbers are listed; above it, only those that occur
MAX_LISTED = 2**20
# The part of an object in one band: row and column of its bounding box in the image, and the mask inside the box.
Piece = tuple[int, int, np.ndarray]


class LabelBands(Protocol):
    """A label image file that is read from top to bottom: 0 background, other numbers objects."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns), px."""

    def bands(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield rows and their labels, from top to bottom."""


def crop_piece(mask_yx: np.ndarray, *, row: int) -> Piece:
    """Crop a mask to its bounding box; `row` is the image row of its first row."""
    rows = np.flatnonzero(mask_yx.any(axis=1))
    if rows.size == 0:
        return 0, 0, np.zeros((0, 0), dtype=bool)
    columns = np.flatnonzero(mask_yx.any(axis=0))
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    return row + box[0].start, box[1].start, mask_yx[box].copy()


def merge_pieces(pieces: Sequence[Piece]) -> Piece:
    """Merge the parts of one object; without parts the result is an empty box."""
    pieces = [piece for piece in pieces if piece[2].size]
    if not pieces:
        return 0, 0, np.zeros((0, 0), dtype=bool)
    if len(pieces) == 1:
        return pieces[0]
    row, column = min(piece[0] for piece in pieces), min(piece[1] for piece in pieces)
    bottom = max(top + mask_yx.shape[0] for top, _, mask_yx in pieces)
    right = max(left + mask_yx.shape[1] for _, left, mask_yx in pieces)
    merged_yx = np.zeros((bottom - row, right - column), dtype=bool)
    for top, left, mask_yx in pieces:
        view_yx = merged_yx[top - row : top - row + mask_yx.shape[0], left - column : left - column + mask_yx.shape[1]]
        view_yx |= mask_yx
    return row, column, merged_yx


def join_regions(bands: Iterable[tuple[slice, np.ndarray]]) -> list[Piece]:
    """Find the 4-connected components of a mask that is read from top to bottom.

    Parameters
    ----------
    bands : iterable of (slice, ndarray of bool)
        Rows, and their mask.

    Returns
    -------
    list of (row, column, mask)
        Ordered by the first pixel of each region, row by row.
    """
    pieces: list[Piece] = []
    seams: list[np.ndarray] = []
    above = None
    for rows, band_yx in bands:
        regions_yx, _ = label_components(band_yx)
        numbered_yx = np.where(band_yx, regions_yx + len(pieces), 0)
        if above is not None:
            meets = (above > 0) & (numbered_yx[0] > 0)
            seams.append(np.unique(np.stack((above[meets], numbered_yx[0][meets])), axis=1))
        above = numbered_yx[-1].copy()
        pieces += [piece for _, piece in split_numbers(regions_yx, first_row=rows.start)]
    if not pieces:
        return []
    first, second = np.concatenate(seams, axis=1) - 1 if seams else np.zeros((2, 0), dtype=int)
    edges = coo_array((np.ones(first.size, dtype=bool), (first, second)), shape=(len(pieces), len(pieces)))
    _, members = connected_components(edges, directed=False)
    groups: dict[int, list[Piece]] = {}
    for member, piece in zip(members, pieces, strict=True):
        groups.setdefault(int(member), []).append(piece)
    return sorted((merge_pieces(group) for group in groups.values()), key=_first_pixel)


def split_numbers(numbers_yx: np.ndarray, *, first_row: int) -> Iterator[tuple[int, Piece]]:
    """Split a label image, or one band of it, into its objects.

    Parameters
    ----------
    numbers_yx : ndarray of shape (rows, columns)
        Whole numbers of any real type, 0 background.
    first_row : int
        Image row of the first row.

    Yields
    ------
    int, (row, column, mask)
        Number, and the object inside its bounding box; in ascending order of the numbers.
    """
    highest = int(numbers_yx.max(initial=0))
    if numbers_yx.dtype.kind in "ui" and highest <= MAX_LISTED:
        codes = np.arange(highest + 1)
    else:
        codes, places = np.unique(numbers_yx, return_inverse=True)
        if codes[0] != 0:
            codes, places = np.concatenate(([0], codes)), places + 1
        numbers_yx = places.reshape(numbers_yx.shape).astype(np.int32)
    signed_yx = numbers_yx.astype(np.int32, copy=False)
    for number, box in enumerate(find_objects(signed_yx), start=1):
        if box is not None:
            piece = box[0].start + first_row, box[1].start, signed_yx[box] == number
            yield int(codes[number]), piece


def gather_objects(labels: np.ndarray | LabelBands, *, where: str) -> dict[int, Piece]:
    """Extract all objects from a label image.

    Parameters
    ----------
    labels : ndarray of non-negative integers, shape (rows, columns), or LabelBands
        Label image. Of a file, only one band and the boxes of the objects are held in memory at a time.
    where : str
        Start of error messages.

    Returns
    -------
    dict
        number -> (row, column, mask), in ascending order of the numbers.

    Raises
    ------
    ValueError
        If a label is negative.
    """
    bands = [(slice(0, len(labels)), labels)] if isinstance(labels, np.ndarray) else labels.bands()
    return gather_bands(_refuse_negative(bands, where=where))


def gather_bands(bands: Iterable[tuple[slice, np.ndarray]]) -> dict[int, Piece]:
    """Extract all objects from a label image that is read from top to bottom, as `gather_objects`."""
    pieces: dict[int, list[Piece]] = {}
    for rows, numbers_yx in bands:
        for number, piece in split_numbers(numbers_yx, first_row=rows.start):
            pieces.setdefault(number, []).append(piece)
    return {number: merge_pieces(pieces.pop(number)) for number in sorted(pieces)}


def _refuse_negative(bands: Iterable[tuple[slice, np.ndarray]], *, where: str) -> Iterator[tuple[slice, np.ndarray]]:
    for rows, labels_yx in bands:
        lowest = int(labels_yx.min(initial=0))
        if lowest < 0:
            raise ValueError(f"{where}: expected labels from 0, found {lowest}. Renumber the objects.")
        yield rows, labels_yx


def _first_pixel(piece: Piece) -> tuple[int, int]:
    row, column, mask_yx = piece
    return row, column + int(np.argmax(mask_yx[0]))
