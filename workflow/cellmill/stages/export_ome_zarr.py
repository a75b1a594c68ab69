"""Stage export: write each image with the objects of a run as an OME-Zarr store, for napari and other viewers."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellmill.images.content import explain_changes
from cellmill.images.files import raise_together
from cellmill.images.ome_zarr_writer import Plane, write_image, write_labels
from cellmill.images.stored import StoredRows
from cellmill.objects.label_files import label_paths, rows_with_labels
from cellmill.objects.raw_channels import RawChannels
from cellmill.shards import shard_folder

logger = logging.getLogger(__name__)

SUFFIX = ".ome.zarr"


def export_ome_zarr(
    *,
    output_dir: str | Path,
    segmentation_dirs: Sequence[str | Path],
    samples: Sequence[Mapping[str, Any]],
    run: str,
    pixel_size_um: float | None,
) -> None:
    """Write {sample}.ome.zarr: the channels of the raw image (c, y, x) and labels/{run} (y, x), NGFF 0.4.

    Parameters
    ----------
    output_dir : path
        Output folder; written whole or not at all. Pixels are those of the raw image, labels those of the
        segmentation, uint16 or uint32.
    segmentation_dirs : sequence of path
        Shard folders of the stage postprocess or masks.
    samples : sequence of mapping
        Rows of the sample table: sample, image, plane.
    run : str
        Name of the run, which is the name of the labels.
    pixel_size_um : float or None
        Edge length of a pixel; None: from the metadata of each image. Without it, the scale is 1 and has no unit.

    Raises
    ------
    ValueError
        As `cellmill.images.rasters.open_raster`.
    """
    paths = label_paths(segmentation_dirs)
    with shard_folder(output_dir) as folder:
        for row in rows_with_labels(samples, paths):
            image, labels = RawChannels(row, channels="all"), StoredRows(paths[row["sample"]])
            edges_um = image.pixel_size_um if pixel_size_um is None else (pixel_size_um, pixel_size_um)
            plane = Plane(image.shape, edges_um)
            store = folder / f"{row['sample']}{SUFFIX}"
            is_bytes = image.is_colour and image.dtype.itemsize == 1
            write_image(
                store, plane, name=row["sample"], dtype=image.dtype, channels=image.names, is_colour=image.is_colour,
                windows_counts=[(0, 255)] * len(image.names) if is_bytes else image.grey_ranges(), read=image.read,
            )  # fmt: skip
            write_labels(store, plane, name=run, dtype=labels[slice(0, 0)].dtype, read=labels.__getitem__)
        raise_together(explain_changes(samples), subject="images")
    logger.info("%d images", len(paths), extra={"progress": True})
