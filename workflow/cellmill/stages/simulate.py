"""Stage simulate: write simulated images of cells with their ground truth, in the form of real data."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cellmill.annotations.rle import encode_crop
from cellmill.images.stored import write_labels
from cellmill.shards import shard_folder
from cellmill.simulation.files import write_counts, write_rows
from cellmill.simulation.imaging import SimulatedImage, simulate_image
from cellmill.simulation.references import choose_sections
from cellmill.simulation.sequence_files import write_sequences

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
    *,
    output_dir: str | Path,
    samples: Sequence[Mapping[str, Any]],
    seed: int,
    simulate: Mapping[str, Any],
    match_path: str | Path | None = None,
) -> None:
    """Simulate the images of one shard: single images or frames of sequences.

    Parameters
    ----------
    output_dir : path
        Folder of the shard, written by `write_images`, or by `write_sequences` if the section has `time_lapse`.
    samples : sequence of mapping
        Rows of the sample table; `sample` is read, and for sequences also `sequence` and `frame`.
    seed : int, >= 0
        The config's seed.
    simulate : mapping
        The config section `simulate`; its `images` is not read.
    match_path : path or None
        JSON from the stage `match`, if the simulation is fitted to a dataset: each image or sequence uses the
        settings of one reference.

    Raises
    ------
    ValueError
        If two rows name the same sample.
    """
    names = sorted(str(row["sample"]) for row in samples)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"{output_dir}: expected each sample once, found {', '.join(twice)} more than once. "
            "Remove the duplicates from the sample table."
        )
    section_of = choose_sections(match_path, seed=seed, simulate=simulate)
    with shard_folder(output_dir) as folder:
        if simulate.get("time_lapse"):
            write_sequences(folder, samples=samples, seed=seed, section_of=section_of)
        else:
            write_images(folder, names, seed=seed, section_of=section_of)


def write_images(
    folder: Path, names: Sequence[str], *, seed: int, section_of: Callable[[str], Mapping[str, Any]]
) -> None:
    """Simulate single images and write them.

    Parameters
    ----------
    folder : path
        Output folder for images/{sample}.tif (camera counts), visible/{sample}.tif (number of the visible object at
        each pixel), annotations.csv (full extents), objects.csv and images.csv.
    names : sequence of str
        Sample names without duplicates.
    seed : int, >= 0
        The config's seed.
    section_of : function
        Maps a sample to the section with its settings.
    """
    annotations: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    for room in ("images", "visible"):
        (folder / room).mkdir()
    for name in names:
        image = simulate_image(name, seed=seed, simulate=section_of(name))
        write_counts(folder / "images" / f"{name}.tif", image.counts)
        write_labels(folder / "visible" / f"{name}.tif", image.labels_yx)
        annotations.extend(_annotation_rows(name, image))
        objects.extend(image.objects)
        images.append(image.summary)
        level = logging.WARNING if image.summary["failed"] else logging.INFO
        logger.log(level, "%s: %d cells, %d could not be placed", name, image.summary["cells"], image.summary["failed"])
    write_rows(folder / "annotations.csv", annotations, columns=ANNOTATION_COLUMNS)
    write_rows(folder / "objects.csv", objects, columns=OBJECT_COLUMNS)
    write_rows(folder / "images.csv", images, columns=IMAGE_COLUMNS)


def _annotation_rows(sample: str, image: SimulatedImage) -> list[dict[str, Any]]:
    shape = image.labels_yx.shape
    annotations = []
    for cell in image.population.cells:
        (rows, columns), mask_yx = cell.cell.clipped(shape)
        text = encode_crop(mask_yx, order="row", row=rows.start, column=columns.start, shape=shape)
        annotations.append({"id": sample, "annotation": text, "width": shape[1], "height": shape[0]})
    return annotations
