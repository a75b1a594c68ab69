"""Stage evaluate: what a segmentation is worth against the truth.

Two steps. A shard's images are counted: right and wrong pixels, objects and their matches, pixels by
probability. Then the counts of all shards of a dataset become scores, each as a mean over images and pooled,
with an interval from the bootstrap over images.

`thresholded` is the mask of all pixels with at least the fitted threshold and its connected components, nothing
else; `at_0.50` the mask at a probability of one half; `postprocessed` is the final segmentation. Pixels with the
ignore label, and padding, count nowhere.
"""

import csv
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.archives import read_fit
from cellmill.fit import fit_labels, unfit_probability
from cellmill.frames import Frame, list_frames, match_samples
from cellmill.images import IGNORE_LABEL, read_labels
from cellmill.metrics.instance import IOU_PERCENT, count_matches, count_overlaps
from cellmill.metrics.pixel import (
    BACKGROUND,
    BINS,
    COUNTS,
    FOREGROUND,
    SWEEP_METRICS,
    count_pixels,
    histogram_classes,
)
from cellmill.morphology import label_components
from cellmill.paper_scores import (
    ALL_PIXEL_METRICS,
    BASELINE,
    HALF,
    RATE_METRICS,
    count_at_half,
    count_section,
    read_sections,
    summarize_baselines,
    summarize_rates,
    summarize_sections,
)
from cellmill.shards import atomic_path, stable_hash
from cellmill.statistics import METRICS, score_counts, summarize_counts

logger = logging.getLogger(__name__)

THRESHOLDED, POSTPROCESSED = "thresholded", "postprocessed"
METRIC_COLUMNS = (
    "model", "seed", "split", "stage", "geometry", "metric", "aggregation", "value", "ci_low", "ci_high",
    "n", "n_undefined",
)  # fmt: skip
SCORE_COLUMNS = (
    "model", "seed", "split", "stage", "geometry", "sample", "shard", *METRICS, *SWEEP_METRICS,
    "n_true", "n_predicted",
)  # fmt: skip
DIGITS = 9


def evaluate_shard(
    *,
    output_path: str | Path,
    images_dir: str | Path,
    labels_dir: str | Path,
    probabilities_dir: str | Path,
    segmentation_dir: str | Path,
    fit_path: str | Path,
    split: str,
    model: str,
    seed: int,
    isbi2012: bool,
) -> None:
    """Count and match one shard of one run.

    Parameters
    ----------
    output_path : path
        JSON: for each image and geometry (`raw`, and `fitted` where the image was resized, cropped or padded)
        the histogram of probabilities by class and, for each stage, counts of pixels and objects.
    images_dir, labels_dir, probabilities_dir, segmentation_dir : path
        Shard folders; the first for its geometry.csv.
    fit_path : path
        postprocess.json of the run, for the threshold.
    split : str
        Part that the shard plays for this run: train, validation or test.
    model, seed : str and int
        Of the run.
    isbi2012 : bool
        Score the images as sections of ISBI 2012 too; see `count_section`.

    Raises
    ------
    ValueError
        If a prediction is missing or there is one without truth.
    """
    match_samples({"labels": labels_dir, "probabilities": probabilities_dir, "segmentation": segmentation_dir})
    threshold = float(read_fit(fit_path)["threshold"]["value"])
    frames = list_frames(images_dir, probabilities_dir, labels=labels_dir)
    images = [
        {
            "sample": frame.sample,
            "geometry": count_frame(
                frame,
                segmented_yx=read_labels(Path(segmentation_dir) / f"{frame.sample}.tif"),
                threshold=threshold,
                isbi2012=isbi2012,
            ),
        }
        for frame in frames
    ]
    contents = {
        "shard": Path(output_path).stem, "split": split, "model": model, "seed": seed, "threshold": threshold,
        "iou_percent": list(IOU_PERCENT), "images": images,
    }  # fmt: skip
    with atomic_path(output_path) as partial:
        partial.write_text(json.dumps(contents, allow_nan=False) + "\n", encoding="utf-8")
    logger.info("%d images counted", len(images), extra={"progress": True})


def count_frame(frame: Frame, *, segmented_yx: np.ndarray, threshold: float, isbi2012: bool) -> dict[str, Any]:
    """Count one image in the geometry of the raw image, and in the fitted one where it differs.

    Parameters
    ----------
    frame : Frame
        With labels.
    segmented_yx : ndarray of integers
        Final segmentation, geometry of the raw image.
    threshold : float
        Of the stage `thresholded`.
    isbi2012 : bool
        Add the result of `count_section`.

    Returns
    -------
    dict
        geometry -> result of `count_image`. In the fitted geometry the final segmentation is the one of the
        raw image brought there by nearest pixel, as the truth is.
    """
    assert frame.labels_path is not None
    probability_yx, truth_yx = frame.read_probability(), read_labels(frame.labels_path)
    if segmented_yx.shape != truth_yx.shape:
        raise ValueError(
            f"{frame.sample}: expected a segmentation of {truth_yx.shape[0]} x {truth_yx.shape[1]} px as its "
            f"labels, found {segmented_yx.shape[0]} x {segmented_yx.shape[1]}. "
            "Labels and image are not of the same size, or one is old: run snakemake with --forcerun rasterize."
        )
    # Interpolation in float32 may pass 0 and 1 by an ulp.
    raw_yx = np.clip(unfit_probability(probability_yx, frame.geometry), 0, 1)
    views = {"raw": (raw_yx, truth_yx, segmented_yx)}
    if frame.geometry.mode != "none":
        views["fitted"] = (
            np.where(frame.find_valid(), probability_yx, 0),
            fit_labels(truth_yx, frame.geometry),
            fit_labels(segmented_yx, frame.geometry),
        )
    counted = {geometry: count_image(*arrays, threshold=threshold) for geometry, arrays in views.items()}
    if isbi2012:
        image_yx = frame.read_image()
        images = {"raw": unfit_probability(image_yx, frame.geometry), "fitted": image_yx}
        for geometry, (shown_yx, known_yx, _) in views.items():
            counted[geometry] |= count_section(shown_yx, known_yx, images[geometry], threshold=threshold)
    return counted


def count_image(
    probability_yx: np.ndarray, truth_yx: np.ndarray, segmented_yx: np.ndarray, *, threshold: float
) -> dict[str, Any]:
    """Count pixels and objects of one image in one geometry.

    Parameters
    ----------
    probability_yx : ndarray of float, shape (rows, columns)
        Foreground probability in [0, 1].
    truth_yx, segmented_yx : ndarray of integers, shape (rows, columns)
        Label images, 0 background; 65535 in the truth marks pixels to ignore.
    threshold : float
        Of the stage `thresholded`.

    Returns
    -------
    dict
        background and foreground (256 bins each), and for each stage tp, fp, fn, tn (pixels), n_true,
        n_predicted, matches (objects; for each IoU threshold). Plain numbers, for JSON.
    """
    valid_yx = truth_yx != IGNORE_LABEL
    histogram = histogram_classes(probability_yx, truth_yx > 0, valid_yx=valid_yx)
    predictions = {
        THRESHOLDED: label_components(probability_yx >= threshold),
        POSTPROCESSED: np.where(segmented_yx == IGNORE_LABEL, 0, segmented_yx),
    }
    counted: dict[str, Any] = {
        "background": histogram[BACKGROUND].tolist(),
        "foreground": histogram[FOREGROUND].tolist(),
    }
    for stage, predicted_yx in predictions.items():
        overlaps = count_overlaps(predicted_yx, truth_yx, valid_yx=valid_yx)
        counted[stage] = {
            **count_pixels(predicted_yx > 0, truth_yx > 0, valid_yx=valid_yx),
            "n_true": len(overlaps.true_areas),
            "n_predicted": len(overlaps.predicted_areas),
            "matches": count_matches(overlaps).tolist(),
        }
    return counted


@dataclass
class Group:
    """Counts of all images of one run, split, stage and geometry; one entry of each list an image."""

    samples: list[str] = field(default_factory=list)
    shards: list[str] = field(default_factory=list)
    numbers: list[np.ndarray] = field(default_factory=list)
    sections: list[np.ndarray] = field(default_factory=list)

    def add(self, sample: str, shard: str, counted: Mapping[str, Any], stage: str) -> None:
        """Add one image; see `score_counts` for the order of its numbers."""
        at = counted[stage]
        self.samples.append(sample)
        self.shards.append(shard)
        row = [*(at[name] for name in COUNTS), at["n_true"], at["n_predicted"], *at["matches"]]
        self.numbers.append(np.array([*row, *counted["background"], *counted["foreground"]], dtype=np.float64))
        if stage == THRESHOLDED and "grey" in counted:
            self.sections.append(read_sections(counted))


def summarize_evaluation(
    *,
    metrics_path: str | Path,
    scores_path: str | Path,
    shard_paths: Sequence[str | Path],
    bootstrap: int,
    seed: int,
) -> None:
    """Turn the counts of all shards and runs of a dataset into metrics.csv and scores.csv.

    Parameters
    ----------
    metrics_path : path
        Tidy table, one row a number: each of METRICS and RATE_METRICS as image_mean and pooled, the threshold-free
        ones pooled for the stage `thresholded`; the pixel scores also for the stage `at_0.50`. `n` images stand
        behind a value, `n_undefined` were left out because the score is undefined for them. An mcc of 0/0 stands as
        0 in the mean and is counted in `n_undefined` too. Images that were scored as sections have v_rand and v_info
        (see `summarize_sections`) and rows of the stage `baseline` (see `summarize_baselines`).
    scores_path : path
        One row an image, run, stage and geometry.
    shard_paths : sequence of path
        Results of `evaluate_shard`; without any the tables have a header only.
    bootstrap : int, >= 0
        Replicates behind ci_low and ci_high (95 %, percentiles, over images); 0, or a single image, leaves
        both empty.
    seed : int
        Of the config; each run and split has draws of its own, whatever other runs there are.
    """
    groups, sections = _read_groups(shard_paths)
    with atomic_path(metrics_path) as metrics, atomic_path(scores_path) as scores:
        rows = [_metric_rows(groups, bootstrap=bootstrap, seed=seed)]
        rows += [_baseline_rows(sections, bootstrap=bootstrap, seed=seed)]
        _write_rows(metrics, METRIC_COLUMNS, chain(*rows))
        _write_rows(scores, SCORE_COLUMNS, _score_rows(groups))
    logger.info("%d counts of %d shards", len(groups), len(shard_paths))


Key = tuple[str, int, str, str, str]
# geometry -> split -> sample -> what was counted
Sections = dict[str, dict[str, dict[str, Any]]]


def _read_groups(paths: Sequence[str | Path]) -> tuple[dict[Key, Group], Sections]:
    """Gather the images of all shards by model, seed, split, stage and geometry; shards in order of name.

    Images that were scored as sections are gathered once more, each once whatever the number of runs.
    """
    groups: dict[Key, Group] = {}
    sections: Sections = {}
    for path in sorted(map(str, paths)):
        contents = json.loads(Path(path).read_text(encoding="utf-8"))
        for image in contents["images"]:
            for geometry, counted in image["geometry"].items():
                for stage in (THRESHOLDED, POSTPROCESSED):
                    key = (contents["model"], contents["seed"], contents["split"], stage, geometry)
                    groups.setdefault(key, Group()).add(image["sample"], contents["shard"], counted, stage)
                if "grey" in counted:
                    of_split = sections.setdefault(geometry, {}).setdefault(contents["split"], {})
                    of_split.setdefault(image["sample"], counted)
    return groups, sections


def _metric_rows(groups: Mapping[Key, Group], *, bootstrap: int, seed: int) -> Iterator[dict[str, Any]]:
    for key, group in groups.items():
        model, run_seed, split, stage, geometry = key
        # One stream for all stages and geometries: their intervals rest on the same draws of images.
        seeds = _seeds(f"{model}/{run_seed}/{split}", seed=seed)
        names = {"model": model, "seed": run_seed, "split": split, "stage": stage, "geometry": geometry}
        numbers = np.stack(group.numbers)
        for row in summarize_counts(numbers, bootstrap=bootstrap, rng=np.random.default_rng(seeds)):
            if row["metric"] not in SWEEP_METRICS or stage == THRESHOLDED:
                yield names | row
        counts = numbers[:, : len(COUNTS)]
        for row in summarize_rates(counts, metrics=RATE_METRICS, bootstrap=bootstrap, seeds=seeds):
            yield names | row
        if stage == THRESHOLDED:
            at_half = count_at_half(numbers[:, -2 * BINS :].reshape(-1, 2, BINS))
            for row in summarize_rates(at_half, metrics=ALL_PIXEL_METRICS, bootstrap=bootstrap, seeds=seeds):
                yield names | {"stage": HALF} | row
        if group.sections:
            scores = np.stack(group.sections)[:, :, :-1]
            for row in summarize_sections(scores, bootstrap=bootstrap, seeds=seeds):
                yield names | row


def _baseline_rows(sections: Sections, *, bootstrap: int, seed: int) -> Iterator[dict[str, Any]]:
    for geometry, of_geometry in sections.items():
        seeds = {split: _seeds(f"{BASELINE}/{split}", seed=seed) for split in of_geometry}
        for row in summarize_baselines(of_geometry, bootstrap=bootstrap, seeds=seeds):
            yield {"seed": 0, "stage": BASELINE, "geometry": geometry} | row


def _seeds(name: str, *, seed: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, stable_hash(name, purpose="bootstrap")])


def _score_rows(groups: Mapping[Key, Group]) -> Iterator[dict[str, Any]]:
    for (model, run_seed, split, stage, geometry), group in groups.items():
        numbers = np.stack(group.numbers)
        scores = score_counts(numbers)
        names = {"model": model, "seed": run_seed, "split": split, "stage": stage, "geometry": geometry}
        # Threshold-free scores belong to the probabilities, not to the final objects.
        shown = (*METRICS, *(SWEEP_METRICS if stage == THRESHOLDED else ()))
        for k, (sample, shard) in enumerate(zip(group.samples, group.shards, strict=True)):
            counts = numbers[k, len(COUNTS) : len(COUNTS) + 2]
            yield names | {"sample": sample, "shard": shard} | {name: scores[name][k] for name in shown} | {
                "n_true": int(counts[0]), "n_predicted": int(counts[1])
            }  # fmt: skip


def _write_rows(path: Path, columns: Sequence[str], rows: Iterator[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _shown(value) for name, value in row.items()})


def _shown(value: Any) -> Any:
    """Numbers to nine digits, undefined ones as empty fields."""
    if not isinstance(value, float | np.floating):
        return value
    return "" if np.isnan(value) else f"{value:.{DIGITS}g}"
