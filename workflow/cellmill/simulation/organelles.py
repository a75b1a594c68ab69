"""Organelles: draw the position and outline of small objects within cells."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellmill.simulation.shapes import Footprint, draw_vertices, fill_outline, trace_outlines


@dataclass(frozen=True)
class OrganelleShape:
    """The shape of organelles: radius relative to the cell's radius, and outline jitter as in `draw_vertices`."""

    radius_fraction: float
    radial_jitter: float
    angular_jitter: float


def draw_organelles(
    cells: Sequence[Footprint],
    *,
    count: tuple[int, int],
    cell_radii_px: Sequence[float],
    largest_px: float,
    shape: OrganelleShape,
    rng: np.random.Generator,
) -> list[tuple[Footprint, ...]]:
    """Draw the organelles of cells.

    Parameters
    ----------
    cells, count, cell_radii_px, largest_px, shape, rng
        As in `trace_organelles`.

    Returns
    -------
    list of tuple of Footprint
        Organelles of each cell, with at least one pixel each. A cell without pixels has no organelles.
    """
    traced = trace_organelles(
        cells, count=count, cell_radii_px=cell_radii_px, largest_px=largest_px, shape=shape, rng=rng
    )
    return [
        tuple(fill_organelle(outline_px, place) for place, outline_px in zip(places, outlines_px, strict=True))
        for places, outlines_px in traced
    ]


def trace_organelles(
    cells: Sequence[Footprint],
    *,
    count: tuple[int, int],
    cell_radii_px: Sequence[float],
    largest_px: float,
    shape: OrganelleShape,
    rng: np.random.Generator,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw the positions and outlines of the organelles of cells.

    Parameters
    ----------
    cells : sequence of Footprint
        The organelles of a cell have the same coordinates.
    count : (fewest, most)
        Uniform range of the number of organelles in a cell.
    cell_radii_px : sequence of float, > 0
        Radii of the circles that are deformed to the cells' outlines.
    largest_px : float, > 0
        Largest possible value of these radii.
    shape : OrganelleShape
        As in the config.
    rng : numpy.random.Generator
        Stream of the organelles.

    Returns
    -------
    list of (places, outlines)
        For each cell: ndarray of shape (organelles, 2), and of shape (organelles, points, 2) around the places, px.
        A cell without pixels has no organelles.

    Notes
    -----
    SOURCE SIMCEP: centres are uniformly drawn pixels of the cytoplasm, the radius is a tenth of the cell's radius
    regardless of its option, and an organelle near the edge extends beyond the cell.
    """
    places, vertices, radii_px = [], [], []
    for cell, radius_px in zip(cells, cell_radii_px, strict=True):
        number = int(rng.integers(count[0], count[1] + 1))
        pixels = np.argwhere(cell.mask_yx)
        draws = rng.random((number, 3))
        drawn = draw_vertices(
            radial_jitter=shape.radial_jitter, angular_jitter=shape.angular_jitter, rng=rng, outlines=number
        )
        if len(pixels) == 0:
            number = 0
        pixels = pixels[(draws[:number, 0] * len(pixels)).astype(int)]
        places.append(pixels + np.array([cell.row, cell.column]) + draws[:number, 1:] - 0.5)
        vertices.append(drawn[:number])
        radii_px += [shape.radius_fraction * radius_px] * number
    if not places:
        return []
    outlines_px = trace_outlines(
        np.concatenate(vertices), radii_px=np.array(radii_px), largest_px=shape.radius_fraction * largest_px
    )
    ends = np.cumsum([len(place) for place in places])
    return [(place, outlines_px[end - len(place) : end]) for place, end in zip(places, ends, strict=True)]


def fill_organelle(outline_px: np.ndarray, place: np.ndarray) -> Footprint:
    """Fill the outline of an organelle around its place, with at least one pixel."""
    footprint = fill_outline(outline_px + place)
    if footprint.mask_yx.any():
        return footprint
    row, column = np.floor(place + 0.5).astype(int)
    return Footprint(int(row), int(column), np.ones((1, 1), dtype=bool))
