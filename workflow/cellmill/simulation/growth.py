"""The shape of a cell over time: its outline deforms, its area doubles, and it elongates before division."""

import math

import numpy as np
from scipy.special import ndtr

from cellmill.simulation.shapes import VERTICES, displace_vertices, stretching, trace_outlines

# ASSUME elongation takes the last seventh of the cycle, as rounding and division of many cultured cells from G2 on
ELONGATION_PHASE = 0.85
# A disc stretched by this factor has the length and width of two adjacent discs of half its area.
LONGEST = math.sqrt(2)


def draw_latent(rng: np.random.Generator) -> np.ndarray:
    """Draw the latent variables of one outline: normal, shape (4, 10), two rows of displacements and two of angles."""
    return rng.standard_normal((4, VERTICES))


def deform(latent: np.ndarray, noise: np.ndarray, *, share: float) -> np.ndarray:
    """Advance the latent variables of an outline by one frame.

    Parameters
    ----------
    latent, noise : ndarray of shape (4, 10)
        From `draw_latent`.
    share : float, in [0, 1]
        Fraction of the variance that is replaced by noise.

    Returns
    -------
    ndarray of shape (4, 10)
        A stationary first-order autoregressive process: standard normal, with correlation sqrt(1 - share).
    """
    return math.sqrt(1 - share) * latent + math.sqrt(share) * noise


def vertices_of(latents: np.ndarray, *, radial_jitter: float, angular_jitter: float) -> np.ndarray:
    """Compute the vertices of outlines.

    Parameters
    ----------
    latents : ndarray of shape (outlines, 4, 10)
        From `draw_latent` or `deform`.
    radial_jitter, angular_jitter : float
        As in `cellmill.simulation.shapes.draw_vertices`.

    Returns
    -------
    ndarray of float64, shape (outlines, 10, 2)
        With the same distribution as `draw_vertices` in every frame: each displacement is uniform within its bounds and
        independent of the others, because a normal variable mapped by its distribution function is uniform.
    """
    uniform = np.moveaxis(2 * ndtr(latents) - 1, 1, 0)
    return displace_vertices(radial_jitter * uniform[:2], angular_jitter * uniform[2:])


def scale_at(phase: float | None) -> float:
    """Return the radius at a phase of the cycle, relative to the radius at mid-cycle.

    Parameters
    ----------
    phase : float, in [0, 1], or None
        0 at birth, 1 at division; None for a cell that does not grow.

    Returns
    -------
    float
        The area doubles exponentially. Relative to mid-cycle, so that the mean area over all phases is within 2 % of
        the area of cells that do not grow.
    """
    return 1.0 if phase is None else 2 ** ((phase - 0.5) / 2)


def stretch_at(phase: float | None) -> float:
    """Return the length of a cell along its axis, relative to an unstretched cell; its width is the inverse."""
    if phase is None or phase <= ELONGATION_PHASE:
        return 1.0
    return float(LONGEST ** ((phase - ELONGATION_PHASE) / (1 - ELONGATION_PHASE)))


def trace_bodies(
    vertices: np.ndarray, *, radii_px: np.ndarray, stretches: np.ndarray, axes: np.ndarray, largest_px: float
) -> np.ndarray:
    """Trace the outlines of cells or nuclei around their centres.

    Parameters
    ----------
    vertices : ndarray of shape (outlines, 10, 2)
        Around the unit circle.
    radii_px, stretches, axes : ndarray of shape (outlines,)
        Radius, stretch and axis of each outline, the last two as in `stretching`.
    largest_px : float, > 0
        Largest possible radius, including the stretch.

    Returns
    -------
    ndarray of float64, shape (outlines, points, 2)
        Row and column in px.
    """
    outlines_px = trace_outlines(vertices, radii_px=radii_px, largest_px=largest_px)
    for index in np.flatnonzero(stretches != 1):
        outlines_px[index] = outlines_px[index] @ stretching(float(stretches[index]), axis=float(axes[index]))
    return outlines_px
