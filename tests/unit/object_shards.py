"""Shard folders of a run with objects, and their raw images, for tests of measurements and exports."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile

from cellmill.images.stored import write_labels
from cellmill.images.windows import LabelFile
from cellmill.objects.measurements import ObjectTables
from cellmill.preprocessing.geometry import plan_fit, write_geometry
from cellmill.shards import shard_folder
from whole_images import write_image


def write_object_shard(root: Path, shard: str, images: dict, *, pixel_size_um: float | None = None) -> list[dict]:
    """Write raw images, preprocessed images and a segmentation; return the rows of the sample table.

    `images` maps a sample to (labels_yx, raw); raw is YX, or channels last: RGB for uint8, else separate channels.
    """
    (root / "raw").mkdir(parents=True, exist_ok=True)
    rows = []
    with shard_folder(root / "images" / shard) as folder:
        for number, (sample, (labels_yx, raw)) in enumerate(images.items()):
            path = root / "raw" / f"{sample}.tif"
            is_colour = raw.ndim == 3 and raw.dtype == np.uint8
            planes = raw if raw.ndim == 2 or is_colour else np.moveaxis(raw, 2, 0)
            photometric = "rgb" if is_colour else "minisblack"
            axes = "YXS" if is_colour else "YX" if raw.ndim == 2 else "CYX"
            tifffile.imwrite(path, planes, photometric=photometric, metadata={"axes": axes})
            rows.append({"sample": sample, "image": str(path), "sequence": "", "frame": number, "class": ""})
            write_image(folder / f"{sample}.tif", raw.reshape(*labels_yx.shape, -1)[:, :, 0].astype(np.float32))
        shapes = {sample: labels_yx.shape for sample, (labels_yx, _) in images.items()}
        write_geometry(
            folder / "geometry.csv",
            {
                sample: replace(plan_fit(shape, mode="none", size=None), pixel_size_um=pixel_size_um)
                for sample, shape in shapes.items()
            },
        )
    with shard_folder(root / "segmentation" / shard) as folder:
        tables = ObjectTables(folder, order="row")
        counts = {sample: np.count_nonzero(np.unique(labels_yx)) for sample, (labels_yx, _) in images.items()}
        table = pd.DataFrame({"sample": counts.keys(), "objects": counts.values()})
        table.to_csv(folder / "counts.csv", index=False)
        for sample, (labels_yx, raw) in images.items():
            write_labels(folder / f"{sample}.tif", labels_yx)
            labels = LabelFile(root / "labels.bin", labels_yx.shape)
            labels.write(labels_yx, slice(None))
            first_yx = raw.reshape(*labels_yx.shape, -1)[:, :, 0]
            tables.add(
                sample, labels, pixel_size_um=pixel_size_um, image_of_rows=first_yx.__getitem__,
                raw_of_rows=first_yx.__getitem__,
            )  # fmt: skip
    return rows
