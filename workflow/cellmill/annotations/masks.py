"""Annotations that are images: a file for each object, a label image, or one binary image.

Every format ends as a list of instances: the mask of each object inside its bounding box, so that a thousand objects
take the memory of their own pixels and not of a thousand images.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import find_objects
from scipy.ndimage import label as label_components
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cellmill.images import IGNORE_LABEL, has_alpha
from cellmill.layouts import PlaneIndex
from cellmill.rasters import match_plane, open_raster

# Pixels looked at together: an annotation as large as a slide takes the memory of a band and of its objects.
BAND_PIXELS = 2**22
JPEG_SUFFIXES = (".jpg", ".jpeg")
# Up to here numbers are looked up in a list; above, only those that occur
MAX_LISTED = 2**20


@dataclass(frozen=True, eq=False)
class Instance:
    """One annotated object.

    `mask_yx` (bool) is its bounding box, `row` and `column` the place of the box's first pixel in the image, px.
    `source` says where the annotation stands: a row of a table, a file, a number in a label image. `number` is the
    number that the annotation itself gives the object, if any. `is_ignored` marks a region that nobody annotated
    (a crowd): no object. `broken` says what is wrong with an outline whose mask is less than was drawn.
    """

    row: int
    column: int
    mask_yx: np.ndarray
    source: str
    number: int | None = None
    is_ignored: bool = False
    broken: str = ""

    @property
    def area_px(self) -> int:
        """Number of pixels, before overlaps are resolved."""
        return int(np.count_nonzero(self.mask_yx))

    @property
    def box(self) -> tuple[slice, slice]:
        """Where the box lies in the image."""
        return (
            slice(self.row, self.row + self.mask_yx.shape[0]),
            slice(self.column, self.column + self.mask_yx.shape[1]),
        )


# The part of an object that lies in one band: row and column of its box in the image, and its mask there.
Piece = tuple[int, int, np.ndarray]


def crop_instance(mask_yx: np.ndarray, *, source: str) -> Instance:
    """Cut a mask down to its bounding box; an empty mask becomes a box of shape (0, 0)."""
    return _instance(_crop(mask_yx, row=0), source=source)


def merge_pieces(pieces: Sequence[Piece]) -> Piece:
    """Put the parts of one object together; no parts are an empty box."""
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


def read_mask_folder(
    row: Mapping[str, Any], *, shape: tuple[int, int], annotations: Mapping[str, Any], table: None
) -> list[Instance]:
    """Read the objects of one sample from a file each.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `sample`, `annotations` (paths) and `plane` are read.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section; nothing of it is read.
    table : None
        For formats whose samples share a file.

    Returns
    -------
    list of Instance
        In the order of the files; a file without a foreground pixel is an empty instance.

    Raises
    ------
    ValueError
        If a file is unreadable, of another size than the image, or holds more than two values; a line for each.
    """
    instances, problems = [], []
    for path in row["annotations"]:
        try:
            bands = read_two_values(row["sample"], path, shape=shape, plane=stack_place(row))
            pieces = [_crop(band_yx, row=rows.start) for rows, band_yx in bands]
        except ValueError as error:
            problems.append(str(error))
            continue
        instances.append(_instance(merge_pieces(pieces), source=path))
    if problems:
        raise ValueError("\n".join(problems))
    return instances


def read_label_image(
    row: Mapping[str, Any], *, shape: tuple[int, int], annotations: Mapping[str, Any], table: None
) -> list[Instance]:
    """Read the objects of one sample from an image of object numbers, 0 for background.

    Parameters
    ----------
    row, shape, table
        As in `read_mask_folder`.
    annotations : mapping
        The config section; `ignore_value` is read.

    Returns
    -------
    list of Instance
        In the order of the numbers, which may have gaps and are kept; `source` is the number.

    Raises
    ------
    ValueError
        If there is not exactly one file, it is unreadable, of another size than the image, or holds numbers that
        cannot be objects.
    """
    path = only_path(row)
    if Path(path).suffix.lower() in JPEG_SUFFIXES:
        # its losses are whole numbers, too: every one of them would become an object
        raise ValueError(
            f"sample {row['sample']}, {path}: expected an image whose numbers are exact, found a JPEG. "
            "Export the labels again as PNG or TIFF; saving the JPEG under another name does not help."
        )
    ignore_value = annotations["ignore_value"]
    pieces: dict[int, list[Piece]] = {}
    for rows, codes_yx in read_codes(row["sample"], path, shape=shape, plane=stack_place(row)):
        bad = (codes_yx < 0) | (codes_yx != np.floor(codes_yx))
        if ignore_value != IGNORE_LABEL:
            bad |= codes_yx == IGNORE_LABEL
        if bad.any():
            raise ValueError(
                f"sample {row['sample']}, {path}: expected whole numbers from 0 for objects, {IGNORE_LABEL} excepted, "
                f"found {codes_yx[bad][0]:g}. Renumber the objects, or set annotations.ignore_value to the number of "
                "ignored pixels."
            )
        for number, piece in split_numbers(codes_yx, first_row=rows.start):
            pieces.setdefault(number, []).append(piece)
    return [
        _instance(merge_pieces(pieces[number]), source=str(number), number=number, is_ignored=number == ignore_value)
        for number in sorted(pieces)
    ]


def read_binary(
    row: Mapping[str, Any], *, shape: tuple[int, int], annotations: Mapping[str, Any], table: None
) -> list[Instance]:
    """Read the objects of one sample as connected regions of a binary image.

    Parameters
    ----------
    row, shape, table
        As in `read_mask_folder`.
    annotations : mapping
        The config section; `foreground` ("nonzero" or "zero") is read.

    Returns
    -------
    list of Instance
        In the order in which the regions begin, row by row.

    Raises
    ------
    ValueError
        If there is not exactly one file, it is unreadable, of another size than the image, or holds more than two
        values.

    Notes
    -----
    Regions are 4-connected, so that a membrane of one pixel that runs diagonally keeps two cells apart.
    """
    bands = read_two_values(row["sample"], only_path(row), shape=shape, plane=stack_place(row))
    is_background = annotations["foreground"] == "zero"
    regions = join_regions((rows, ~band_yx if is_background else band_yx) for rows, band_yx in bands)
    return [_instance(piece, source=f"region {i}") for i, piece in enumerate(regions, start=1)]


def join_regions(bands: Iterable[tuple[slice, np.ndarray]]) -> list[Piece]:
    """Find the 4-connected regions of a mask that is read from top to bottom.

    Parameters
    ----------
    bands : iterable of (slice, ndarray of bool)
        Rows, and the mask there.

    Returns
    -------
    list of (row, column, mask)
        In the order in which the regions begin, row by row.
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
    """Cut the objects of a label image out of it, or those of a band that begins at a row.

    Parameters
    ----------
    numbers_yx : ndarray of shape (rows, columns)
        Whole numbers from 0 for background, of any real type.
    first_row : int
        Place of the first row in the image.

    Yields
    ------
    int, (row, column, mask)
        Number, and the object inside its box; in ascending order of the numbers.
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


def read_codes(
    sample: str, path: str, *, shape: tuple[int, int], plane: PlaneIndex
) -> Iterator[tuple[slice, np.ndarray]]:
    """Read an annotation image that holds one number a pixel from top to bottom, and check its size.

    Parameters
    ----------
    sample : str
        Named in errors.
    path : str
        The annotation.
    shape : tuple of int
        (rows, columns) of the sample's image.
    plane : sequence of [axis, position, size]
        The place of the image in its stack, if the annotation is a stack too.

    Yields
    ------
    slice, ndarray of shape (rows, columns)
        Rows, and the stored numbers; of a palette its indices; of equal colours one of them.

    Raises
    ------
    ValueError
        If the file is unreadable, of another size, or coloured.
    """
    raster = open_raster(path, palette="indices", plane=match_plane(path, plane) if plane else ())
    if raster.shape != tuple(shape):
        raise ValueError(
            f"sample {sample}, {path}: expected an annotation of {shape[0]} rows and {shape[1]} columns, the size "
            f"of its image, found {raster.shape[0]} rows and {raster.shape[1]} columns. "
            "Pair every image with its own annotation, at full size."
        )
    for rows, array in raster.bands(BAND_PIXELS):
        if raster.axes == "YX":
            yield rows, array
            continue
        if has_alpha(array, raster.axes) and np.ptp(array[:, :, -1]) == 0:
            array = array[:, :, :-1]
        if (array != array[:, :, :1]).any():
            raise ValueError(
                f"sample {sample}, {path}: expected one number a pixel, found {array.shape[2]} channels that differ. "
                "Save the annotation as a grey image without transparency, or use format color_components."
            )
        yield rows, array[:, :, 0]


def read_two_values(
    sample: str, path: str, *, shape: tuple[int, int], plane: PlaneIndex
) -> Iterator[tuple[slice, np.ndarray]]:
    """Read an annotation image of two values as a mask of what is not zero, from top to bottom.

    Parameters
    ----------
    sample, path, shape, plane
        As in `read_codes`.

    Yields
    ------
    slice, ndarray of bool
        Rows, and their mask.

    Raises
    ------
    ValueError
        As `read_codes`, and if there are more than two values, or two and none of them is zero.
    """
    extremes: set[float] = set()
    for rows, codes_yx in read_codes(sample, path, shape=shape, plane=plane):
        lowest, highest = codes_yx.min(), codes_yx.max()
        extremes |= {float(lowest), float(highest)}
        between = int(np.count_nonzero((codes_yx != lowest) & (codes_yx != highest)))
        if between or len(extremes) > 2 or (len(extremes) == 2 and 0.0 not in extremes):
            raise ValueError(
                f"sample {sample}, {path}: expected zero and one other value, found values from {min(extremes):g} to "
                f"{max(extremes):g} with {between} pixels between them. Save it without smoothing or JPEG, or use "
                "format label_image."
            )
        yield rows, codes_yx != 0


def read_ignored(row: Mapping[str, Any], *, shape: tuple[int, int]) -> list[Instance]:
    """Read the ignored pixels of one sample: one region, or none where the sample has no such file.

    Raises
    ------
    ValueError
        As `read_two_values`.
    """
    path = row.get("extra", {}).get("ignore")
    if path is None:
        return []
    bands = read_two_values(row["sample"], path, shape=shape, plane=())
    piece = merge_pieces([_crop(band_yx, row=rows.start) for rows, band_yx in bands])
    return [_instance(piece, source=path, is_ignored=True)] if piece[2].size else []


def stack_place(row: Mapping[str, Any]) -> PlaneIndex:
    """Give the place of a sample in its stack if its annotation is a stack too, else an empty one."""
    return row["plane"] if row.get("is_annotated_as_stack") else ()


def only_path(row: Mapping[str, Any]) -> str:
    """Give the one annotation file of a sample.

    Raises
    ------
    ValueError
        If it has several.
    """
    paths = row["annotations"]
    if len(paths) != 1:
        raise ValueError(
            f"sample {row['sample']}: expected one annotation file, found {len(paths)}: {', '.join(paths[:3])}. "
            "Make annotations.path so narrow that it matches one file for each image."
        )
    return str(paths[0])


def _crop(mask_yx: np.ndarray, *, row: int) -> Piece:
    """Cut a mask whose first row is `row` of the image down to its bounding box."""
    rows = np.flatnonzero(mask_yx.any(axis=1))
    if rows.size == 0:
        return 0, 0, np.zeros((0, 0), dtype=bool)
    columns = np.flatnonzero(mask_yx.any(axis=0))
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    return row + box[0].start, box[1].start, mask_yx[box].copy()


def _instance(piece: Piece, *, source: str, number: int | None = None, is_ignored: bool = False) -> Instance:
    return Instance(*piece, source, number=number, is_ignored=is_ignored)


def _first_pixel(piece: Piece) -> tuple[int, int]:
    row, column, mask_yx = piece
    return row, column + int(np.argmax(mask_yx[0]))
