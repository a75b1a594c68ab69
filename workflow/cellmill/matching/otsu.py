"""Find objects in images without annotation: Otsu's threshold, and a watershed to split touching objects."""

import math

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from cellmill.images.noise import measure_noise

TOUCHING = np.ones((3, 3), dtype=bool)
SMALLEST_OBJECT_PX = 12
SPECK_FRACTION = 0.1  # of the area of the object that contains the median foreground pixel
SMALLEST_SEPARATION = 3  # between foreground and background, in standard deviations of the smoothed noise


def otsu_objects(image_yx: np.ndarray, *, split_touching: bool = True) -> np.ndarray:
    """Find objects in an image without annotation.

    Parameters
    ----------
    image_yx : ndarray of shape (rows, columns), any real dtype
        Objects are brighter or darker than the background and cover less than half of the image.
    split_touching : bool
        Whether to split touching objects at narrow necks.

    Returns
    -------
    ndarray of int32, shape (rows, columns)
        0 background, then 1, 2, ...

    Notes
    -----
    Otsu's threshold (1979, doi:10.1109/TSMC.1979.4310076) is applied to the image smoothed by 1 px. Objects are the
    side with fewer pixels, or the brighter side if both are equally large. No object is found if the medians of the two
    sides differ by less than three standard deviations of the smoothed noise. Holes are filled. Specks are removed:
    objects below 12 px or a tenth of the area of the object that contains the median foreground pixel. Touching objects
    are split by the watershed of the distance to the background, smoothed by a sixth of its median peak, so that a
    ragged outline causes no splits.
    """
    real_yx = image_yx.astype(np.float64)
    smooth_yx = ndimage.gaussian_filter(real_yx, 1.0, mode="nearest")
    empty_yx = np.zeros(image_yx.shape, dtype=np.int32)
    if smooth_yx.max() - smooth_yx.min() <= 1e-9 * max(1.0, float(np.abs(smooth_yx).max())):
        return empty_yx
    is_bright_yx = smooth_yx > threshold_otsu(smooth_yx)
    # Gaussian smoothing by sigma scales the sd of white noise by 1 / (2 sqrt(pi) sigma)
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
    """Split touching objects by the watershed of the smoothed distance to the background.

    Parameters
    ----------
    is_object_yx : ndarray of bool, shape (rows, columns)

    Returns
    -------
    ndarray of int32, shape (rows, columns)
        0 background, then 1, 2, ...; every connected component keeps at least one label.
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
    # a thin component close to a thick component may have no peak
    seedless = np.setdiff1d(np.arange(1, pieces + 1), pieces_yx[is_peak_yx])
    for number, piece in enumerate(seedless, start=seeds + 1):
        seeds_yx[ndimage.maximum_position(depth_yx, pieces_yx, piece)] = number
    return number_objects(watershed(-smooth_yx, seeds_yx, mask=is_object_yx))


def number_objects(labels_yx: np.ndarray) -> np.ndarray:
    """Renumber labels as 1, 2, ... in their order; 0 is kept."""
    known, inverse = np.unique(labels_yx, return_inverse=True)
    numbers = inverse.reshape(labels_yx.shape) + (0 if known[0] == 0 else 1)
    return numbers.astype(np.int32)
