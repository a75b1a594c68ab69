"""Small bodies within cells, each with an outline and a place of its own."""

from dataclasses import dataclass

import numpy as np

from cellmill.simcep.shapes import Footprint, draw_outline, fill_outline


@dataclass(frozen=True)
class OrganelleShape:
    """What organelles look like: radius relative to the cell's, jitter of the outline as in `draw_vertices`."""

    radius_fraction: float
    radial_jitter: float
    angular_jitter: float


def draw_organelles(
    cell: Footprint, *, count: tuple[int, int], cell_radius_px: float, shape: OrganelleShape, rng: np.random.Generator
) -> tuple[Footprint, ...]:
    """Draw the organelles of one cell.

    Parameters
    ----------
    cell : Footprint
        The cell; organelles are in the same coordinates.
    count : (fewest, most)
        Uniform range of their number.
    cell_radius_px : float, > 0
        Radius of the circle that the cell's outline deforms.
    shape : OrganelleShape
        As in the config.
    rng : numpy.random.Generator
        Stream of the organelles.

    Returns
    -------
    tuple of Footprint
        Each has one pixel at least; none where the cell has no pixel.

    Notes
    -----
    SOURCE SIMCEP: centres are uniform pixels of the cytoplasm, the radius is a tenth of the cell's whatever its
    option says, and an organelle near the edge sticks out.
    """
    number = int(rng.integers(count[0], count[1] + 1))
    pixels = np.argwhere(cell.mask_yx) + np.array([cell.row, cell.column])
    if len(pixels) == 0:
        return ()
    organelles = []
    for _ in range(number):
        row, column = pixels[int(rng.random() * len(pixels))]
        outline_px = draw_outline(
            radius_px=shape.radius_fraction * cell_radius_px,
            radial_jitter=shape.radial_jitter,
            angular_jitter=shape.angular_jitter,
            rng=rng,
        )
        footprint = fill_outline(outline_px + rng.uniform(-0.5, 0.5, size=2))
        if not footprint.mask_yx.any():
            footprint = Footprint(0, 0, np.ones((1, 1), dtype=bool))
        organelles.append(footprint.moved(int(row), int(column)))
    return tuple(organelles)
