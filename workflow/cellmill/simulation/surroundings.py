"""All light of an image that does not come from cells. In a sequence it is drawn once and is stationary."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from cellmill.simulation.illumination import (
    draw_autofluorescence,
    draw_background_noise,
    parabolic_illumination,
    scale_to_energy,
)
from cellmill.simulation.shapes import draw_outline, fill_outline
from cellmill.simulation.texture import draw_texture


@dataclass(frozen=True)
class Surroundings:
    """Light of an image or a sequence that does not come from cells, as fractions of the full scale.

    Attributes
    ----------
    stray_yx : ndarray of float64, shape (rows, columns)
        Constant background, uneven illumination and autofluorescence.
    blotches_yx : ndarray of float64, shape (rows, columns), or None
        Hidden where a cell lies.
    dirt_yx : ndarray of float64, shape (rows, columns), or None
        Dirt on glass and camera, not affected by the microscope's focus.
    image_sigma_px : float
        Blur of the whole image, 0 for none.
    """

    stray_yx: np.ndarray
    blotches_yx: np.ndarray | None
    dirt_yx: np.ndarray | None
    image_sigma_px: float

    def add_to(self, light_yx: np.ndarray, *, cover_yx: np.ndarray) -> np.ndarray:
        """Add the surroundings to the light of cells.

        Parameters
        ----------
        light_yx : ndarray of float, shape (rows, columns)
            One plane after the lens.
        cover_yx : ndarray of float, shape (rows, columns)
            Fraction of each pixel covered by cells, in [0, 1], with the same blur as the cells.

        Returns
        -------
        ndarray of float64, shape (rows, columns)
        """
        light_yx = light_yx + self.stray_yx
        if self.blotches_yx is not None:
            # Use the blurred cover: a sharp edge in the blotches would reveal the ground truth.
            light_yx = light_yx + np.clip(1 - cover_yx, 0, 1) * self.blotches_yx
        if self.image_sigma_px > 0:
            light_yx = ndimage.gaussian_filter(light_yx, self.image_sigma_px, mode="nearest")
        return light_yx if self.dirt_yx is None else light_yx + self.dirt_yx


def draw_surroundings(
    shape: tuple[int, int],
    *,
    energy: float,
    simulate: Mapping[str, Any],
    rngs: Mapping[str, np.random.Generator],
) -> Surroundings:
    """Draw the surroundings of an image or a sequence.

    Parameters
    ----------
    shape : (rows, columns)
        Image in px.
    energy : float, >= 0
        Sum of squares of the cells' light before the lens, to which illumination and autofluorescence are scaled.
    simulate : mapping
        The config section.
    rngs : mapping
        Streams "autofluorescence", "background_noise", "dirt" and "setting".

    Returns
    -------
    Surroundings
    """
    level = float(rngs["setting"].uniform(*simulate["background"]["level"]))
    image_sigma_px = float(rngs["setting"].uniform(*simulate["focus"]["image_sigma_px"]))
    illumination = simulate["illumination"]
    profile_yx = parabolic_illumination(shape, centre_shift=illumination["centre_shift"])
    glow_yx = draw_autofluorescence(shape, rng=rngs["autofluorescence"])
    stray_yx = scale_to_energy(profile_yx, energy=energy, ratio=illumination["energy_ratio"]) + scale_to_energy(
        glow_yx, energy=energy, ratio=simulate["autofluorescence"]["energy_ratio"]
    )
    blotches_yx = draw_background_noise(shape, **simulate["background_noise"], rng=rngs["background_noise"])
    if blotches_yx is not None:
        # ASSUME the light level of cells is the middle of their brightness range, also in an image without cells.
        blotches_yx = blotches_yx * abs(sum(simulate["cell"]["brightness"])) / 2
    return Surroundings(
        stray_yx=stray_yx + level,
        blotches_yx=blotches_yx,
        dirt_yx=draw_dirt(shape, **simulate["dirt"], rng=rngs["dirt"]),
        image_sigma_px=image_sigma_px,
    )


def draw_dirt(
    shape: tuple[int, int],
    *,
    count: tuple[int, int],
    radius_px: tuple[float, float],
    brightness: tuple[float, float],
    sigma_px: tuple[float, float],
    rng: np.random.Generator,
) -> np.ndarray | None:
    """Draw specks of dirt, or return None if there are none.

    Parameters
    ----------
    shape : (rows, columns)
        Image in px; the centre of a speck lies inside.
    count, radius_px, brightness, sigma_px : (low, high)
        Uniform ranges of the number of specks, and of the radius, brightness and blur of each speck.
    rng : numpy.random.Generator
        Stream of the image's or sequence's dirt.

    Returns
    -------
    ndarray of float64, shape (rows, columns), or None
        Light added by the specks, below 0 where they absorb light.
    """
    number = int(rng.integers(count[0], count[1] + 1))
    if number == 0:
        return None
    dirt_yx = np.zeros(shape)
    for _ in range(number):
        centre = rng.uniform(-0.5, np.array(shape) - 0.5)
        radius, light, sigma = (float(rng.uniform(*pair)) for pair in (radius_px, brightness, sigma_px))
        # ASSUME specks are as irregular as SIMCEP's cytoplasm, with a weaker texture
        outline_px = draw_outline(radius_px=radius, radial_jitter=0.3, angular_jitter=0.05, rng=rng)
        reach = int(np.ceil(3 * sigma))
        speck = fill_outline(outline_px + centre).padded(reach)
        texture_yx = draw_texture(speck.mask_yx.shape, persistence=0.5, first_octave=2, octaves=3, bias=0.5, rng=rng)
        speck_yx = ndimage.gaussian_filter(light * texture_yx * speck.mask_yx, sigma, mode="constant", truncate=3)
        window, own = speck.window(shape)
        dirt_yx[window] += speck_yx[own]
    return dirt_yx
