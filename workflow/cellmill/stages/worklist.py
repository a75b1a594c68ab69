"""Stage worklist: list images to annotate, the least sure first, and copy predicted labels to correct."""

import csv
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.annotations.imagej_writer import write_rois
from cellmill.curation.order import describe_images, order_images
from cellmill.images.stored import StoredRows
from cellmill.objects.label_files import label_paths
from cellmill.shards import atomic_path, shard_folder

logger = logging.getLogger(__name__)

WORKLIST_COLUMNS = (
    "rank", "sample", "image", "part", "model", "objects", "confidence", "ap_0.50", "reason", "labels", "rois",
)  # fmt: skip
UNLABELLED = "unlabelled"
METRIC = "ap_0.50"
# Novelty of an image that is as far from the nearest one as usual
DIFFERENT = 0.5
MEASURED = ("mean", "minimum", "maximum", "contrast", "focus")


def list_images_to_annotate(
    *,
    table_path: str | Path,
    labels_dir: str | Path,
    counts_path: str | Path,
    images_path: str | Path,
    scores_path: str | Path,
    segmentation_dirs: Sequence[str | Path],
    samples: Sequence[Mapping[str, Any]],
    model: str,
    seed: int,
    images: int,
) -> None:
    """Write the worklist of a dataset.

    Parameters
    ----------
    table_path : path
        worklist.csv: unlabelled images in the order of `order_images`, then tested images, the lowest AP at 0.50 first.
        The reason is "unsure" if the model is less sure than in most unlabelled images, "different" if the nearest
        image that is annotated or before it is farther away than usual.
    labels_dir : path
        Folder for {sample}.tif (label image) and {sample}.zip (ROIs of ImageJ) of the first images.
    counts_path : path
        counts.csv of the run.
    images_path : path
        images.csv of the stage check.
    scores_path : path
        scores.csv.
    segmentation_dirs : sequence of path
        Shard folders with the objects of the run.
    samples : sequence of mappings
        sample, image, part and `role` of all images: train, validation or test for the run, "" without annotation.
        Images of a gap and those that are left out are not in the list.
    model, seed : str and int
        Of the run.
    images : int
        Number of images whose labels are copied.
    """
    counts, measured = read_by_sample(counts_path), read_by_sample(images_path)
    rows = [row for row in samples if row["sample"] in counts and row["sample"] in measured]
    scores = _read_scores(scores_path, model=model, seed=seed, rows=samples)
    listed = [
        *_list_unlabelled(rows, counts=counts, measured=measured, picks=images),
        *_list_tested(rows, scores=scores),
    ]
    paths = label_paths(segmentation_dirs)
    folder_name = Path(labels_dir).name
    with (
        shard_folder(labels_dir) as folder,
        atomic_path(table_path) as partial,
        partial.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, WORKLIST_COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for rank, (row, reason) in enumerate(listed, start=1):
            sample, files = row["sample"], {}
            if rank <= images:
                shutil.copyfile(paths[sample], folder / f"{sample}.tif")
                write_rois(folder / f"{sample}.zip", StoredRows(paths[sample]))
                files = {"labels": f"{folder_name}/{sample}.tif", "rois": f"{folder_name}/{sample}.zip"}
            counted = {name: counts[sample][name] for name in ("objects", "confidence")}
            written = {"rank": rank, "sample": sample, "image": row["image"], "part": row["part"], "model": model}
            writer.writerow({**written, **counted, METRIC: scores.get(sample, ""), "reason": reason, **files})
    logger.info("%d images in the worklist", len(listed), extra={"progress": True})


def _list_unlabelled(
    rows: Sequence[Mapping[str, Any]],
    *,
    counts: Mapping[str, Mapping[str, str]],
    measured: Mapping[str, Mapping[str, str]],
    picks: int,
) -> list[tuple[Mapping[str, Any], str]]:
    """Order the unlabelled images, each with the reason for its place."""
    if not any(row["part"] == UNLABELLED for row in rows):
        return []

    samples = [row["sample"] for row in rows]
    doubt, described_nd = describe_samples(samples, counts=counts, measured=measured)
    is_known = np.array([row["part"] != UNLABELLED for row in rows])
    order = order_images(doubt, described_nd, is_known=is_known, picks=picks)
    usual = float(np.median(doubt[~is_known]))
    found = []
    for number, novelty in order:
        reasons = {"unsure": doubt[number] > usual, "different": novelty > DIFFERENT}
        found.append((rows[number], " and ".join(name for name, holds in reasons.items() if holds)))
    return found


def describe_samples(
    samples: Sequence[str], *, counts: Mapping[str, Mapping[str, str]], measured: Mapping[str, Mapping[str, str]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return what images are ordered by.

    Parameters
    ----------
    samples : sequence of str
        Images that are in both tables.
    counts, measured : mapping
        Rows of counts.csv of a run and of images.csv of the stage check, from `read_by_sample`.

    Returns
    -------
    doubt : ndarray of float64, shape (images,)
        1 minus the confidence of the image.
    described_nd : ndarray of float64, shape (images, descriptors)
        From `describe_images`.
    """

    def column(table: Mapping[str, Mapping[str, str]], name: str) -> np.ndarray:
        return np.array([float(table[sample][name] or "nan") for sample in samples])

    described_nd = describe_images(
        **{name: column(measured, name) for name in MEASURED},
        pixels=column(measured, "rows") * column(measured, "columns"),
        objects=column(counts, "objects"),
        area_px=column(counts, "area_px"),
    )
    return 1 - column(counts, "confidence"), described_nd


def _list_tested(
    rows: Sequence[Mapping[str, Any]], *, scores: Mapping[str, str]
) -> list[tuple[Mapping[str, Any], str]]:
    """Order the annotated images that were not trained on by their score, the lowest first."""
    tested = [row for row in rows if scores.get(row["sample"])]
    return [
        (row, "differs from its annotation" if float(scores[row["sample"]]) < 1 else "")
        for row in sorted(tested, key=lambda row: float(scores[row["sample"]]))
    ]


def read_by_sample(path: str | Path) -> dict[str, dict[str, str]]:
    """Read a table with one row per image: sample -> row."""
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return {row["sample"]: row for row in csv.DictReader(stream)}


def _read_scores(path: str | Path, *, model: str, seed: int, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Read the scores of the final objects of a run on the images that it was not trained on.

    With folds, an image has a score for each of its roles; that of the run itself counts.
    """
    roles = {row["sample"]: row["role"] for row in rows}
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return {
            row["sample"]: row[METRIC]
            for row in csv.DictReader(stream)
            if (row["model"], row["seed"], row["stage"], row["geometry"]) == (model, str(seed), "postprocessed", "raw")
            and row["split"] == roles.get(row["sample"]) != "train"
        }
