"""The camera: convert light to counts, with noise, an offset, saturation and optional JPEG compression."""

import imagecodecs
import numpy as np

LARGEST_COUNT = np.iinfo(np.uint16).max
LARGEST_OF_8_BITS = np.iinfo(np.uint8).max


# SOURCE Matlab's imwrite, which SIMCEP calls, stores one colour per 2 x 2 px. BBBC005 confirms this: its noise changes
# at every second pixel, and edges of the cell stain appear in the other stain (see resources/scenes/bbbc005.yaml).
COLOUR_SUBSAMPLING = "420"


def expose(
    light_yx: np.ndarray,
    *,
    full_scale_counts: float,
    offset_counts: float,
    noise: float,
    photons: float | None = None,
    jpeg_quality: int | None = None,
    rng: np.random.Generator,
) -> np.ndarray:
    """Convert the light of one image to camera counts.

    Parameters
    ----------
    light_yx : ndarray of float, shape (rows, columns)
        Fraction of the full scale; values outside [0, 1] are clipped before noise is added.
    full_scale_counts : float, > 0
        Counts above the offset of a pixel at 1, where the camera saturates.
    offset_counts : float, >= 0
        Counts of a dark pixel.
    noise : float, >= 0
        Standard deviation of the Gaussian noise, as a fraction of the full scale.
    photons : float, > 0, or None
        Photons of a pixel at 1, for shot noise; None for no shot noise. If it equals full_scale_counts and noise is 0,
        each count stands for one photon.
    jpeg_quality : int, 1 to 100, or None
        Quality of a grey 8-bit JPEG that the counts are encoded to and decoded from; None for no compression.
    rng : numpy.random.Generator
        Stream of the image's camera; one normal draw per pixel, preceded by one Poisson draw if `photons` is set.

    Returns
    -------
    ndarray of uint8 or uint16, shape (rows, columns)
        Camera counts in [0, offset + full scale]; uint8 if they all fit.

    Raises
    ------
    ValueError
        If saturated pixels do not fit into 16 bits, or into 8 bits with JPEG compression.

    Notes
    -----
    SOURCE SIMCEP also clips at 0 after adding noise, as does this function with an offset of 0. An offset
    keeps the noise of dark pixels symmetric, as in real cameras.
    """
    saturated = offset_counts + full_scale_counts
    limit = LARGEST_COUNT if jpeg_quality is None else LARGEST_OF_8_BITS
    if saturated > limit:
        raise ValueError(
            f"camera: expected offset plus full scale to be at most {limit} counts, found "
            f"{saturated:g}. Lower full_scale_counts in the config."
        )
    signal_yx = np.clip(light_yx, 0, 1)
    if photons is not None:
        signal_yx = rng.poisson(photons * signal_yx) / photons
    counts_yx = offset_counts + full_scale_counts * (signal_yx + noise * rng.standard_normal(light_yx.shape))
    dtype = np.uint8 if saturated <= LARGEST_OF_8_BITS else np.uint16
    counts_yx = np.rint(np.clip(counts_yx, 0, saturated)).astype(dtype)
    if jpeg_quality is not None:
        counts_yx = imagecodecs.jpeg_decode(imagecodecs.jpeg_encode(counts_yx, level=jpeg_quality))
    return counts_yx


def pack_stains(counts_cyx: np.ndarray, *, jpeg_quality: int) -> np.ndarray:
    """Encode three stains as red, green and blue of one colour JPEG, and return them decoded.

    Parameters
    ----------
    counts_cyx : ndarray of uint8, shape (3, rows, columns)
        Cells, organelles, nuclei.
    jpeg_quality : int, 1 to 100

    Returns
    -------
    ndarray of uint8, shape (3, rows, columns)
        Fine detail of each stain leaves traces in the others.
    """
    packed = imagecodecs.jpeg_encode(
        np.ascontiguousarray(np.moveaxis(counts_cyx, 0, -1)), level=jpeg_quality, subsampling=COLOUR_SUBSAMPLING
    )
    return np.ascontiguousarray(np.moveaxis(imagecodecs.jpeg_decode(packed), -1, 0))
