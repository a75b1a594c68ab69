"""Tables of objects: what was measured of each, and its runs."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage import measure

from cellmill.annotations.rle import encode_crop
from cellmill.shards import atomic_path

OBJECTS, RLE = "objects.csv", "rle.csv"
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
LENGTHS_IN_UM = ("equivalent_diameter", "axis_major", "axis_minor")
DECIMALS = 4


def measure_objects(
    labels_yx: np.ndarray, image_yx: np.ndarray, *, sample: str, pixel_size_um: float | None
) -> pd.DataFrame:
    """Measure the objects of one image.

    Parameters
    ----------
    labels_yx : ndarray of non-negative integers, shape (rows, columns)
        Objects, 0 is background; geometry of the raw image.
    image_yx : ndarray of float, shape (rows, columns)
        Preprocessed image in the same geometry; its unit is that of the intensities.
    sample : str
        Name of the image, for the first column.
    pixel_size_um : float or None
        Edge of a pixel; without it the columns in um are empty.

    Returns
    -------
    DataFrame
        One row an object, in the order of the labels, no row for an image without any. Rows and columns count
        from 0; a bounding box ends before its stop.
    """
    properties = {**SHAPE_PROPERTIES, **INTENSITY_PROPERTIES}
    if labels_yx.any():
        wanted = {name.split("-")[0] for name in properties.values()}
        found = measure.regionprops_table(labels_yx, intensity_image=image_yx, properties=tuple(wanted))
    else:
        found = {name: np.zeros(0) for name in properties.values()}
    table = pd.DataFrame({column: found[name] for column, name in properties.items()})
    whole = ["object", "area_px", *(column for column in SHAPE_PROPERTIES if column.startswith("bbox_"))]
    table = table.astype(dict.fromkeys(whole, np.int64))
    rows, columns = labels_yx.shape
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
    return table.round(DECIMALS)


def encode_objects(labels_yx: np.ndarray, *, order: str) -> Iterator[str]:
    """Write each object as runs, in the order of the labels.

    Parameters
    ----------
    labels_yx : ndarray of non-negative integers, shape (rows, columns)
        Objects, 0 is background.
    order : "row" or "column"
        Which way pixels are counted, from 1.

    Yields
    ------
    str
        "start length start length ...", one an object. Only its bounding box is looked at.
    """
    for label, box in enumerate(ndimage.find_objects(labels_yx), start=1):
        if box is not None:
            yield encode_crop(
                labels_yx[box] == label,
                order=order,
                row=box[0].start,
                column=box[1].start,
                shape=labels_yx.shape,
            )


class ObjectTables:
    """objects.csv and rle.csv of a shard, written image by image.

    Parameters
    ----------
    folder : path
        Where both files go; they have a header even without an object.
    order : "row" or "column"
        As for `encode_objects`.
    """

    def __init__(self, folder: str | Path, *, order: str) -> None:
        self._objects = Path(folder) / OBJECTS
        self._rle = Path(folder) / RLE
        self._order = order
        nothing = np.zeros((1, 1), dtype=np.int64)
        header = measure_objects(nothing, nothing, sample="", pixel_size_um=None)
        header.to_csv(self._objects, index=False, lineterminator="\n")
        self._write_runs("w", [RLE_COLUMNS])

    def add(self, sample: str, labels_yx: np.ndarray, image_yx: np.ndarray, *, pixel_size_um: float | None) -> None:
        """Add the objects of one image to both tables."""
        table = measure_objects(labels_yx, image_yx, sample=sample, pixel_size_um=pixel_size_um)
        table.to_csv(self._objects, mode="a", header=False, index=False, lineterminator="\n")
        self._write_runs("a", [(sample, runs) for runs in encode_objects(labels_yx, order=self._order)])

    def _write_runs(self, mode: str, rows: Sequence[Sequence[Any]]) -> None:
        with self._rle.open(mode, newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)


def concatenate_tables(output_path: str | Path, paths: Sequence[str | Path]) -> int:
    """Put CSV files with one header below one another, line by line.

    Parameters
    ----------
    output_path : path
        Written whole or not at all.
    paths : sequence of path
        At least one file; all with the same header.

    Returns
    -------
    int
        Number of lines below the header.

    Raises
    ------
    ValueError
        If a header differs.
    """
    assert paths
    header, lines = "", 0
    with atomic_path(output_path) as partial, partial.open("w", encoding="utf-8", newline="") as output:
        for number, path in enumerate(paths):
            with Path(path).open(encoding="utf-8", newline="") as stream:
                first = stream.readline()
                if number == 0:
                    header = first
                    output.write(header)
                elif first != header:
                    raise ValueError(
                        f"{path}: expected the columns {header.strip()}, found {first.strip()}. "
                        "The shards were written by different versions: run snakemake again with "
                        "--forcerun postprocess."
                    )
                for line in stream:
                    output.write(line)
                    lines += 1
    return lines
