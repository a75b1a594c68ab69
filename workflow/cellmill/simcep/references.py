"""Which settings an image or sequence is simulated with: the config's, or those of a real image to be like."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cellmill.simcep.streams import open_stream


def choose_sections(
    match_path: str | Path | None, *, seed: int, simulate: Mapping[str, Any]
) -> Callable[[str], Mapping[str, Any]]:
    """Give the function that knows the settings of an image or a sequence.

    Parameters
    ----------
    match_path : path or None
        What the stage `match` wrote; None where the simulation is like nothing.
    seed : int, >= 0
        The config's seed.
    simulate : mapping
        The config section, for all images where there is no match.

    Returns
    -------
    function
        From the name of an image or a sequence to a whole section: that of one reference, which the name draws.
    """
    if match_path is None:
        return lambda _: simulate
    references = json.loads(Path(match_path).read_text(encoding="utf-8"))["references"]
    sections: list[dict[str, Any]] = [reference["simulate"] for reference in references]
    return lambda name: sections[int(open_stream(name, "reference", seed=seed).integers(len(sections)))]
