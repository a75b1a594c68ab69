"""Stage preprocess, first rule with a flat field: estimate the illumination profile of a dataset."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.images.channels import Channel
from cellmill.images.files import raise_together
from cellmill.images.rasters import Raster, open_raster
from cellmill.preprocessing.flat_field import write_flat_field
from cellmill.preprocessing.geometry import fit_rows, plan_fit, raw_rows_of
from cellmill.preprocessing.shading import SIDE, estimate_profile

logger = logging.getLogger(__name__)

WHERE = "preprocess.background.method flat_field"


def estimate_flat_field(
    *,
    output_path: str | Path,
    samples: Sequence[Mapping[str, Any]],
    channel: Channel,
    dark: float | str,
) -> None:
    """Estimate the illumination profile from images of a dataset.

    Parameters
    ----------
    output_path : path
        flat_field.json, see `FlatField`.
    samples : sequence of mappings
        Rows of the sample table of the images that are used; `image` and `plane` are read.
    channel : "luminance", int or list of float
        As in `preprocess_shard`.
    dark : float or "auto"
        Camera counts without light.

    Raises
    ------
    ValueError
        If images cannot be read or have several sizes, and as `shading.estimate_profile`.
    """
    problems: list[str] = []
    rasters: list[Raster] = []
    for row in samples:
        try:
            rasters.append(open_raster(row["image"], palette="colours", plane=row.get("plane", ())))
        except ValueError as error:
            problems.append(str(error))
    raise_together(problems, subject="images")
    shape = common_shape(rasters)
    images = []
    for raster in rasters:
        try:
            images.append(reduce_image(raster, channel=channel))
        except ValueError as error:
            problems.append(str(error))
    raise_together(problems, subject="images")
    flat_field, remarks = estimate_profile(np.stack(images), shape=shape, dark=dark, where=WHERE)
    write_flat_field(output_path, flat_field)
    profile_yx = flat_field.shown(SIDE)
    logger.info(
        "illumination profile of %d images: %.3f to %.3f of its mean, corners %.3f of the centre, dark level %g counts",
        *(flat_field.images, profile_yx.min(), profile_yx.max(), flat_field.corner, flat_field.dark),
    )
    if flat_field.error is not None:
        logger.info(
            "ground at the borders relative to the centre: %.3f before, %.3f after; expected error of the profile %.2g",
            *(flat_field.border_before, flat_field.border_after, flat_field.error),
        )
    for remark in remarks:
        logger.warning("%s: %s", WHERE, remark)


def common_shape(rasters: Sequence[Raster]) -> tuple[int, int]:
    """Return the size that all images have, px.

    Raises
    ------
    ValueError
        If they have several.
    """
    counts = Counter(raster.shape for raster in rasters)
    if len(counts) == 1:
        return next(iter(counts))
    sizes = ", ".join(f"{rows} x {columns} px ({count} images)" for (rows, columns), count in counts.most_common(5))
    few, _ = counts.most_common()[-1]
    example = next(raster.path for raster in rasters if raster.shape == few)
    raise ValueError(
        f"{WHERE}: expected images of one size, because they share one illumination profile, found {sizes}; "
        f"{example} has {few[0]} x {few[1]} px. Put the images of each size into a separate dataset."
    )


def reduce_image(raster: Raster, *, channel: Channel) -> np.ndarray:
    """Average an image to at most `SIDE` pixels along each axis, band by band: float32, camera counts."""
    geometry = plan_fit(raster.shape, mode="resize", size=[min(SIDE, side) for side in raster.shape])
    reduced_yx = np.empty(geometry.shape, dtype=np.float32)
    read_channel = raster.channel_reader(channel)
    # Rows of the reduced image that one band of the file covers
    height = max(1, geometry.rows // len(raster.row_bands()))
    for first in range(0, geometry.rows, height):
        rows = slice(first, min(first + height, geometry.rows))
        raw_rows = raw_rows_of(geometry, rows)
        raw_yx = read_channel(raw_rows.start, raw_rows.stop)
        reduced_yx[rows] = fit_rows(raw_yx, geometry, rows=rows, raw_rows=raw_rows, pad_value=0.0)
    return reduced_yx
