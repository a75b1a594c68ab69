"""Stage postprocess, second rule: convert the probabilities of a shard to objects.

threshold -> closing -> boundary tuning -> closing -> small holes -> splitting of touching cells -> object filters,
all in the geometry of the preprocessed image; then the objects are resampled to the geometry of the raw image.
The parameters come from postprocess.json.
"""

import csv
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cellmill.checks.unlike_training import ADVICE, find_unlike, measure_frame, measure_objects
from cellmill.exports.model_file import read_fit
from cellmill.images.channels import Channel
from cellmill.images.files import PlaneRows
from cellmill.images.stored import IGNORE_LABEL, write_label_bands
from cellmill.images.windows import LabelFile
from cellmill.objects.frames import Frame, list_frames
from cellmill.objects.instances import PostprocessSettings
from cellmill.objects.measurements import ObjectTables
from cellmill.objects.segmenting import segment_frame
from cellmill.preprocessing.geometry import covered_part, unfit_image_rows
from cellmill.preprocessing.hot_pixels import read_without_defects
from cellmill.shards import shard_folder

logger = logging.getLogger(__name__)

# Images are flagged if objects cover more than this share of them.
NEARLY_ALL = 0.98
FLAGS = "flags.csv"
FLAG_COLUMNS = ("severity", "sample", "where", "finding", "advice")


def postprocess_shard(
    *,
    output_dir: str | Path,
    images_dir: str | Path,
    probabilities_dir: str | Path,
    fit_path: str | Path,
    postprocess: PostprocessSettings,
    pixel_size_um: float | None,
    rle_order: str,
    samples: Sequence[Mapping[str, Any]],
    channel: Channel,
    hot_pixels: str,
) -> None:
    """Segment the images of one shard.

    Parameters
    ----------
    output_dir : path
        Shard folder: {sample}.tif (labels, geometry of the raw image), objects.csv, rle.csv, flags.csv (images that
        differ from the training images, have no object, or are almost covered by objects), manifest.json.
    images_dir, probabilities_dir : path
        Shard folders with the preprocessed images and the network's probabilities.
    fit_path : path
        postprocess.json of the run.
    postprocess : mapping
        Config section; must equal the section that the file was fitted with.
    pixel_size_um : float or None
        Edge length of a pixel of the raw images; None: from the metadata of each image.
    rle_order : "row" or "column"
        Order of the runs in rle.csv.
    samples : sequence of mapping
        Rows of the sample table with sample, image and plane, to find the raw images for measuring intensities.
    channel : "luminance", int or list of float
        Channel, or mix of channels, of raw images with several channels.
    hot_pixels : "replace" or "keep"
        Whether intensities are measured with isolated defective pixels replaced, as in the stage preprocess.

    Raises
    ------
    ValueError
        If the folders do not hold the same samples, or the file was fitted with other settings.
    """
    fitted = read_fit(fit_path)
    if fitted["settings"] != postprocess:
        raise ValueError(
            f"{fit_path}: expected a fit made with this job's settings, found one made with different settings. "
            "Run snakemake again so that postprocess_fit runs first."
        )
    rows = {row["sample"]: row for row in samples}
    total = 0
    frames = list_frames(images_dir, probabilities_dir)
    with shard_folder(output_dir) as folder:
        tables = ObjectTables(folder, order=rle_order)
        flags: list[tuple[str, ...]] = []
        for frame in frames:
            with tempfile.TemporaryDirectory(dir=folder) as room:
                labels, n_objects, covered_px = segment_frame(frame, fitted=fitted, room=Path(room))
                measured = measure_frame(frame, pixel_size_um=pixel_size_um) | _measure_found(frame, labels)
                if covered_px > NEARLY_ALL * labels.shape[0] * labels.shape[1]:
                    measured["covered"] = None  # reported once, by `_find_extremes`
                for reason in find_unlike(measured, fitted["training_images"]):
                    finding = f"unlike the images that the model was trained on: {reason}"
                    flags.append(("warning", frame.sample, "", finding, ADVICE))
                    logger.warning("%s: %s", frame.sample, finding)
                highest = n_objects + (n_objects >= IGNORE_LABEL)
                for severity, finding, advice in _find_extremes(covered_px / (labels.shape[0] * labels.shape[1])):
                    flags.append((severity, frame.sample, "", finding, advice))
                    logger.warning("%s: %s", frame.sample, finding)
                bands = (labels_yx for _, labels_yx in labels.bands())
                edge_um = frame.geometry.pixel_size_um if pixel_size_um is None else pixel_size_um
                write_label_bands(
                    folder / f"{frame.sample}.tif", bands, shape=labels.shape, highest=highest, pixel_size_um=edge_um
                )
                row = rows[frame.sample]
                raw_yx = PlaneRows(row["image"], channel=channel, plane=row.get("plane", ()))
                raw_of_rows: Callable[[slice], np.ndarray] = raw_yx.__getitem__
                if hot_pixels == "replace":
                    raw_of_rows = read_without_defects(raw_of_rows, shape=raw_yx.shape)
                tables.add(
                    frame.sample, labels, pixel_size_um=edge_um, image_of_rows=_open_preprocessed(frame),
                    raw_of_rows=raw_of_rows, within=covered_part(frame.geometry),
                )  # fmt: skip
            total += n_objects
        with (folder / FLAGS).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows([FLAG_COLUMNS, *flags])
    logger.info("%d images, %d objects", len(frames), total, extra={"progress": True})


def _measure_found(frame: Frame, labels: LabelFile) -> dict[str, float | None]:
    """Measure the objects of a raw label image at the size that the network receives."""
    counts = np.zeros(0, dtype=np.int64)
    for _, labels_yx in labels.bands():
        found = np.bincount(labels_yx.ravel(), minlength=len(counts))
        found[: len(counts)] += counts
        counts = found
    scale = frame.geometry.area_scale
    areas_px = counts[1:][counts[1:] > 0] * scale
    return measure_objects(areas_px, known_px=round(labels.shape[0] * labels.shape[1] * scale))


def _find_extremes(share: float) -> Iterator[tuple[str, str, str]]:
    """Report an image without objects, or almost covered by objects: severity, finding, advice."""
    if share == 0:
        advice = "Ignore this if the image is empty. Otherwise check its probabilities in the gallery."
        yield "note", "no object was found", advice
    elif share > NEARLY_ALL:
        finding = f"objects cover {share:.0%} of the image"
        advice = "Check this image: almost all of it was classified as foreground, so objects are barely separated."
        yield "warning", finding, advice


def _open_preprocessed(frame: Frame) -> Callable[[slice], np.ndarray]:
    """Return a function that reads rows of a preprocessed image in the geometry of the raw image."""

    def rows_of(rows: slice) -> np.ndarray:
        # Mapped on each call and copied, so that the pages of earlier rows do not stay in memory.
        image_yx = tifffile.memmap(frame.image_path, mode="r")
        return np.array(unfit_image_rows(image_yx, frame.geometry, rows))

    return rows_of
