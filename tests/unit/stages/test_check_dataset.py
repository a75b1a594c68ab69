"""The summary of the check stage: tables of a dataset and human-readable lines."""

import json

import numpy as np
import pandas as pd
import pytest

from cellmill.checks.findings import (
    compare_annotations,
    compare_images,
    describe,
    describe_files,
    describe_remarks,
    read_tables,
)
from cellmill.stages.check_dataset import summarize_check
from model_files import put_model

NO_AREAS = np.zeros(0, dtype=int)


def image(sample, **changes):
    return {
        "sample": sample, "sequence": "", "rows": 64, "columns": 80, "dtype": "uint8", "channels": 1, "minimum": 3.0,
        "maximum": 200.0, "mean": 60.0, "contrast": 20.0, "saturated_fraction": 0.0, "significant_bits": 8,
        "focus": 0.4, "thumbnail": "", "sha256": sample, "pixel_height_um": None, "pixel_width_um": None,
        "split": "train", **changes,
    }  # fmt: skip


def truth(sample, objects, **changes):
    counts = dict.fromkeys(("overlapping", "contested_px", "in_parts", "with_holes", "empty", "broken"), 0)
    return {"sample": sample, "objects": objects, "split": "train", **counts, **changes}


def texts(findings):
    return [(finding["severity"], finding["finding"]) for finding in findings]


def write_shard(path, *, images=(), truths=(), findings=()):
    content = {
        "images": [
            {**{k: v for k, v in one.items() if "_um" not in k and k != "split"}, "pixel_size_um": [0.5, 0.5]}
            for one in images
        ],
        "annotations": list(truths),
        "findings": list(findings),
    }
    path.write_text(json.dumps(content))
    return path


def summarize(folder, shards, *, parts, remarks=(), files=(), models=()):
    paths = {f"{name}_path": folder / f"{name}.csv" for name in ("summary", "images", "annotations")}
    summarize_check(
        **paths,
        findings_paths=shards,
        dataset="cells",
        parts=parts,
        remarks=remarks,
        files=dict(files),
        annotations=None,
        models=dict(models),
    )
    return read_tables(list(paths.values()))


def test_the_first_line_counts_the_files_that_are_read_and_left_out():
    files = {"images": 6, "annotations": 7, "excluded": 0, "others": 0, "orphans": 0, "examples": []}
    assert describe_files("cells", files) == ["cells: files: 6 of images and 7 of annotations are read"]
    files |= {"excluded": 6, "others": 4, "orphans": 1, "examples": ["a_seg.npy", "b_seg.npy", "c_seg.npy"]}
    assert describe_files("cells", files) == [
        "cells: files: 6 of images and 7 of annotations are read; left out: 6 that match exclude, 4 others beside the "
        "images (a_seg.npy, b_seg.npy, c_seg.npy, …), 1 of annotations without an image"
    ]
    assert describe_files("simulated", {}) == []


def test_the_terminal_hears_counts_sizes_and_grouped_findings():
    odd = [
        {"severity": "note", "sample": f"s{n}", "where": "", "finding": f"{n} % dark", "advice": "Expose longer"}
        for n in range(5)
    ]
    odd.append({"severity": "warning", "sample": "", "where": "cells", "finding": "twins", "advice": "Leave one out"})
    images = [image("a"), image("b", rows=32, maximum=250.0)]
    areas = np.arange(1, 102)
    lines = describe("cells", images=images, truths=[truth("a", 3), truth("b", 4)], areas_px=areas, findings=odd)
    assert lines == [
        "cells: 2 images of 64 x 80, 32 x 80 px (uint8, 1 channel(s); values 3 to 250)",
        "cells: 7 objects in 2 annotated images, 3 to 4 per image; median area 51 px, 90 % from 6 to 96 px",
        "cells: warning: twins. Leave one out.",
        "cells: note: 5 images (s0, s1, s2 and 2 more): 0 % dark (and similar findings). Expose longer.",
    ]


def test_the_tables_have_their_headers_even_without_rows(tmp_path):
    tables = summarize(tmp_path, [write_shard(tmp_path / "train-0000.json")], parts={"train-0000": "train"})
    assert tables == {"summary": [], "images": [], "annotations": []}
    assert list(pd.read_csv(tmp_path / "summary.csv").columns) == ["severity", "sample", "where", "finding", "advice"]


def test_shards_become_three_tables(tmp_path):
    note = {"severity": "note", "sample": "NA", "where": "m", "finding": "odd", "advice": "Look"}
    twin = {"sha256": "same"}
    first = write_shard(
        tmp_path / "train-0000.json",
        images=[image("NA", **twin), image("007", focus=None)],
        truths=[{**truth("NA", 2, areas_px=[10, 30]), "median_area_px": 20.0}],
        findings=[note],
    )
    second = write_shard(tmp_path / "test-0000.json", images=[image("c", **twin)])
    remarks = ["datasets.cells.split: the parts are small"]
    tables = summarize(tmp_path, [first, second], parts={"train-0000": "train", "test-0000": "test"}, remarks=remarks)
    rows = [(row["sample"], row["split"], row["shard"], row["focus"]) for row in tables["images"]]
    assert rows == [
        ("NA", "train", "train-0000", 0.4),
        ("007", "train", "train-0000", None),
        ("c", "test", "test-0000", 0.4),
    ]
    assert [(row["sample"], row["objects"], row["median_area_px"]) for row in tables["annotations"]] == [
        ("NA", 2, 20.0)
    ]
    assert [(row["severity"], row["where"]) for row in tables["summary"]] == [
        ("warning", "cells"), ("note", "m"), ("note", "datasets.cells.split"),
    ]  # fmt: skip
    assert "c and NA" in tables["summary"][0]["finding"]


def test_a_remark_becomes_a_note_with_its_place():
    findings = describe_remarks(["datasets.a.split: small: 3 images", "no place"])
    assert [(one["where"], one["finding"]) for one in findings] == [
        ("datasets.a.split", "small: 3 images"), ("", "no place"),
    ]  # fmt: skip


def test_images_of_several_kinds_are_one_warning_a_kind():
    images = [image("a"), image("b", dtype="uint16"), image("c", channels=3), image("d", pixel_height_um=0.5)]
    images += [image("e", pixel_height_um=0.504), image("f", pixel_height_um=0.65)]
    assert texts(compare_images(images, dataset="cells")) == [
        ("warning", "images have different pixel types: uint8 (5 images), uint16 (1 images)"),
        ("warning", "images have different numbers of channels: 1 (5 images), 3 (1 images)"),
        ("warning", "images have different pixel sizes: 0.5 um (2 images), 0.65 um (1 images)"),
    ]


def test_rgb_and_rgba_are_of_one_kind():
    assert compare_images([image("a", channels=3), image("b", channels=4)], dataset="cells") == []


@pytest.mark.parametrize(
    ("key", "low", "said"), [("focus", 0.05, "out of focus"), ("mean", 9.0, "dark"), ("contrast", 1.0, "flat")]
)
def test_an_image_far_below_the_others_is_noted(key, low, said):
    rng = np.random.default_rng(0)
    images = [image(str(n), **{key: value}) for n, value in enumerate(rng.normal(1, 0.05, 30) * image("")[key])]
    assert compare_images(images, dataset="cells") == []
    [finding] = compare_images([*images, image("odd", **{key: low})], dataset="cells")
    assert (finding["severity"], finding["sample"]) == ("note", "odd")
    assert finding["finding"].startswith(said)
    few = [*images[:8], image("odd", **{key: low})]
    assert compare_images(few, dataset="cells") == []


def test_a_spread_of_kinds_is_no_outlier():
    focus = np.geomspace(0.02, 0.8, 40)
    assert compare_images([image(str(n), focus=value) for n, value in enumerate(focus)], dataset="cells") == []


def test_odd_annotations_are_counted_once_for_the_dataset():
    truths = [truth("a", 50, overlapping=4, contested_px=9), truth("b", 49, in_parts=2), truth("c", 0)]
    areas = np.array([3] + [9] * 2 + [1000] * 96)
    assert texts(compare_annotations(truths, areas_px=areas, dataset="cells")) == [
        ("note", "3 of 99 objects are tiny, below 10 px"),
        ("note", "4 of 99 objects overlap, in 9 px"),
        ("note", "2 of 99 objects consist of separate parts"),
        ("note", "1 of 3 annotated images contain no objects (c)"),
    ]
    assert compare_annotations([truth("a", 0)], areas_px=NO_AREAS, dataset="cells") == []


# ---- images that a model from elsewhere was trained on -------------------------------------------------------


def write_parts(folder):
    shards = [
        write_shard(folder / f"{part}-0000.json", images=[image(f"{part}{number}") for number in range(2)])
        for part in ("train", "validation", "test")
    ]
    return shards, {"train-0000": "train", "validation-0000": "validation", "test-0000": "test"}


def findings_on(model, tables):
    return [row for row in tables["summary"] if model in row["finding"]]


def test_test_images_of_a_model_s_training_are_reported(tmp_path):
    path = put_model(tmp_path / "m.cellmill", training_images=["test1", "train0", "elsewhere"])
    shards, parts = write_parts(tmp_path)
    [found] = findings_on("nuclei", summarize(tmp_path, shards, parts=parts, models={path: "nuclei"}))
    assert found["finding"] == "1 of 2 test images was used to train nuclei (test1)"
    assert (found["severity"], found["where"]) == ("warning", "cells")


def test_in_a_cross_validation_every_image_is_tested(tmp_path):
    path = put_model(tmp_path / "m.cellmill", training_images=["train0", "test1"])
    shards, parts = write_parts(tmp_path)
    folds = {shard: f"fold{number}" for number, shard in enumerate(parts)}
    [found] = findings_on("nuclei", summarize(tmp_path, shards, parts=folds, models={path: "nuclei"}))
    assert found["finding"] == "2 of 6 test images were used to train nuclei (train0, test1)"


def test_a_model_without_digests_or_with_other_images_is_not_mentioned(tmp_path):
    shards, parts = write_parts(tmp_path)
    models = {
        put_model(tmp_path / "old.cellmill"): "nuclei",
        put_model(tmp_path / "other.cellmill", training_images=["train0", "elsewhere"]): "nuclei",
    }
    assert findings_on("nuclei", summarize(tmp_path, shards, parts=parts, models=models)) == []
