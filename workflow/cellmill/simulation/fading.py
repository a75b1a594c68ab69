"""Cells that are faint for some frames: when they fade, and which fraction of their light remains.

# ASSUME a cell fades and recovers abruptly, in all of its stains; its position and outline are not affected.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Fades are drawn from this many of the longest fades before the first frame, so that as many cells are faint in the
# first frame as later.
LIVED = 5


class Fade(NamedTuple):
    """Frames from `first` up to but not including `end` in which a cell shows the fraction `light` of its light."""

    first: int
    end: int
    light: float


def draw_fades(
    fading: Mapping[str, Any] | None, *, birth: int, frames: int, is_founder: bool, rng: np.random.Generator
) -> tuple[Fade, ...]:
    """Draw the frames in which a cell is faint.

    Parameters
    ----------
    fading : mapping or None
        The config section `time_lapse.fading`; None for cells that never fade.
    birth : int, >= 0
        First frame of the cell, in which a daughter is not faint.
    frames : int
        Frames of the sequence; a larger number does not change the earlier fades.
    is_founder : bool
        Whether the cell exists from the first frame; it may then be faint in that frame.
    rng : numpy.random.Generator
        Stream of the cell.

    Returns
    -------
    tuple of Fade
        In chronological order, with at least one frame of full light between two fades.
    """
    if fading is None:
        return ()
    shortest, longest = fading["frames"]
    fades: list[Fade] = []
    end = birth - LIVED * longest if is_founder else birth
    while end < frames:
        first = end + int(rng.geometric(fading["probability"]))
        end = first + int(rng.integers(shortest, longest + 1))
        light = float(rng.uniform(*fading["light"]))
        if end > 0 and first < frames:
            fades.append(Fade(first, end, light))
    return tuple(fades)


def light_in(fades: Sequence[Fade], frame: int) -> float:
    """Return the fraction of its light that a cell shows in a frame; 1 if it is not faint."""
    return next((fade.light for fade in fades if fade.first <= frame < fade.end), 1.0)
