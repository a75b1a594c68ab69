"""Choose the settings of each simulated image or sequence: from the config, or fitted to a real image."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cellmill.simulation.streams import open_stream


def choose_sections(
    match_path: str | Path | None, *, seed: int, simulate: Mapping[str, Any]
) -> Callable[[str], Mapping[str, Any]]:
    """Return the function that maps an image or a sequence to its settings.

    Parameters
    ----------
    match_path : path or None
        JSON from the stage `match`; None if the simulation is not fitted to a dataset.
    seed : int, >= 0
        The config's seed.
    simulate : mapping
        The config section, used for all images if there is no match.

    Returns
    -------
    function
        Maps the name of an image or a sequence to a complete section: with a match, that of a random reference, which
        depends only on name and seed.
    """
    if match_path is None:
        return lambda _: simulate
    references = json.loads(Path(match_path).read_text(encoding="utf-8"))["references"]
    sections: list[dict[str, Any]] = [reference["simulate"] for reference in references]
    return lambda name: sections[int(open_stream(name, "reference", seed=seed).integers(len(sections)))]
