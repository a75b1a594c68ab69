"""Traits: the numbers from which the settings of a reference image are built, their initial guesses and corrections.

Each trait is first estimated from a statistic of the real image. It is then corrected by comparing this statistic
between the real image and an image simulated with the current traits.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cellmill.matching.statistic_names import STATISTICS
from cellmill.simulation.illumination import parabolic_illumination

Traits = dict[str, np.ndarray]

DAMPING = 0.7
# Damps the part of a correction that is specific to a reference: it is noisier than the common part, because it is
# estimated from a single simulated image.
OWN_SHARE = 0.5
LARGEST_STEP = math.log(3)
# The 10 % and 90 % quantiles of a uniform distribution are 0.8 of its width apart.
HALF_WIDTH_OF_SPREAD = 1 / 1.6
WIDEST = 0.95  # half width of a range relative to its middle
TEXTURE_SD = 0.2  # of a texture in [0, 1], about its mean of 0.5
USUAL_JITTER, USUAL_GAP = 0.25, 0.02  # outline jitter, and the resulting difference of the solidity from 1
# Measured: the Clark-Evans ratio falls from 1.1 with no cells in clusters to 0.7 with all cells in clusters.
CLUSTERED_OF_RATIO = 2.0


class Control(NamedTuple):
    """The rule that corrects a trait by its statistic: by differences or by ratios, and with which gain.

    `floor`, as a fraction of the median over the real images, is added to numerator and denominator of a ratio, so
    that the ratio stays finite if a value is close to 0.
    """

    statistic: str
    gain: float = 1.0
    floor: float = 0.02
    is_added: bool = False


CONTROLS = {
    "radius_px": Control("radius_px"),
    "radius_width": Control("radius_spread", floor=0.1),
    "jitter": Control("solidity", gain=0.5, floor=0.2),
    "length": Control("elongation"),
    "density": Control("objects_per_mpx"),
    "clustered": Control("clustering", gain=-CLUSTERED_OF_RATIO, is_added=True),
    "ground": Control("background_level", is_added=True),
    "lamp": Control("background_unevenness", gain=2.0, floor=0.1),  # an energy: the square of an amplitude
    "brightness": Control("contrast"),
    "brightness_width": Control("contrast_spread", floor=0.1),
    "texture": Control("texture", floor=0.05),
    "noise": Control("noise"),
    "sigma_px": Control("edge_width_px", floor=0.1),
}


@dataclass(frozen=True)
class Reference:
    """A real image: its name, the size of the measured part in px, its statistics, and its darkest counts."""

    sample: str
    shape: tuple[int, int]
    statistics: Mapping[str, float]
    darkest_counts: float


def guess_traits(references: Sequence[Reference], *, section: Mapping[str, Any]) -> Traits:
    """Estimate initial traits from the statistics.

    Parameters
    ----------
    references : sequence of Reference
        At least one must contain an object.
    section : mapping
        The config section; the centre of the illumination and the bias of the cell texture are read.

    Returns
    -------
    dict
        Trait -> value for each reference. If its statistic is undefined, the median of the other references is used;
        if it is undefined for all references, all values are NaN.
    """
    values = {name: np.array([one.statistics[name] for one in references]) for name in STATISTICS}
    profile_yx = parabolic_illumination((256, 256), centre_shift=tuple(section["illumination"]["centre_shift"]))
    middle_of_texture = (1 + section["cell"]["texture"]["bias"]) / 2
    amplitude = values["background_unevenness"] / profile_yx.std()  # of the illumination, relative to the contrast
    covered = np.maximum(np.nan_to_num(values["foreground_fraction"]), 0.01)
    traits = {
        "radius_px": values["radius_px"],
        "radius_width": HALF_WIDTH_OF_SPREAD * values["radius_spread"],
        "jitter": USUAL_JITTER * np.sqrt(np.maximum(1 - values["solidity"], 0.0) / USUAL_GAP),
        "length": values["elongation"],
        "density": values["objects_per_mpx"],
        "clustered": CLUSTERED_OF_RATIO * (1 - values["clustering"]),
        "ground": values["background_level"]
        - np.nan_to_num(amplitude * np.abs(values["contrast"])) * float(profile_yx.mean()),
        "lamp": amplitude**2 * float(np.mean(profile_yx**2)) / covered,
        "brightness": values["contrast"] / middle_of_texture,
        "brightness_width": HALF_WIDTH_OF_SPREAD * values["contrast_spread"],
        "texture": values["texture"] / (2 * TEXTURE_SD),
        "noise": values["noise"],
        "sigma_px": values["edge_width_px"],
    }
    return bound_traits({name: _fill(trait) for name, trait in traits.items()})


def bound_traits(traits: Traits) -> Traits:
    """Clip traits to their valid ranges; NaN is kept."""
    bounds = {
        "radius_width": (0.0, WIDEST), "brightness_width": (0.0, WIDEST), "jitter": (0.01, 0.6),
        "length": (1.0, 10.0),
        "clustered": (0.0, 1.0), "texture": (0.0, 1.0), "sigma_px": (0.1, 50.0), "lamp": (0.0, 1000.0),
    }  # fmt: skip
    return {name: np.clip(trait, *bounds[name]) if name in bounds else trait.copy() for name, trait in traits.items()}


def _fill(trait: np.ndarray) -> np.ndarray:
    defined = trait[np.isfinite(trait)]
    return np.where(np.isfinite(trait), trait, np.median(defined) if defined.size else np.nan)


def correct_traits(traits: Traits, *, real: Mapping[str, np.ndarray], simulated: Mapping[str, np.ndarray]) -> Traits:
    """Move each trait towards the value at which the simulated statistic equals the real statistic.

    Parameters
    ----------
    traits : dict
        The traits that were simulated.
    real, simulated : mapping
        Statistic -> value for each reference; NaN where undefined.

    Returns
    -------
    dict
        Most of the correction is the median over all references, because the random variation between simulated
        images is too large to trust a single image.
    """
    corrected = {}
    for name, control in CONTROLS.items():
        wanted, found = (_as_controlled(side[control.statistic], control.statistic) for side in (real, simulated))
        if control.is_added:
            step = wanted - found
        else:
            known = np.abs(wanted[np.isfinite(wanted)])
            floor = control.floor * float(np.median(known)) if known.size else math.nan
            with np.errstate(invalid="ignore", divide="ignore"):
                ratio = (np.abs(wanted) + floor) / (np.abs(found) + floor)
                step = np.where((wanted * found >= 0) & (ratio > 0), np.log(ratio), np.nan)
            step = np.clip(step, -LARGEST_STEP, LARGEST_STEP)
        defined = step[np.isfinite(step)]
        common = float(np.median(defined)) if defined.size else 0.0
        own = np.where(np.isfinite(step), step - common, 0.0)
        step = DAMPING * control.gain * (common + OWN_SHARE * own)
        corrected[name] = traits[name] + step if control.is_added else traits[name] * np.exp(step)
    return bound_traits(corrected)


def _as_controlled(values: np.ndarray, statistic: str) -> np.ndarray:
    return 1 - values if statistic == "solidity" else values


def traits_of(traits: Traits, index: int) -> dict[str, float]:
    """Return the traits of one reference."""
    return {name: float(trait[index]) for name, trait in traits.items()}


def gather(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Convert the statistics of images to an array for each statistic."""
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in STATISTICS}
