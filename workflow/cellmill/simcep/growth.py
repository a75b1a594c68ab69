"""The body of a cell over time: an outline that deforms, an area that doubles, a long shape before the division."""

import math

import numpy as np
from scipy.special import ndtr

from cellmill.simcep.shapes import VERTICES, displace_vertices, stretching, trace_outlines

# ASSUME a seventh of the cycle, as the rounding and division of many cultured cells seen from G2 on
ELONGATION_PHASE = 0.85
# A disc stretched by this has the length of its two halves as discs side by side, and their width.
LONGEST = math.sqrt(2)


def draw_latent(rng: np.random.Generator) -> np.ndarray:
    """Draw what the outline of one cell follows: normal numbers, shape (4, 10), two displacements and two turns."""
    return rng.standard_normal((4, VERTICES))


def deform(latent: np.ndarray, noise: np.ndarray, *, share: float) -> np.ndarray:
    """Go on by one frame.

    Parameters
    ----------
    latent, noise : ndarray of shape (4, 10)
        From `draw_latent`.
    share : float, in [0, 1]
        Share of the variance that is drawn anew.

    Returns
    -------
    ndarray of shape (4, 10)
        A stationary autoregression of order one: as normal as before, correlated by sqrt(1 - share).
    """
    return math.sqrt(1 - share) * latent + math.sqrt(share) * noise


def vertices_of(latents: np.ndarray, *, radial_jitter: float, angular_jitter: float) -> np.ndarray:
    """Give the vertices of outlines.

    Parameters
    ----------
    latents : ndarray of shape (outlines, 4, 10)
        From `draw_latent` or `deform`.
    radial_jitter, angular_jitter : float
        As in `cellmill.simcep.shapes.draw_vertices`.

    Returns
    -------
    ndarray of float64, shape (outlines, 10, 2)
        With the same law as `draw_vertices` in every frame: each displacement is uniform in its bounds and
        independent of the others, because the distribution function of a normal number is uniform.
    """
    uniform = np.moveaxis(2 * ndtr(latents) - 1, 1, 0)
    return displace_vertices(radial_jitter * uniform[:2], angular_jitter * uniform[2:])


def scale_at(phase: float | None) -> float:
    """Give the radius at a phase of the cycle, relative to the radius in the middle of it.

    Parameters
    ----------
    phase : float, in [0, 1], or None
        0 after birth, 1 at the division; None for a cell that does not grow.

    Returns
    -------
    float
        The area doubles exponentially. Relative to the middle, so that the mean area of cells at all phases is that of
        cells that do not grow, but for 2 %.
    """
    return 1.0 if phase is None else 2 ** ((phase - 0.5) / 2)


def stretch_at(phase: float | None) -> float:
    """Give the length of a cell along its axis, relative to a cell that is not stretched; its width is the inverse."""
    if phase is None or phase <= ELONGATION_PHASE:
        return 1.0
    return float(LONGEST ** ((phase - ELONGATION_PHASE) / (1 - ELONGATION_PHASE)))


def trace_bodies(
    vertices: np.ndarray, *, radii_px: np.ndarray, stretches: np.ndarray, axes: np.ndarray, largest_px: float
) -> np.ndarray:
    """Trace the outlines of some cells, or of what is in them, around their centres.

    Parameters
    ----------
    vertices : ndarray of shape (outlines, 10, 2)
        Around the unit circle.
    radii_px, stretches, axes : ndarray of shape (outlines,)
        Radius, stretch and axis of each, the two last as in `stretching`.
    largest_px : float, > 0
        Largest radius there may be, stretched.

    Returns
    -------
    ndarray of float64, shape (outlines, points, 2)
        Row and column in px.
    """
    outlines_px = trace_outlines(vertices, radii_px=radii_px, largest_px=largest_px)
    for index in np.flatnonzero(stretches != 1):
        outlines_px[index] = outlines_px[index] @ stretching(float(stretches[index]), axis=float(axes[index]))
    return outlines_px
