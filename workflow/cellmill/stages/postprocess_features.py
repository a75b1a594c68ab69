"""Stage postprocess, third rule: measure the features of a shard's objects that the config adds.

Only objects that are segmented already are measured, so that a changed list of features segments, fits and scores
nothing again. See workflow/decisions/0023-features-are-measured-apart.md.
"""

import csv
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellmill.images.content import explain_changes
from cellmill.images.files import raise_together
from cellmill.images.stored import StoredRows, sample_paths
from cellmill.images.windows import HALO_PX, plan_windows
from cellmill.objects.feature_measurements import UnmeasuredObject
from cellmill.objects.features import FEATURES, Column, explain_channels, list_columns
from cellmill.objects.raw_channels import RawChannels
from cellmill.preprocessing.stored_images import find_images
from cellmill.shards import atomic_path

logger = logging.getLogger(__name__)

# Columns of objects.csv that are read, and the bounding box among them
KEYS = ("sample", "object")
BOX = ("bbox_row_start_px", "bbox_row_stop_px", "bbox_column_start_px", "bbox_column_stop_px")


def measure_features(
    *,
    output_path: str | Path,
    segmentation_dir: str | Path,
    images_dir: str | Path,
    samples: Sequence[Mapping[str, Any]],
    features: Sequence[str],
    channels: str | Sequence[tuple[str, int]],
    texture_range_counts: Sequence[float] | None,
    pixel_size_um: float | None,
    hot_pixels: str,
) -> None:
    """Measure the objects of one shard.

    Parameters
    ----------
    output_path : path
        Table with the columns sample, object and those of the features, one row for each row of the shard's
        objects.csv, in the same order. A cell is empty where a feature is undefined, where a length in um lacks the
        pixel size, or where an image lacks a channel that others have. Numbers have seven significant digits.
    segmentation_dir : path
        Shard folder of the stage postprocess or masks.
    images_dir : path
        Shard folder with the preprocessed images, whose geometry holds the pixel size from the metadata.
    samples : sequence of mapping
        Rows of the sample table: sample, image, plane.
    features : sequence of str
        Keys of `cellmill.objects.features.FEATURES`.
    channels : "all" or sequence of (str, int)
        Names and numbers of the channels of the raw images.
    texture_range_counts : (float, float) or None
        Intensities of the first and the last grey level of textures; None: quantiles of each image and channel.
    pixel_size_um : float or None
        Edge length of a pixel of the raw images; None: from the metadata of each image.
    hot_pixels : "replace" or "keep"
        Whether intensities are measured with isolated defective pixels replaced, as in the stage preprocess.

    Raises
    ------
    ValueError
        If images lack channels; the message lists all of them.
    """
    table = pd.read_csv(
        Path(segmentation_dir) / "objects.csv", usecols=[*KEYS, *BOX], dtype={"sample": str}, keep_default_na=False
    )
    edges_um = {image.sample: image.geometry.pixel_size_um for image in find_images([images_dir])}
    labels = sample_paths(segmentation_dir)
    raw, problems = _open_images(samples, channels=channels, features=features)
    raise_together(problems, subject="images")
    longest = max((image.names for image in raw.values()), key=len, default=[])
    columns = list_columns(features, channels=longest)
    has_textures = any(FEATURES[name]["group"] == "texture" for name in features)
    measured = np.full((len(table), len(columns)), np.nan)
    for sample, places in table.groupby("sample", sort=False).indices.items():
        # Removed from the mapping, because images that are decoded as a whole stay in memory.
        image, objects = raw.pop(str(sample)), table.iloc[places]
        if image.names and hot_pixels == "replace":
            image.replace_defects()
        if texture_range_counts is not None:
            ranges = [(float(texture_range_counts[0]), float(texture_range_counts[1]))] * len(image.names)
        else:
            ranges = image.grey_ranges() if has_textures else [(0.0, 0.0)] * len(image.names)
        measured[places] = _measure_image(
            objects, StoredRows(labels[str(sample)]), image, columns=columns, ranges_counts=ranges,
            pixel_size_um=edges_um[str(sample)] if pixel_size_um is None else pixel_size_um,
        )  # fmt: skip
        logger.info("%s: %d objects", sample, len(objects))
    raise_together(explain_changes(samples), subject="images")
    with atomic_path(output_path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*KEYS, *(column.name for column in columns)])
        for sample, number, values in zip(table["sample"], table["object"], measured, strict=True):
            writer.writerow([sample, number, *("" if math.isnan(value) else f"{value + 0.0:.7g}" for value in values)])
    logger.info("%d objects, %d columns", len(table), len(columns), extra={"progress": True})


def _open_images(
    samples: Sequence[Mapping[str, Any]], *, channels: str | Sequence[tuple[str, int]], features: Sequence[str]
) -> tuple[dict[str, RawChannels], list[str]]:
    """Open the raw images of a shard, and list those whose channels do not fit. Shapes need no channel."""
    needs_channels = any(FEATURES[name]["group"] != "shape" for name in features)
    raw: dict[str, RawChannels] = {}
    problems = []
    for row in samples:
        image = RawChannels(row, channels=channels if needs_channels else [])
        if needs_channels and (problem := explain_channels(image.count, channels=channels, features=features)):
            problems.append(f"{row['image']}: {problem}")
        raw[row["sample"]] = image
    return raw, problems


def _measure_image(
    objects: pd.DataFrame,
    labels: StoredRows,
    image: RawChannels,
    *,
    columns: Sequence[Column],
    ranges_counts: Sequence[tuple[float, float]],
    pixel_size_um: float | None,
) -> np.ndarray:
    """Measure the objects of one image: float64, shape (objects, columns); some rows of it are in memory at a time."""
    numbers, boxes = objects["object"].to_numpy(), objects[list(BOX)].to_numpy()
    measured = np.empty((len(objects), len(columns)))
    for [window, *_] in plan_windows(labels.shape, halo_px=HALO_PX):
        is_owned = (boxes[:, 0] >= window.core_rows.start) & (boxes[:, 0] < window.core_rows.stop)
        is_inside = boxes[:, 1] <= window.rows.stop
        parts = [(window.rows, np.flatnonzero(is_owned & is_inside))]
        # Objects that extend beyond the window are measured individually.
        parts += [
            (slice(boxes[place, 0], boxes[place, 1]), np.array([place]))
            for place in np.flatnonzero(is_owned & ~is_inside)
        ]
        for rows, places in parts:
            if not places.size:
                continue
            labels_yx, planes = labels[rows], image.read(rows) if image.names else []
            for place in places:
                top, bottom, left, right = boxes[place]
                box = (slice(top - rows.start, bottom - rows.start), slice(left, right))
                one = UnmeasuredObject(
                    labels_yx[box] == numbers[place], [plane_yx[box] for plane_yx in planes],
                    ranges_counts=ranges_counts, pixel_size_um=pixel_size_um,
                )  # fmt: skip
                measured[place] = one.measure(columns)
    return measured
