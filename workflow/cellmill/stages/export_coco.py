"""Stage export: write the objects of a run as one COCO file."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellmill.annotations.coco import write_coco
from cellmill.images.stored import StoredRows
from cellmill.objects.label_files import image_file_name, label_paths, rows_with_labels
from cellmill.objects.shard_tables import read_confidences

logger = logging.getLogger(__name__)

# Of masks made elsewhere, which have no confidence
SCORE = 1.0


def export_coco(
    *, output_path: str | Path, segmentation_dirs: Sequence[str | Path], samples: Sequence[Mapping[str, Any]]
) -> None:
    """Write the objects of all images as one COCO file, each with its confidence as score; masks have 1.0.

    Parameters
    ----------
    output_path : path
        Written whole or not at all.
    segmentation_dirs : sequence of path
        Shard folders of the stage postprocess or masks.
    samples : sequence of mapping
        Rows of the sample table: sample, image. `file_name` is the name of the image file if that begins with
        `{sample}.`, else {sample}.tif.
    """
    paths = label_paths(segmentation_dirs)
    found = {image_file_name(row): row["sample"] for row in rows_with_labels(samples, paths)}
    confidences = {
        sample: [of_image[number] for number in sorted(of_image)]
        for folder in segmentation_dirs
        for sample, of_image in read_confidences(folder, missing=SCORE).items()
    }
    write_coco(
        output_path,
        images=((name, StoredRows(paths[sample])) for name, sample in found.items()),
        scores=lambda name: confidences.get(found[name], []),
    )
    logger.info("%d images", len(paths), extra={"progress": True})
