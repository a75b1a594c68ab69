"""Outlines of cells: randomly displaced vertices of a circle, joined by a smooth closed curve."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

VERTICES = 10  # SOURCE SIMCEP: angles in steps of 2 pi / 10; the first vertex is repeated at the end
# The original samples 1000 points. Using only as many as keep the chords this close to the curve makes filling ten
# times faster.
CHORD_ERROR_PX = 0.005
FEWEST_POINTS = 30


@dataclass(frozen=True)
class Footprint:
    """The pixels that an object covers, as a mask in its bounding box.

    Attributes
    ----------
    row, column : int
        Image coordinates of the first pixel of `mask_yx`; may be negative.
    mask_yx : ndarray of bool, shape (rows, columns)
        True on the object.
    """

    row: int
    column: int
    mask_yx: np.ndarray

    def moved(self, rows: int, columns: int) -> "Footprint":
        """Return the footprint moved by whole pixels."""
        return Footprint(self.row + rows, self.column + columns, self.mask_yx)

    def window(self, shape: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the part inside an image of `shape`: slices of the image, and slices of `mask_yx`."""
        parts = []
        for start, size, limit in zip((self.row, self.column), self.mask_yx.shape, shape, strict=True):
            first = min(max(start, 0), limit)
            end = max(min(start + size, limit), first)
            parts.append((slice(first, end), slice(first - start, end - start)))
        return (parts[0][0], parts[1][0]), (parts[0][1], parts[1][1])

    def clipped(self, shape: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
        """Return the part inside an image of `shape`: slices of the image, and the mask there."""
        window, own = self.window(shape)
        return window, self.mask_yx[own]

    def padded(self, width: int) -> "Footprint":
        """Return the footprint in a box that is larger by `width` px on each side."""
        return Footprint(self.row - width, self.column - width, np.pad(self.mask_yx, width))

    def within(self, other: "Footprint") -> "Footprint":
        """Return the part of this footprint inside another footprint."""
        local = self.moved(-other.row, -other.column)
        (rows, columns), mask_yx = local.clipped(other.mask_yx.shape)
        shared_yx = mask_yx & other.mask_yx[rows, columns]
        return Footprint(other.row + rows.start, other.column + columns.start, shared_yx)


def draw_vertices(
    *, radial_jitter: float, angular_jitter: float, rng: np.random.Generator, outlines: int = 1
) -> np.ndarray:
    """Draw the vertices of a decagon in the unit circle with random displacements.

    Parameters
    ----------
    radial_jitter : float, in [0, 1)
        Half width of the uniform displacement along each axis, in radii.
    angular_jitter : float, >= 0
        Half width of the uniform displacement of the angle, in rad.
    rng : numpy.random.Generator
        Four draws per vertex.
    outlines : int
        Number of outlines to draw at once.

    Returns
    -------
    ndarray of float64, shape (outlines, 10, 2)
        Row and column of each vertex.

    Notes
    -----
    SOURCE SIMCEP: both displacements are drawn independently for each coordinate, so vertices do not move only
    along the radius.
    """
    shifts = rng.uniform(-radial_jitter, radial_jitter, size=(2, outlines, VERTICES))
    turns = rng.uniform(-angular_jitter, angular_jitter, size=(2, outlines, VERTICES))
    return displace_vertices(shifts, turns)


def displace_vertices(shifts: np.ndarray, turns: np.ndarray) -> np.ndarray:
    """Displace the vertices of decagons in the unit circle by the given amounts.

    Parameters
    ----------
    shifts, turns : ndarray of shape (2, outlines, 10)
        Displacements in radii and of the angle in rad, for the row and for the column of each vertex.

    Returns
    -------
    ndarray of float64, shape (outlines, 10, 2)
        Row and column of each vertex.
    """
    angles = 2 * np.pi * np.arange(VERTICES) / VERTICES
    return np.stack([shifts[0] + np.sin(angles + turns[0]), shifts[1] + np.cos(angles + turns[1])], axis=-1)


@dataclass(frozen=True)
class ClosedSplines:
    """Closed piecewise cubic curves in the plane.

    Attributes
    ----------
    x : ndarray of shape (curves, n + 1)
        Parameter at the vertices, from 0; the last entry is the first vertex again.
    c : ndarray of shape (4, curves, n, 2)
        Coefficients of each piece, cubic term first; the parameter starts at 0 in each piece.
    """

    x: np.ndarray
    c: np.ndarray

    def sample(self, points: int) -> np.ndarray:
        """Return points at equal parameter steps, shape (curves, points, 2), without repeating the first point."""
        curves = np.arange(len(self.x))[:, None]
        parameter = self.x[:, -1:] * (np.arange(points) / points)
        piece = np.sum(parameter[:, :, None] >= self.x[:, None, 1:-1], axis=2)
        step = (parameter - self.x[curves, piece])[..., None]
        cubic, square, slope, start = self.c[:, curves, piece]
        return ((cubic * step + square) * step + slope) * step + start


def close_splines(vertices: np.ndarray) -> ClosedSplines:
    """Join vertices by smooth closed cubic splines.

    Parameters
    ----------
    vertices : ndarray of shape (curves, n, 2), n >= 3
        The first vertex of a curve is not repeated at the end; neighbours differ.

    Returns
    -------
    ClosedSplines
        Value, tangent and curvature agree where two pieces meet, also at the first vertex.

    Raises
    ------
    ValueError
        If two neighbouring vertices coincide.

    Notes
    -----
    Centripetal parametrization, by the square root of the chord: Lee 1989, doi:10.1016/0010-4485(89)90003-1. The
    result equals scipy's periodic CubicSpline, which takes ten times as long to set up for ten vertices.
    """
    curves, count, _ = vertices.shape
    here = np.arange(count)
    behind, ahead = here - 1, (here + 1) % count
    sides = vertices[:, ahead] - vertices
    chords = np.sqrt(sides[..., 0] ** 2 + sides[..., 1] ** 2)
    if chords.size and chords.min() <= 0:
        raise ValueError(
            "outline: expected neighbouring vertices at different positions, found two at the same position. "
            "Lower the jitter of the outline."
        )
    step = np.sqrt(chords)
    width = step[..., None]
    rise = sides / width
    # second derivatives at the vertices: a cyclic tridiagonal system
    system = np.zeros((curves, count, count))
    system[:, here, here] = 2 * (step[:, behind] + step)
    system[:, here, ahead] += step
    system[:, ahead, here] += step
    bend = np.linalg.solve(system, 6 * (rise - rise[:, behind]))
    next_bend = bend[:, ahead]
    slope = rise - width * (2 * bend + next_bend) / 6
    pieces = np.stack([(next_bend - bend) / (6 * width), bend / 2, slope, vertices])
    return ClosedSplines(np.concatenate([np.zeros((curves, 1)), np.cumsum(step, axis=1)], axis=1), pieces)


def trace_outlines(vertices: np.ndarray, *, radii_px: np.ndarray, largest_px: float) -> np.ndarray:
    """Join the vertices of outlines and scale them.

    Parameters
    ----------
    vertices : ndarray of shape (outlines, n, 2)
        Around the unit circle, from `draw_vertices`.
    radii_px : ndarray of shape (outlines,), > 0
        Radii of the circles that are deformed.
    largest_px : float, > 0
        Largest possible radius; it determines the number of points, which must not depend on the other outlines.

    Returns
    -------
    ndarray of float64, shape (outlines, points, 2)
        Row and column of the outlines' points in px around (0, 0), sub-pixel, without repeating the first point.

    Raises
    ------
    ValueError
        If a radius is not positive.
    """
    if (smallest := radii_px.min(initial=largest_px)) <= 0:
        raise ValueError(
            f"outline: expected a radius above 0 px, found {smallest:g}. Set a positive radius_px in the config."
        )
    # n chords of a circle stay within r (1 - cos(pi / n)) of it, about r (pi / n)**2 / 2
    points = max(FEWEST_POINTS, math.ceil(math.pi * math.sqrt(largest_px / (2 * CHORD_ERROR_PX))))
    return radii_px[:, None, None] * close_splines(vertices).sample(points)


def stretching(stretch: float, *, axis: float) -> np.ndarray:
    """Return the linear map that stretches along an axis and preserves areas.

    Parameters
    ----------
    stretch : float, > 0
        Factor along the axis.
    axis : float
        Angle of the axis from the columns towards the rows, rad.

    Returns
    -------
    ndarray of shape (2, 2)
        Symmetric; multiply points as row vectors by it.
    """
    along = np.array([math.sin(axis), math.cos(axis)])
    across = np.array([along[1], -along[0]])
    return stretch * np.outer(along, along) + np.outer(across, across) / stretch


def draw_outline(
    *, radius_px: float, radial_jitter: float, angular_jitter: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw one outline around (0, 0), of shape (points, 2): `draw_vertices` and `trace_outlines`."""
    vertices = draw_vertices(radial_jitter=radial_jitter, angular_jitter=angular_jitter, rng=rng)
    outline_px: np.ndarray = trace_outlines(vertices, radii_px=np.array([radius_px]), largest_px=radius_px)[0]
    return outline_px


def fill_outline(outline_px: np.ndarray) -> Footprint:
    """Return the pixels whose centre lies inside an outline.

    Parameters
    ----------
    outline_px : ndarray of shape (n, 2)
        Row and column in px.

    Returns
    -------
    Footprint
        In the coordinates of the outline; an object smaller than a pixel may have an empty mask.

    Notes
    -----
    A strongly jittered outline may cross itself. Only the largest connected component is kept and its holes are
    filled, so that an object has no separate parts (SIMCEP leaves specks and holes in 0.2 % of its cytoplasms).
    """
    first = np.floor(outline_px.min(axis=0)).astype(int)
    last = np.ceil(outline_px.max(axis=0)).astype(int)
    local = outline_px - first
    rows, columns = last - first + 1
    mask_yx = _inside(local, shape=(int(rows), int(columns)))
    if not _is_star(local):
        mask_yx = _one_piece(mask_yx)
    return Footprint(int(first[0]), int(first[1]), mask_yx)


def _inside(outline_px: np.ndarray, *, shape: tuple[int, int]) -> np.ndarray:
    """Mark the pixels whose centre has an odd number of outline crossings to its left in its row.

    The result equals skimage.draw.polygon, which is slower because it tests every pixel against every side.
    """
    y, x = outline_px.T
    rows = np.arange(shape[0])[:, None]
    is_above = y <= rows
    row, side = np.nonzero(is_above != is_above[:, np.arange(1, len(y) + 1) % len(y)])
    ahead = (side + 1) % len(y)
    crossing = x[side] + (row - y[side]) * (x[ahead] - x[side]) / (y[ahead] - y[side])
    first = np.clip(np.ceil(crossing).astype(int), 0, shape[1])
    places = row * (shape[1] + 1) + first
    sides = np.bincount(places, minlength=shape[0] * (shape[1] + 1)).reshape(shape[0], shape[1] + 1)
    inside_yx: np.ndarray = np.cumsum(sides, axis=1)[:, :-1] % 2 == 1
    return inside_yx


def _is_star(outline_px: np.ndarray) -> bool:
    """Return whether an outline is star-shaped about its mean point, in which case it does not cross itself."""
    y, x = (outline_px - outline_px.mean(axis=0)).T
    turn = y[:-1] * x[1:] - y[1:] * x[:-1]
    return bool((turn > 0).all() or (turn < 0).all())


def _one_piece(mask_yx: np.ndarray) -> np.ndarray:
    pieces_yx, pieces = ndimage.label(mask_yx, structure=np.ones((3, 3), dtype=bool))
    if pieces > 1:
        mask_yx = pieces_yx == np.argmax(np.bincount(pieces_yx.ravel())[1:]) + 1
    return ndimage.binary_fill_holes(mask_yx)
