"""Stage preprocess, first rule with a flat field: estimate the illumination profiles of a dataset."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.images.channels import Channel
from cellmill.images.content import explain_changes
from cellmill.images.files import raise_together
from cellmill.images.rasters import Raster, open_raster
from cellmill.preprocessing.flat_field import FlatField, write_flat_fields
from cellmill.preprocessing.geometry import fit_rows, plan_fit, raw_rows_of
from cellmill.preprocessing.shading import FEWEST, SIDE, estimate_profile

logger = logging.getLogger(__name__)

WHERE = "preprocess.background.method flat_field"


def estimate_flat_field(
    *,
    output_path: str | Path,
    samples: Sequence[Mapping[str, Any]],
    planes: Sequence[Mapping[str, Any] | None],
) -> None:
    """Estimate the illumination profile of each input channel from images of a dataset.

    Parameters
    ----------
    output_path : path
        flat_field.json, see `write_flat_fields`.
    samples : sequence of mappings
        Rows of the sample table of the images that are used; `image` and `plane` are read.
    planes : sequence of mappings or None
        The input channels, None for those that are not divided by a profile: channel, as in `preprocess_shard`; dark,
        camera counts without light or "auto"; may_be_missing, whether images without the channel are passed over.

    Raises
    ------
    ValueError
        If images cannot be read or have several sizes, if fewer than three have the channel, and as
        `shading.estimate_profile`.
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
    flat_fields = []
    for plane in planes:
        where = WHERE if len(planes) == 1 or plane is None else f"{WHERE}, channel {plane['channel']}"
        flat_fields.append(None if plane is None else estimate_channel(rasters, **plane, shape=shape, where=where))
    raise_together(explain_changes(samples), subject="images")
    write_flat_fields(output_path, flat_fields)


def estimate_channel(
    rasters: Sequence[Raster],
    *,
    channel: Channel,
    dark: float | str,
    may_be_missing: bool,
    shape: tuple[int, int],
    where: str,
) -> FlatField:
    """Estimate the illumination profile of one channel; arguments as for `estimate_flat_field`."""
    problems: list[str] = []
    images = []
    for raster in rasters:
        try:
            images.append(reduce_image(raster, channel=channel))
        except ValueError as error:
            # A damaged image fails in the stage preprocess, too: only the lack of the channel is allowed.
            if not may_be_missing:
                problems.append(str(error))
    raise_together(problems, subject="images")
    if len(images) < FEWEST:
        raise ValueError(
            f"{where}: expected at least {FEWEST} images with the channel, found {len(images)} of {len(rasters)}. Add "
            "images, or set another method for this channel."
        )
    found, remarks = estimate_profile(np.stack(images), shape=shape, dark=dark, where=where)
    flat_field = replace(found, channel=channel)
    profile_yx = flat_field.shown(SIDE)
    logger.info(
        "channel %s: illumination profile of %d images: %.3f to %.3f of its mean, corners %.3f of the centre, dark "
        "level %g counts",
        *(channel, flat_field.images, profile_yx.min(), profile_yx.max(), flat_field.corner, flat_field.dark),
    )
    if flat_field.error is not None:
        logger.info(
            "ground at the borders relative to the centre: %.3f before, %.3f after; expected error of the profile %.2g",
            *(flat_field.border_before, flat_field.border_after, flat_field.error),
        )
    for remark in remarks:
        logger.warning("%s: %s", where, remark)
    return flat_field


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
