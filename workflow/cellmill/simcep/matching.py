"""Settings under which the simulation looks like measured images: method of moments, then calibration by simulation."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellmill.simcep.likeness import distance
from cellmill.simcep.meanings import STATISTICS
from cellmill.simcep.sections import Frame, write_section
from cellmill.simcep.traits import Reference, Traits, correct_traits, gather, guess_traits, traits_of

logger = logging.getLogger(__name__)

# The statistics of one image simulated from a section; the name decides what is drawn.
Draw = Callable[[str, Mapping[str, Any]], Mapping[str, float]]

ROUNDS = 6


@dataclass(frozen=True)
class Round:
    """One round of the calibration: the traits that were simulated, and the mean distance of the draws held out."""

    traits: Traits
    mean_distance: float
    distances: dict[str, float]


def calibrate(references: Sequence[Reference], *, frame: Frame, draw: Draw, rounds: int) -> list[Round]:
    """Simulate, measure and correct, a fixed number of times.

    Parameters
    ----------
    references : sequence of Reference
        One with an object at least.
    frame : Frame
    draw : function
        Simulates an image of a name from a section and measures it.
    rounds : int, > 0
        The first one simulates the first guess.

    Returns
    -------
    list of Round
        Each reference is drawn twice a round: the traits are corrected by one image and judged by the other.
    """
    real = gather([one.statistics for one in references])
    traits = guess_traits(references, section=frame.section)
    history = []
    for number in range(rounds):
        drawn = [
            gather([
                draw(
                    f"{one.sample}/{number}/{side}",
                    write_section(traits_of(traits, index), reference=one, frame=frame, size=one.shape),
                )
                for index, one in enumerate(references)
            ])
            for side in ("fit", "held_out")
        ]  # fmt: skip
        distances = {name: distance(real[name], drawn[1][name]) for name in STATISTICS}
        history.append(Round(traits, mean_distance(distances), distances))
        logger.info("round %d: mean distance %.3f", number + 1, history[-1].mean_distance)
        traits = correct_traits(traits, real=real, simulated=drawn[0])
    return history


def mean_distance(distances: Mapping[str, float]) -> float:
    """Give the mean of the distances that are defined, over the statistics that the simulation has a parameter for."""
    known = [distances[name] for name, one in STATISTICS.items() if one.is_primary and math.isfinite(distances[name])]
    return float(np.mean(known)) if known else math.nan
