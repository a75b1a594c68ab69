"""Measure sizes, shapes and positions of objects in a label image."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, KDTree, QhullError

FEWEST_OBJECTS = 5  # for a spread and for the Clark-Evans ratio
SMALLEST_SHAPE_PX = 30  # for a solidity
NEAR_PX = 2


def measure_shapes(objects_yx: np.ndarray) -> dict[str, float]:
    """Measure sizes, shapes and positions of objects.

    Parameters
    ----------
    objects_yx : ndarray of int, shape (rows, columns)
        Numbered 1, 2, ... without gaps; at least one object.

    Returns
    -------
    dict
        radius_px, radius_spread, solidity, elongation, touching_fraction, clustering, as in `STATISTICS`.
    """
    rows, columns = objects_yx.shape
    places = np.nonzero(objects_yx)
    number = objects_yx[places] - 1
    areas = np.bincount(number)
    centre = [np.bincount(number, weights=place) / areas for place in places]
    away = [place - middle[number] for place, middle in zip(places, centre, strict=True)]
    # add the second moment of a single pixel, 1/12, so that a line has a width
    vertical, horizontal = (np.bincount(number, weights=step**2) / areas + 1 / 12 for step in away)
    mixed = np.bincount(number, weights=away[0] * away[1]) / areas
    half = np.sqrt(np.maximum((vertical - horizontal) ** 2 / 4 + mixed**2, 0))
    mean = (vertical + horizontal) / 2
    border = np.unique(np.concatenate([objects_yx[0], objects_yx[-1], objects_yx[:, 0], objects_yx[:, -1]]))
    whole = np.setdiff1d(np.arange(1, areas.size + 1), border) - 1
    radii = np.sqrt(areas[whole] / np.pi)
    boxes = ndimage.find_objects(objects_yx)
    solidities = [
        solidity_of(objects_yx[boxes[index]] == index + 1) for index in whole if areas[index] >= SMALLEST_SHAPE_PX
    ]
    elongations = np.sqrt((mean + half) / (mean - half))[whole]
    points = np.column_stack(centre)
    return {
        "radius_px": median_of(radii),
        "radius_spread": spread_of(radii) if radii.size >= FEWEST_OBJECTS else math.nan,
        "solidity": median_of(solidities),
        "elongation": median_of(elongations),
        "touching_fraction": _touching_fraction(objects_yx),
        "clustering": clark_evans(points, shape=(rows, columns)),
    }


def solidity_of(mask_yx: np.ndarray) -> float:
    """Compute the solidity of an object: its number of pixels over the number of pixels in its convex hull.

    Parameters
    ----------
    mask_yx : ndarray of bool, shape (rows, columns)
        At least one pixel.

    Returns
    -------
    float
        In (0, 1]. Pick's theorem gives the exact number of pixel centres in the hull without drawing the hull.
    """
    points = np.argwhere(mask_yx)
    try:
        hull = ConvexHull(points)
    except QhullError:  # all pixels on a line
        return 1.0
    corners = points[hull.vertices]
    steps = np.abs(np.diff(np.vstack([corners, corners[:1]]), axis=0))
    on_outline = int(np.gcd(steps[:, 0], steps[:, 1]).sum())
    return len(points) / round(hull.volume + on_outline / 2 + 1)  # `volume` of a plane figure is its area


def clark_evans(points: np.ndarray, *, shape: tuple[int, int]) -> float:
    """Compute the mean nearest-neighbour distance over its expectation for equally many random points.

    Parameters
    ----------
    points : ndarray of shape (n, 2)
        Row and column in px.
    shape : (rows, columns)
        Image in px.

    Returns
    -------
    float
        1 for random points, below 1 for clusters, up to 2.15 for a lattice; NaN for fewer than 5 points.

    Notes
    -----
    Clark and Evans 1954, doi:10.2307/1931034, with the edge correction of Donnelly 1978 for a bounded field.
    """
    count = len(points)
    if count < FEWEST_OBJECTS:
        return math.nan
    nearest = KDTree(points).query(points, k=2)[0][:, 1]
    area, outline = shape[0] * shape[1], 2 * (shape[0] + shape[1])
    expected = 0.5 * math.sqrt(area / count) + (0.0514 + 0.041 / math.sqrt(count)) * outline / count
    return float(nearest.mean()) / expected


def _touching_fraction(objects_yx: np.ndarray) -> float:
    highest = int(objects_yx.max())
    side = 2 * NEAR_PX + 1
    largest_yx = ndimage.maximum_filter(objects_yx, size=side)
    others_yx = np.where(objects_yx > 0, objects_yx, highest + 1)
    smallest_yx = ndimage.minimum_filter(others_yx, size=side)
    is_near_yx = (objects_yx > 0) & ((largest_yx > objects_yx) | (smallest_yx < objects_yx))
    return np.unique(objects_yx[is_near_yx]).size / highest


def median_of(values: np.ndarray | Sequence[float]) -> float:
    return float(np.median(values)) if len(values) else math.nan


def spread_of(values: np.ndarray) -> float:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return float((high - low) / abs(middle)) if middle else math.nan
