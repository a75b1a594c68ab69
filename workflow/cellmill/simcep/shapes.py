"""Outlines of cells: a circle whose vertices are displaced, joined by a smooth closed curve."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.interpolate import CubicSpline
from skimage.draw import polygon

VERTICES = 10  # SOURCE SIMCEP: angles in steps of 2 pi / 10, the last vertex being the first one again
# The original takes 1000; 200 chords stay within 0.0001 of the radius and fill five times faster.
OUTLINE_POINTS = 200


@dataclass(frozen=True)
class Footprint:
    """The pixels that an object covers, as a mask in its own box.

    Attributes
    ----------
    row, column : int
        Pixel of the image on which the first pixel of `mask_yx` lies; may be negative.
    mask_yx : ndarray of bool, shape (rows, columns)
        True on the object.
    """

    row: int
    column: int
    mask_yx: np.ndarray

    def moved(self, rows: int, columns: int) -> "Footprint":
        """Give the same footprint, moved by whole pixels."""
        return Footprint(self.row + rows, self.column + columns, self.mask_yx)

    def window(self, shape: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Give the part inside an image of `shape`: slices of the image, and slices of `mask_yx`."""
        parts = []
        for start, size, limit in zip((self.row, self.column), self.mask_yx.shape, shape, strict=True):
            first = min(max(start, 0), limit)
            end = max(min(start + size, limit), first)
            parts.append((slice(first, end), slice(first - start, end - start)))
        return (parts[0][0], parts[1][0]), (parts[0][1], parts[1][1])

    def clipped(self, shape: tuple[int, int]) -> tuple[tuple[slice, slice], np.ndarray]:
        """Give the part inside an image of `shape`: slices of the image, and the mask there."""
        window, own = self.window(shape)
        return window, self.mask_yx[own]

    def padded(self, width: int) -> "Footprint":
        """Give the same footprint in a box that is larger by `width` px on each side."""
        return Footprint(self.row - width, self.column - width, np.pad(self.mask_yx, width))

    def within(self, other: "Footprint") -> "Footprint":
        """Give the part of this footprint that lies in another one."""
        local = self.moved(-other.row, -other.column)
        (rows, columns), mask_yx = local.clipped(other.mask_yx.shape)
        shared_yx = mask_yx & other.mask_yx[rows, columns]
        return Footprint(other.row + rows.start, other.column + columns.start, shared_yx)


def draw_vertices(*, radial_jitter: float, angular_jitter: float, rng: np.random.Generator) -> np.ndarray:
    """Displace the vertices of a decagon in the unit circle.

    Parameters
    ----------
    radial_jitter : float, in [0, 1)
        Half width of the uniform displacement along each axis, in radii.
    angular_jitter : float, >= 0
        Half width of the uniform displacement of the angle, in rad.
    rng : numpy.random.Generator
        Four draws a vertex.

    Returns
    -------
    ndarray of float64, shape (10, 2)
        Row and column of each vertex.

    Notes
    -----
    SOURCE SIMCEP: the two coordinates draw both displacements independently, so this is no pure change
    of the radius.
    """
    angles = 2 * np.pi * np.arange(VERTICES) / VERTICES
    shifts = rng.uniform(-radial_jitter, radial_jitter, size=(2, VERTICES))
    turns = rng.uniform(-angular_jitter, angular_jitter, size=(2, VERTICES))
    return np.column_stack([shifts[0] + np.sin(angles + turns[0]), shifts[1] + np.cos(angles + turns[1])])


def close_spline(vertices: np.ndarray) -> CubicSpline:
    """Join vertices by a closed cubic spline without a kink.

    Parameters
    ----------
    vertices : ndarray of shape (n, 2), n >= 3
        The first one is not repeated at the end; neighbours differ.

    Returns
    -------
    CubicSpline
        Point at a parameter that runs from `x[0]` to `x[-1]`; value, tangent and curvature agree at both.

    Notes
    -----
    Centripetal parameter, the square root of the chord: Lee 1989, doi:10.1016/0010-4485(89)90003-1.
    """
    ring = np.vstack([vertices, vertices[:1]])
    chords = np.sqrt(np.sum(np.diff(ring, axis=0) ** 2, axis=1))
    if chords.min() <= 0:
        raise ValueError(
            "outline: expected neighbouring vertices that differ, found two at the same place. "
            "Lower the jitter of the outline."
        )
    parameter = np.concatenate([[0.0], np.cumsum(np.sqrt(chords))])
    return CubicSpline(parameter, ring, bc_type="periodic")


def draw_outline(
    *, radius_px: float, radial_jitter: float, angular_jitter: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw the outline of one object around (0, 0).

    Parameters
    ----------
    radius_px : float, > 0
        Radius of the circle that is deformed.
    radial_jitter, angular_jitter : float
        As in `draw_vertices`.
    rng : numpy.random.Generator
        Stream of the image's shapes.

    Returns
    -------
    ndarray of float64, shape (200, 2)
        Row and column of the outline's points in px, sub-pixel, the first one not repeated.

    Raises
    ------
    ValueError
        If the radius is not positive.
    """
    if radius_px <= 0:
        raise ValueError(
            f"outline: expected a radius above 0 px, found {radius_px}. Set a positive radius_px in the config."
        )
    spline = close_spline(draw_vertices(radial_jitter=radial_jitter, angular_jitter=angular_jitter, rng=rng))
    parameter = np.linspace(spline.x[0], spline.x[-1], OUTLINE_POINTS, endpoint=False)
    return radius_px * spline(parameter)


def fill_outline(outline_px: np.ndarray) -> Footprint:
    """Fill an outline: the pixels whose centre lies inside.

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
    A strongly jittered outline may cross itself. What it cuts off is dropped and what it encloses is
    filled, so that an object is one piece (SIMCEP leaves specks and holes: 0.2 % of its cytoplasms).
    """
    first = np.floor(outline_px.min(axis=0)).astype(int)
    last = np.ceil(outline_px.max(axis=0)).astype(int)
    mask_yx = np.zeros(tuple(last - first + 1), dtype=bool)
    local = outline_px - first
    mask_yx[polygon(local[:, 0], local[:, 1], mask_yx.shape)] = True
    return Footprint(int(first[0]), int(first[1]), _one_piece(mask_yx))


def _one_piece(mask_yx: np.ndarray) -> np.ndarray:
    pieces_yx, pieces = ndimage.label(mask_yx, structure=np.ones((3, 3), dtype=bool))
    if pieces > 1:
        mask_yx = pieces_yx == np.argmax(np.bincount(pieces_yx.ravel())[1:]) + 1
    return ndimage.binary_fill_holes(mask_yx)
