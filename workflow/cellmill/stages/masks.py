"""Stage masks: convert the masks of another program or annotator to the objects of a run, and measure them."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.annotations.instance import AnnotationSettings
from cellmill.annotations.rasterizing import draw_sample
from cellmill.annotations.reading import explain_missing, has_annotation, open_table
from cellmill.images.channels import Channel
from cellmill.images.content import explain_changes
from cellmill.images.files import raise_together
from cellmill.images.windows import LabelFile
from cellmill.objects.recording import Recorder, find_extremes
from cellmill.preprocessing.stored_images import find_images
from cellmill.shards import shard_folder

logger = logging.getLogger(__name__)


def read_masks_of_shard(
    *,
    output_dir: str | Path,
    images_dir: str | Path,
    samples: Sequence[Mapping[str, Any]],
    annotations: AnnotationSettings,
    missing: str,
    pixel_size_um: float | None,
    rle_order: str,
    channel: Channel,
    hot_pixels: str,
) -> None:
    """Read the masks of one shard.

    Parameters
    ----------
    output_dir : path
        Shard folder: {sample}.tif (labels, geometry of the raw image), objects.csv, rle.csv, counts.csv, flags.csv
        (images without objects, or almost covered by them), manifest.json. Objects keep the numbers of the masks where
        these are unique and from 1 to 65534.
    images_dir : path
        Shard folder with the preprocessed images, in which intensities are measured.
    samples : sequence of mappings
        Rows of the sample table; `sample`, `image`, `annotations` (the files of the masks), `frame`, `extra` and the
        position in a stack are read.
    annotations : mapping
        The section `masks`, as in `rasterize_shard`.
    missing : "error", "empty" or "unlabelled"
        How to treat an image without masks: with "empty" it has no objects; with "unlabelled" its label image is empty,
        and counts.csv has no number of objects, so that it is not scored. The planning replaces "untested" by "error"
        in test shards, and by "unlabelled" in the others.
    pixel_size_um, rle_order, channel, hot_pixels
        As for `Recorder`.

    Raises
    ------
    ValueError
        If masks cannot be used; the message lists all of them.
    """
    table = open_table(annotations, samples=samples)
    refused = samples if missing == "error" else ()
    problems = explain_missing(refused, annotations=annotations, table=table, missing=missing)
    stored = {image.sample: image for image in find_images([images_dir])}
    total = 0
    with (
        shard_folder(output_dir) as folder,
        Recorder(
            folder, pixel_size_um=pixel_size_um, rle_order=rle_order, channel=channel, hot_pixels=hot_pixels
        ) as recorder,
    ):
        for row in samples:
            if missing == "unlabelled" and not has_annotation(row, table=table):
                recorder.leave_out(stored[row["sample"]])
                continue
            try:
                # Ignored regions belong to the truth; masks that are scored have objects only.
                drawing = replace(draw_sample(row, annotations=annotations, table=table), ignored=())
            except ValueError as error:
                problems.append(str(error))
                continue
            with tempfile.TemporaryDirectory(dir=folder) as room:
                labels, covered_px = LabelFile(Path(room) / "raw.bin", drawing.shape), 0
                first = 0
                for band_yx in drawing.bands():
                    labels.write(band_yx, slice(first, first + len(band_yx)))
                    first += len(band_yx)
                    covered_px += int(np.count_nonzero(band_yx))
                for severity, finding, advice in find_extremes(
                    covered_px / (drawing.shape[0] * drawing.shape[1]), source="masks"
                ):
                    recorder.flag(severity, row["sample"], finding, advice)
                recorder.add(
                    stored[row["sample"]], labels, row=row, highest=max(drawing.numbers, default=0), rating=None
                )  # fmt: skip
            total += len(drawing.instances)
            logger.info("%s: %d objects", row["sample"], len(drawing.instances))
        raise_together([*problems, *explain_changes(samples)], subject="masks")
    logger.info("%d images, %d objects", len(samples), total, extra={"progress": True})
