"""classical.json: the numbers of a run without a network."""

import json
import zipfile
from pathlib import Path
from typing import Any, TypedDict

from cellmill.exports.model_file import RECIPE

RECIPE_FORMAT = 1


class Recipe(TypedDict):
    """How images are thresholded: `recipe` of classical.json.

    `window_px` is odd, or None for one threshold in the whole image. `polarity` is bright, dark or image (each image
    by itself).
    """

    sigma_px: float
    window_px: int | None
    polarity: str


def read_recipe(path: str | Path) -> Recipe:
    """Read the recipe of a run, see `read_contents`."""
    recipe: Recipe = read_contents(path)["recipe"]
    return recipe


def read_contents(path: str | Path) -> dict[str, Any]:
    """Read classical.json, from its own file or from an exported model.

    Raises
    ------
    ValueError
        If its format version is not RECIPE_FORMAT.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            text = archive.read(RECIPE).decode()
    else:
        text = Path(path).read_text(encoding="utf-8")
    contents: dict[str, Any] = json.loads(text)
    if contents.get("format") != RECIPE_FORMAT:
        raise ValueError(
            f"{path}: expected numbers of format {RECIPE_FORMAT}, found {contents.get('format')}. "
            "Another version of cellmill wrote this file: run contrast_fit again, or export the model again."
        )
    return contents
