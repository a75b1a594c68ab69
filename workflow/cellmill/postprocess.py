"""Stage postprocess: convert probabilities to objects.

threshold -> closing -> boundary tuning -> closing -> small holes -> splitting of touching cells -> object filters,
all in the geometry of the preprocessed image; then the objects are resampled to the geometry of the raw image.
Parameters are fitted on training and validation shards and stored in postprocess.json.
"""

import csv
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cellmill.archives import FORMAT, MODEL_FORMAT, export_model, read_fit
from cellmill.channels import Channel
from cellmill.familiarity import ADVICE, find_unlike, measure_image, summarize_images
from cellmill.fit import covered_part, unfit_image_rows
from cellmill.fitting import fit_frames
from cellmill.frames import Frame, draw_frames, list_frames
from cellmill.images import IGNORE_LABEL, PlaneRows, write_label_bands
from cellmill.measurements import OBJECTS, RLE, ObjectTables, concatenate_tables
from cellmill.segmenting import segment_frame
from cellmill.shards import MANIFEST, atomic_path, file_digest, shard_folder

logger = logging.getLogger(__name__)

# Number of training images whose range of size, brightness and contrast later images are compared with
FAMILIAR_IMAGES = 200
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
    postprocess: Mapping[str, Any],
    pixel_size_um: float | None,
    rle_order: str,
    samples: Sequence[Mapping[str, Any]],
    channel: Channel,
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

    Raises
    ------
    ValueError
        If the folders do not hold the same samples, or the file was fitted with other settings.
    """
    fitted = read_fit(fit_path)
    if fitted["settings"] != postprocess:
        raise ValueError(
            f"{fit_path}: expected a fit with the settings of this job, found one with others. "
            "Run snakemake again, so that postprocess_fit comes first."
        )
    rows = {row["sample"]: row for row in samples}
    total = 0
    frames = list_frames(images_dir, probabilities_dir)
    with shard_folder(output_dir) as folder:
        tables = ObjectTables(folder, order=rle_order)
        flags: list[tuple[str, ...]] = []
        for frame in frames:
            for reason in find_unlike(_measure(frame, pixel_size_um=pixel_size_um), fitted["training_images"]):
                finding = f"unlike the images that the model was trained on: {reason}"
                flags.append(("warning", frame.sample, "", finding, ADVICE))
                logger.warning("%s: %s", frame.sample, finding)
            with tempfile.TemporaryDirectory(dir=folder) as room:
                labels, n_objects, covered_px = segment_frame(frame, fitted=fitted, room=Path(room))
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
                tables.add(
                    frame.sample, labels, pixel_size_um=edge_um, image_of_rows=_open_preprocessed(frame),
                    raw_of_rows=raw_yx.__getitem__, within=covered_part(frame.geometry),
                )  # fmt: skip
            total += n_objects
        with (folder / FLAGS).open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows([FLAG_COLUMNS, *flags])
    logger.info("%d images, %d objects", len(frames), total, extra={"progress": True})


def _find_extremes(share: float) -> Iterator[tuple[str, str, str]]:
    """Report an image without objects, or almost covered by objects: severity, finding, advice."""
    if share == 0:
        yield "note", "no object was found", "Right for an empty image. Else look at its probabilities in the gallery."
    elif share > NEARLY_ALL:
        finding = f"objects cover {share:.0%} of the image"
        yield "warning", finding, "Look at it: nearly all of it was called foreground, so objects are hardly apart."


def _measure(frame: Frame, *, pixel_size_um: float | None) -> dict[str, float | None]:
    """Measure a frame's preprocessed image without its padding; a given pixel size overrides that of the file."""
    image_yx = tifffile.memmap(frame.image_path, mode="r")
    inside_yx = image_yx[tuple(slice(*ends) for ends in frame.box)]
    edge_um = frame.geometry.pixel_size_um if pixel_size_um is None else pixel_size_um
    return measure_image(inside_yx, pixel_size_um=edge_um)


def _open_preprocessed(frame: Frame) -> Callable[[slice], np.ndarray]:
    """Return a function that reads rows of a preprocessed image in the geometry of the raw image."""

    def rows_of(rows: slice) -> np.ndarray:
        # Mapped on each call and copied, so that the pages of earlier rows do not stay in memory.
        image_yx = tifffile.memmap(frame.image_path, mode="r")
        return np.array(unfit_image_rows(image_yx, frame.geometry, rows))

    return rows_of


def gather_tables(
    *,
    objects_path: str | Path,
    rle_path: str | Path,
    flags_path: str | Path,
    segmentation_dirs: Sequence[str | Path],
) -> None:
    """Concatenate the tables of all shards of a run.

    Parameters
    ----------
    objects_path, rle_path, flags_path : path
        Output files.
    segmentation_dirs : sequence of path
        Shard folders of `postprocess_shard`, at least one.
    """
    lines = {
        name: concatenate_tables(path, [Path(folder) / name for folder in segmentation_dirs])
        for path, name in ((objects_path, OBJECTS), (rle_path, RLE), (flags_path, FLAGS))
    }
    logger.info("%d objects in %d shards, %d flags", lines[OBJECTS], len(segmentation_dirs), lines[FLAGS])


def fit_postprocess(
    *,
    output_path: str | Path,
    export_path: str | Path,
    weights_path: str | Path,
    train_images: Sequence[str | Path],
    train_labels: Sequence[str | Path],
    train_probabilities: Sequence[str | Path],
    validation_images: Sequence[str | Path],
    validation_labels: Sequence[str | Path],
    validation_probabilities: Sequence[str | Path],
    postprocess: Mapping[str, Any],
    preprocess: Mapping[str, Any],
    predict: Mapping[str, Any],
    input: Mapping[str, Any],
    network: Mapping[str, Any],
    pixel_size_um: float | None,
    seed: int,
) -> None:
    """Fit the parameters of postprocessing, and pack the run into one file.

    Parameters
    ----------
    output_path : path
        postprocess.json: threshold, boundary classifier and sizes, the data and the scores behind each choice, and
        the digests of those shards.
    export_path : path
        model.cellmill: weights, postprocess.json and the settings of the run.
    weights_path : path
        weights.pt of the run.
    train_images, train_labels, train_probabilities : sequences of path
        Shard folders for the boundary classifier; may be empty.
    validation_images, validation_labels, validation_probabilities : sequences of path
        Shard folders for threshold and sizes; may be empty.
    postprocess : mapping
        Config section.
    preprocess, predict, input, network : mapping
        Settings that are stored in the exported model.
    pixel_size_um : float or None
        Edge length of a pixel of the training images; None: from the metadata of each image.
    seed : int
        Seed of the config.
    """
    rooms = ("images", "labels", "probabilities")
    training_dirs = dict(zip(rooms, (train_images, train_labels, train_probabilities), strict=True))
    validation_dirs = dict(zip(rooms, (validation_images, validation_labels, validation_probabilities), strict=True))
    training, validation = _list_all(training_dirs), _list_all(validation_dirs)
    fitted: dict[str, Any] = {
        "format": FORMAT,
        "settings": postprocess,
        "seed": seed,
        **fit_frames(training, validation, settings=postprocess, output=network["output"], seed=seed),
        "training_images": summarize_images(
            _measure(frame, pixel_size_um=pixel_size_um)
            for frame in draw_frames(training, count=FAMILIAR_IMAGES, seed=seed)
        ),
        "fold": {"training": _digests(training_dirs), "validation": _digests(validation_dirs)},
    }
    _log_choices(fitted)
    text = json.dumps(fitted, indent=1, allow_nan=False) + "\n"
    with atomic_path(output_path) as partial:
        partial.write_text(text, encoding="utf-8")
    description = {
        "format": MODEL_FORMAT, "network": network, "preprocess": preprocess, "predict": predict,
        "input": input, "postprocess": postprocess,
    }  # fmt: skip
    export_model(export_path, weights_path=weights_path, postprocess_text=text, description=description)


def _list_all(folders: Mapping[str, Sequence[str | Path]]) -> list[Frame]:
    shards = zip(folders["images"], folders["probabilities"], folders["labels"], strict=True)
    return [
        frame for images, probabilities, labels in shards for frame in list_frames(images, probabilities, labels=labels)
    ]


def _digests(folders: Mapping[str, Sequence[str | Path]]) -> dict[str, dict[str, str]]:
    """Compute digests of the manifests, kind of folder -> shard -> SHA-256, to record the data of each choice."""
    return {
        room: {Path(folder).name: file_digest(Path(folder) / MANIFEST) for folder in sorted(map(str, paths))}
        for room, paths in folders.items()
    }


def _log_choices(fitted: Mapping[str, Any]) -> None:
    threshold, boundary, instances = fitted["threshold"], fitted["boundary"], fitted["instances"]
    logger.info("threshold %.4f: %s", threshold["value"], threshold["reason"])
    logger.info("boundary %s, applied: %s (%s)", boundary["classifier"], boundary["applied"], boundary["reason"])
    logger.info(
        "objects by %s, split depth %s, at least %d px, holes to %d px: %s",
        instances["method"], instances["split_depth"], instances["min_area_px"],
        instances["fill_holes_px"], instances["reason"],
    )  # fmt: skip
