"""Stage evaluate, first rule: count and match the images of one shard of one run.

`thresholded` is the mask of all pixels with at least the fitted threshold, and its connected components. `at_0.50` is
the mask at a probability of 0.5. `postprocessed` is the final segmentation. Pixels with the ignore label and padding
are not counted. Masks of other programs have only `postprocessed`.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from cellmill.evaluation.counting import count_frame
from cellmill.exports.model_file import read_fit
from cellmill.metrics.instance import IOU_PERCENT
from cellmill.objects.frames import Scene, list_frames, list_scenes, match_samples
from cellmill.objects.shard_tables import list_counted, read_confidences
from cellmill.shards import atomic_path

logger = logging.getLogger(__name__)


def evaluate_shard(
    *,
    output_path: str | Path,
    images_dir: str | Path,
    labels_dir: str | Path,
    probabilities_dir: str | Path | None,
    segmentation_dir: str | Path,
    fit_path: str | Path | None,
    split: str,
    model: str,
    seed: int,
    isbi2012: bool,
    border_tolerance_px: int,
    groups: Mapping[str, str],
    exclude_border: bool,
) -> None:
    """Count pixels and match objects in one shard of one run.

    Parameters
    ----------
    output_path : path
        JSON: for each image and geometry (`raw`, and `fitted` where the image was resized, cropped or padded)
        the histogram of probabilities by class and, for each stage, counts of pixels and objects.
    images_dir, labels_dir, probabilities_dir, segmentation_dir : path
        Shard folders; the first contains geometry.csv, the last counts.csv and objects.csv with confidences. Images
        without a number of objects in counts.csv, which an annotator skipped, are left out. Without probabilities
        (None), only the segmentation is counted, without confidences.
    fit_path : path or None
        postprocess.json of the run, for the threshold; None without probabilities.
    split : str
        Part that the shard belongs to in this run: train, validation or test.
    model, seed : str and int
        Model and seed of the run.
    isbi2012 : bool
        Whether to score the images also as sections of ISBI 2012; see `count_section`.
    border_tolerance_px : int
        For `count_borders`.
    groups : mapping
        Sample -> its sequence, well or patient; samples without a group are missing.
    exclude_border : bool
        Whether objects at the border of the image are not asked for. In masks of other programs, those that lie on
        such a true object are then not counted either.

    Raises
    ------
    ValueError
        If a prediction is missing, has no truth, or differs from the truth in size.
    """
    maps = {} if probabilities_dir is None else {"probabilities": probabilities_dir}
    match_samples({"labels": labels_dir, **maps, "segmentation": segmentation_dir})
    counted = list_counted(segmentation_dir)
    threshold: float | None = None
    confidences: dict[str, dict[int, float]] | None = None
    frames: Sequence[Scene]
    if probabilities_dir is None or fit_path is None:
        frames = list_scenes(images_dir, labels=labels_dir)
    else:
        fitted = read_fit(fit_path)
        threshold = float(fitted["threshold"]["value"])
        frames = list_frames(images_dir, probabilities_dir, labels=labels_dir)
        confidences = read_confidences(segmentation_dir)
    images = [
        {
            "sample": frame.sample,
            "group": groups.get(frame.sample, ""),
            "geometry": count_frame(
                frame,
                segmentation_path=Path(segmentation_dir) / f"{frame.sample}.tif",
                threshold=threshold,
                isbi2012=isbi2012,
                tolerance_px=border_tolerance_px,
                exclude_border=exclude_border,
                confidences=None if confidences is None else confidences.get(frame.sample, {}),
            ),
        }
        for frame in frames
        if frame.sample in counted
    ]
    contents = {
        "shard": Path(output_path).stem, "split": split, "model": model, "seed": seed, "threshold": threshold,
        "iou_percent": list(IOU_PERCENT), "images": images,
    }  # fmt: skip
    with atomic_path(output_path) as partial:
        partial.write_text(json.dumps(contents, allow_nan=False) + "\n", encoding="utf-8")
    logger.info("%d images counted", len(images), extra={"progress": True})
