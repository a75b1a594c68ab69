"""Background light: uneven illumination, autofluorescence, and blotches."""

import math

import numpy as np

from cellmill.simulation.texture import draw_gradient_noise, draw_texture


def parabolic_illumination(shape: tuple[int, int], *, centre_shift: tuple[float, float]) -> np.ndarray:
    """Compute the illumination profile: a paraboloid, brightest at its centre.

    Parameters
    ----------
    shape : (rows, columns)
        Image in px, 2 pixels or more.
    centre_shift : (rows, columns)
        Offset of the brightest point from the image centre, as a fraction of the image's rows and columns.

    Returns
    -------
    ndarray of float64, shape (rows, columns)
        In [0, 1]; both bounds are reached.

    Notes
    -----
    SOURCE SIMCEP: 1 - r**2, scaled to [0, 1]. ASSUME contours are circular in px, even if the image is not square.
    """
    rows, columns = shape
    y = np.arange(rows) - (rows - 1) / 2 - centre_shift[0] * rows
    x = np.arange(columns) - (columns - 1) / 2 - centre_shift[1] * columns
    profile_yx = -(y[:, None] ** 2 + x[None, :] ** 2)
    return (profile_yx - profile_yx.min()) / (profile_yx.max() - profile_yx.min())


def draw_autofluorescence(shape: tuple[int, int], *, rng: np.random.Generator) -> np.ndarray:
    """Draw the autofluorescence of medium and plastic: a coarse texture over the image, float64 in [0, 1]."""
    # SOURCE SIMCEP: octaves 1 and 2, equally strong, without a bias.
    return draw_texture(shape, persistence=1, first_octave=1, octaves=2, bias=0, rng=rng)


def energy_of(light_yx: np.ndarray) -> float:
    """Compute the energy of an image: the sum of squares."""
    return float(np.sum(light_yx**2))


def scale_to_energy(background_yx: np.ndarray, *, energy: float, ratio: float) -> np.ndarray:
    """Scale a background so that its energy is `ratio` times the energy of the cells.

    Parameters
    ----------
    background_yx : ndarray of float, shape (rows, columns)
        Profile to scale.
    energy : float, >= 0
        Energy of the cells' light before the lens.
    ratio : float, >= 0
        sum(result**2) / energy.

    Returns
    -------
    ndarray of float64, shape (rows, columns)
        All zero if there are no cells or no background, because then the ratio is undefined.
    """
    own = energy_of(background_yx)
    if own == 0:
        return np.zeros(background_yx.shape)
    return background_yx * math.sqrt(ratio * energy / own)


def draw_background_noise(
    shape: tuple[int, int],
    *,
    fraction: float,
    period_px: tuple[float, float],
    octaves: int,
    persistence: float,
    amplitude: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray | None:
    """Draw the blotches of an image, or return None for an image without blotches.

    Parameters
    ----------
    shape : (rows, columns)
        Image in px.
    fraction : float, in [0, 1]
        Probability that the image has blotches. It is compared with the first draw of the stream, so a
        larger fraction adds blotches to more images and removes none.
    period_px, amplitude : (low, high)
        Uniform ranges of the distance between blotches and of their amplitude.
    octaves, persistence :
        As in `draw_gradient_noise`.
    rng : numpy.random.Generator
        Stream of the image's blotches.

    Returns
    -------
    ndarray of float64, shape (rows, columns), or None
        In [0, amplitude].
    """
    if rng.random() >= fraction:
        return None
    period, height = rng.uniform(*period_px), rng.uniform(*amplitude)
    return height * draw_gradient_noise(shape, period_px=period, octaves=octaves, persistence=persistence, rng=rng)
