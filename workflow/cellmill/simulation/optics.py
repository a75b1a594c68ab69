"""Defocus: draw a depth for each group of touching cells, and blur the group's light accordingly."""

import numpy as np
from scipy import ndimage

from cellmill.simulation.shapes import Footprint

TOUCHING = np.ones((3, 3), dtype=bool)  # SOURCE SIMCEP: 8-connected components of the union of all objects
DEPTH_SD = 0.5  # SOURCE SIMCEP: depth is the absolute value of a normal draw with this standard deviation
# ASSUME with scaling "fixed": the focus range ends at two standard deviations; 4.6 % of depths lie beyond.
DEEPEST = 2 * DEPTH_SD


def label_groups(count_yx: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the groups of touching or overlapping objects.

    Parameters
    ----------
    count_yx : ndarray of int, shape (rows, columns)
        Objects on each pixel.

    Returns
    -------
    groups_yx : ndarray of int32, shape (rows, columns)
        0 background, then 1, 2, ... in the order of their first pixel.
    groups : int
        Number of groups.
    """
    groups_yx, groups = ndimage.label(count_yx > 0, structure=TOUCHING)
    return groups_yx, int(groups)


def group_of(footprint: Footprint, groups_yx: np.ndarray) -> int:
    """Return the group that an object belongs to."""
    window, mask_yx = footprint.clipped(groups_yx.shape)
    return int(groups_yx[window][mask_yx][0])


def draw_depths(groups: int, *, rng: np.random.Generator) -> np.ndarray:
    """Draw the distance of each group from the focal plane: |N(0, 0.5)|, float64, shape (groups,)."""
    return np.abs(DEPTH_SD * rng.standard_normal(groups))


def depth_to_sigma(depths: np.ndarray, *, sigma_px: tuple[float, float], scaling: str) -> np.ndarray:
    """Convert depths to the width of the blur.

    Parameters
    ----------
    depths : ndarray of shape (groups,)
        0 is in focus; may be empty.
    sigma_px : (smallest, largest)
        Standard deviation in focus and at the edge of the range, in px.
    scaling : {"fixed", "deepest"}
        Where the largest blur is reached: at a depth of 1, or at the deepest group of each image.
        SOURCE SIMCEP does the latter, so that a single group always has the largest blur.

    Returns
    -------
    ndarray of float64, shape (groups,)
        In px.
    """
    smallest, largest = sigma_px
    edge = DEEPEST
    if scaling == "deepest":
        edge = depths.max(initial=0.0)
        if edge == 0:  # no group, or all groups exactly in focus
            return np.full(depths.shape, float(smallest))
    return smallest + (largest - smallest) * np.minimum(depths / edge, 1)


def gaussian_window(sigma_px: float, *, window_px: int) -> np.ndarray:
    """Return the weights of a Gaussian on `window_px` pixels (odd), with sum 1."""
    if window_px % 2 == 0 or window_px < 1:
        raise ValueError(
            f"defocus: expected a window with an odd width in px, found {window_px}. "
            f"Set focus.window_px to {window_px + 1} in the config."
        )
    distance = np.arange(window_px) - window_px // 2
    weights = np.exp(-0.5 * (distance / sigma_px) ** 2)
    return weights / weights.sum()


def scatter(
    planes: list[np.ndarray], groups_yx: np.ndarray, *, sigmas_px: np.ndarray, window_px: int
) -> list[np.ndarray]:
    """Blur the light of each group with the blur of the group.

    Parameters
    ----------
    planes : list of ndarray of float, shape (rows, columns)
        Light before the lens; light outside the groups is ignored.
    groups_yx : ndarray of int, shape (rows, columns)
        Group of each pixel, 0 for none.
    sigmas_px : ndarray of shape (groups,)
        Blur of group 1, 2, ...
    window_px : int, odd
        Side of the square over which a pixel's light is spread.

    Returns
    -------
    list of ndarray of float64, shape (rows, columns)
        Each source pixel distributes its whole value (scatter, not gather), so the sum of a plane is conserved
        except for light that leaves the image.

    Notes
    -----
    SOURCE SIMCEP does the same pixel by pixel. All pixels of a group have the same blur, so that the scatter
    of a group is a convolution, and a Gaussian is separable.
    """
    shape = groups_yx.shape
    reach = window_px // 2
    spread = [np.zeros(shape) for _ in planes]
    for group, window in enumerate(ndimage.find_objects(groups_yx), start=1):
        weights = gaussian_window(float(sigmas_px[group - 1]), window_px=window_px)
        wide = tuple(
            slice(max(part.start - reach, 0), min(part.stop + reach, size))
            for part, size in zip(window, shape, strict=True)
        )
        is_group_yx = groups_yx[wide] == group
        for plane_yx, spread_yx in zip(planes, spread, strict=True):
            light_yx = np.where(is_group_yx, plane_yx[wide], 0.0)
            for axis in (0, 1):
                light_yx = ndimage.correlate1d(light_yx, weights, axis=axis, mode="constant")
            spread_yx[wide] += light_yx
    return spread
