"""Scenes: files of resources/scenes, each a `simulate` section that a config may start from."""

from pathlib import Path
from typing import Any

import yaml

from cellmill.config.errors import nearest

SCENES_DIR = Path(__file__).resolve().parents[3] / "resources" / "scenes"


def list_scenes() -> list[str]:
    """Name the scenes there are, in alphabetical order."""
    return sorted(path.stem for path in SCENES_DIR.glob("*.yaml"))


def read_scene(name: str) -> dict[str, Any]:
    """Read the section of a scene, as it is written.

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
