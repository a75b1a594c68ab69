"""Stage export: write the objects of a run as one COCO file."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellmill.annotations.coco import write_coco
from cellmill.images.stored import StoredRows
from cellmill.objects.label_files import image_file_name, label_paths, rows_with_labels

logger = logging.getLogger(__name__)

# Objects are thresholded and have no confidence of their own; COCOeval needs a number to order them by.
SCORE = 1.0


def export_coco(
    *, output_path: str | Path, segmentation_dirs: Sequence[str | Path], samples: Sequence[Mapping[str, Any]]
) -> None:
    """Write the objects of all images as one COCO file, each with the score 1.0.

    Parameters
    ----------
    output_path : path
        Written whole or not at all.
    segmentation_dirs : sequence of path
        Shard folders of the stage postprocess.
    samples : sequence of mapping
        Rows of the sample table: sample, image. `file_name` is the name of the image file if that begins with
        `{sample}.`, else {sample}.tif.
    """
    paths = label_paths(segmentation_dirs)
    write_coco(
        output_path,
        images=((image_file_name(row), StoredRows(paths[row["sample"]])) for row in rows_with_labels(samples, paths)),
        score=SCORE,
    )
    logger.info("%d images", len(paths), extra={"progress": True})
