"""Stage preprocess: select channels, subtract their backgrounds, rescale, and bring all images to a common size."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.images.channels import Channel
from cellmill.images.content import explain_changes
from cellmill.images.files import raise_together, read_plane, read_shape
from cellmill.images.rasters import Raster, open_raster
from cellmill.images.stored import BAND_PIXELS, write_image_bands
from cellmill.preprocessing.background import (
    BAND_STEP,
    MIN_FRAMES,
    TEMPORAL_METHODS,
    choose_frames,
    reach_of_method,
    single_frame_method,
    subtraction_of,
    temporal_median,
    temporal_mode,
)
from cellmill.preprocessing.diameters import read_diameter
from cellmill.preprocessing.flat_field import FlatField, read_flat_fields
from cellmill.preprocessing.geometry import Geometry, fit_rows, plan_fit, plan_rescale, raw_rows_of, write_geometry
from cellmill.preprocessing.hot_pixels import find_defects, find_replacements, replace_defects, replace_pixels
from cellmill.preprocessing.rescaling import Factors, plan_factors, say_factors
from cellmill.preprocessing.stationary import MIN_FRAMES as MIN_FRAMES_FOR_RESTING
from cellmill.preprocessing.stationary import RESTING_TABLE, Resting, Seen, find_resting, write_resting
from cellmill.shards import shard_folder

logger = logging.getLogger(__name__)

# Memory limit of the stack from which a background is computed. A longer or larger sequence is read in bands of
# rows, so that memory does not grow with it.
MAX_STACK_MB = 256

# Takes some rows of a raw frame and their slice; returns float32 of the same shape
Subtract = Callable[[np.ndarray, slice], np.ndarray]


@dataclass(frozen=True)
class Plane:
    """An input plane: channel of the raw images, section `background`, and whether images may lack the channel."""

    channel: Channel
    background: Mapping[str, Any]
    may_be_missing: bool = False


def preprocess_shard(
    *,
    output_dir: str | Path,
    samples: Sequence[Mapping[str, Any]],
    context: Sequence[Mapping[str, Any]],
    channel: Channel,
    background: Mapping[str, Any],
    fit: Mapping[str, Any],
    hot_pixels: str,
    rescale: Mapping[str, Any] | None = None,
    diameter_path: str | Path | None = None,
    channels: Sequence[Mapping[str, Any]] | None = None,
    flat_field_path: str | Path | None = None,
) -> None:
    """Preprocess the images of one shard.

    Parameters
    ----------
    output_dir : path
        Shard folder: {sample}.tif (float32, YX or CYX, counts above background), geometry.csv, manifest.json; for a
        temporal background also resting.csv, the stationary objects it includes.
    samples : sequence of mappings
        Rows of the sample table; `sample`, `image`, `plane`, `sequence` and `frame` are read.
    context : sequence of mappings
        Further frames of the same sequences. They contribute to a temporal background, but no output is written
        for them. Frames without annotation are used this way, held-out frames never.
    channel : "luminance", int, list of float, or the name of a channel
        How to reduce several channels to one plane, as in `read_plane`.
    background : mapping
        method, radius_px, sigma_px, max_frames, then.
    fit : mapping
        mode, size.
    hot_pixels : "replace" or "keep"
        Whether isolated defective pixels become the median of their neighbours before anything else.
    rescale : mapping or None
        As in `choose_factors`; None keeps the pixels. Images are rescaled after the background was subtracted and
        before `fit`.
    diameter_path : path or None
        diameter.json, from which object_px is read if `rescale` lacks it.
    channels : sequence of mappings or None
        Several input planes in place of `channel`: channel, background (None: `background`) and missing ("zero": an
        image without the channel gets a plane of zeros).
    flat_field_path : path or None
        flat_field.json, by which channels with method flat_field are divided before their background is subtracted.

    Raises
    ------
    ValueError
        If any image could not be preprocessed; lists all of them.
    """
    planes = list_planes(channel=channel, background=background, channels=channels)
    methods = [plane.background["method"] for plane in planes]
    temporal = next((method for method in methods if method in TEMPORAL_METHODS), None)
    if rescale is not None and diameter_path is not None:
        rescale = {**rescale, "object_px": read_diameter(diameter_path)}
    flat_fields = [None] * len(planes) if flat_field_path is None else read_flat_fields(flat_field_path)
    problems: list[str] = []
    geometries: dict[str, Geometry] = {}
    resting: list[tuple[str, Resting]] = []
    factors, wrong = plan_factors(samples, rescale=rescale)
    with shard_folder(output_dir) as folder:
        for rows in group_frames(samples, method=temporal or methods[0]):
            try:
                frames = [*rows, *(row for row in context if row["sequence"] == rows[0]["sequence"])]
                ordered = sorted(frames, key=lambda row: int(row["frame"]))
                planned = [
                    plan_subtraction(ordered, plane=plane, hot_pixels=hot_pixels, flat_field=flat_field)
                    for plane, flat_field in zip(planes, flat_fields, strict=True)
                ]
                resting += [(rows[0]["sequence"], each) for _, rested in planned for each in rested]
            except ValueError as error:
                problems.append(str(error))
                continue
            for row in rows:
                if row["sample"] in wrong:
                    problems.append(wrong[row["sample"]])
                    continue
                try:
                    geometry = preprocess_image(
                        folder / f"{row['sample']}.tif", row,
                        planes=[(plane, subtract) for plane, (subtract, _) in zip(planes, planned, strict=True)],
                        fit=fit, hot_pixels=hot_pixels, factors=factors.get(row["sample"]),
                    )  # fmt: skip
                except ValueError as error:
                    problems.append(str(error))
                    continue
                geometries[row["sample"]] = geometry
        raise_together([*problems, *explain_changes([*samples, *context])], subject="images")
        write_geometry(folder / "geometry.csv", geometries)
        if temporal is not None:
            write_resting(folder / RESTING_TABLE, resting)


def list_planes(
    *, channel: Channel, background: Mapping[str, Any], channels: Sequence[Mapping[str, Any]] | None
) -> list[Plane]:
    """List the input planes of an image, arguments as for `preprocess_shard`; the first one shows the objects."""
    if not channels:
        return [Plane(channel, background)]
    return [Plane(each["channel"], each["background"] or background, each["missing"] == "zero") for each in channels]


def preprocess_image(
    path: str | Path,
    row: Mapping[str, Any],
    *,
    planes: Sequence[tuple[Plane, Subtract]],
    fit: Mapping[str, Any],
    hot_pixels: str,
    factors: Factors | None,
) -> Geometry:
    """Preprocess one image band by band, so that memory does not grow with its size.

    Parameters
    ----------
    path : path
        Output path of the fitted image.
    row : mapping
        Row of the sample table; `sample`, `image` and `plane` are read.
    planes : sequence of (Plane, function)
        The input planes, with functions from `plan_subtraction`.
    fit, hot_pixels
        As in `preprocess_shard`.
    factors : tuple of float or None
        Size of an object after and before rescaling, along rows and columns; None keeps the pixels.

    Returns
    -------
    Geometry

    Raises
    ------
    ValueError
        If the image cannot be read, or the region begins outside of it.
    """
    raster = open_raster(row["image"], palette="colours", plane=row.get("plane", ()))
    try:
        geometry = (
            plan_fit(raster.shape, **fit) if factors is None else plan_rescale(raster.shape, factors=factors, **fit)
        )
    except ValueError as error:
        raise ValueError(f"{row['image']}: {error}") from None
    if raster.pixel_size_um is not None:
        geometry = replace(geometry, pixel_size_um=float(np.sqrt(np.prod(raster.pixel_size_um))))
    bands = (
        _read_plane_bands(raster, row, plane, subtract=subtract, geometry=geometry, hot_pixels=hot_pixels)
        for plane, subtract in planes
    )
    write_image_bands(path, chain.from_iterable(bands), shape=geometry.shape, channels=len(planes))
    if factors is not None:
        logger.info("%s: rescaled by %s to %d x %d px", row["sample"], say_factors(factors), *geometry.scaled_shape)
    return geometry


def _read_plane_bands(
    raster: Raster, row: Mapping[str, Any], plane: Plane, *, subtract: Subtract, geometry: Geometry, hot_pixels: str
) -> Iterator[np.ndarray]:
    """Yield one input plane of an image from top to bottom, without its background and fitted."""
    background = plane.background
    reach = reach_of_method(**subtraction_of(background))
    # A temporal background is in memory as a whole, and a frame's mean must not depend on the bands or on cropping: use
    # a single band, computed from the whole frame.
    is_temporal = background["method"] in TEMPORAL_METHODS
    bands = [slice(0, geometry.rows)] if is_temporal else plan_bands(geometry, reach=reach)
    extremes = Extremes()
    try:
        read_channel = raster.channel_reader(plane.channel)
        if plane.may_be_missing:
            read_channel(0, 1)
    except ValueError as error:
        if not plane.may_be_missing:
            raise
        logger.warning("%s: a channel is missing and becomes zero: %s", row["sample"], error)
        yield from (np.zeros((rows.stop - rows.start, geometry.columns), dtype=np.float32) for rows in bands)
        return

    replaced: dict[tuple[int, int], float] = {}
    if hot_pixels == "replace":
        parts = (read_channel(part.start, part.stop) for part in raster.row_bands())
        defects = find_defects(parts, shape=raster.shape)
        replaced = find_replacements(defects.pixels, read_channel, shape=raster.shape)
        if replaced:
            logger.warning("%s: %d hot or dead pixels were replaced: %s", row["sample"], len(replaced), defects.pixels)

    def subtracted(rows: slice) -> np.ndarray:
        first = 0 if is_temporal else max(0, (rows.start - reach) // BAND_STEP * BAND_STEP)
        last = raster.shape[0]
        if not is_temporal:
            last = min(last, -(-(rows.stop + reach) // BAND_STEP) * BAND_STEP)
        raw_yx = replace_pixels(read_channel(first, last), replaced, first=first)
        clean_yx = subtract(raw_yx, slice(first, last))[rows.start - first : rows.stop - first]
        extremes.see(raw_yx[rows.start - first : rows.stop - first], clean_yx)
        return clean_yx

    # Pad with 0 if a background was subtracted, otherwise with the median of the frame.
    pad_value = 0.0
    if geometry.is_padded and subtraction_of(background)["method"] == "none":
        pad_value = median_of_rows(subtracted, rows=raster.shape[0], columns=raster.shape[1])

    for rows in bands:
        raw_rows = raw_rows_of(geometry, rows)
        clean_yx = subtracted(raw_rows) if raw_rows.start < raw_rows.stop else np.zeros((0, raster.shape[1]))
        yield fit_rows(clean_yx, geometry, rows=rows, raw_rows=raw_rows, pad_value=pad_value)
    logger.info(
        "%s: %d x %d px, channel %s, %g to %g counts, %g to %g above background",
        *(row["sample"], *raster.shape, plane.channel, *extremes.raw, *extremes.clean),
    )


class Extremes:
    """Smallest and largest counts of an image that is processed band by band."""

    def __init__(self) -> None:
        self.raw = [float("inf"), float("-inf")]
        self.clean = [float("inf"), float("-inf")]

    def see(self, raw_yx: np.ndarray, clean_yx: np.ndarray) -> None:
        """Update the extremes with one band."""
        for seen, part_yx in ((self.raw, raw_yx), (self.clean, clean_yx)):
            seen[:] = min(seen[0], float(part_yx.min())), max(seen[1], float(part_yx.max()))


def plan_bands(geometry: Geometry, *, reach: int) -> list[slice]:
    """Split the fitted frame into bands of rows that need about `BAND_PIXELS` of the raw frame, halo included.

    Parameters
    ----------
    geometry : Geometry
    reach : int
        Halo: rows around a band that its background depends on.

    Returns
    -------
    list of slice
        A single band unless the image is large.
    """
    if geometry.raw_rows * geometry.raw_columns <= BAND_PIXELS and geometry.rows * geometry.columns <= BAND_PIXELS:
        return [slice(0, geometry.rows)]
    # If a band were much smaller than its halo, most of the computation would be wasted.
    raw_height = max(BAND_PIXELS // geometry.raw_columns - 2 * reach, 2 * reach, 1)
    height = max(1, int(raw_height * geometry.scaled_shape[0] / geometry.raw_rows))
    height = min(height, max(1, BAND_PIXELS // geometry.columns))
    return [slice(first, min(first + height, geometry.rows)) for first in range(0, geometry.rows, height)]


def median_of_rows(read_rows: Callable[[slice], np.ndarray], *, rows: int, columns: int) -> float:
    """Return the median of an image; for a large image, the median of rows spread evenly over it.

    Parameters
    ----------
    read_rows : function
        Takes a slice of rows; returns their pixels.
    rows, columns : int
        Size of the image, px.
    """
    if rows * columns <= BAND_PIXELS:
        return float(np.median(read_rows(slice(0, rows))))
    # ASSUME a level for padding needs no more than a million pixels
    chosen = np.linspace(0, rows - 1, max(1, 2**20 // columns)).astype(int)
    return float(np.median(np.concatenate([read_rows(slice(i, i + 1)) for i in chosen])))


def group_frames(samples: Sequence[Mapping[str, Any]], *, method: str) -> list[list[Mapping[str, Any]]]:
    """Group the images that share a background: the frames of a sequence in time order, or single images."""
    if method not in TEMPORAL_METHODS:
        return [[row] for row in samples]
    sequences: dict[str, list[Mapping[str, Any]]] = {}
    for row in samples:
        sequences.setdefault(row["sequence"], []).append(row)
    return [sorted(rows, key=lambda row: int(row["frame"])) for rows in sequences.values()]


def plan_subtraction(
    rows: Sequence[Mapping[str, Any]], *, plane: Plane, hot_pixels: str, flat_field: FlatField | None = None
) -> tuple[Subtract, list[Resting]]:
    """Return the function that subtracts the background of a group of frames, and the stationary objects in it.

    Parameters
    ----------
    rows : sequence of mappings
        Frames that share a background, in order of time.
    plane : Plane
        The channel and its background.
    hot_pixels : str
        As in `preprocess_shard`.
    flat_field : FlatField or None
        Profile by which frames are divided first.

    Returns
    -------
    subtract : function
        Takes some rows of a raw frame and their slice; returns float32 of the same shape.
    resting : list of Resting
        Objects that a temporal background includes because they stayed in most of the frames.

    Raises
    ------
    ValueError
        If a temporal method is applied to single images, too few frames, or frames of several sizes, or an image has
        another size than the flat field.
    """
    channel, background = plane.channel, plane.background
    method = background["method"]
    if method not in TEMPORAL_METHODS:
        remove = single_frame_method(**subtraction_of(background))
        if flat_field is not None:
            _check_size(rows[0], flat_field)
            return (lambda raw_yx, part: remove(flat_field.correct_rows(raw_yx, part))), []
        return (lambda raw_yx, part: remove(raw_yx)), []
    _check_sequence(rows, method=method)
    background_yx, resting = background_of_sequence(
        rows, channel=channel, method=method, max_frames=background["max_frames"], hot_pixels=hot_pixels
    )
    logger.info(
        "sequence %s: %s of %d frames, %g to %g counts",
        *(rows[0]["sequence"], method, len(rows), background_yx.min(), background_yx.max()),
    )
    for each in resting:
        logger.warning(
            "sequence %s: a stationary object at row %.0f, column %.0f in %.0f %% of the frames (%d px) became part of "
            "the background",
            *(rows[0]["sequence"], each.row, each.column, 100 * each.share, each.area_px),
        )

    def subtract(raw_yx: np.ndarray, part: slice) -> np.ndarray:
        return raw_yx.astype(np.float32) - np.float32(_level(raw_yx, method=method)) - background_yx[part]

    return subtract, resting


def background_of_sequence(
    frames: Sequence[Mapping[str, Any]], *, channel: Channel, method: str, max_frames: int, hot_pixels: str
) -> tuple[np.ndarray, list[Resting]]:
    """Compute the background of one sequence from its frames, and find stationary objects in it.

    Parameters
    ----------
    frames : sequence of mappings
        Its rows of the sample table in order of time; `image` and `plane` are read. All frames have the same size.
    channel : "luminance", int, list of float, or the name of a channel
        As in `preprocess_shard`.
    method : "temporal_median" or "temporal_mode"
        The mode is computed from frames minus their mean.
    max_frames : int, >= 3
        Maximum number of frames used, evenly spaced.
    hot_pixels : "replace" or "keep"
        As in `preprocess_shard`.

    Returns
    -------
    background_yx : ndarray of float32, shape (rows, columns)
        Counts; relative to the mean of a frame for temporal_mode.
    resting : list of Resting
        Empty if fewer than 8 frames are used.
    """
    chosen = [frames[i] for i in choose_frames(len(frames), max_frames=max_frames)]
    estimate = {"temporal_median": temporal_median, "temporal_mode": temporal_mode}[method]
    rows, columns = read_shape(chosen[0]["image"], plane=chosen[0].get("plane", ()))
    bytes_per_row = 4 * columns * len(chosen)
    band = max(1, MAX_STACK_MB * 2**20 // bytes_per_row)
    background_yx = np.empty((rows, columns), dtype=np.float32)
    seen = Seen.empty((rows, columns)) if len(chosen) >= MIN_FRAMES_FOR_RESTING else None
    for first in range(0, rows, band):
        part = slice(first, min(first + band, rows))
        stack_tyx = np.empty((len(chosen), part.stop - part.start, columns), dtype=np.float32)
        for i, frame in enumerate(chosen):
            raw_yx = read_plane(frame["image"], channel=channel, plane=frame.get("plane", ()))
            if hot_pixels == "replace":
                raw_yx = replace_defects(raw_yx)
            stack_tyx[i] = raw_yx[part].astype(np.float32) - np.float32(_level(raw_yx, method=method))
        background_yx[part] = estimate(stack_tyx)
        if seen is not None:
            seen.add(part, stack_tyx, background_yx[part])
    return background_yx, find_resting(seen, background_yx) if seen is not None else []


def _level(raw_yx: np.ndarray, *, method: str) -> float:
    # SOURCE the background of the Fieguth group: subtract the mean of each frame, then the mode over time
    return float(raw_yx.mean()) if method == "temporal_mode" else 0.0


def _check_size(row: Mapping[str, Any], flat_field: FlatField) -> None:
    found, wanted = read_shape(row["image"], plane=row.get("plane", ())), flat_field.shape
    if found != wanted:
        raise ValueError(
            f"{row['image']}: expected {wanted[0]} x {wanted[1]} px, the size of the images that the illumination "
            f"profile was estimated from, found {found[0]} x {found[1]} px. Put the images of each size into a "
            "separate dataset."
        )


def _check_sequence(rows: Sequence[Mapping[str, Any]], *, method: str) -> None:
    where = f"sequence {rows[0]['sequence']}, from {rows[0]['image']}"
    if rows[0]["sequence"] == "":
        raise ValueError(
            f"{rows[0]['image']}: expected frames of a sequence for {method}, found {len(rows)} images without a "
            "sequence. Add {sequence} and {frame} to the pattern of the images, or set another method."
        )
    if len(rows) < MIN_FRAMES:
        raise ValueError(
            f"{where}: expected at least {MIN_FRAMES} frames for {method}, found {len(rows)}. "
            "Set a single-frame method, such as gaussian."
        )
    shapes = {read_shape(row["image"], plane=row.get("plane", ())) for row in rows}
    if len(shapes) > 1:
        sizes = ", ".join(f"{height} x {width}" for height, width in sorted(shapes))
        raise ValueError(
            f"{where}: expected frames of the same size for {method}, found {sizes} px. "
            "Use a separate sequence for each acquisition."
        )
