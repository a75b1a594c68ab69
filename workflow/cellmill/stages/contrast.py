"""Stage contrast, second rule: maps of the images of one shard for a run without a network.

Reads   results/{dataset}/images/{shard}/                   float32 YX; classical.json
Writes  results/{dataset}/{run}/probabilities/{shard}/      float16 CYX, one channel, geometry of the preprocessed image
"""

import logging
import time
from pathlib import Path

from cellmill.classical.maps import map_bands
from cellmill.classical.recipes import read_recipe
from cellmill.images.stored import write_probability_bands
from cellmill.preprocessing.stored_images import find_images
from cellmill.shards import shard_folder

logger = logging.getLogger(__name__)


def contrast_shard(*, output_dir: str | Path, images_dir: str | Path, recipe_path: str | Path) -> None:
    """Write the map of every image of a shard.

    Parameters
    ----------
    output_dir : path
        Folder of the shard's maps; appears only when complete.
    images_dir : path
        Shard folder of the stage preprocess.
    recipe_path : path
        classical.json, or an exported model that contains it.
    """
    recipe = read_recipe(recipe_path)
    with shard_folder(output_dir) as folder:
        for image in find_images([images_dir]):
            started = time.monotonic()
            shape = image.geometry.shape
            write_probability_bands(folder / f"{image.sample}.tif", map_bands(image, recipe=recipe), shape=shape)
            logger.info("%s: %d x %d px, %.2f s", image.sample, *shape, time.monotonic() - started)
