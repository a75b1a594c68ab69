"""Stage postprocess, second rule: convert the probabilities of a shard to objects.

threshold -> closing -> boundary tuning -> closing -> small holes -> splitting of touching cells -> object filters,
all in the geometry of the preprocessed image; then the objects are resampled to the geometry of the raw image.
The parameters come from postprocess.json.
"""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.checks.unlike_training import ADVICE, find_unlike, measure_frame, measure_objects
from cellmill.exports.model_file import read_fit
from cellmill.images.channels import Channel
from cellmill.images.stored import IGNORE_LABEL, StoredRows
from cellmill.images.windows import LabelFile
from cellmill.objects.confidence import measure_traits, rate, uncalibrated
from cellmill.objects.frames import Frame, list_frames
from cellmill.objects.instances import PostprocessSettings
from cellmill.objects.recording import NEARLY_ALL, Recorder, find_extremes
from cellmill.objects.segmenting import segment_frame
from cellmill.objects.shard_tables import Rating
from cellmill.preprocessing.geometry import fit_label_rows, valid_box
from cellmill.shards import shard_folder

logger = logging.getLogger(__name__)

# Maps of a network that predicts flows: foreground and two components
FLOW_CHANNELS = 3


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
        Shard folder: {sample}.tif (labels, geometry of the raw image), objects.csv, rle.csv, counts.csv (objects and
        confidence of each image), flags.csv (images that differ from the training images, have no object, or are almost
        covered by objects), manifest.json.
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
    channel : "luminance", int, list of float, or the name of a channel
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
    with (
        shard_folder(output_dir) as folder,
        Recorder(
            folder, pixel_size_um=pixel_size_um, rle_order=rle_order, channel=channel, hot_pixels=hot_pixels
        ) as recorder,
    ):
        for frame in frames:
            with tempfile.TemporaryDirectory(dir=folder) as room:
                labels, n_objects, covered_px = segment_frame(frame, fitted=fitted, room=Path(room))
                measured = measure_frame(frame, pixel_size_um=pixel_size_um) | _measure_found(frame, labels)
                share = covered_px / (labels.shape[0] * labels.shape[1])
                if share > NEARLY_ALL:
                    measured["covered"] = None  # reported once, by `find_extremes`
                findings = [
                    ("warning", f"unlike the images that the model was trained on: {reason}", ADVICE)
                    for reason in find_unlike(measured, fitted["training_images"])
                ]
                for severity, finding, advice in (*findings, *find_extremes(share, source="probabilities")):
                    recorder.flag(severity, frame.sample, finding, advice)
                    logger.warning("%s: %s", frame.sample, finding)
                highest = n_objects + (n_objects >= IGNORE_LABEL)
                rating = _rate_frame(frame, labels, fitted=fitted, highest=highest)
                recorder.add(frame, labels, row=rows[frame.sample], highest=highest, rating=rating)
            total += n_objects
    logger.info("%d images, %d objects", len(frames), total, extra={"progress": True})


def _rate_frame(frame: Frame, labels: LabelFile, *, fitted: Mapping[str, Any], highest: int) -> Rating:
    """Compute the confidence of one image and of its objects, from labels in the geometry of the raw image."""
    geometry, maps = frame.geometry, StoredRows(frame.probability_path)
    # A model that was exported by an earlier version has no section.
    section = fitted.get("confidence") or uncalibrated("flow" if maps.channels == FLOW_CHANNELS else "", reason="")
    (top, bottom), (left, right) = valid_box(geometry)  # without padding

    def read_labels(rows: slice) -> np.ndarray:
        place = slice(rows.start + top, rows.stop + top)
        read = labels.read(place) if geometry.is_unchanged else fit_label_rows(labels.read, geometry, place)
        return read[:, left:right]

    def read_maps(rows: slice) -> np.ndarray:
        return maps.read(rows.start + top, rows.stop + top)[:, :, left:right].astype(np.float32)

    traits = measure_traits(
        read_labels, read_maps, shape=(bottom - top, right - left), highest=highest, traits=tuple(section["traits"]),
        threshold=fitted["threshold"]["value"],
    )  # fmt: skip
    return rate(traits, section, typical_px=fitted["instances"]["median_area_px"])


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
