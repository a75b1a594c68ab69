"""The largest number of cells that can be placed in an image: a limit for the config and for matched simulations."""

import math
from collections.abc import Sequence

LARGEST_COUNT = 65534  # of cells in an image: the largest object number in a 16-bit label image


def most_cells(size: Sequence[int], *, radius_px: Sequence[float], overlap_limit: float) -> int:
    """Estimate the largest number of cells that can be placed in an image.

    Parameters
    ----------
    size : (rows, columns)
        Image in px. Centres lie inside, outlines may extend beyond it.
    radius_px : (smallest, largest)
        Radius of the cells or nuclei whose overlap is limited.
    overlap_limit : float, in [0, 1]
        As in `densest_cover`.

    Returns
    -------
    int
        At most 65534.
    """
    room = (size[0] + 2 * radius_px[1]) * (size[1] + 2 * radius_px[1])
    return int(min(room * densest_cover(overlap_limit) / mean_area(radius_px), LARGEST_COUNT))


def mean_area(radius_px: Sequence[float]) -> float:
    """Return the mean area in px of discs with a uniformly distributed radius."""
    low, high = radius_px
    return math.pi * (low**2 + low * high + high**2) / 3


def densest_cover(overlap_limit: float) -> float:
    """Return the summed area of discs, relative to the image, at which no further disc can be placed.

    Parameters
    ----------
    overlap_limit : float, in [0, 1]
        Largest overlap of two discs as a fraction of one disc.

    Returns
    -------
    float
        Random sequential adsorption of discs ends at 0.547 (Feder 1980, doi:10.1016/0022-5193(80)90358-6). Discs that
        may overlap are treated as smaller discs, with half the smallest allowed distance as their radius.
        Infinity for an overlap limit of 1.
    """
    if overlap_limit >= 1:
        return math.inf
    near, far = 0.0, 2.0  # distance of two discs of radius 1
    for _ in range(40):
        middle = (near + far) / 2
        lens = 2 * math.acos(middle / 2) - middle * math.sqrt(4 - middle**2) / 2
        near, far = (middle, far) if lens / math.pi > overlap_limit else (near, middle)
    return 0.547 / (far / 2) ** 2
