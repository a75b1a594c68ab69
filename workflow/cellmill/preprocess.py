"""Stage preprocess: one channel of every raw image, less its background, fitted to one size."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.background import (
    MIN_FRAMES,
    TEMPORAL_METHODS,
    choose_frames,
    single_frame_method,
    temporal_median,
    temporal_mode,
)
from cellmill.fit import Geometry, fit_image, plan_fit, write_geometry
from cellmill.images import raise_together, read_plane, read_shape, write_image
from cellmill.shards import shard_folder

logger = logging.getLogger(__name__)

# What a stack of frames may take while its background is computed: a longer or larger sequence is read in
# bands of rows, so that memory does not grow with it.
MAX_STACK_MB = 256


def preprocess_shard(
    *,
    output_dir: str | Path,
    samples: Sequence[Mapping[str, Any]],
    context: Sequence[Mapping[str, Any]],
    channel: str | int,
    background: Mapping[str, Any],
    fit: Mapping[str, Any],
) -> None:
    """Preprocess the images of one shard.

    Parameters
    ----------
    output_dir : path
        Shard folder: {sample}.tif (float32, YX, counts above background), geometry.csv, manifest.json.
    samples : sequence of mappings
        Rows of the sample table; `sample`, `image`, `sequence` and `frame` are read.
    context : sequence of mappings
        Further frames of the same sequences: a temporal background is computed from them too, and nothing is
        written of them. Frames without annotation serve so, held-out ones never.
    channel : "luminance" or int
        Which plane of an image with several.
    background : mapping
        method, radius_px, sigma_px, max_frames.
    fit : mapping
        mode, size.

    Raises
    ------
    ValueError
        One that lists every image that could not be preprocessed.
    """
    problems: list[str] = []
    geometries: dict[str, Geometry] = {}
    with shard_folder(output_dir) as folder:
        for rows in group_frames(samples, method=background["method"]):
            try:
                frames = [*rows, *(row for row in context if row["sequence"] == rows[0]["sequence"])]
                subtract = plan_subtraction(
                    sorted(frames, key=lambda row: int(row["frame"])), channel=channel, background=background
                )
            except ValueError as error:
                problems.append(str(error))
                continue
            for row in rows:
                try:
                    raw_yx = read_plane(row["image"], channel=channel)
                except ValueError as error:
                    problems.append(str(error))
                    continue
                geometry = plan_fit(raw_yx.shape, mode=fit["mode"], size=fit["size"])
                image_yx = subtract(raw_yx)
                # Above a background 0 is empty; without one the frame's own level is.
                pad_value = float(np.median(image_yx)) if background["method"] == "none" else 0.0
                write_image(folder / f"{row['sample']}.tif", fit_image(image_yx, geometry, pad_value=pad_value))
                geometries[row["sample"]] = geometry
                logger.info(
                    "%s: %d x %d px, %g to %g counts, %g to %g above background",
                    *(
                        row["sample"],
                        *raw_yx.shape,
                        raw_yx.min(),
                        raw_yx.max(),
                        image_yx.min(),
                        image_yx.max(),
                    ),
                )
        raise_together(problems, subject="images")
        write_geometry(folder / "geometry.csv", geometries)


def group_frames(samples: Sequence[Mapping[str, Any]], *, method: str) -> list[list[Mapping[str, Any]]]:
    """Group the images that share a background: a sequence in order of time, or each image by itself."""
    if method not in TEMPORAL_METHODS:
        return [[row] for row in samples]
    sequences: dict[str, list[Mapping[str, Any]]] = {}
    for row in samples:
        sequences.setdefault(row["sequence"], []).append(row)
    return [sorted(rows, key=lambda row: int(row["frame"])) for rows in sequences.values()]


def plan_subtraction(
    rows: Sequence[Mapping[str, Any]], *, channel: str | int, background: Mapping[str, Any]
) -> Callable[[np.ndarray], np.ndarray]:
    """Give the function that removes the background from each frame of a group.

    Parameters
    ----------
    rows : sequence of mappings
        Frames that share a background, in order of time.
    channel, background
        As in `preprocess_shard`.

    Returns
    -------
    function
        From a raw frame to float32 of the same shape.

    Raises
    ------
    ValueError
        If a temporal method meets single images, too few frames, or frames of several sizes.
    """
    method = background["method"]
    if method not in TEMPORAL_METHODS:
        return single_frame_method(method=method, radius_px=background["radius_px"], sigma_px=background["sigma_px"])
    _check_sequence(rows, method=method)
    background_yx = background_of_sequence(
        [row["image"] for row in rows], channel=channel, method=method, max_frames=background["max_frames"]
    )
    logger.info(
        "sequence %s: %s of %d frames, %g to %g counts",
        *(rows[0]["sequence"], method, len(rows), background_yx.min(), background_yx.max()),
    )

    def subtract(raw_yx: np.ndarray) -> np.ndarray:
        return raw_yx.astype(np.float32) - np.float32(_level(raw_yx, method=method)) - background_yx

    return subtract


def background_of_sequence(
    paths: Sequence[str | Path], *, channel: str | int, method: str, max_frames: int
) -> np.ndarray:
    """Compute the background of one sequence from its own frames.

    Parameters
    ----------
    paths : sequence of path
        Its frames in order of time, all of one size.
    channel : "luminance" or int
        As in `preprocess_shard`.
    method : "temporal_median" or "temporal_mode"
        The mode is taken of frames less their own mean.
    max_frames : int, >= 3
        Frames used at most, evenly spaced.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        Counts; relative to the mean of a frame for temporal_mode.
    """
    chosen = [paths[i] for i in choose_frames(len(paths), max_frames=max_frames)]
    estimate = {"temporal_median": temporal_median, "temporal_mode": temporal_mode}[method]
    rows, columns = read_shape(chosen[0])
    bytes_per_row = 4 * columns * len(chosen)
    band = max(1, MAX_STACK_MB * 2**20 // bytes_per_row)
    background_yx = np.empty((rows, columns), dtype=np.float32)
    for first in range(0, rows, band):
        part = slice(first, min(first + band, rows))
        stack_tyx = np.empty((len(chosen), part.stop - part.start, columns), dtype=np.float32)
        for i, path in enumerate(chosen):
            raw_yx = read_plane(path, channel=channel)
            stack_tyx[i] = raw_yx[part].astype(np.float32) - np.float32(_level(raw_yx, method=method))
        background_yx[part] = estimate(stack_tyx)
    return background_yx


def _level(raw_yx: np.ndarray, *, method: str) -> float:
    # SOURCE the background of the Fieguth group: subtract the mean of each frame, then the mode over time
    return float(raw_yx.mean()) if method == "temporal_mode" else 0.0


def _check_sequence(rows: Sequence[Mapping[str, Any]], *, method: str) -> None:
    where = f"sequence {rows[0]['sequence']}, from {rows[0]['image']}"
    if rows[0]["sequence"] == "":
        raise ValueError(
            f"{rows[0]['image']}: expected frames of a sequence for {method}, "
            f"found {len(rows)} images without one. "
            "Put {sequence} and {frame} into the pattern of the images, or set another method."
        )
    if len(rows) < MIN_FRAMES:
        raise ValueError(
            f"{where}: expected at least {MIN_FRAMES} frames for {method}, found {len(rows)}. "
            "Choose a background of single frames, such as gaussian."
        )
    shapes = {read_shape(row["image"]) for row in rows}
    if len(shapes) > 1:
        sizes = ", ".join(f"{height} x {width}" for height, width in sorted(shapes))
        raise ValueError(
            f"{where}: expected frames of one size for {method}, found {sizes} px. "
            "Give every acquisition a sequence of its own."
        )
