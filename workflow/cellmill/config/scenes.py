"""Scenes: files of resources/scenes, each a `simulate` section that a config can be based on."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from cellmill.config.errors import nearest

SCENES_DIR = Path(__file__).resolve().parents[3] / "resources" / "scenes"


def list_scenes() -> list[str]:
    """List the names of all scenes, in alphabetical order."""
    return sorted(path.stem for path in SCENES_DIR.glob("*.yaml"))


def read_scene(name: str) -> dict[str, Any]:
    """Read the `simulate` section of a scene, as written in its file.

    Raises
    ------
    ValueError
        If there is no scene of this name.
    """
    known = list_scenes()
    if name not in known:
        raise ValueError(f"expected scene to be a file of resources/scenes, found {name!r}. {nearest(name, known)}")
    section: dict[str, Any] = yaml.safe_load((SCENES_DIR / f"{name}.yaml").read_text(encoding="utf-8"))
    return section


def at_size(scene: Mapping[str, Any], size: Any) -> dict[str, Any]:
    """Adapt a scene to another image size, keeping its density and the width of its clusters in pixels.

    Parameters
    ----------
    scene : mapping
        From `read_scene`.
    size : any
        Value from the config. An invalid size changes nothing here and is rejected by the later validation.

    Returns
    -------
    dict
        A copy with scaled numbers of cells, clusters and specks, and a scaled spread of the clusters.
    """
    scaled = deepcopy(dict(scene))
    old = scene.get("size")
    if not old or not isinstance(size, list | tuple) or len(size) != 2 or list(size) == list(old):
        return scaled
    if not all(isinstance(side, int) and side > 0 for side in size):
        return scaled
    area = size[0] * size[1] / (old[0] * old[1])
    for *path, key in (("cells",), ("clusters", "count"), ("dirt", "count")):
        part = scaled.get(path[0], {}) if path else scaled
        if key in part:
            part[key] = _times(part[key], area)
    if "spread" in scaled.get("clusters", {}):
        scaled["clusters"]["spread"] = min(scaled["clusters"]["spread"] * min(old) / min(size), 1.0)
    return scaled


def _times(count: int | list[int], factor: float) -> int | list[int]:
    """Scale one number or both ends of a range; a number above 0 becomes at least 1."""
    ends = [max(round(end * factor), 1) if end else 0 for end in (count if isinstance(count, list) else [count])]
    return ends if isinstance(count, list) else ends[0]
