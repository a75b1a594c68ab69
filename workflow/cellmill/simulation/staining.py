"""Light of the cells before the lens: texture, brightness and rim of every stain."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from cellmill.simulation.population import Cell, count_cover
from cellmill.simulation.shapes import Footprint
from cellmill.simulation.texture import draw_texture

# Maps the index of a cell and the purpose of a stream to the random stream
StreamOf = Callable[[int, str], np.random.Generator]


@dataclass(frozen=True)
class Light:
    """Light of each stain as fractions of the full scale, float64 of shape (rows, columns).

    Attributes
    ----------
    cells_yx, organelles_yx, nuclei_yx : ndarray
        The last two are None if the stain is not simulated.
    brightness : list of float
        Brightness drawn for each cell, without fading.
    """

    cells_yx: np.ndarray
    organelles_yx: np.ndarray | None
    nuclei_yx: np.ndarray | None
    brightness: list[float]

    def planes(self, *, stains: str) -> list[np.ndarray | None]:
        """Return a single plane of all stains ("merged"), or planes of cells, organelles and nuclei ("separate").

        A plane is None if its stain is not simulated.
        """
        if stains == "separate":
            return self._all()
        others = [plane for plane in self._all()[1:] if plane is not None]
        return [np.minimum(sum(others, self.cells_yx), 1) if others else self.cells_yx]

    def _all(self) -> list[np.ndarray | None]:
        return [self.cells_yx, self.organelles_yx, self.nuclei_yx]


def stain_cells(
    cells: Sequence[Cell],
    *,
    lights: Sequence[float],
    shape: tuple[int, int],
    simulate: Mapping[str, Any],
    stream_of: StreamOf,
) -> Light:
    """Stain the cells of one image.

    Parameters
    ----------
    cells : sequence of Cell
        In image coordinates.
    lights : sequence of float
        Fraction of its light that each cell shows, in [0, 1].
    shape : (rows, columns)
        Image in px.
    simulate : mapping
        The config section; `cell`, `nucleus` and `organelles` are read.
    stream_of : function
        Returns a cell's random stream for "texture" (of the cell, then its nucleus) or "organelle_texture". Both
        streams also provide the brightness.

    Returns
    -------
    Light

    Notes
    -----
    SOURCE SIMCEP: where objects of one stain overlap, their intensities are averaged.
    """
    has_nuclei, has_organelles = bool(simulate["nucleus"]["include"]), simulate["organelles"]["count"][1] > 0
    cells_yx = np.zeros(shape)
    nuclei_yx = np.zeros(shape) if has_nuclei else None
    organelles_yx = np.zeros(shape) if has_organelles else None
    brightness = []
    for index, (cell, light) in enumerate(zip(cells, lights, strict=True)):
        rng = stream_of(index, "texture")
        brightness.append(_add(cells_yx, cell.cell, simulate["cell"], light=light, rng=rng))
        if nuclei_yx is not None:
            _add(nuclei_yx, cell.nucleus, simulate["nucleus"], light=light, rng=rng)
        if organelles_yx is not None:
            rng = stream_of(index, "organelle_texture")
            for organelle in cell.organelles:
                _add(organelles_yx, organelle, simulate["organelles"], light=light, rng=rng)
    cells_yx /= np.maximum(count_cover([cell.cell for cell in cells], shape=shape), 1)
    if nuclei_yx is not None:
        nuclei_yx /= np.maximum(count_cover([cell.nucleus for cell in cells], shape=shape), 1)
    if organelles_yx is not None:
        all_organelles = [organelle for cell in cells for organelle in cell.organelles]
        organelles_yx /= np.maximum(count_cover(all_organelles, shape=shape), 1)
    return Light(cells_yx, organelles_yx, nuclei_yx, brightness)


def _add(
    light_yx: np.ndarray, footprint: Footprint, section: Mapping[str, Any], *, light: float, rng: np.random.Generator
) -> float:
    brightness = float(rng.uniform(*section["brightness"]))
    texture_yx = draw_texture(footprint.mask_yx.shape, **section["texture"], rng=rng)
    own_yx = brightness * texture_yx
    rim = section.get("rim")
    if rim is not None and any(rim["brightness"]):
        own_yx += float(rng.uniform(*rim["brightness"])) * _edge_weight(footprint.mask_yx, width_px=rim["width_px"])
    window, own = footprint.window(light_yx.shape)
    light_yx[window] += light * own_yx[own] * footprint.mask_yx[own]
    return brightness


def _edge_weight(mask_yx: np.ndarray, *, width_px: float) -> np.ndarray:
    """Compute exp(-d / width) for the distance d of each pixel of the mask from its outline."""
    distance_yx = ndimage.distance_transform_edt(np.pad(mask_yx, 1))[1:-1, 1:-1]
    return np.exp(-np.maximum(distance_yx - 0.5, 0) / width_px)
