"""Write the objects of a shard: label images, tables of objects and images, and flags on unusual images."""

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from cellmill.images.channels import Channel
from cellmill.images.files import PlaneRows
from cellmill.images.stored import list_bands, open_plane, write_label_bands
from cellmill.images.windows import LabelFile
from cellmill.objects.measurements import DECIMALS, ObjectTables
from cellmill.objects.shard_tables import COUNTS, Rating
from cellmill.preprocessing.geometry import covered_part, unfit_image_rows
from cellmill.preprocessing.hot_pixels import read_without_defects
from cellmill.preprocessing.stored_images import StoredImage

# Images are flagged if objects cover more than this share of them.
NEARLY_ALL = 0.98
FLAGS = "flags.csv"
COUNT_COLUMNS = ("sample", "objects", "area_px", "confidence")
FLAG_COLUMNS = ("severity", "sample", "where", "finding", "advice")


class Recorder:
    """Files of a shard of objects, written image by image: {sample}.tif, objects.csv, rle.csv, counts.csv, flags.csv.

    Parameters
    ----------
    folder : path
        The shard folder.
    pixel_size_um : float or None
        Edge length of a pixel of the raw images; None: from the metadata of each image.
    rle_order : "row" or "column"
        Order of the runs in rle.csv.
    channel : "luminance", int, list of float, or the name of a channel
        Channel, or mix of channels, of raw images with several channels.
    hot_pixels : "replace" or "keep"
        Whether intensities are measured with isolated defective pixels replaced, as in the stage preprocess.
    """

    def __init__(
        self, folder: Path, *, pixel_size_um: float | None, rle_order: str, channel: Channel, hot_pixels: str
    ) -> None:
        self._folder = folder
        self._pixel_size_um = pixel_size_um
        self._channel = channel
        self._hot_pixels = hot_pixels
        self._tables = ObjectTables(folder, order=rle_order)
        self._flags: list[tuple[str, ...]] = []
        self._counts: list[tuple[Any, ...]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            for name, rows in ((FLAGS, [FLAG_COLUMNS, *self._flags]), (COUNTS, [COUNT_COLUMNS, *self._counts])):
                with (self._folder / name).open("w", newline="", encoding="utf-8") as stream:
                    csv.writer(stream, lineterminator="\n").writerows(rows)

    def flag(self, severity: str, sample: str, finding: str, advice: str) -> None:
        """Add a finding on an image."""
        self._flags.append((severity, sample, "", finding, advice))

    def leave_out(self, stored: StoredImage) -> None:
        """Write an empty label image of an image that nobody looked at; its number of objects stays empty."""
        shape = stored.geometry.raw_shape
        bands = (np.zeros((rows.stop - rows.start, shape[1]), dtype=np.uint16) for rows in list_bands(shape))
        write_label_bands(
            self._folder / f"{stored.sample}.tif", bands, shape=shape, highest=0,
            pixel_size_um=self._edge_um(stored),
        )  # fmt: skip
        self._counts.append((stored.sample, "", "", ""))

    def _edge_um(self, stored: StoredImage) -> float | None:
        return stored.geometry.pixel_size_um if self._pixel_size_um is None else self._pixel_size_um

    def add(
        self, stored: StoredImage, labels: LabelFile, *, row: Mapping[str, Any], highest: int, rating: Rating | None
    ) -> None:
        """Write and measure the objects of one image.

        Parameters
        ----------
        stored : StoredImage
            The preprocessed image.
        labels : LabelFile
            Objects in the geometry of the raw image.
        row : mapping
            Row of the sample table with image and plane, to find the raw image.
        highest : int
            Highest object number.
        rating : Rating or None
            Confidence of the image and its objects; None for objects without predicted maps.
        """
        edge_um = self._edge_um(stored)
        bands = (labels_yx for _, labels_yx in labels.bands())
        write_label_bands(
            self._folder / f"{stored.sample}.tif", bands, shape=labels.shape, highest=highest, pixel_size_um=edge_um
        )
        raw_yx = PlaneRows(row["image"], channel=self._channel, plane=row.get("plane", ()))
        raw_of_rows: Callable[[slice], np.ndarray] = raw_yx.__getitem__
        if self._hot_pixels == "replace":
            raw_of_rows = read_without_defects(raw_of_rows, shape=raw_yx.shape)
        n_objects, area_px = self._tables.add(
            stored.sample, labels, pixel_size_um=edge_um, image_of_rows=_open_preprocessed(stored),
            raw_of_rows=raw_of_rows, within=covered_part(stored.geometry),
            confidences=None if rating is None else rating.of_objects,
        )  # fmt: skip
        confidence = "" if rating is None else round(rating.of_image, DECIMALS)
        self._counts.append((stored.sample, n_objects, area_px, confidence))


def find_extremes(share: float, *, source: str) -> Iterator[tuple[str, str, str]]:
    """Report an image without objects, or almost covered by objects.

    Parameters
    ----------
    share : float
        Share of the pixels that objects cover.
    source : str
        What the objects were made from, for the advice.

    Yields
    ------
    tuple of str
        severity, finding, advice
    """
    if share == 0:
        advice = f"Ignore this if the image is empty. Otherwise check its {source} in the gallery."
        yield "note", "no object was found", advice
    elif share > NEARLY_ALL:
        finding = f"objects cover {share:.0%} of the image"
        advice = "Check this image: almost all of it was classified as foreground, so objects are barely separated."
        yield "warning", finding, advice


def _open_preprocessed(stored: StoredImage) -> Callable[[slice], np.ndarray]:
    """Return a function that reads rows of a preprocessed image in the geometry of the raw image."""

    def rows_of(rows: slice) -> np.ndarray:
        # Mapped on each call and copied, so that the pages of earlier rows do not stay in memory.
        image_yx = open_plane(stored.image_path)
        return np.array(unfit_image_rows(image_yx, stored.geometry, rows))

    return rows_of
