"""The worklist of a dataset, and the labels that are copied for correction."""

import csv

import numpy as np
import pytest
import roifile

from cellmill.images.stored import read_labels, write_labels
from cellmill.shards import listed_files, shard_folder
from cellmill.stages.worklist import WORKLIST_COLUMNS, list_images_to_annotate

CONFIDENCES = {"u1": 0.9, "u2": 0.4, "u3": 0.5, "t1": 0.8, "t2": 0.8, "r1": 0.7}
PARTS = {"u": "unlabelled", "t": "test", "r": "train"}
SCORES = {"t1": 0.9, "t2": 0.2}


def as_sample(name):
    part = PARTS[name[0]]
    return {"sample": name, "image": f"data/{name}.tif", "part": part, "role": "" if part == "unlabelled" else part}


def write_csv(path, columns, rows):
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([columns, *rows])
    return path


@pytest.fixture
def made(tmp_path):
    """Tables of six images; u2 and u3 look alike."""
    labels = np.zeros((20, 30), dtype=np.uint16)
    labels[2:9, 3:9], labels[2:9, 12:20] = 1, 2
    with shard_folder(tmp_path / "segmentation/test-0000") as folder:
        for sample in CONFIDENCES:
            write_labels(folder / f"{sample}.tif", labels)
        write_csv(folder / "counts.csv", ("sample", "objects"), [(sample, 2) for sample in CONFIDENCES])
    counts = [(sample, 2, 98, value) for sample, value in CONFIDENCES.items()]
    looks = {"u1": 40, "u2": 90, "u3": 90.1, "t1": 10, "t2": 20, "r1": 30}
    images = [(sample, 20, 30, value, 0, 255, value / 2, 0.5) for sample, value in looks.items()]
    scores = [
        ("unet", seed, part, stage, "raw", sample, value + (seed - 1) / 100)
        for seed in (1, 2)
        for stage in ("thresholded", "postprocessed")
        for part, sample, value in (*(("test", *item) for item in SCORES.items()), ("train", "r1", 0.0))
    ]
    paths = {
        "counts_path": write_csv(tmp_path / "counts.csv", ("sample", "objects", "area_px", "confidence"), counts),
        "images_path": write_csv(
            tmp_path / "images.csv",
            ("sample", "rows", "columns", "mean", "minimum", "maximum", "contrast", "focus"), images,
        ),
        "scores_path": write_csv(
            tmp_path / "scores.csv", ("model", "seed", "split", "stage", "geometry", "sample", "ap_0.50"), scores
        ),
    }  # fmt: skip
    samples = [as_sample(name) for name in CONFIDENCES]

    def write(**changes):
        arguments = {**paths, "samples": samples, "model": "unet", "seed": 1, "images": 3, **changes}
        list_images_to_annotate(
            table_path=tmp_path / "worklist.csv", labels_dir=tmp_path / "worklist",
            segmentation_dirs=[tmp_path / "segmentation/test-0000"], **arguments,
        )  # fmt: skip
        with (tmp_path / "worklist.csv").open(newline="") as stream:
            reader = csv.DictReader(stream)
            assert tuple(reader.fieldnames) == WORKLIST_COLUMNS
            return list(reader)

    return write


def test_unsure_and_new_images_come_first_and_tested_ones_by_their_score(made):
    rows = made()
    # u3 is a near copy of u2, and training images are not in the list.
    assert [row["sample"] for row in rows] == ["u2", "u1", "u3", "t2", "t1"]
    assert [row["rank"] for row in rows] == list("12345")
    assert [row["confidence"] for row in rows] == ["0.4", "0.9", "0.5", "0.8", "0.8"]
    assert [row["ap_0.50"] for row in rows] == ["", "", "", "0.2", "0.9"]
    assert rows[0]["reason"] == "unsure"
    assert [row["reason"] for row in rows[1:]] == ["", "", *["differs from its annotation"] * 2]
    assert {row["image"] for row in rows[:1]} == {"data/u2.tif"}


def test_labels_of_the_first_images_are_copied_for_napari_and_fiji(made, tmp_path):
    rows = made(images=2)
    folder = tmp_path / "worklist"
    assert {path.name for path in listed_files(folder)} == {"u2.tif", "u2.zip", "u1.tif", "u1.zip"}
    assert (tmp_path / rows[0]["labels"]).is_file()
    assert [row["rois"] for row in rows[:3]] == ["worklist/u2.zip", "worklist/u1.zip", ""]
    assert read_labels(folder / "u2.tif").max() == 2
    assert len(roifile.roiread(folder / "u2.zip")) == 2


def test_without_unlabelled_images_only_tested_ones_are_listed(made):
    samples = [as_sample(name) for name in CONFIDENCES if name[0] != "u"]
    assert [row["sample"] for row in made(samples=samples)] == ["t2", "t1"]


def test_without_annotations_the_order_is_that_of_doubt_and_difference(made, tmp_path):
    samples = [{**as_sample(name), "part": "unlabelled", "role": ""} for name in CONFIDENCES]
    write_csv(tmp_path / "scores.csv", ("model", "seed", "split", "stage", "geometry", "sample", "ap_0.50"), [])
    rows = made(samples=samples)
    assert rows[0]["sample"] == "u2"
    assert {row["sample"] for row in rows} == set(CONFIDENCES)


def test_an_image_has_the_score_of_the_run_and_not_of_other_folds(made, tmp_path):
    rows = [
        ("unet", 1, split, "postprocessed", "raw", "t1", value) for split, value in (("test", 0.4), ("validation", 1.0))
    ]
    columns = ("model", "seed", "split", "stage", "geometry", "sample", "ap_0.50")
    write_csv(tmp_path / "scores.csv", columns, rows)
    for role, scores in (("test", ["0.4"]), ("validation", ["1.0"]), ("train", [])):
        listed = made(samples=[{**as_sample("t1"), "role": role}])
        assert [row["ap_0.50"] for row in listed] == scores
        assert [row["reason"] for row in listed] == [
            "" if score == "1.0" else "differs from its annotation" for score in scores
        ]
