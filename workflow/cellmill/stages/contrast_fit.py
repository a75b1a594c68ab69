"""Stage contrast, first rule: choose the numbers of a run without a network on training and validation images.

Reads   images and labels of the training and validation shards
Writes  results/{dataset}/{run}/classical.json      smoothing, window and polarity, and what else was tried
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from cellmill.classical.choosing import ClassicalSettings, choose_recipe
from cellmill.classical.recipes import RECIPE_FORMAT
from cellmill.objects.frames import list_scenes
from cellmill.shards import atomic_path

logger = logging.getLogger(__name__)


def fit_contrast(
    *,
    output_path: str | Path,
    images_dirs: Sequence[str | Path],
    labels_dirs: Sequence[str | Path],
    network: ClassicalSettings,
    seed: int,
) -> None:
    """Choose smoothing, window and polarity, and write them with the scores behind the choice.

    Parameters
    ----------
    output_path : path
        classical.json.
    images_dirs, labels_dirs : sequences of path
        Shard folders of the training and validation parts, in the same order; empty if nothing is annotated.
    network : mapping
        Section of the preset.
    seed : int
        Seed of the config, for drawing images.
    """
    scenes = [
        scene
        for images, labels in zip(images_dirs, labels_dirs, strict=True)
        for scene in list_scenes(images, labels=labels)
    ]
    chosen = {"format": RECIPE_FORMAT, **choose_recipe(scenes, network=network, seed=seed)}
    with atomic_path(output_path) as partial:
        partial.write_text(json.dumps(chosen, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    recipe = chosen["recipe"]
    threshold = "global" if recipe["window_px"] is None else f"local ({recipe['window_px']} px)"
    logger.info(
        "smoothing %g px, threshold %s, polarity %s: %s",
        recipe["sigma_px"], threshold, recipe["polarity"], chosen["reason"], extra={"progress": True},
    )  # fmt: skip
