"""Measure the features of one object, from its own pixels only, so that no result depends on windows."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from skimage import measure
from skimage.feature import graycomatrix, graycoprops

from cellmill.objects.features import DISTANCES_PX, FEATURES, Column

# Grey levels of textures. With more, most pairs of levels are missing in an object of a few hundred pixels.
LEVELS = 32
# Directions of the two pixels of a pair; their counts are summed, so that a turned object has nearly the same texture.
ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
# ASSUME axes that differ by less than this share have no direction: rounding errors turn them
SAME_AXES = 1e-9


class UnmeasuredObject:
    """One object, whose features are measured on demand.

    Parameters
    ----------
    mask_yx : ndarray of bool, shape (rows, columns)
        The object in its bounding box; it touches all four sides.
    channels : sequence of ndarray, shape (rows, columns)
        Raw intensities of each measured channel in the same box, counts.
    ranges_counts : sequence of (float, float)
        Darkest and brightest grey level of textures, for each channel.
    pixel_size_um : float or None
        Edge length of a pixel.
    """

    def __init__(
        self,
        mask_yx: np.ndarray,
        channels: Sequence[np.ndarray],
        *,
        ranges_counts: Sequence[tuple[float, float]],
        pixel_size_um: float | None,
    ) -> None:
        self._mask_yx = mask_yx
        self._channels = channels
        self._ranges_counts = ranges_counts
        self._edge_um = np.nan if pixel_size_um is None else pixel_size_um
        self._region = measure.regionprops(mask_yx.astype(np.uint8))[0]

    def measure(self, columns: Sequence[Column]) -> list[float]:
        """Measure some columns.

        Parameters
        ----------
        columns : sequence of Column
            From `cellmill.objects.features.list_columns`. A column of a channel that the image lacks is NaN.

        Returns
        -------
        list of float
            One value for each column, in its unit; NaN where a feature is undefined.
        """
        textures = {
            place: measure_textures(self._mask_yx, self._channels[place], range_counts=self._ranges_counts[place])
            for place in dict.fromkeys(column.channels[0] for column in columns if column.distance_px)
            if place < len(self._channels)
        }
        values = []
        for column in columns:
            if any(place >= len(self._channels) for place in column.channels):
                values.append(np.nan)
            elif column.distance_px:
                values.append(textures[column.channels[0]][column.feature, column.distance_px])
            elif column.channels:
                inside = [np.asarray(self._channels[place][self._mask_yx], np.float64) for place in column.channels]
                values.append(OF_INTENSITIES[column.feature](*inside))
            else:
                value = OF_SHAPE[column.feature](self._region)
                factor = self._edge_um ** (2 if FEATURES[column.feature]["unit"] == "px2" else 1)
                values.append(value * factor if column.is_in_um else value)
        return [float(value) for value in values]


def measure_textures(
    mask_yx: np.ndarray, image_yx: np.ndarray, *, range_counts: tuple[float, float]
) -> dict[tuple[str, int], float]:
    """Measure the texture of an object by the co-occurrence of grey levels.

    Parameters
    ----------
    mask_yx : ndarray of bool, shape (rows, columns)
        The object. Only pairs of pixels that both belong to it are counted.
    image_yx : ndarray of any real dtype, shape (rows, columns)
        Intensities, counts.
    range_counts : (float, float)
        Intensities of the first and the last of 32 grey levels; those beyond are counted as the nearest.

    Returns
    -------
    dict
        (feature, distance in px) -> value; NaN where it is undefined.

    Notes
    -----
    Haralick, Shanmugam and Dinstein 1973, doi:10.1109/TSMC.1973.4309314. Each pair is counted in both orders, and the
    counts of the four directions are summed.
    """
    low, high = range_counts
    share_yx = (image_yx.astype(np.float64) - low) / (high - low) if high > low else np.zeros(image_yx.shape)
    levels_yx = np.clip(np.floor(share_yx * LEVELS), 0, LEVELS - 1).astype(np.uint8)
    # Level 0 is what lies outside the object, and its pairs are left out.
    counts = graycomatrix(
        np.where(mask_yx, levels_yx + 1, 0).astype(np.uint8), DISTANCES_PX, ANGLES, levels=LEVELS + 1, symmetric=True
    )[1:, 1:].sum(axis=3, keepdims=True)
    results: dict[tuple[str, int], float] = {}
    for number, distance_px in enumerate(DISTANCES_PX):
        pairs = counts[:, :, number : number + 1]
        for name in ("contrast", "homogeneity", "energy", "correlation"):
            is_level = name == "correlation" and np.count_nonzero(pairs.sum(axis=0)) == 1
            is_defined = bool(pairs.any()) and not is_level
            value = float(graycoprops(pairs, name)[0, 0]) if is_defined else np.nan
            results[f"texture_{name}", distance_px] = value
    return results


def measure_feret(mask_yx: np.ndarray) -> float:
    """Measure the largest distance between two points of an outline, px.

    Parameters
    ----------
    mask_yx : ndarray of bool, shape (rows, columns)
        A convex object in its bounding box.

    Notes
    -----
    Equals `feret_diameter_max` of scikit-image, which compares all points of the outline and therefore needs memory
    that grows with the square of their number.
    """
    points = []
    for lines_yx, is_turned in ((mask_yx, False), (mask_yx.T, True)):
        number = np.arange(len(lines_yx))
        first = lines_yx.argmax(axis=1) - 0.5
        last = lines_yx.shape[1] - 0.5 - lines_yx[:, ::-1].argmax(axis=1)
        points += [np.stack((ends, number) if is_turned else (number, ends), axis=1) for ends in (first, last)]
    corners = np.concatenate(points)
    return float(pdist(corners[ConvexHull(corners).vertices]).max())


def _form_factor(region: Any) -> float:
    return 4 * np.pi * region.area / region.perimeter**2 if region.perimeter else np.nan


def _aspect_ratio(region: Any) -> float:
    minor_px = region.axis_minor_length
    return region.axis_major_length / minor_px if minor_px else np.nan


def _orientation_deg(region: Any) -> float:
    major_px = region.axis_major_length
    if major_px - region.axis_minor_length <= SAME_AXES * major_px:
        return np.nan
    return float(np.degrees(region.orientation))


def _holes(region: Any) -> float:
    parts = measure.label(region.image, connectivity=2).max()
    return float(parts - region.euler_number)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Pearson correlation of two channels, NaN if one of them is constant."""
    if first.min() == first.max() or second.min() == second.max():
        return np.nan
    return float(np.corrcoef(first, second)[0, 1])


OF_SHAPE: dict[str, Callable[[Any], float]] = {
    "perimeter": lambda region: region.perimeter,
    "feret_diameter_max": lambda region: measure_feret(region.image_convex),
    "area_convex": lambda region: region.area_convex,
    "extent": lambda region: region.extent,
    "form_factor": _form_factor,
    "aspect_ratio": _aspect_ratio,
    "orientation": _orientation_deg,
    "euler_number": lambda region: region.euler_number,
    "holes": _holes,
}
OF_INTENSITIES: dict[str, Callable[..., float]] = {
    "intensity_mean": np.mean,
    "intensity_std": np.std,
    "intensity_median": np.median,
    "intensity_min": np.min,
    "intensity_max": np.max,
    "intensity_integrated": np.sum,
    "channel_correlation": _correlation,
}
