"""Objects where nobody annotated any: Otsu's threshold, and the watershed of touching ones."""

import math

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from cellmill.simcep.ground import measure_noise

TOUCHING = np.ones((3, 3), dtype=bool)
SMALLEST_OBJECT_PX = 12
SPECK_FRACTION = 0.1  # of the area of the object that the median foreground pixel lies in
SMALLEST_SEPARATION = 3  # of the two sides, in standard deviations of the smoothed noise


def otsu_objects(image_yx: np.ndarray, *, split_touching: bool = True) -> np.ndarray:
    """Find objects where nobody annotated any.

    Parameters
    ----------
    image_yx : ndarray of shape (rows, columns), any real dtype
        Objects are brighter or darker than the ground and cover less than half of the image.
    split_touching : bool
        Cut objects apart at their waists.

    Returns
    -------
    ndarray of int32, shape (rows, columns)
        0 background, then 1, 2, ...

    Notes
    -----
    Otsu's threshold (1979, doi:10.1109/TSMC.1979.4310076) of the image smoothed by 1 px; the rarer side is the objects,
    the brighter one where both are as large. No object is found where the medians of the two sides lie closer than
    three standard deviations of the smoothed noise. Holes are filled. Specks are left out: what is smaller than 12 px
    or than a tenth of the object in which the median foreground pixel lies. Objects are cut by the watershed of the
    distance to the ground, smoothed by a sixth of its median peak, so that a ragged outline makes no cuts.
    """
    real_yx = image_yx.astype(np.float64)
    smooth_yx = ndimage.gaussian_filter(real_yx, 1.0, mode="nearest")
    empty_yx = np.zeros(image_yx.shape, dtype=np.int32)
    if smooth_yx.max() - smooth_yx.min() <= 1e-9 * max(1.0, float(np.abs(smooth_yx).max())):
        return empty_yx
    is_bright_yx = smooth_yx > threshold_otsu(smooth_yx)
    # white noise that is smoothed by sigma keeps 1 / (2 sqrt(pi) sigma) of its sd
    noise = measure_noise(real_yx, is_known_yx=np.ones(image_yx.shape, dtype=bool)) / (2 * math.sqrt(math.pi))
    separation = float(np.median(smooth_yx[is_bright_yx]) - np.median(smooth_yx[~is_bright_yx]))
    if separation < SMALLEST_SEPARATION * noise:
        return empty_yx
    is_object_yx = is_bright_yx if 2 * np.count_nonzero(is_bright_yx) <= is_bright_yx.size else ~is_bright_yx
    pieces_yx, pieces = ndimage.label(ndimage.binary_fill_holes(is_object_yx), structure=TOUCHING)
    areas = np.bincount(pieces_yx.ravel(), minlength=pieces + 1)
    areas[0] = 0
    ranked = np.sort(areas)
    middle = ranked[np.searchsorted(np.cumsum(ranked), ranked.sum() / 2)]
    is_kept = areas >= max(SMALLEST_OBJECT_PX, SPECK_FRACTION * middle)
    kept_yx = is_kept[pieces_yx]
    return split_objects(kept_yx) if split_touching else number_objects(np.where(kept_yx, pieces_yx, 0))


def split_objects(is_object_yx: np.ndarray) -> np.ndarray:
    """Cut touching objects apart, by the watershed of the smoothed distance to the ground.

    Parameters
    ----------
    is_object_yx : ndarray of bool, shape (rows, columns)

    Returns
    -------
    ndarray of int32, shape (rows, columns)
        0 background, then 1, 2, ...; every piece keeps one number at least.
    """
    pieces_yx, pieces = ndimage.label(is_object_yx, structure=TOUCHING)
    if pieces == 0:
        return np.zeros(is_object_yx.shape, dtype=np.int32)
    depth_yx = ndimage.distance_transform_edt(is_object_yx)
    typical = float(np.median(ndimage.maximum(depth_yx, pieces_yx, np.arange(1, pieces + 1))))
    smooth_yx = ndimage.gaussian_filter(depth_yx, max(1.0, typical / 6))
    side = 2 * math.ceil(max(1.0, typical / 2)) + 1
    is_peak_yx = is_object_yx & (smooth_yx >= ndimage.maximum_filter(smooth_yx, size=side))
    seeds_yx, seeds = ndimage.label(is_peak_yx, structure=TOUCHING)
    # a thin piece beside a thick one may have no peak of its own
    seedless = np.setdiff1d(np.arange(1, pieces + 1), pieces_yx[is_peak_yx])
    for number, piece in enumerate(seedless, start=seeds + 1):
        seeds_yx[ndimage.maximum_position(depth_yx, pieces_yx, piece)] = number
    return number_objects(watershed(-smooth_yx, seeds_yx, mask=is_object_yx))


def number_objects(labels_yx: np.ndarray) -> np.ndarray:
    """Renumber labels as 1, 2, ... in their order; 0 stays."""
    known, inverse = np.unique(labels_yx, return_inverse=True)
    numbers = inverse.reshape(labels_yx.shape) + (0 if known[0] == 0 else 1)
    return numbers.astype(np.int32)
