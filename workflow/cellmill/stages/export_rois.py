"""Stage export: write the objects of a run for ImageJ's ROI Manager."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellmill.annotations.imagej_writer import write_rois
from cellmill.images.stored import StoredRows
from cellmill.objects.label_files import label_paths, rows_with_labels
from cellmill.shards import shard_folder

logger = logging.getLogger(__name__)


def export_rois(
    *, output_dir: str | Path, segmentation_dirs: Sequence[str | Path], samples: Sequence[Mapping[str, Any]]
) -> None:
    """Write {sample}.zip for ImageJ's ROI Manager, one ROI per object; parameters as for `export_coco`."""
    paths = label_paths(segmentation_dirs)
    with shard_folder(output_dir) as folder:
        for row in rows_with_labels(samples, paths):
            write_rois(folder / f"{row['sample']}.zip", StoredRows(paths[row["sample"]]))
    logger.info("%d images", len(paths), extra={"progress": True})
