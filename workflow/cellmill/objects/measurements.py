"""Tables of objects: measurements and run-length encoding of each object."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage import measure, segmentation

from cellmill.annotations.rle import encode_crop
from cellmill.images.windows import HALO_PX, LabelFile, plan_windows, sampling_step
from cellmill.objects.necks import NEIGHBOURING
from cellmill.objects.shard_tables import OBJECTS

RLE = "rle.csv"
# Last column of objects.csv of a shard, which comes from predicted maps and not from the image
CONFIDENCE = "confidence"
RLE_COLUMNS = ("id", "annotation")
# Column of objects.csv -> property of scikit-image's regionprops.
SHAPE_PROPERTIES = {
    "object": "label",
    "centroid_row_px": "centroid-0",
    "centroid_column_px": "centroid-1",
    "area_px": "area",
    "equivalent_diameter_px": "equivalent_diameter_area",
    "axis_major_px": "axis_major_length",
    "axis_minor_px": "axis_minor_length",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
    "bbox_row_start_px": "bbox-0",
    "bbox_column_start_px": "bbox-1",
    "bbox_row_stop_px": "bbox-2",
    "bbox_column_stop_px": "bbox-3",
}
INTENSITY_PROPERTIES = {
    "intensity_mean": "intensity_mean",
    "intensity_min": "intensity_min",
    "intensity_max": "intensity_max",
}
# Objects whose edges are this close (px) are neighbours.
# SOURCE CellProfiler, MeasureObjectNeighbors: default of five pixels
NEIGHBOUR_PX = 5
# Larger images are subsampled for the background level: every n-th row and column is enough.
MAX_LEVEL_PIXELS = 1 << 24
LENGTHS_IN_UM = ("equivalent_diameter", "axis_major", "axis_minor")
# Decimals for values in px; significant digits for other values, whose magnitude depends on their unit
DECIMALS = 4
DIGITS = 7


def measure_objects(
    labels_yx: np.ndarray,
    image_yx: np.ndarray,
    raw_yx: np.ndarray,
    *,
    sample: str,
    pixel_size_um: float | None,
    background: float,
    origin: tuple[int, int] = (0, 0),
    shape: tuple[int, int] | None = None,
    wanted: np.ndarray | None = None,
) -> pd.DataFrame:
    """Measure the objects of one image, or of a part of it.

    Parameters
    ----------
    labels_yx : ndarray of non-negative integers, shape (rows, columns)
        Objects, 0 is background; geometry of the raw image.
    image_yx : ndarray of float, shape (rows, columns)
        Preprocessed image in the same geometry.
    raw_yx : ndarray of any real dtype, shape (rows, columns)
        The channel of the raw image that was preprocessed.
    sample : str
        Name of the image, for the first column.
    pixel_size_um : float or None
        Edge length of a pixel; None leaves the columns in um empty.
    background : float
        Background level of the preprocessed image, from `background_level`.
    origin : (row, column)
        Position of the part in the image, px.
    shape : (rows, columns) or None
        Shape of the whole image; None: the arrays are the whole image.
    wanted : ndarray of integers or None
        Labels to measure, which must lie completely in the part; other labels count only as neighbours. None: all.

    Returns
    -------
    DataFrame
        One row per object, in the order of the labels; no rows for an image without objects. Rows and columns count
        from 0; the stop of a bounding box is exclusive.
    """
    shape = labels_yx.shape if shape is None else shape
    wanted = np.setdiff1d(labels_yx, [0]) if wanted is None else np.sort(wanted)
    neighbours = count_neighbours(labels_yx, wanted)
    # Renumbered 1 .. n, since scikit-image iterates over all numbers up to the highest.
    numbered_yx = np.searchsorted(wanted, labels_yx)
    is_wanted_yx = (
        (labels_yx > 0) & (wanted.take(numbered_yx, mode="clip") == labels_yx) if wanted.size else labels_yx < 0
    )
    numbered_yx = np.where(is_wanted_yx, numbered_yx + 1, 0)
    properties = {**SHAPE_PROPERTIES, **INTENSITY_PROPERTIES}
    if wanted.size:
        names = tuple({name.split("-")[0] for name in properties.values()})
        both_yxc = np.stack([np.asarray(image_yx, dtype=np.float64), np.asarray(raw_yx, dtype=np.float64)], axis=-1)
        found = measure.regionprops_table(numbered_yx, intensity_image=both_yxc, properties=names)
    else:
        found = {name: np.zeros(0) for name in SHAPE_PROPERTIES.values()}
        found |= {f"{name}-{channel}": np.zeros(0) for name in INTENSITY_PROPERTIES.values() for channel in range(2)}
    table = pd.DataFrame({column: found[name] for column, name in SHAPE_PROPERTIES.items()})
    table["object"] = wanted
    for channel, prefix in enumerate(("", "raw_")):
        for column, name in INTENSITY_PROPERTIES.items():
            table[prefix + column] = found[f"{name}-{channel}"]
    table["intensity_above_background"] = table["intensity_mean"] - background
    table["neighbours"] = neighbours
    whole = ["object", "area_px", "neighbours", *(column for column in SHAPE_PROPERTIES if column.startswith("bbox_"))]
    table = table.astype(dict.fromkeys(whole, np.int64))
    for axis, name in enumerate(("row", "column")):
        for column in (f"centroid_{name}_px", f"bbox_{name}_start_px", f"bbox_{name}_stop_px"):
            table[column] += origin[axis]
    rows, columns = shape
    table["touches_border"] = (
        (table["bbox_row_start_px"] == 0)
        | (table["bbox_column_start_px"] == 0)
        | (table["bbox_row_stop_px"] == rows)
        | (table["bbox_column_stop_px"] == columns)
    ).astype(np.int64)
    edge_um = np.nan if pixel_size_um is None else pixel_size_um
    table["area_um2"] = table["area_px"] * edge_um**2
    for length in LENGTHS_IN_UM:
        table[f"{length}_um"] = table[f"{length}_px"] * edge_um
    table.insert(0, "sample", sample)
    exact = [column for column in table.columns if column.endswith(("_um", "_um2")) or "intensity" in column]
    table[exact] = _round_to_digits(table[exact].to_numpy(dtype=np.float64))
    return table.round({column: DECIMALS for column in table.columns if column not in exact})


def empty_table() -> pd.DataFrame:
    """Return objects.csv without objects, which has all its columns."""
    nothing = np.zeros((1, 1), dtype=np.int64)
    table = measure_objects(nothing, nothing, nothing, sample="", pixel_size_um=None, background=0.0)
    return table.assign(**{CONFIDENCE: []})


def _round_to_digits(values: np.ndarray) -> np.ndarray:
    """Round to seven significant digits, since values may be small: pixels of 4 nm, intensities below 1."""
    scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.abs(np.where(values == 0, 1, values)))))
    return np.round(values * scale) / scale + 0.0  # no negative zero


def count_neighbours(labels_yx: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Count the objects near each object.

    Parameters
    ----------
    labels_yx : ndarray of non-negative integers, shape (rows, columns)
        Objects, 0 is background.
    wanted : ndarray of integers, sorted
        Labels whose neighbours are counted.

    Returns
    -------
    ndarray of int64, one number per label
        Number of other objects with a pixel at most 5 px from a pixel of this object, unless a third object lies
        between them.
    """
    # Each object is grown by half the distance; objects that then meet are neighbours.
    grown_yx = segmentation.expand_labels(labels_yx, distance=NEIGHBOUR_PX / 2)
    pairs = []
    for here, there in NEIGHBOURING:
        a, b = grown_yx[here], grown_yx[there]
        meets = (a != b) & (a > 0) & (b > 0)
        pairs.append(np.stack([a[meets], b[meets]], axis=1))
    found = np.concatenate(pairs)
    both_ways = np.unique(np.concatenate([found, found[:, ::-1]]), axis=0)
    counted, counts = np.unique(both_ways[:, 0], return_counts=True)
    result = np.zeros(len(wanted), dtype=np.int64)
    place = np.searchsorted(wanted, counted)
    is_wanted = wanted.take(place, mode="clip") == counted if wanted.size else np.zeros(len(counted), dtype=bool)
    result[place[is_wanted]] = counts[is_wanted]
    return result


def background_level(
    labels: LabelFile,
    image_of_rows: Callable[[slice], np.ndarray],
    *,
    within: tuple[slice, slice] = (slice(None), slice(None)),
) -> float:
    """Compute the median of the pixels outside objects, 0 if there are none.

    Parameters
    ----------
    labels : LabelFile
        Objects.
    image_of_rows : callable
        Returns rows of the image in the same geometry.
    within : (rows, columns)
        The part of the frame that the image covers; the zeros beyond it were not measured and are excluded.

    Returns
    -------
    float
        The median; images above 16 million pixels are subsampled by rows and columns.
    """
    step = sampling_step(labels.shape, max_pixels=MAX_LEVEL_PIXELS)
    top, bottom, _ = within[0].indices(labels.shape[0])
    values = [np.zeros(0, dtype=np.float32)]
    for rows, labels_yx in labels.bands():
        numbers = np.arange(rows.start, rows.stop)
        is_sampled = (numbers % step == 0) & (numbers >= top) & (numbers < bottom)
        if is_sampled.any():
            outside_yx = labels_yx[is_sampled][:, within[1]][:, ::step] == 0
            values.append(image_of_rows(rows)[is_sampled][:, within[1]][:, ::step][outside_yx])
    outside = np.concatenate(values)
    return float(np.median(outside)) if outside.size else 0.0


def encode_objects(
    labels_yx: np.ndarray,
    wanted: np.ndarray,
    *,
    boxes: np.ndarray,
    order: str,
    origin: tuple[int, int] = (0, 0),
    shape: tuple[int, int] | None = None,
) -> Iterator[str]:
    """Encode each object as runs of pixels.

    Parameters
    ----------
    labels_yx : ndarray of non-negative integers, shape (rows, columns)
        Objects, 0 is background.
    wanted : ndarray of integers
        Labels to encode, in this order.
    boxes : ndarray of int64
        From `bounding_boxes`, for the whole image.
    order : "row" or "column"
        Direction in which pixels are numbered, from 1.
    origin, shape
        As for `measure_objects`.

    Yields
    ------
    str
        "start length start length ...", one string per object. Only its bounding box is read.
    """
    for number in wanted:
        first_row, last_row, first_column, last_column = (int(end) for end in boxes[number])
        rows = slice(first_row - origin[0], last_row - origin[0])
        columns = slice(first_column - origin[1], last_column - origin[1])
        yield encode_crop(
            labels_yx[rows, columns] == number,
            order=order,
            row=first_row,
            column=first_column,
            shape=labels_yx.shape if shape is None else shape,
        )


class ObjectTables:
    """objects.csv and rle.csv of a shard, written image by image.

    Parameters
    ----------
    folder : path
        Folder of both files; they have a header even without objects.
    order : "row" or "column"
        As for `encode_objects`.
    """

    def __init__(self, folder: str | Path, *, order: str) -> None:
        self._objects = Path(folder) / OBJECTS
        self._rle = Path(folder) / RLE
        self._order = order
        empty_table().to_csv(self._objects, index=False, lineterminator="\n")
        self._write_runs("w", [RLE_COLUMNS])

    def add(
        self,
        sample: str,
        labels: LabelFile,
        *,
        image_of_rows: Callable[[slice], np.ndarray],
        raw_of_rows: Callable[[slice], np.ndarray],
        pixel_size_um: float | None,
        within: tuple[slice, slice] = (slice(None), slice(None)),
        confidences: np.ndarray | None = None,
    ) -> tuple[int, int]:
        """Add the objects of one image to both tables, window by window.

        Parameters
        ----------
        sample : str
            Name of the image.
        labels : LabelFile
            Objects in the geometry of the raw image.
        image_of_rows, raw_of_rows : callable
            Return rows of the preprocessed and of the raw image in that geometry.
        pixel_size_um : float or None
            Edge length of a pixel.
        within : (rows, columns)
            For `background_level`.
        confidences : ndarray of float64 or None
            Confidence of each object, by number; None leaves the column empty.

        Returns
        -------
        n_objects, area_px : int
            Number of objects, and number of pixels that they cover.
        """
        level, n_objects, area_px = background_level(labels, image_of_rows, within=within), 0, 0
        boxes = bounding_boxes(labels.bands())
        places = np.flatnonzero(boxes[:, 1] > 0)
        for row_of_windows in plan_windows(labels.shape, halo_px=HALO_PX):
            rows = row_of_windows[0].rows
            image_yx, raw_yx = image_of_rows(rows), raw_of_rows(rows)
            for window in row_of_windows:
                starts = boxes[places][:, [0, 2]]
                owned = places[window.owns(starts - (window.rows.start, window.columns.start))]
                around = [_around(boxes[number], labels.shape) for number in owned]
                is_inside = np.array(
                    [down.stop <= window.rows.stop and across.stop <= window.columns.stop for down, across in around],
                    dtype=bool,
                )
                parts = [((window.rows, window.columns), owned[is_inside])]
                # Objects that extend beyond the window are measured individually.
                parts += [(around[place], owned[place : place + 1]) for place in np.flatnonzero(~is_inside)]
                for part, wanted in parts:
                    if wanted.size:
                        pictures = [
                            image[:, part[1]] if part[0] == rows else of_rows(part[0])[:, part[1]]
                            for image, of_rows in ((image_yx, image_of_rows), (raw_yx, raw_of_rows))
                        ]
                        n_objects += len(wanted)
                        area_px += self._add_part(
                            sample, labels, part, pictures, wanted=wanted, boxes=boxes, level=level,
                            pixel_size_um=pixel_size_um, confidences=confidences,
                        )  # fmt: skip
        return n_objects, area_px

    def _add_part(
        self,
        sample: str,
        labels: LabelFile,
        part: tuple[slice, slice],
        pictures: list[np.ndarray],
        *,
        wanted: np.ndarray,
        boxes: np.ndarray,
        level: float,
        pixel_size_um: float | None,
        confidences: np.ndarray | None,
    ) -> int:
        """Add some objects to both tables; return the number of their pixels."""
        labels_yx = labels.read(*part).astype(np.int64)
        place: dict[str, Any] = {"origin": (part[0].start, part[1].start), "shape": labels.shape}
        table = measure_objects(
            labels_yx, *pictures, sample=sample, pixel_size_um=pixel_size_um, background=level, wanted=wanted, **place
        )
        table[CONFIDENCE] = np.nan if confidences is None else np.round(confidences[wanted], DECIMALS)
        table.to_csv(self._objects, mode="a", header=False, index=False, lineterminator="\n")
        runs = encode_objects(labels_yx, wanted, boxes=boxes, order=self._order, **place)
        self._write_runs("a", [(sample, coded) for coded in runs])
        return int(table["area_px"].sum())

    def _write_runs(self, mode: str, rows: Sequence[Sequence[Any]]) -> None:
        with self._rle.open(mode, newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)


def _around(box: np.ndarray, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the bounding box of an object, enlarged so that it includes neighbours, within the image."""
    down, across = (
        slice(max(0, int(first) - NEIGHBOUR_PX), min(size, int(last) + NEIGHBOUR_PX))
        for (first, last), size in zip((box[:2], box[2:]), shape, strict=True)
    )
    return down, across


def bounding_boxes(bands: Iterable[tuple[slice, np.ndarray]]) -> np.ndarray:
    """Find the bounding box of each object.

    Parameters
    ----------
    bands : iterable of (rows, labels)
        The label image from top to bottom.

    Returns
    -------
    ndarray of int64, shape (highest label + 1, 4)
        First row, end, first column, end; zeros for labels without an object.
    """
    boxes = np.zeros((1, 4), dtype=np.int64)
    for rows, labels_yx in bands:
        present = np.setdiff1d(labels_yx, [0]).astype(np.int64)
        if not present.size:
            continue
        if present[-1] >= len(boxes):
            boxes = np.concatenate([boxes, np.zeros((present[-1] + 1 - len(boxes), 4), dtype=np.int64)])
        numbered_yx = np.searchsorted(present, labels_yx) + 1
        numbered_yx[labels_yx == 0] = 0
        for number, found in zip(present, ndimage.find_objects(numbered_yx), strict=True):
            down, across = found
            new = (down.start + rows.start, down.stop + rows.start, across.start, across.stop)
            old = boxes[number]
            if old[1] == 0:
                boxes[number] = new
            else:
                boxes[number] = (old[0], new[1], min(old[2], new[2]), max(old[3], new[3]))
    return boxes
