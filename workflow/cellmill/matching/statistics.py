"""Image statistics to compare real and simulated images: objects, contrast, texture, blur, noise, background.

Both kinds of image are measured in the same way, in counts and pixels. A statistic that cannot be measured on an image
is NaN. Labels: 0 background, 1 and up objects, 65535 unknown pixels, which are ignored.
"""

import math

import numpy as np
from scipy import ndimage

from cellmill.images.noise import measure_noise
from cellmill.images.stored import IGNORE_LABEL
from cellmill.matching.distance import distance, permutation_interval
from cellmill.matching.ground import autocorrelation_length, measure_unevenness, smooth_ground
from cellmill.matching.otsu import number_objects, otsu_objects
from cellmill.matching.outlines import FEWEST_OBJECTS, measure_shapes
from cellmill.matching.statistic_names import STATISTICS

__all__ = ["STATISTICS", "distance", "measure_image", "otsu_objects", "permutation_interval"]


FEWEST_PIXELS = 100  # of background
SMALLEST_GROUND_PX = 16.0  # smallest sigma of the Gaussian mean that interpolates the background under objects
MARGINS_PX = (10, 6, 3, 1)  # distance of the background from objects; the first that leaves enough background is used
ENOUGH_BACKGROUND = 0.15  # of the known pixels
FEWEST_INSIDE_PX = 6  # in the inner half of an object, for its texture
REACH_PX = 5.0  # distance from an outline within which the steepest slope is searched
SECTORS = 8  # of an outline: an annotation error of a pixel or two is about constant within a sector
DERIVATIVE_SIGMA_PX = 1.0
OUTLINE_SIGMA_PX = 1.5


def measure_image(image_yx: np.ndarray, *, labels_yx: np.ndarray) -> dict[str, float]:
    """Measure one image.

    Parameters
    ----------
    image_yx : ndarray of shape (rows, columns), any real dtype
        Values of any range.
    labels_yx : ndarray of int, shape (rows, columns)
        Objects of the image.

    Returns
    -------
    dict
        Value of each of `STATISTICS`; NaN if it is undefined (no object, no background, too few objects).

    Raises
    ------
    ValueError
        If image and labels differ in shape.
    """
    if image_yx.shape != labels_yx.shape:
        raise ValueError(
            f"statistics: expected labels with the shape of the image, {image_yx.shape}, found {labels_yx.shape}. "
            "Use labels in the geometry of the image."
        )
    real_yx = image_yx.astype(np.float64)
    is_known_yx = labels_yx != IGNORE_LABEL
    objects_yx = number_objects(np.where(is_known_yx, labels_yx, 0))
    is_object_yx = objects_yx > 0
    found = dict.fromkeys(STATISTICS, math.nan)
    known = int(np.count_nonzero(is_known_yx))
    if known == 0:
        return found
    found["foreground_fraction"] = int(np.count_nonzero(is_object_yx)) / known
    found["objects_per_mpx"] = float(objects_yx.max()) / known * 1e6
    if is_object_yx.any():
        found |= measure_shapes(objects_yx)
    away_yx, near = _distance(is_object_yx | ~is_known_yx)
    is_ground_yx = is_known_yx & ~is_object_yx
    for margin in MARGINS_PX:
        is_away_yx = is_ground_yx & (away_yx > margin)
        if np.count_nonzero(is_away_yx) >= ENOUGH_BACKGROUND * known:
            break
    if np.count_nonzero(is_away_yx) < FEWEST_PIXELS:
        return found
    found["background_level"] = float(np.median(real_yx[is_away_yx]))
    noise = found["noise"] = measure_noise(real_yx, is_known_yx=is_away_yx)
    sigma_px = max(SMALLEST_GROUND_PX, 2 * found["radius_px"] if math.isfinite(found["radius_px"]) else 0.0)
    ground_yx = smooth_ground(real_yx, is_ground_yx=is_away_yx, sigma_px=sigma_px)
    above_yx = np.where(is_known_yx, real_yx - ground_yx, 0.0)
    found["autocorrelation_px"] = autocorrelation_length(above_yx, noise=noise)
    if not is_object_yx.any():
        return found
    contrasts = _contrasts(above_yx, objects_yx)
    contrast = found["contrast"] = float(np.median(contrasts))
    # In phase contrast, for example, the contrast can be close to 0; use the noise as unit to avoid meaningless ratios.
    unit = max(abs(contrast), noise)
    if unit <= 1e-9 * max(1.0, abs(found["background_level"])):
        return found
    if contrasts.size >= FEWEST_OBJECTS:
        found["contrast_spread"] = float(np.subtract(*np.quantile(contrasts, [0.9, 0.1]))) / unit
    found["background_unevenness"] = measure_unevenness(real_yx, is_away_yx, noise=noise) / unit
    depth_yx, far = _distance(~is_object_yx)
    found["texture"] = _texture(above_yx, objects_yx, depth_yx, noise=noise) / unit
    found["edge_width_px"] = _edge_width(
        above_yx, objects_yx, signed_yx=depth_yx - away_yx, nearest=np.where(is_object_yx, far, near),
        is_known_yx=is_known_yx, contrasts=contrasts,
    )  # fmt: skip
    return found


def _distance(is_there_yx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of each pixel to the nearest True pixel, and the row and column of that pixel."""
    if not is_there_yx.any():
        return np.full(is_there_yx.shape, float(sum(is_there_yx.shape))), np.indices(is_there_yx.shape)
    away_yx, nearest = ndimage.distance_transform_edt(~is_there_yx, return_indices=True)
    return away_yx, nearest


def _contrasts(above_yx: np.ndarray, objects_yx: np.ndarray) -> np.ndarray:
    """Compute the median of each object's pixels."""
    is_object_yx = objects_yx > 0
    number, value = objects_yx[is_object_yx] - 1, above_yx[is_object_yx]
    value = value[np.lexsort((value, number))]
    areas = np.bincount(number)
    first = np.cumsum(areas) - areas
    return (value[first + (areas - 1) // 2] + value[first + areas // 2]) / 2


def _texture(above_yx: np.ndarray, objects_yx: np.ndarray, depth_yx: np.ndarray, *, noise: float) -> float:
    """Compute the median over objects of the sd of the inner half of their pixels, less the noise."""
    inside = objects_yx > 0
    number, depth, value = objects_yx[inside] - 1, depth_yx[inside], above_yx[inside]
    order = np.lexsort((depth, number))
    number, value = number[order], value[order]
    areas = np.bincount(number)
    rank = np.arange(number.size) - np.repeat(np.cumsum(areas) - areas, areas)
    is_deep = rank >= np.repeat(areas // 2, areas)
    number, value = number[is_deep], value[is_deep]
    counts = np.bincount(number, minlength=areas.size)
    means = np.bincount(number, weights=value) / counts
    variances = np.bincount(number, weights=(value - means[number]) ** 2) / np.maximum(counts - 1, 1)
    enough = variances[counts >= FEWEST_INSIDE_PX]
    return float(np.median(np.sqrt(np.maximum(enough - noise**2, 0.0)))) if enough.size else math.nan


def _edge_width(
    above_yx: np.ndarray,
    objects_yx: np.ndarray,
    *,
    signed_yx: np.ndarray,
    nearest: np.ndarray,
    is_known_yx: np.ndarray,
    contrasts: np.ndarray,
) -> float:
    """Estimate the blur of outlines: the steepest slope of a blurred step is contrast / (sigma sqrt(2 pi))."""
    # Distances between pixel centres jump from -1 to 1 at an outline; smoothing locates the outline between pixels.
    smooth_yx = ndimage.gaussian_filter(signed_yx - 0.5 * np.sign(signed_yx), OUTLINE_SIGMA_PX, mode="nearest")
    is_near_yx = is_known_yx & (np.abs(smooth_yx) <= REACH_PX)
    row, column = np.nonzero(is_near_yx)
    signed = smooth_yx[is_near_yx]
    # the object that the outline belongs to: the object at this pixel, or the nearest object
    own = objects_yx[row, column]
    owner = np.where(own > 0, own, objects_yx[nearest[0][is_near_yx], nearest[1][is_near_yx]])
    step = [part[is_near_yx] for part in np.gradient(smooth_yx)]
    slopes = [
        ndimage.gaussian_filter(above_yx, DERIVATIVE_SIGMA_PX, order=order, mode="nearest")[is_near_yx]
        for order in ((1, 0), (0, 1))
    ]
    slope = (step[0] * slopes[0] + step[1] * slopes[1]) / np.maximum(np.hypot(*step), 1e-6)
    sector = np.floor((np.arctan2(step[0], step[1]) / (2 * np.pi) + 0.5) * SECTORS).astype(int) % SECTORS
    bins = 2 * int(REACH_PX) + 1
    place = np.clip(np.rint(signed).astype(int) + int(REACH_PX), 0, bins - 1)
    is_owned = owner > 0
    key = ((owner - 1) * SECTORS + sector) * bins + place
    size = contrasts.size * SECTORS * bins
    sums, counts = (
        np.bincount(key[is_owned], weights=weights, minlength=size).reshape(contrasts.size, -1, bins)
        for weights in (slope[is_owned], None)
    )
    enough = counts >= 3
    means = np.where(enough, sums / np.maximum(counts, 1), 0.0) * np.sign(contrasts)[:, None, None]
    steepest = means.max(axis=2)
    is_judged = (np.count_nonzero(enough, axis=2) >= bins // 2) & (np.abs(contrasts) > 0)[:, None]
    relative = (steepest / np.maximum(np.abs(contrasts), 1e-300)[:, None])[is_judged]
    relative = relative[relative > 0]
    if relative.size == 0:
        return math.nan
    total = 1 / (float(np.median(relative)) * math.sqrt(2 * math.pi))
    return math.sqrt(max(total**2 - DERIVATIVE_SIGMA_PX**2, 0.0))
