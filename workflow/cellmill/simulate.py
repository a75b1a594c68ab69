"""Stage simulate: images of cells with a known truth, as a lab would have them."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import tifffile

from cellmill.annotations.rle import encode_crop
from cellmill.images import write_labels
from cellmill.shards import shard_folder
from cellmill.simcep.imaging import SimulatedImage, simulate_image

logger = logging.getLogger(__name__)

ANNOTATION_COLUMNS = ["id", "annotation", "width", "height"]
OBJECT_COLUMNS = [
    "sample", "object", "row", "column", "radius_px", "area_px", "visible_area_px", "nucleus_area_px", "organelles",
    "brightness", "cluster", "group", "depth", "sigma_px",
]  # fmt: skip
IMAGE_COLUMNS = [
    "sample", "cells", "failed", "groups",
    "foreground_fraction", "has_background_noise", "saturated_fraction",
]  # fmt: skip


def simulate_shard(
    *, output_dir: str | Path, samples: Sequence[Mapping[str, Any]], seed: int, simulate: Mapping[str, Any]
) -> None:
    """Simulate the images of one shard.

    Parameters
    ----------
    output_dir : path
        Folder of the shard; gets images/{sample}.tif (camera counts), visible/{sample}.tif (number of the object that
        is visible on each pixel), annotations.csv (full extents), objects.csv and images.csv.
    samples : sequence of mapping
        Rows of the sample table; only `sample` is read.
    seed : int, >= 0
        The config's seed.
    simulate : mapping
        The config section `simulate`; `images` in it is not read.

    Raises
    ------
    ValueError
        If two rows name the same sample.
    """
    names = sorted(str(row["sample"]) for row in samples)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"{output_dir}: expected each sample once, found {', '.join(twice)} twice or more. "
            "Remove the duplicates from the sample table."
        )
    annotations: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    with shard_folder(output_dir) as folder:
        for room in ("images", "visible"):
            (folder / room).mkdir()
        for name in names:
            image = simulate_image(name, seed=seed, simulate=simulate)
            tifffile.imwrite(
                folder / "images" / f"{name}.tif",
                image.counts,
                metadata={"axes": "YX" if image.counts.ndim == 2 else "CYX"},
                photometric="minisblack",
                software="cellmill",
            )
            write_labels(folder / "visible" / f"{name}.tif", image.labels_yx)
            annotations.extend(_annotation_rows(name, image))
            objects.extend(image.objects)
            images.append(image.summary)
            level = logging.WARNING if image.summary["failed"] else logging.INFO
            logger.log(level, "%s: %d cells, %d without a place", name, image.summary["cells"], image.summary["failed"])
        _write_table(folder / "annotations.csv", annotations, columns=ANNOTATION_COLUMNS)
        _write_table(folder / "objects.csv", objects, columns=OBJECT_COLUMNS)
        _write_table(folder / "images.csv", images, columns=IMAGE_COLUMNS)


def _annotation_rows(sample: str, image: SimulatedImage) -> list[dict[str, Any]]:
    shape = image.labels_yx.shape
    annotations = []
    for cell in image.population.cells:
        (rows, columns), mask_yx = cell.cell.clipped(shape)
        text = encode_crop(mask_yx, order="row", row=rows.start, column=columns.start, shape=shape)
        annotations.append({"id": sample, "annotation": text, "width": shape[1], "height": shape[0]})
    return annotations


def _write_table(path: Path, rows: list[dict[str, Any]], *, columns: list[str]) -> None:
    table = pd.DataFrame(rows, columns=columns)
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
