"""Cells that are faint for some frames: when, and how much of their light is left.

# ASSUME a cell grows faint at once and comes back at once, in all of its stains; its place and outline go on as ever.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Before the first frame cells have lived for so many of the longest fades, so that as many are faint in it as later.
LIVED = 5


class Fade(NamedTuple):
    """Frames `first` to `end`, without it, in which a cell shows the part `light` of its light."""

    first: int
    end: int
    light: float


def draw_fades(
    fading: Mapping[str, Any] | None, *, birth: int, frames: int, is_founder: bool, rng: np.random.Generator
) -> tuple[Fade, ...]:
    """Draw when a cell is faint.

    Parameters
    ----------
    fading : mapping or None
        The config section `time_lapse.fading`; None for cells that never are.
    birth : int, >= 0
        First frame of the cell, in which a daughter is not faint.
    frames : int
        Of the sequence; more of them change none of the earlier fades.
    is_founder : bool
        Whether the cell is there from the beginning; then it may be faint at once.
    rng : numpy.random.Generator
        Stream of the cell.

    Returns
    -------
    tuple of Fade
        In the order of time, with a frame of full light between two of them.
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
    """Give the part of its light that a cell shows in a frame, 1 where it is not faint."""
    return next((fade.light for fade in fades if fade.first <= frame < fade.end), 1.0)
