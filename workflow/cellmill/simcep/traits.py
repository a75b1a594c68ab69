"""The numbers that stand for the settings of one reference image: first guesses, and how they follow their statistics.

A trait is first taken from one statistic of the image, and then corrected by what the same statistic is on images that
are simulated so far.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cellmill.simcep.illumination import parabolic_illumination
from cellmill.simcep.meanings import STATISTICS

Traits = dict[str, np.ndarray]

DAMPING = 0.7
# Of the part of a correction that is a reference's own: one draw of an image says less of it than of all together.
OWN_SHARE = 0.5
LARGEST_STEP = math.log(3)
# A uniform range has 0.8 of its width between its 10 % and its 90 % quantile.
HALF_WIDTH_OF_SPREAD = 1 / 1.6
WIDEST = 0.95  # half width of a range relative to its middle
TEXTURE_SD = 0.2  # of a texture in [0, 1], about its mean of 0.5
USUAL_JITTER, USUAL_GAP = 0.25, 0.02  # of an outline, and what its solidity lacks then
# Measured: the Clark-Evans ratio falls from 1.1 to 0.7 as none or all cells lie in clusters.
CLUSTERED_OF_RATIO = 2.0


class Control(NamedTuple):
    """How a trait follows its statistic: by differences or by ratios, how strongly, and which ratio counts as none.

    `floor` is a share of the median of the real images, added to both sides of a ratio, so that what is nearly 0 on
    one side has no ratio without end.
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
    """A real image: its name, the size of the part that was measured in px, its statistics, and its darkest counts."""

    sample: str
    shape: tuple[int, int]
    statistics: Mapping[str, float]
    darkest_counts: float


def guess_traits(references: Sequence[Reference], *, section: Mapping[str, Any]) -> Traits:
    """Take the first traits from the statistics.

    Parameters
    ----------
    references : sequence of Reference
        One with an object at least.
    section : mapping
        The config section; the place of its lamp and its texture are read.

    Returns
    -------
    dict
        Trait -> value for each reference: the median of the others where its statistic is not defined, and NaN for all
        where it is defined in none.
    """
    values = {name: np.array([one.statistics[name] for one in references]) for name in STATISTICS}
    profile_yx = parabolic_illumination((256, 256), centre_shift=tuple(section["illumination"]["centre_shift"]))
    middle_of_texture = (1 + section["cell"]["texture"]["bias"]) / 2
    amplitude = values["background_unevenness"] / profile_yx.std()  # of the lamp, relative to the contrast
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
    """Keep traits where they mean something; NaN stays."""
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
    """Move each trait towards the value at which its statistic would be that of the real image.

    Parameters
    ----------
    traits : dict
        The traits that were simulated.
    real, simulated : mapping
        Statistic -> value for each reference; NaN where undefined.

    Returns
    -------
    dict
        Most of the correction is what all references have in common (its median): a single image is drawn too
        differently from the next to be trusted with all of it.
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
    """Give the traits of one reference."""
    return {name: float(trait[index]) for name, trait in traits.items()}


def gather(rows: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Turn the statistics of images into an array for each statistic."""
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in STATISTICS}
