"""Fill outlines to masks, and trace outlines along the edges of masks.

Every area is described by the crossings of its outline with the centre lines of pixel rows. A pixel is inside if the
number of crossings to its left is odd, so holes and separate parts need no special rule. Pixel (0, 0) covers
[0, 1) x [0, 1); x counts columns and y rows, both in px.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np

from cellmill.annotations.instance import Instance, crop_instance

# more crossings than the outline of a whole plate has; a damaged outline is rejected within seconds
MAX_CROSSINGS = 2**28
# crossings computed at a time, so that memory does not grow with the outline
CHUNK_CROSSINGS = 2**22
# how far an outline may leave the image, by rounding of coordinates, before it counts as broken
MARGIN_PX = 1.0


class Crossings(Protocol):
    """Function that yields (rows, x) of crossings with the centre lines of rows `first` to `stop` - 1, in chunks."""

    def __call__(self, *, first: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]: ...


@dataclass(frozen=True)
class Outline:
    """An area: its bounding box, px, and its crossings. `problem` is as `Instance.broken`."""

    left: float
    top: float
    right: float
    bottom: float
    crossings: Crossings
    problem: str = ""


class DamagedOutlineError(Exception):
    """Error with a short reason why an outline is invalid; the caller adds the location and the remedy."""


def outline_of_rings(rings: Sequence[np.ndarray], *, problem: str) -> Outline:
    """Build the area inside closed polygons by the even-odd rule.

    Parameters
    ----------
    rings : sequence of ndarray of real numbers, shape (points, 2)
        Corners (x, y), px; the last is joined to the first. Without rings the area is empty.
    problem : str
        Stored in the outline.

    Returns
    -------
    Outline
        Its crossings raise `DamagedOutlineError` if there are more than `MAX_CROSSINGS`.
    """
    if not rings:
        return Outline(0.0, 0.0, 0.0, 0.0, partial(_cross_rings, rings=[]), problem)
    corners = np.concatenate(rings)
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return Outline(left, top, right, bottom, partial(_cross_rings, rings=rings), problem)


def outline_of_box(*, left: float, top: float, width: float, height: float, arc_x: float, arc_y: float) -> Outline:
    """Build a rectangle whose corners are quarters of an ellipse with the half axes `arc_x` and `arc_y`, px.

    Half axes equal to half the sides make an ellipse, and 0 makes sharp corners. Without width or height the area is
    empty.
    """
    crossings = partial(_cross_box, left=left, top=top, width=width, height=height, arc_x=arc_x, arc_y=arc_y)
    return Outline(left, top, left + width, top + height, crossings)


def outline_of_ellipse(*, x: float, y: float, half: np.ndarray, across: np.ndarray) -> Outline:
    """Build the ellipse of the points (x, y) + half * cos(t) + across * sin(t).

    Parameters
    ----------
    x, y : float
        Centre, px.
    half, across : ndarray of float64, shape (2,)
        Two half axes (x, y), px.
    """
    reach_x, reach_y = np.hypot(half, across).tolist()
    crossings = partial(_cross_ellipse, x=x, y=y, half=half, across=across)
    return Outline(x - reach_x, y - reach_y, x + reach_x, y + reach_y, crossings)


def explain_few_points(points: int) -> str:
    """Return the fault of an outline with fewer than three points, for `Instance.broken`; else an empty text."""
    return "" if points >= 3 else f"outline of {points} point{'' if points == 1 else 's'}"


def leaves_image(left: float, top: float, right: float, bottom: float, *, shape: tuple[int, int]) -> bool:
    """Check whether a box, px, leaves an image of (rows, columns) by more than the rounding margin."""
    rows, columns = shape
    return min(left, top) < -MARGIN_PX or right > columns + MARGIN_PX or bottom > rows + MARGIN_PX


def fill_outline(outline: Outline, *, shape: tuple[int, int], source: str) -> Instance:
    """Fill an outline inside its bounding box, clipped to the image.

    Parameters
    ----------
    outline : Outline
        Outline to fill.
    shape : tuple of int
        (rows, columns) of the image.
    source : str
        Stored in the instance.

    Returns
    -------
    Instance
        The pixels whose centres are inside. A centre exactly on the outline belongs to the area on its right or, on a
        horizontal segment, below it. The instance is broken if the outline has a problem, leaves the image or
        encloses no pixel centre.

    Raises
    ------
    DamagedOutlineError
        If its bounding box is not finite, or it has more crossings than `MAX_CROSSINGS`.
    """
    if not np.isfinite([outline.left, outline.top, outline.right, outline.bottom]).all():
        raise DamagedOutlineError("coordinates that are not numbers")
    rows, columns = shape
    left, right = np.clip([np.floor(outline.left), np.ceil(outline.right)], 0, columns).astype(int).tolist()
    top, bottom = np.clip([np.floor(outline.top), np.ceil(outline.bottom)], 0, rows).astype(int).tolist()
    # a damaged box may end before it begins
    right, bottom = max(left, right), max(top, bottom)
    is_crossed_yx = np.zeros((bottom - top, right - left + 1), dtype=np.uint8)
    for y, x in outline.crossings(first=top, stop=bottom):
        np.bitwise_xor.at(is_crossed_yx, (y - top, _first_centre(x, first=left, stop=right) - left), 1)
    mask_yx = np.bitwise_xor.accumulate(is_crossed_yx[:, :-1], axis=1).astype(bool)
    problems = [outline.problem] if outline.problem else []
    if leaves_image(outline.left, outline.top, outline.right, outline.bottom, shape=shape):
        problems.append("outline extends beyond the image")
    elif not mask_yx.any():
        problems.append("outline contains no pixel centre")
    found = crop_instance(mask_yx, source=source)
    if found.mask_yx.size:
        found = replace(found, row=found.row + top, column=found.column + left)
    return replace(found, broken=" and ".join(problems))


def trace_edges(mask_yx: np.ndarray) -> list[np.ndarray]:
    """Trace the outlines of a mask along the edges of its pixels.

    Parameters
    ----------
    mask_yx : ndarray of bool, shape (rows, columns)
        One object, with any number of parts and holes.

    Returns
    -------
    list of ndarray of int64, shape (corners, 2)
        Closed rings of corners (x, y); the last corner is joined to the first. Filled by the even-odd rule they
        reproduce the mask. Ordered by their first corners, row by row.

    Notes
    -----
    Along each row of pixel corners, the outline's corners pair up as ends of horizontal edges; along each column, as
    ends of vertical edges. Where two pixels touch diagonally, two corners share a position.
    """
    padded_yx = np.pad(mask_yx, 1).astype(np.int8)
    a, b, c, d = padded_yx[:-1, :-1], padded_yx[:-1, 1:], padded_yx[1:, :-1], padded_yx[1:, 1:]
    is_diagonal_yx = (a == d) & (b == c) & (a != b)
    count_yx = ((a + b + c + d) % 2) + 2 * is_diagonal_yx
    y, x = np.nonzero(count_yx)
    times = count_yx[y, x]
    y, x = np.repeat(y, times), np.repeat(x, times)
    along = np.arange(y.size)
    down = np.lexsort((y, x))
    partner_along, partner_down = np.empty_like(along), np.empty_like(along)
    partner_along[along[0::2]], partner_along[along[1::2]] = along[1::2], along[0::2]
    partner_down[down[0::2]], partner_down[down[1::2]] = down[1::2], down[0::2]
    rings = []
    steps = (partner_along.tolist(), partner_down.tolist())
    is_used = [False] * y.size
    for start in range(y.size):
        if is_used[start]:
            continue
        ring, corner = [], start
        while not is_used[corner]:
            ring.append(corner)
            is_used[corner] = True
            corner = steps[(len(ring) + 1) % 2][corner]
        rings.append(np.stack((x[ring], y[ring]), axis=1))
    return rings


def _cross_rings(*, first: int, stop: int, rings: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if not rings:
        return
    start = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    # edges always point down, so that two objects that share an edge get bit-identical crossings
    is_up = end[:, 1] < start[:, 1]
    upper, lower = np.where(is_up[:, np.newaxis], end, start), np.where(is_up[:, np.newaxis], start, end)
    begins = _first_centre(upper[:, 1], first=first, stop=stop)
    counts = _first_centre(lower[:, 1], first=first, stop=stop) - begins
    ends = np.cumsum(counts)
    if ends[-1] > MAX_CROSSINGS:
        raise DamagedOutlineError(f"an outline that crosses pixel rows {ends[-1]} times")
    cuts = np.searchsorted(ends, np.arange(CHUNK_CROSSINGS, ends[-1], CHUNK_CROSSINGS))
    for chunk in np.split(np.arange(len(start)), cuts):
        edges = np.repeat(chunk, counts[chunk])
        if edges.size:
            # each edge crosses `counts` consecutive rows, starting at `begins`
            step = np.arange(edges.size) - (ends - counts)[edges] + (ends - counts)[chunk[0]]
            rows = begins[edges] + step
            run, fall = (lower - upper)[edges].T
            yield rows, upper[edges, 0] + (rows + 0.5 - upper[edges, 1]) * run / fall


def _cross_box(
    *, first: int, stop: int, left: float, top: float, width: float, height: float, arc_x: float, arc_y: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the crossings of a rectangle with elliptical corners of the half axes `arc_x` and `arc_y`, px."""
    if width <= 0 or height <= 0:
        return
    rows = _rows_between(top, top + height, first=first, stop=stop)
    inset = np.zeros(rows.size)
    if arc_x > 0 and arc_y > 0:
        above = np.maximum(np.abs(rows + 0.5 - (top + height / 2)) - (height / 2 - arc_y), 0)
        inset = arc_x * (1 - np.sqrt(np.maximum(1 - (above / arc_y) ** 2, 0)))
    yield rows, left + inset
    yield rows, left + width - inset


def _cross_ellipse(
    *, first: int, stop: int, x: float, y: float, half: np.ndarray, across: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the crossings of the ellipse of the points (x, y) + half * cos(t) + across * sin(t)."""
    reach = float(np.hypot(half[1], across[1]))
    if reach <= 0:
        return
    rows = _rows_between(y - reach, y + reach, first=first, stop=stop)
    height = (rows + 0.5 - y) / reach
    middle = x + height * float(half[0] * half[1] + across[0] * across[1]) / reach
    width = abs(float(half[0] * across[1] - half[1] * across[0])) / reach * np.sqrt(np.maximum(1 - height**2, 0))
    yield rows, middle - width
    yield rows, middle + width


def _rows_between(top: float, bottom: float, *, first: int, stop: int) -> np.ndarray:
    begin, end = _first_centre(np.array([top, bottom]), first=first, stop=stop).tolist()
    return np.arange(begin, end)


def _first_centre(places: np.ndarray, *, first: int, stop: int) -> np.ndarray:
    """Return the first pixel whose centre is at or beyond each position, clipped to `first` and `stop`."""
    return np.clip(np.ceil(places - 0.5), first, stop).astype(np.int64)
