"""Stage postprocess: from probabilities to objects.

threshold -> closing -> boundary tuning -> closing -> small holes -> splitting of touching cells -> small objects,
all in the geometry of the preprocessed image; then the objects go back to the geometry of the raw image.
What has to be learnt or chosen is so on training and validation shards and stands in postprocess.json.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.archives import FORMAT, MODEL_FORMAT, export_model, read_fit
from cellmill.fit import unfit_labels, unfit_probability
from cellmill.fitting import (
    choose_sizes,
    choose_threshold,
    decide_application,
    fit_boundary,
    masks_and_truth,
    median_area,
)
from cellmill.frames import Frame, draw_frames, list_frames
from cellmill.images import write_labels
from cellmill.instances import segment_image
from cellmill.measurements import OBJECTS, RLE, ObjectTables, concatenate_tables
from cellmill.morphology import avoid_ignore_label
from cellmill.shards import MANIFEST, atomic_path, file_digest, shard_folder

logger = logging.getLogger(__name__)

# ASSUME a hole below a quarter of an object is one of the prediction, not background between cells
HOLE_FRACTION = 0.25


def postprocess_shard(
    *,
    output_dir: str | Path,
    images_dir: str | Path,
    probabilities_dir: str | Path,
    fit_path: str | Path,
    postprocess: Mapping[str, Any],
    pixel_size_um: float | None,
    rle_order: str,
) -> None:
    """Segment the images of one shard.

    Parameters
    ----------
    output_dir : path
        Shard folder: {sample}.tif (labels, geometry of the raw image), objects.csv, rle.csv, manifest.json.
    images_dir, probabilities_dir : path
        Shard folders with the preprocessed images and the network's probabilities.
    fit_path : path
        postprocess.json of the run.
    postprocess : mapping
        Config section that the file was fitted with.
    pixel_size_um : float or None
        Edge of a pixel of the raw images; None: what the metadata of each say.
    rle_order : "row" or "column"
        Order of the runs in rle.csv.

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
    n_objects = 0
    frames = list_frames(images_dir, probabilities_dir)
    with shard_folder(output_dir) as folder:
        tables = ObjectTables(folder, order=rle_order)
        for frame in frames:
            image_yx = frame.read_image()
            labels_yx = segment_image(frame.read_probability(), image_yx, valid_yx=frame.find_valid(), fitted=fitted)
            labels_yx = avoid_ignore_label(unfit_labels(labels_yx, frame.geometry))
            write_labels(folder / f"{frame.sample}.tif", labels_yx)
            if frame.geometry.mode != "none":
                image_yx = unfit_probability(image_yx, frame.geometry)
            edge_um = frame.geometry.pixel_size_um if pixel_size_um is None else pixel_size_um
            tables.add(frame.sample, labels_yx, image_yx, pixel_size_um=edge_um)
            n_objects += int(np.count_nonzero(np.bincount(labels_yx.ravel())[1:]))
    logger.info("%d images, %d objects", len(frames), n_objects, extra={"progress": True})


def gather_tables(*, objects_path: str | Path, rle_path: str | Path, segmentation_dirs: Sequence[str | Path]) -> None:
    """Put the tables of all shards of a run below one another.

    Parameters
    ----------
    objects_path, rle_path : path
        What is written.
    segmentation_dirs : sequence of path
        Shard folders of `postprocess_shard`, at least one.
    """
    for path, name in ((objects_path, OBJECTS), (rle_path, RLE)):
        lines = concatenate_tables(path, [Path(folder) / name for folder in segmentation_dirs])
    logger.info("%d objects in %d shards", lines, len(segmentation_dirs))


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
    seed: int,
) -> None:
    """Learn and choose what postprocessing needs, and pack the run into one file.

    Parameters
    ----------
    output_path : path
        postprocess.json: threshold, boundary classifier, sizes, what each was chosen on and how well it did,
        and the digests of those shards.
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
        Settings that the exported model carries along.
    seed : int
        Of the config.
    """
    rooms = ("images", "labels", "probabilities")
    training_dirs = dict(zip(rooms, (train_images, train_labels, train_probabilities), strict=True))
    validation_dirs = dict(zip(rooms, (validation_images, validation_labels, validation_probabilities), strict=True))
    training, validation = _list_all(training_dirs), _list_all(validation_dirs)
    searched = draw_frames(validation, count=postprocess["search_images"], seed=seed)
    median_area_px = median_area(searched)
    holes_px = postprocess["instances"]["fill_holes_px"]
    if holes_px is None:
        holes_px = round(HOLE_FRACTION * median_area_px) if median_area_px else 0
    fitted: dict[str, Any] = {
        "format": FORMAT,
        "settings": postprocess,
        "seed": seed,
        "threshold": choose_threshold(validation, **postprocess["threshold"]),
        "closing": dict(postprocess["closing"]),
        "boundary": {"applied": False},
        "instances": {"fill_holes_px": holes_px, "median_area_px": median_area_px},
        "fold": {"training": _digests(training_dirs), "validation": _digests(validation_dirs)},
    }
    fitted["boundary"] = fit_boundary(training, fitted=fitted, settings=postprocess["boundary"], seed=seed)
    fitted["boundary"] = decide_application(searched, fitted=fitted, apply=postprocess["boundary"]["apply"])
    sizes = {key: postprocess["instances"][key] for key in ("method", "split_depth_px", "min_area_px")}
    fitted["instances"] |= choose_sizes(
        masks_and_truth(searched, fitted=fitted), median_area_px=median_area_px, **sizes
    )
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
    """Digest of the manifest of each folder: room -> shard -> SHA-256. Proof of what was chosen on."""
    return {
        room: {Path(folder).name: file_digest(Path(folder) / MANIFEST) for folder in sorted(map(str, paths))}
        for room, paths in folders.items()
    }


def _log_choices(fitted: Mapping[str, Any]) -> None:
    threshold, boundary, instances = fitted["threshold"], fitted["boundary"], fitted["instances"]
    logger.info("threshold %.4f: %s", threshold["value"], threshold["reason"])
    logger.info("boundary %s, applied: %s (%s)", boundary["classifier"], boundary["applied"], boundary["reason"])
    logger.info(
        "objects by %s, split depth %s px, at least %d px, holes to %d px: %s",
        instances["method"], instances["split_depth_px"], instances["min_area_px"],
        instances["fill_holes_px"], instances["reason"],
    )  # fmt: skip
