"""Frames between two blocks are annotated and left out on purpose: readers are not told that they are unlabelled."""

import numpy as np
import pandas as pd
import pytest
import tifffile

from cellmill.checks.duplicates import find_duplicates
from cellmill.planning.make import make_plan, write_sample_tables
from cellmill.planning.settings import check_dataset_settings, report_settings
from cellmill.reports import chapters, data
from project import ROOT

FRAMES = 12
BLOCKS = {"by": "blocks", "gap": 1, "train": 0.6, "validation": 0.2, "test": 0.2}


def make_files(root, *, without_mask=()):
    (root / "data/images").mkdir(parents=True)
    (root / "data/masks").mkdir()
    for number in range(FRAMES):
        image_yx = np.zeros((32, 32), dtype=np.uint8)
        image_yx[4:12, 4 + number : 12 + number] = 200
        tifffile.imwrite(root / f"data/images/s1_t{number:02}.tif", image_yx)
        if number not in without_mask:
            tifffile.imwrite(root / f"data/masks/s1_t{number:02}.tif", (image_yx > 0).astype(np.uint8))


def plan_of(root, *, split, annotations=None):
    section = {
        "images": str(root / "data/images/{sequence}_t{frame}.tif"),
        "annotations": {"format": "label_image", "path": str(root / "data/masks/{sequence}_t{frame}.tif")}
        | (annotations or {}),
        "split": split,
        "models": ["sartorius_unet"],
    }
    config = {"datasets": {"d": section}}
    return make_plan(config, presets_dir=ROOT / "resources/models", cache_dir=root / "cache")


def parts_in_table(root, plan, monkeypatch):
    monkeypatch.chdir(root)
    write_sample_tables(plan)
    table = pd.read_csv(root / "results/d/samples.csv", dtype=str, keep_default_na=False)
    return dict(zip(table["sample"], table["split"], strict=True))


def runs_of(parts):
    """Return the parts of consecutive frames, each once."""
    ordered = [parts[name] for name in sorted(parts)]
    return [part for number, part in enumerate(ordered) if number == 0 or part != ordered[number - 1]]


def test_frames_between_blocks_are_a_gap_in_the_table_and_the_report(tmp_path, monkeypatch):
    make_files(tmp_path)
    plan = plan_of(tmp_path, split=BLOCKS)
    expected = ["train", "gap", "validation", "gap", "test"]
    assert runs_of(parts_in_table(tmp_path, plan, monkeypatch)) == expected
    rows = report_settings(plan, "d")["samples"]
    assert runs_of({row["sample"]: row["split"] for row in rows}) == expected
    assert set(check_dataset_settings(plan, "d")["parts"].values()) == set(expected)


def test_a_frame_without_a_mask_stays_unlabelled(tmp_path, monkeypatch):
    make_files(tmp_path, without_mask=(0, 1))
    plan = plan_of(tmp_path, split=BLOCKS, annotations={"missing": "unlabelled"})
    assert runs_of(parts_in_table(tmp_path, plan, monkeypatch)) == [
        "unlabelled", "train", "gap", "validation", "gap", "test",
    ]  # fmt: skip


def test_empty_images_between_blocks_are_a_gap(tmp_path, monkeypatch):
    make_files(tmp_path, without_mask=range(FRAMES - 1))
    plan = plan_of(tmp_path, split=BLOCKS, annotations={"missing": "empty"})
    assert "unlabelled" not in parts_in_table(tmp_path, plan, monkeypatch).values()


@pytest.mark.parametrize("word", ["gap", "left out", "unlabelled", ""])
def test_the_words_of_a_written_table_are_accepted_as_a_split(tmp_path, monkeypatch, word):
    make_files(tmp_path)
    parts = ["train"] * 5 + [word] + ["validation"] * 2 + [word] + ["test"] * 3
    found = plan_of(tmp_path, split=BLOCKS).samples["d"]
    rows = zip([row.sample for row in sorted(found, key=lambda row: row.frame)], parts, strict=True)
    (tmp_path / "split.csv").write_text("sample,split\n" + "".join(f"{name},{part}\n" for name, part in rows))
    plan = plan_of(tmp_path, split={"table": str(tmp_path / "split.csv")})
    assert runs_of(parts_in_table(tmp_path, plan, monkeypatch)) == [
        "train", "left out", "validation", "left out", "test",
    ]  # fmt: skip
    assert {row.split for row in plan.samples["d"]} == {"train", "validation", "test", "unlabelled"}


def test_a_written_table_gives_the_same_parts_again(tmp_path, monkeypatch):
    make_files(tmp_path)
    first = plan_of(tmp_path, split=BLOCKS)
    parts_in_table(tmp_path, first, monkeypatch)
    again = plan_of(tmp_path, split={"table": str(tmp_path / "results/d/samples.csv")})
    assert [row.split for row in again.samples["d"]] == [row.split for row in first.samples["d"]]


def test_frames_of_a_gap_are_not_another_part_of_the_split():
    """Equal images on both sides of a border are a warning; a gap is no side."""
    images = [
        {"sample": name, "split": split, "sequence": "", "sha256": "x", "thumbnail": ""}
        for name, split in (("a", "train"), ("b", "gap"))
    ]
    assert [finding["severity"] for finding in find_duplicates(images, dataset="d")] == ["note"]
    samples = [{"sequence": "s", "split": split} for split in ("train", "gap", "left out", "unlabelled")]
    assert chapters.shared_sequences(samples) == []


def test_the_table_of_the_report_explains_a_gap():
    entry = {
        "rows": 9, "columns": 9, "dtype": "uint8", "minimum": 0, "maximum": 9, "saturated_fraction": 0.0, "focus": 1.0,
        "pixel_height_um": None, "pixel_width_um": None,
    }  # fmt: skip
    samples = [
        {"sample": name, "split": part, "sequence": "s"}
        for name, part in zip("abc", ("test", "gap", "train"), strict=True)
    ]
    [table] = data.describe_data(samples, images=dict.fromkeys("abc", entry), annotations={})
    assert [row[0].text for row in table.rows] == ["train", "test", "gap"]
    assert table.rows[2][0].note == "between two blocks, neither trained on nor scored"
    assert table.rows[0][0].note == ""
