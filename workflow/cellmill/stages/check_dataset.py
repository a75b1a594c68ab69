"""Stage check, second rule: findings of all shards of a dataset, as tables and on the terminal."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cellmill.checks.duplicates import find_duplicates
from cellmill.checks.findings import (
    ANNOTATION_COLUMNS,
    COLUMNS,
    IMAGE_COLUMNS,
    SEVERITIES,
    compare_annotations,
    compare_images,
    describe,
    describe_files,
    describe_remarks,
)
from cellmill.checks.known_images import find_known_images
from cellmill.checks.turned_copies import find_turned_copies
from cellmill.checks.worth import JudgedSettings, explain_errors, judge_annotations
from cellmill.exports.model_file import read_description
from cellmill.shards import atomic_path

logger = logging.getLogger(__name__)


def summarize_check(
    *,
    summary_path: str | Path,
    images_path: str | Path,
    annotations_path: str | Path,
    findings_paths: Sequence[str | Path],
    dataset: str,
    parts: Mapping[str, str],
    remarks: Sequence[str],
    files: Mapping[str, Any],
    annotations: JudgedSettings | None,
    models: Mapping[str, str],
) -> None:
    """Write tables of a dataset's findings, images and annotations, and log a summary to the terminal.

    Parameters
    ----------
    summary_path : path
        CSV with one row per finding, the most severe first; only the header if there are no findings.
    images_path, annotations_path : path
        CSV with one row per image, and one row per annotated image.
    findings_paths : sequence of path
        The JSON files of ``check_shard``; each file stem is the name of a shard.
    dataset : str
        Name of the dataset.
    parts : mapping
        Shard -> "train", "validation", "test", "fold0", "unlabelled", "gap" or "left out".
    remarks : sequence of str
        Remarks from scanning and splitting the dataset, each "where: text".
    files : mapping
        Numbers of files that are read and left out, as in `describe_files`; empty for a simulation.
    annotations : mapping or None
        What the judgement of the annotations depends on; None without annotations, or if they are simulated.
    models : mapping
        Exported models that are applied or that trainings start from, path -> name.

    Raises
    ------
    ValueError
        If the annotations of the dataset cannot be learned from or scored; no file is written.
    """
    images, truths, areas_px, findings = read_shards(findings_paths, parts=parts)
    findings += describe_remarks(remarks)
    findings += compare_images(images, dataset=dataset)
    findings += compare_annotations(truths, areas_px=areas_px, dataset=dataset)
    findings += find_duplicates(images, dataset=dataset)
    findings += find_turned_copies(images, dataset=dataset)
    for model_path, model in models.items():
        digests = read_description(model_path).training_images
        findings += find_known_images(images, digests, model=model, dataset=dataset)
    if annotations is not None:
        findings += judge_annotations(truths, images=images, annotations=annotations)
    if errors := explain_errors(findings):
        raise ValueError(errors)
    findings.sort(key=lambda finding: SEVERITIES.index(finding["severity"]))
    for path, rows, columns in (
        (summary_path, findings, COLUMNS),
        (images_path, images, IMAGE_COLUMNS),
        (annotations_path, truths, ANNOTATION_COLUMNS),
    ):
        with atomic_path(path) as partial:
            pd.DataFrame(rows, columns=columns).to_csv(partial, index=False)
    for line in describe_files(dataset, files):
        logger.info(line, extra={"progress": True})
    for line in describe(dataset, images=images, truths=truths, areas_px=areas_px, findings=findings):
        logger.info(line, extra={"progress": True})


def read_shards(
    paths: Sequence[str | Path], *, parts: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], np.ndarray, list[dict[str, str]]]:
    """Read the files of ``check_shard``.

    Returns
    -------
    list of dict, list of dict
        Images and annotations, each with its split.
    ndarray of int
        Areas of all objects, px.
    list of dict
        Findings.
    """
    images, truths, areas, findings = [], [], [np.zeros(0, dtype=int)], []
    for path in paths:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        shard = Path(path).stem
        part = parts[shard]
        for image in content["images"]:
            height_um, width_um = image.pop("pixel_size_um") or (None, None)
            pixel = {"pixel_height_um": height_um, "pixel_width_um": width_um}
            images.append({**image, **pixel, "split": part, "shard": shard})
        for truth in content["annotations"]:
            areas.append(np.array(truth.pop("areas_px"), dtype=int))
            truths.append({**truth, "split": part})
        findings += content["findings"]
    return images, truths, np.concatenate(areas), findings
