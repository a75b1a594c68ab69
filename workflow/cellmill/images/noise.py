"""Noise of an image."""

import math

import numpy as np
from scipy import ndimage


def measure_noise(image_yx: np.ndarray, *, is_known_yx: np.ndarray) -> float:
    """Estimate the standard deviation of white noise.

    Parameters
    ----------
    image_yx : ndarray of float, shape (rows, columns)
    is_known_yx : ndarray of bool, shape (rows, columns)
        Pixels to use.

    Returns
    -------
    float
        In the image's unit. For noise smoothed by a lens or a JPEG, only the remaining differences between
        neighbouring pixels are measured.

    Notes
    -----
    The difference of two Laplacians (Immerkaer 1996, doi:10.1006/cviu.1996.0060) is 0 for slopes and curvature. The
    standard deviation is clipped at four sigma in three iterations, which excludes specks. Unlike the median absolute
    deviation, it is not affected by rounding to whole numbers.
    """
    kernel = np.array([1.0, -2.0, 1.0])
    fine_yx = ndimage.correlate1d(ndimage.correlate1d(image_yx, kernel, axis=0, mode="mirror"), kernel, axis=1)
    values = np.abs(fine_yx[is_known_yx])
    scale = float(values.mean()) * math.sqrt(math.pi / 2)
    for _ in range(3):
        scale = math.sqrt(float(np.mean(values[values <= 4 * scale] ** 2)))
    return scale / 6
