"""The camera: light becomes counts, with noise, an offset and a full scale."""

import numpy as np

LARGEST_COUNT = np.iinfo(np.uint16).max


def expose(
    light_yx: np.ndarray,
    *,
    full_scale_counts: float,
    offset_counts: float,
    noise: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Record an image.

    Parameters
    ----------
    light_yx : ndarray of float, shape (rows, columns)
        Fraction of the full scale; what lies outside [0, 1] is clipped before the noise.
    full_scale_counts : float, > 0
        Counts above the offset of a pixel at 1, where the camera saturates.
    offset_counts : float, >= 0
        Counts of a dark pixel.
    noise : float, >= 0
        Standard deviation of the Gaussian noise, as a fraction of the full scale.
    rng : numpy.random.Generator
        Stream of the image's camera; one draw a pixel.

    Returns
    -------
    ndarray of uint16, shape (rows, columns)
        Camera counts in [0, offset + full scale].

    Raises
    ------
    ValueError
        If saturated pixels do not fit 16 bits.

    Notes
    -----
    SOURCE SIMCEP clips after the noise as well, at 0: with an offset of 0 this does the same. An offset
    keeps the noise of dark pixels symmetric, as real cameras do.
    """
    saturated = offset_counts + full_scale_counts
    if saturated > LARGEST_COUNT:
        raise ValueError(
            f"camera: expected offset and full scale to make {LARGEST_COUNT} counts or fewer, found "
            f"{saturated:g}. Lower full_scale_counts in the config."
        )
    counts_yx = np.clip(light_yx, 0, 1) + noise * rng.standard_normal(light_yx.shape)
    counts_yx = offset_counts + full_scale_counts * counts_yx
    return np.rint(np.clip(counts_yx, 0, saturated)).astype(np.uint16)
