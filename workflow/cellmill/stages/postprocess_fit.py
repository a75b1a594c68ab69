"""Stage postprocess, first rule: choose threshold, sizes and boundary classifier, and pack the run into one file.

Parameters are fitted on training and validation shards only and stored in postprocess.json.
"""

import csv
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.checks.unlike_training import measure_frame, measure_labels, summarize_images
from cellmill.exports.model_file import FIT_FORMAT, ModelDescription, export_model, read_description
from cellmill.images.stored import IGNORE_LABEL
from cellmill.models.choices import has_left_start, read_choices
from cellmill.objects.confidence_fit import Rated, fit_confidence
from cellmill.objects.frames import Frame, cut_frames, draw_frames, list_frames
from cellmill.objects.instances import PostprocessSettings, drop_small_share, keep_objects, segment_image
from cellmill.objects.tuning import fit_frames
from cellmill.preprocessing.diameters import read_diameter
from cellmill.shards import MANIFEST, atomic_path, file_digest

logger = logging.getLogger(__name__)

# Number of training images whose ranges later images are compared with, and of validation images for found objects
FAMILIAR_IMAGES, FAMILIAR_RESULTS = 200, 20
# Number of validation images on whose objects the confidence is fitted
RATED_IMAGES = 200


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
    checked_path: str | Path,
    start_paths: Sequence[str | Path],
    choices_paths: Sequence[str | Path],
    postprocess: PostprocessSettings,
    preprocess: Mapping[str, Any],
    predict: Mapping[str, Any],
    input: Mapping[str, Any],
    network: Mapping[str, Any],
    pixel_size_um: float | None,
    seed: int,
    is_trained: bool,
    diameter_path: str | Path | None = None,
) -> None:
    """Fit the parameters of postprocessing, and pack the run into one file.

    Parameters
    ----------
    output_path : path
        postprocess.json: threshold, boundary classifier, sizes and confidence, the data and the scores behind each
        choice, and the digests of those shards.
    export_path : path
        model.cellmill: weights, postprocess.json and the settings of the run.
    weights_path : path
        weights.pt of the run, or classical.json.
    train_images, train_labels, train_probabilities : sequences of path
        Shard folders for the boundary classifier; may be empty.
    validation_images, validation_labels, validation_probabilities : sequences of path
        Shard folders for threshold and sizes; may be empty.
    checked_path : path
        images.csv of the stage check, with the digest of each raw image.
    start_paths : sequence of path
        Exported models from which the training started; their training images are listed in the new export as well.
    choices_paths : sequence of path
        choices.json of trainings that decided whether they start from these models; if none of them did, the models
        are left out.
    postprocess : mapping
        Config section.
    preprocess, predict, input, network : mapping
        Settings that are stored in the exported model.
    pixel_size_um : float or None
        Edge length of a pixel of the training images; None: from the metadata of each image.
    seed : int
        Seed of the config.
    is_trained : bool
        False for a run without a network; then threshold and sizes are chosen on the training shards as well.
    diameter_path : path or None
        diameter.json, whose diameter is stored with the exported model if the images were rescaled by it.
    """
    if diameter_path is not None:
        rescale = {**preprocess["rescale"], "object_px": read_diameter(diameter_path)}
        preprocess = {**preprocess, "rescale": rescale}
    rooms = ("images", "labels", "probabilities")
    training_dirs = dict(zip(rooms, (train_images, train_labels, train_probabilities), strict=True))
    validation_dirs = dict(zip(rooms, (validation_images, validation_labels, validation_probabilities), strict=True))
    training, validation = _list_all(training_dirs), _list_all(validation_dirs)
    fitted: dict[str, Any] = {
        "format": FIT_FORMAT,
        "settings": postprocess,
        "seed": seed,
        **fit_frames(
            training, validation, settings=postprocess, output=network["output"], seed=seed, is_trained=is_trained
        ),
        "fold": {"training": _digests(training_dirs), "validation": _digests(validation_dirs)},
    }
    fitted["training_images"] = summarize_images(
        (
            measure_frame(frame, pixel_size_um=pixel_size_um) | _measure_truth(frame, seed=seed)
            for frame in draw_frames(training, count=FAMILIAR_IMAGES, seed=seed)
        ),
        found=(
            _measure_found(frame, fitted=fitted, seed=seed)
            for frame in draw_frames(validation, count=FAMILIAR_RESULTS, seed=seed)
        ),
        normalise=input["normalise"],
    )
    rated = draw_frames(validation, count=RATED_IMAGES, seed=seed)
    fitted["confidence"] = fit_confidence(
        _find_rated(rated, fitted=fitted, seed=seed),
        output=network["output"],
        threshold=fitted["threshold"]["value"],
    )
    _log_choices(fitted)
    text = json.dumps(fitted, indent=1, allow_nan=False) + "\n"
    with atomic_path(output_path) as partial:
        partial.write_text(text, encoding="utf-8")
    if choices_paths and all(has_left_start(read_choices(path)) for path in choices_paths):
        start_paths = []
    description = ModelDescription(
        network=network,
        input=input,
        preprocess=preprocess,
        predict=predict,
        postprocess=postprocess,
        training_images=_list_images([*training, *validation], checked_path=checked_path, start_paths=start_paths),
    )
    export_model(export_path, weights_path=weights_path, postprocess_text=text, description=description)


def _measure_truth(frame: Frame, *, seed: int) -> dict[str, float | None]:
    """Measure the annotated objects of an image, or of some windows of a large image."""
    return measure_labels(part.read_truth() for part in cut_frames([frame], seed=seed))


def _measure_found(frame: Frame, *, fitted: Mapping[str, Any], seed: int) -> dict[str, float | None]:
    """Measure the objects that the model finds in an image, or in some windows of a large image."""
    parts = cut_frames([frame], seed=seed)
    return measure_labels(_find_objects(part, part.read_maps(), fitted=fitted) for part in parts)


def _find_rated(frames: Sequence[Frame], *, fitted: Mapping[str, Any], seed: int) -> Iterator[Rated]:
    """Find the objects of validation images, with their truth and maps, one image or window after the other."""
    for part in cut_frames(frames, seed=seed):
        maps_cyx, truth_yx = part.read_maps(), part.read_truth()
        labels_yx = _find_objects(part, maps_cyx, fitted=fitted)
        inside = tuple(slice(max(0, low), max(0, high)) for low, high in part.box)  # without padding
        yield Rated(labels_yx[inside], truth_yx[inside], truth_yx[inside] != IGNORE_LABEL, maps_cyx[:, *inside])


def _find_objects(part: Frame, maps_cyx: np.ndarray, *, fitted: Mapping[str, Any]) -> np.ndarray:
    """Segment an image, or a window of it, with all filters of objects: int64, fitted geometry."""
    grey, valid_yx = part.measure_grey(), part.find_valid()
    labels_yx = segment_image(maps_cyx, part.read_image(), valid_yx=valid_yx, grey=grey, fitted=fitted)
    kept = keep_objects(labels_yx, box=part.box, limits=fitted["instances"])
    return drop_small_share(np.where(kept[labels_yx], labels_yx, 0), share=fitted["instances"]["min_area_share"])


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


def _list_images(frames: Sequence[Frame], *, checked_path: str | Path, start_paths: Sequence[str | Path]) -> list[str]:
    """List the digests of the raw images of some frames, and of the images of the models that training started from."""
    names = {frame.sample for frame in frames}
    with Path(checked_path).open(newline="", encoding="utf-8") as stream:
        own = {row["sha256"] for row in csv.DictReader(stream) if row["sample"] in names}
    earlier = {digest for path in start_paths for digest in read_description(path).training_images}
    return sorted(own | earlier)


def _log_choices(fitted: Mapping[str, Any]) -> None:
    threshold, boundary, instances = fitted["threshold"], fitted["boundary"], fitted["instances"]
    logger.info("threshold %.4f: %s", threshold["value"], threshold["reason"])
    logger.info(
        "boundary classifier %s, applied: %s (%s)", boundary["classifier"], boundary["applied"], boundary["reason"]
    )
    logger.info(
        "objects by %s, split depth %s, minimum area %d px and %g of the median, holes filled up to %d px: %s",
        instances["method"], instances["split_depth"], instances["min_area_px"], instances["min_area_share"],
        instances["fill_holes_px"], instances["reason"],
    )  # fmt: skip
    logger.info("confidence of objects: %s", fitted["confidence"]["reason"])
