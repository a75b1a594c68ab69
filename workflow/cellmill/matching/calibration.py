"""Fit the simulation settings to measured images: method of moments, then calibration by simulation."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellmill.matching.distance import distance
from cellmill.matching.sections import Frame, write_section
from cellmill.matching.statistic_names import STATISTICS
from cellmill.matching.traits import Reference, Traits, correct_traits, gather, guess_traits, traits_of

logger = logging.getLogger(__name__)

# Simulates one image from a name and a section, and returns its statistics; the name determines the random draws.
Draw = Callable[[str, Mapping[str, Any]], Mapping[str, float]]

ROUNDS = 6


@dataclass(frozen=True)
class Round:
    """One round of the calibration: the simulated traits, and the distances of the held-out images."""

    traits: Traits
    mean_distance: float
    distances: dict[str, float]


def calibrate(references: Sequence[Reference], *, frame: Frame, draw: Draw, rounds: int) -> list[Round]:
    """Calibrate the traits by a fixed number of rounds of simulation, measurement and correction.

    Parameters
    ----------
    references : sequence of Reference
        At least one must contain an object.
    frame : Frame
    draw : function
        Simulates an image from a name and a section, and measures it.
    rounds : int, > 0
        The first round simulates the initial guess.

    Returns
    -------
    list of Round
        Each reference is simulated twice per round: one image corrects the traits, the other is held out to
        evaluate them.
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
    """Return the mean of the defined distances over the primary statistics, those with a simulation parameter."""
    known = [distances[name] for name, one in STATISTICS.items() if one.is_primary and math.isfinite(distances[name])]
    return float(np.mean(known)) if known else math.nan
