"""Run-length encoding of masks as in Kaggle's tables: "start length start length ...", 1-based.

Two pixel orders are in use, and tables do not state which: `row` counts along the rows (Sartorius 2021),
`column` down the columns (Data Science Bowl 2018). COCO's counts are another format.
"""

import numpy as np

ORDERS = ("row", "column")
# 18 digits fit into int64, and pixel counts of images have fewer
MAX_DIGITS = 18
DIGITS_AND_BLANKS = b"0123456789 "


def encode_crop(mask_yx: np.ndarray, *, order: str, row: int, column: int, shape: tuple[int, ...]) -> str:
    """Encode a mask given inside its bounding box, without building the whole image.

    Parameters
    ----------
    mask_yx : ndarray of bool
        The object inside its bounding box.
    order : "row" or "column"
        Direction in which pixels are counted.
    row, column : int, >= 0
        Position of the box's first pixel in the image, px.
    shape : tuple of int
        (rows, columns) of the image.

    Returns
    -------
    str
        Canonical: ascending runs that neither touch nor overlap; empty for an empty mask. Runs may continue past
        the end of a row (or column).
    """
    firsts, lengths = find_runs(mask_yx, order=order, row=row, column=column, shape=shape)
    return " ".join(map(str, np.stack((firsts + 1, lengths), axis=1).ravel().tolist()))


def find_runs(
    mask_yx: np.ndarray, *, order: str, row: int, column: int, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Find the runs of a mask given inside its bounding box.

    Parameters
    ----------
    mask_yx, order, row, column, shape
        As in `encode_crop`.

    Returns
    -------
    ndarray of int64, ndarray of int64
        First pixels, 0-based and ascending, and lengths, px. Runs neither touch nor overlap.
    """
    assert order in ORDERS
    rows, columns = shape
    assert row >= 0
    assert column >= 0
    assert row + mask_yx.shape[0] <= rows
    assert column + mask_yx.shape[1] <= columns
    if order == "row":
        y, x = np.nonzero(mask_yx)
        pixels = (y + row) * columns + (x + column)
    else:
        x, y = np.nonzero(mask_yx.T)
        pixels = (x + column) * rows + (y + row)
    is_first = np.ones(pixels.size, dtype=bool)
    is_first[1:] = np.diff(pixels) > 1
    places = np.flatnonzero(is_first)
    return pixels[places], np.diff(places, append=pixels.size)


def decode_crop(text: str, *, shape: tuple[int, int], order: str, where: str) -> tuple[int, int, np.ndarray]:
    """Decode runs to a mask inside its bounding box, so that memory grows with the object and not with the image.

    Parameters
    ----------
    text : str
        "start length start length ...", 1-based; empty for an empty mask.
    shape : tuple of int
        (rows, columns) of the image.
    order : "row" or "column"
        Direction in which pixels are counted.
    where : str
        Table and row, for error messages.

    Returns
    -------
    int, int
        Row and column of the box's first pixel.
    ndarray of bool
        The mask inside its box; of shape (0, 0) for an empty text.

    Raises
    ------
    ValueError
        If the text is not made of pairs of whole numbers, a start or a length is below 1, runs overlap or
        descend, or a run ends past the last pixel.
    """
    starts, lengths = parse_runs(text, shape=shape, where=where)
    return draw_runs(starts - 1, lengths, shape=shape, order=order)


def draw_runs(
    firsts: np.ndarray, lengths: np.ndarray, *, shape: tuple[int, int], order: str
) -> tuple[int, int, np.ndarray]:
    """Draw runs as a mask inside its bounding box.

    Parameters
    ----------
    firsts, lengths : ndarray of int64
        First pixels, 0-based, and lengths, px, of ascending, non-empty runs inside the image that do not overlap.
    shape, order
        As in `decode_crop`.

    Returns
    -------
    int, int, ndarray of bool
        As `decode_crop`.
    """
    assert order in ORDERS
    if firsts.size == 0:
        return 0, 0, np.zeros((0, 0), dtype=bool)
    # a line is an image row or an image column, depending on `order`
    line_px = shape[1] if order == "row" else shape[0]
    lines = firsts // line_px
    places = firsts - lines * line_px
    stops = places + lengths
    line, place = int(lines[0]), int(places.min())
    stop = int(stops.max())
    lines_held = int(lines[-1]) + 1 - line
    if stop > line_px:
        # a run continues in the next line, so the box spans the whole line
        place, stop = 0, line_px
        lines_held = (int(firsts[-1]) + int(lengths[-1]) - 1) // line_px + 1 - line
    # every run is contiguous in the box, too
    edges = np.zeros(2 * firsts.size + 2, dtype=np.int64)
    edges[1:-1:2] = (lines - line) * (stop - place) + (places - place)
    edges[2:-1:2] = edges[1:-1:2] + lengths
    edges[-1] = lines_held * (stop - place)
    is_object = np.zeros(edges.size - 1, dtype=bool)
    is_object[1::2] = True
    box = np.repeat(is_object, np.diff(edges)).reshape(lines_held, stop - place)
    return (line, place, box) if order == "row" else (place, line, np.ascontiguousarray(box.T))


def parse_runs(text: str, *, shape: tuple[int, int], where: str) -> tuple[np.ndarray, np.ndarray]:
    """Read runs and check them against the size of the image.

    Parameters
    ----------
    text, shape, where
        As in `decode_crop`.

    Returns
    -------
    ndarray of int64, ndarray of int64
        1-based starts and lengths, px.

    Raises
    ------
    ValueError
        As `decode_crop`.
    """
    numbers = _read_numbers(text, where=where)
    if numbers.size % 2:
        raise ValueError(
            f"{where}: expected pairs of start and length, found {numbers.size} numbers. "
            "The text is truncated: export the table again."
        )
    starts, lengths = numbers[0::2], numbers[1::2]
    if (starts < 1).any():
        raise ValueError(
            f"{where}: expected starts that count from 1, found {starts[starts < 1][0]}. "
            "Add 1 to the starts; COCO counts are a different format."
        )
    if (lengths < 1).any():
        raise ValueError(
            f"{where}: expected runs of at least one pixel, found a length of {lengths[lengths < 1][0]}. "
            "Export the table again; COCO counts are a different format."
        )
    ends = starts + lengths
    backward = np.flatnonzero(starts[1:] < ends[:-1])
    if backward.size:
        i = int(backward[0])
        raise ValueError(
            f"{where}: expected ascending runs that do not overlap, found '{starts[i + 1]} {lengths[i + 1]}' "
            f"after '{starts[i]} {lengths[i]}'. Export the table again from masks."
        )
    pixels = shape[0] * shape[1]
    if starts.size and ends[-1] - 1 > pixels:
        raise ValueError(
            f"{where}: expected runs inside the {pixels} pixels of an image of {shape[0]} rows and {shape[1]} columns, "
            f"found a run that ends at pixel {ends[-1] - 1}. "
            "Check whether the annotation belongs to another image, or to this image at another size."
        )
    return starts, lengths


def _read_numbers(text: str, *, where: str) -> np.ndarray:
    # If the text has only digits and blanks, skip the check of each token, unless leading zeros or a large value may
    # make a token too long.
    is_plain = text.isascii() and not text.encode().translate(None, DIGITS_AND_BLANKS)
    # numpy parses a text of blanks only as the number -1
    if is_plain and not text.isspace() and not text.startswith("0") and " 0" not in text:
        numbers = np.fromstring(text, dtype=np.int64, sep=" ")
        if numbers.size and numbers.max() < 10**MAX_DIGITS:
            return numbers
    tokens = text.split()
    for token in tokens:
        if not (token.isascii() and token.removeprefix("-").isdigit() and len(token) <= MAX_DIGITS):
            raise ValueError(
                f"{where}: expected whole numbers 'start length start length ...', found '{token[:20]}'. "
                "Set annotations.format and annotations.rle_column to match the table."
            )
    return np.array([int(token) for token in tokens], dtype=np.int64)
