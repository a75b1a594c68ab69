"""A small finished dataset, as the stages before the report leave it, for the tests of the page."""

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile

from cellmill.checks.findings import ANNOTATION_COLUMNS, COLUMNS, IMAGE_COLUMNS
from cellmill.evaluation.comparisons import COMPARISON_COLUMNS, COUNT_DIFFERENCE
from cellmill.experiment.replicates import compare_conditions
from cellmill.experiment.tables import ConditionRow, ReplicateRow, write_rows
from cellmill.experiment.wells import write_well
from cellmill.images.stored import write_labels
from cellmill.planning.stage_graph import STAGE_INPUTS
from cellmill.preprocessing.geometry import plan_fit, write_geometry
from cellmill.reports.results import Origin, Run
from cellmill.shards import shard_folder
from cellmill.stages.evaluate import CONFIDENCE_COLUMNS, CURVE_COLUMNS, METRIC_COLUMNS, SIZE_COLUMNS
from whole_images import fit_image, write_image, write_probabilities

SCORE_COLUMNS = [
    "model",
    "seed",
    "split",
    "stage",
    "geometry",
    "sample",
    "shard",
    "dice",
    "ap_kaggle",
    "n_true",
    "n_predicted",
]
TABLES = ("metrics", "scores", "comparisons", "curves", "sizes", "confidence")
SHAPE = (48, 64)
# Model -> Dice of each test image; the first model is the better one.
DICE = {"wide": (0.7, 0.95, 0.9), "narrow": (0.75, 0.8, 0.6)}
SETTINGS = {"gallery_images": 24, "gallery_choice": "worst", "gallery_side_px": 512}
PROVENANCE = {"date": "2026-03-14", "commit": "4f2a91c0d3be", "versions": {"numpy": "9.9.9"}}
CONFIG = "seed: 7\ndatasets:\n  cells:\n    images: data/{sample}.tif\n"


def make_labels(shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Make a label image with two objects of 8 x 8 px and one of 4 x 4 px."""
    labels_yx = np.zeros(shape, dtype=np.uint16)
    labels_yx[4:12, 4:12] = 1
    labels_yx[30:38, 20:28] = 2
    labels_yx[20:24, 50:54] = 3
    return labels_yx


def make_run(name: str, *, model: str, seed: int, made_from: Origin | None) -> Run:
    """Make a run without files."""
    return Run(
        name=name, model=model, seed=seed, label=model, short_label=model, style="s0", history=[], summary={}, fit={},
        recipe={},        counts={}, areas={}, intensities={}, um2_per_px=None, objects_path=Path("objects.csv"), flags_path=Path("flags.csv"),
        probabilities={}, segmentation={}, apply=None, made_from=made_from,
    )  # fmt: skip


def build_example(
    root: Path, *, is_annotated: bool = True, mode: str = "none", size: tuple[int, int] | None = None,
    test_names: tuple[str, ...] = ("a01", "a02", "a03"), shape: tuple[int, int] = SHAPE, **changes: Any,
) -> dict[str, Any]:  # fmt: skip
    """Write a dataset below `root` and return the arguments of `write_report`, except output_path.

    The training image and the three test images contain the objects of `make_labels`. The prediction of the model
    `wide` lacks the third object, that of `narrow` also the second.
    """
    rng = np.random.default_rng(5)
    part = "test" if is_annotated else "unlabelled"
    samples = [_row("t01", "train", shard="train-0000")] if is_annotated else []
    samples += [_row(name, part, shard=f"{part}-0000") for name in test_names]
    shard = f"{part}-0000"
    geometry = plan_fit(shape, mode=mode, size=size)
    labels_yx = make_labels(shape)
    image_yx = (100 + 50 * (labels_yx > 0) + rng.normal(0, 3, shape)).astype(np.float32)

    with shard_folder(root / "images" / shard) as folder:
        for name in test_names:
            write_image(folder / f"{name}.tif", fit_image(image_yx, geometry, pad_value=0))
        write_geometry(folder / "geometry.csv", dict.fromkeys(test_names, geometry))
    if is_annotated:
        with shard_folder(root / "labels" / shard) as folder:
            for name in test_names:
                write_labels(folder / f"{name}.tif", labels_yx)
    (root / "raw").mkdir()
    for row in samples:
        row["image"] = str(root / "raw" / f"raw_{samples.index(row)}.tif")
        tifffile.imwrite(row["image"], (image_yx * 10 + np.arange(shape[1]) * 5).astype(np.uint16))

    runs = [
        _write_run(root / model, model, kept=kept, labels_yx=labels_yx, geometry=geometry, shard=shard,
                   names=test_names, is_trained=is_annotated)
        for model, kept in (("narrow", 1), ("wide", 2))
    ]  # fmt: skip
    _write_check(root, samples, shape=shape, is_annotated=is_annotated)
    _write_scores(root, names=test_names if is_annotated else ())
    return {
        "dataset": "cells",
        "title": "Cells on glass",
        "config_text": CONFIG,
        "runs": runs,
        "samples": samples,
        "check_paths": [root / f"{name}.csv" for name in ("summary", "images", "annotations")],
        **{f"{name}_path": root / f"{name}.csv" for name in TABLES},
        "images_dirs": {shard: root / "images" / shard},
        "labels_dirs": {shard: root / "labels" / shard} if is_annotated else {},
        "gallery": dict(SETTINGS),
        "provenance": dict(PROVENANCE),
        "stage_inputs": list(STAGE_INPUTS.items()),
        **changes,
    }


def _row(name: str, part: str, *, shard: str) -> dict[str, Any]:
    return {"sample": name, "image": "", "split": part, "shard": shard, "class": "", "sequence": "", "frame": 0}


def _write_run(folder: Path, model: str, *, kept: int, labels_yx: np.ndarray, geometry: Any, shard: str,
               names: tuple[str, ...], is_trained: bool) -> dict[str, Any]:  # fmt: skip
    found_yx = np.where(labels_yx <= kept, labels_yx, 0).astype(np.uint16)
    with shard_folder(folder / "probabilities" / shard) as output:
        for name in names:
            probability_yx = fit_image(np.where(found_yx > 0, 0.9, 0.1), geometry, pad_value=0)
            write_probabilities(output / f"{name}.tif", probability_yx[np.newaxis])
    with shard_folder(folder / "segmentation" / shard) as output:
        for name in names:
            write_labels(output / f"{name}.tif", found_yx)
        objects = [(name, number, round(1 - number / 8, 3)) for name in names for number in range(1, kept + 1)]
        _write_csv(output / "objects.csv", ("sample", "object", "confidence"), objects)
        _write_csv(output / "counts.csv", ("sample", "objects", "confidence"), [(name, kept, 0.8) for name in names])
    areas = [int((found_yx == label).sum()) for label in range(1, kept + 1)]
    _write_csv(
        folder / "objects.csv", ("sample", "object", "area_px", "raw_intensity_mean"),
        [(name, number, area, 900.0 + area) for name in names for number, area in enumerate(areas, start=1)],
    )  # fmt: skip
    _write_csv(folder / "flags.csv", ("severity", "sample", "where", "finding", "advice"), [])
    _write_csv(folder / "counts.csv", ("sample", "objects", "area_px", "confidence"),
               [(name, kept, sum(areas), 0.8) for name in names])  # fmt: skip
    fit = {
        "format": 2,
        "threshold": {"value": 0.4375, "method": "mcc", "mcc": 0.81, "reason": "best on the validation images"},
        "boundary": {"classifier": "svm", "applied": True, "held_out": {"by_image": {"mean": 0.674}}},
        "instances": {"method": "watershed", "min_area_px": 12, "exclude_border": False},
        "steps": [
            {"step": step, "dice": 0.8 + 0.01 * k, "ap_kaggle": 0.4 + 0.05 * k}
            for k, step in enumerate(("threshold", "closing", "boundary", "holes", "objects", "filters"))
        ],
    }
    (folder / "postprocess.json").write_text(json.dumps(fit))
    run = {
        "run": model, "model": model, "seed": 7, "postprocess": folder / "postprocess.json",
        "objects": folder / "objects.csv", "flags": folder / "flags.csv", "counts": folder / "counts.csv",
        "probabilities": {shard: folder / "probabilities" / shard},
        "segmentation": {shard: folder / "segmentation" / shard},
    }  # fmt: skip
    if not is_trained:
        return {**run, "apply": "/scratch/models/wide.cellmill"}
    rows = [(epoch, 0.01 / epoch, 1 / epoch, 1.1 / epoch, 1 - 0.5 / epoch, 2.0) for epoch in range(1, 6)]
    rows.append((6, 0.001, 0.2, "", "", 2.0))
    header = ("epoch", "learning_rate", "train_loss", "validation_loss", "validation_dice", "seconds")
    _write_csv(folder / "history.csv", header, rows)
    summary = {
        "parameters": 7_763_041, "epochs_done": 6, "best_epoch": 4, "seconds": 4000.0, "device": "cpu",
        "gpu_name": "", "versions": {"numpy": "9.9.9"}, "settings": {"train": {"epochs": 6}},
    }  # fmt: skip
    (folder / "train.json").write_text(json.dumps(summary))
    return {**run, "history": folder / "history.csv", "summary": folder / "train.json"}


def _write_check(root: Path, samples: list[dict[str, Any]], *, shape: tuple[int, int], is_annotated: bool) -> None:
    image = {
        "rows": shape[0], "columns": shape[1], "dtype": "uint16", "channels": 1, "minimum": 850.0, "maximum": 2210.0,
        "mean": 1010.0, "contrast": 90.0, "saturated_fraction": 0.02, "significant_bits": 12, "focus": 0.5,
    }  # fmt: skip
    truth = {
        "objects": 3, "min_area_px": 16, "q05_area_px": 20.0, "median_area_px": 64.0, "q95_area_px": 64.0,
        "max_area_px": 64, "touching_border": 2, "overlapping": 0, "contested_px": 0, "with_holes": 0, "in_parts": 0,
        "empty": 0, "broken": 0, "ignored_px": 0, "covered_fraction": 0.05,
    }  # fmt: skip
    findings = [
        {"severity": severity, "sample": sample, "where": "masks", "finding": finding, "advice": "Look"}
        for severity, sample, finding in (
            ("warning", "a01", "two overlap"), ("warning", "a03", "two overlap"), ("note", "a02", "object 3 is small"),
        )
    ]  # fmt: skip
    names = [row["sample"] for row in samples]
    for name, columns, rows in (
        ("summary", COLUMNS, findings if is_annotated else []),
        ("images", IMAGE_COLUMNS, [{"sample": sample, **image} for sample in names]),
        ("annotations", ANNOTATION_COLUMNS, [{"sample": sample, **truth} for sample in names if is_annotated]),
    ):
        pd.DataFrame(rows, columns=columns).to_csv(root / f"{name}.csv", index=False)


def _write_scores(root: Path, *, names: tuple[str, ...]) -> None:
    metrics, scores, comparisons, curves, sizes, confidence = [], [], [], [], [], []
    means = {}
    for model, dice in DICE.items() if names else ():
        values = [dice[number % len(dice)] for number in range(len(names))]
        mean = sum(values) / len(values)
        means[model] = values
        for metric, value in (("dice", mean), ("ap_kaggle", mean - 0.3)):
            row = {"value": value, "ci_low": value - 0.02, "ci_high": value + 0.02}
            comparisons.append(_compared(model, "", metric, names, **row))
        comparisons.append(
            _compared(model, "", COUNT_DIFFERENCE, names, value=-1 / 3, ci_low=-0.4, ci_high=-0.25,
                      n_true=3 * len(names), n_predicted=2 * len(names))
        )  # fmt: skip
        place = {"model": model, "seed": 7, "split": "test", "geometry": "raw"}
        for k in range(256):
            background, foreground = 9 * (k < 100) + (k == 180), 4 * (k > 120)
            pixels = {"background": background, "foreground": foreground}
            curves.append({**place, "low": k / 256, "high": (k + 1) / 256, **pixels,
                           "confidence": (k + 0.5) / 256 * (background + foreground)})  # fmt: skip
        for low_px, n_found in ((16, 0), (64, 5)):
            counts = {"n_true": 6, "n_found": n_found, "n_predicted": n_found + 1, "n_right": n_found}
            sizes.append({**place, "low_px": low_px, "high_px": 2 * low_px, **counts})
        for k, n_right, n_wrong in ((20, 1, 4), (130, 3, 3), (220, 9, 1)):
            counts = {"n_right": n_right, "n_wrong": n_wrong}
            confidence.append({**place, "low": k / 256, "high": (k + 1) / 256, **counts})
        metrics.append(
            (model, 7, "test", "postprocessed", "raw", "confidence_auroc", "pooled", 0.83, 0.7, 0.91, len(names), 0)
        )
        for stage, loss in (("postprocessed", 0.0), ("thresholded", 0.05)):
            place = (model, 7, "test", stage, "raw")
            for metric, value in (("dice", mean - loss), ("ap_kaggle", mean - 0.3 - loss)):
                interval = (value - 0.02, value + 0.02)
                metrics.append((*place, metric, "image_mean", value, *interval, len(names), 0))
            for name, value in zip(names, values, strict=True):
                scores.append((*place, name, "test-0000", value - loss, value - 0.3 - loss, 3, 2))
    _write_csv(root / "metrics.csv", METRIC_COLUMNS, metrics)
    _write_csv(root / "scores.csv", SCORE_COLUMNS, scores)
    for model, other in itertools.permutations(means, 2):
        differences = [a - b for a, b in zip(means[model], means[other], strict=True)]
        mean = sum(differences) / len(differences)
        for metric in ("dice", "ap_kaggle"):
            row = {
                "value": mean, "ci_low": mean - 0.05, "ci_high": mean + 0.05, "n_seeds_against": 1,
                "n_better": sum(each > 0 for each in differences), "n_worse": sum(each < 0 for each in differences),
            }  # fmt: skip
            comparisons.append(_compared(model, other, metric, names, **row))
    for name, columns, rows in (
        ("comparisons", COMPARISON_COLUMNS, comparisons), ("curves", CURVE_COLUMNS, curves),
        ("sizes", SIZE_COLUMNS, sizes), ("confidence", CONFIDENCE_COLUMNS, confidence),
    ):  # fmt: skip
        pd.DataFrame(rows, columns=columns).to_csv(root / f"{name}.csv", index=False)


def _compared(model: str, against: str, metric: str, names: tuple[str, ...], **row: Any) -> dict[str, Any]:
    counts = {"n_seeds": 1, "n": len(names), "n_undefined": 0, "n_groups": len(names)}
    return {"model": model, "against": against, "split": "test", "metric": metric, **counts, **row}


def add_models(root: Path, arguments: dict[str, Any], names: tuple[str, ...]) -> None:
    """Add models that are like `wide` with slightly lower scores, to the arguments and tables of `build_example`."""
    arguments["runs"] += [{**arguments["runs"][1], "run": name, "model": name} for name in names]
    for table in TABLES:
        content = pd.read_csv(root / f"{table}.csv", keep_default_na=False)
        copied = [content]
        for number, name in enumerate(names, start=1):
            rows = content[(content["model"] == "wide")].assign(model=name)
            if table == "comparisons":
                rows["value"] = pd.to_numeric(rows["value"]) - 0.01 * number
                copied.append(content[(content["against"] == "narrow")].assign(against=name))
            copied.append(rows)
        pd.concat(copied).to_csv(root / f"{table}.csv", index=False)


def add_masks(root: Path, arguments: dict[str, Any], names: dict[str, str]) -> None:
    """Add runs of masks made elsewhere, name -> role, to the arguments and tables of `build_example`."""
    add_models(root, arguments, tuple(names))
    for run in arguments["runs"]:
        if run["model"] in names:
            for key in ("probabilities", "postprocess", "history", "summary"):
                run.pop(key, None)
            run |= {"masks": f"/scratch/{run['model']}/{{sample}}.png", "role": names[run["model"]]}


def add_curve(root: Path, arguments: dict[str, Any], *, images: tuple[int, ...] = (2, 4), whole: int = 8) -> None:
    """Add a learning curve of the model `wide` to the arguments and to comparisons.csv."""
    table = pd.read_csv(root / "comparisons.csv", keep_default_na=False)
    alone = table[(table["model"] == "wide") & (table["against"] == "")]
    pair = table[(table["model"] == "wide") & (table["against"] == "narrow")]
    copied = [table]
    for number in images:
        for rows, changed in ((alone, "model"), (pair, "against")):
            copied.append(rows.assign(**{changed: f"wide.images{number}"}))
            copied[-1]["value"] = pd.to_numeric(copied[-1]["value"]) - 0.1 * (changed == "model") / number
    pd.concat(copied).to_csv(root / "comparisons.csv", index=False)
    parts = [[number, f"wide.images{number}"] for number in images]
    arguments["learning_curve"] = {"model": "wide", "images": whole, "draws": 3, "parts": parts}


def add_experiment(root: Path, arguments: dict[str, Any]) -> None:
    """Add an experiment to the arguments: three conditions in the rows of a plate, six wells each, two features."""
    rng = np.random.default_rng(2)
    conditions = ("DMSO", "nocodazole 1 µM", "staurosporine")
    rows = [
        ReplicateRow(
            run="wide", feature=feature, unit=unit, condition=condition, replicate=well, plate="", well=well, n_images=2,
            n_objects=60, value=float(rng.normal(mean - 3 * row, 1)),
        )
        for feature, unit, mean in (("objects_per_image", "objects", 30), ("area_um2", "um2", 200))
        for row, condition in enumerate(conditions)
        for well in (write_well((row, column)) for column in range(6))
    ]  # fmt: skip
    write_rows(root / "replicates.csv", rows, ReplicateRow)
    compared = compare_conditions(rows, conditions=conditions, control="DMSO")
    write_rows(root / "conditions.csv", compared, ConditionRow)
    arguments["experiment"] = {
        "conditions_path": root / "conditions.csv", "replicates_path": root / "replicates.csv", "column": "treatment",
        "replicate": ["well"], "control": "DMSO", "learned": 2, "left_out": 1,
    }  # fmt: skip


def _write_csv(path: Path, header: Any, rows: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
