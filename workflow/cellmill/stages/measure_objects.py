"""Stage preprocess, first rule: measure the diameter of the annotated objects of a dataset."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cellmill.images.stored import StoredRows, sample_paths
from cellmill.preprocessing.diameters import measure_diameter, round_diameter
from cellmill.shards import atomic_path

logger = logging.getLogger(__name__)


def measure_objects(*, output_path: str | Path, labels_dirs: Sequence[str | Path]) -> None:
    """Measure the diameter of the objects in the labels of the training images.

    Parameters
    ----------
    output_path : path
        diameter.json: object_px, the median over images of the median diameter of their objects, px, with three
        significant digits. It holds nothing else, because images are preprocessed again whenever it changes.
    labels_dirs : sequence of path
        Shard folders of the stage rasterize.

    Raises
    ------
    ValueError
        If no image has an object.
    """
    paths = [path for folder in labels_dirs for path in sample_paths(folder).values()]
    measured = [measure_diameter(labels_yx for _, labels_yx in StoredRows(path).bands()) for path in paths]
    known = [diameter_px for diameter_px in measured if diameter_px is not None]
    if not known:
        raise ValueError(
            f"preprocess.rescale.diameter_px: expected annotated objects in the training images, found none in "
            f"{len(paths)} images. Set object_px beside it to the diameter of the objects in px."
        )
    object_px = round_diameter(float(np.median(known)))
    with atomic_path(output_path) as partial:
        partial.write_text(json.dumps({"object_px": object_px}) + "\n", encoding="utf-8")
    low, high = np.percentile(known, [5, 95])
    logger.info(
        "objects of %d of %d training images: median diameter %g px, %.3g to %.3g px in 90 %% of the images",
        *(len(known), len(paths), object_px, low, high),
    )
