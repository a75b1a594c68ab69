"""Bad input as users meet it: one clear message, no traceback, a non-zero exit code and no partial files."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from project import TINY, copy_project, snakemake, write_config, write_label_dataset, write_rle_dataset

NAMES = [f"n{number:02d}" for number in range(9)]


def label_config(**changes):
    section = {
        "images": "data/images/{sample}.tif",
        "annotations": {"format": "label_image", "path": "data/labels/{sample}.tif"},
        "models": [{"preset": "sartorius_unet", **TINY}],
        **changes,
    }
    return {"datasets": {"d": section}}


@pytest.fixture
def project(tmp_path) -> Path:
    project = copy_project(tmp_path / "project")
    write_label_dataset(project / "data", NAMES, seed=1)
    return project


def failure(project: Path, config: dict, *arguments: str) -> str:
    """Run the pipeline to failure, check what holds for every failure, and return the terminal output."""
    name = write_config(project, config)
    finished = snakemake(project, "--configfile", name, "--cores", "2", *arguments, check=False)
    text = finished.stdout + finished.stderr
    assert finished.returncode != 0, text
    assert "Traceback" not in text, text
    results = project / "results"
    assert not [path for path in results.rglob("*") if "partial" in path.name]
    assert not list(results.rglob("weights.pt")), "a training started before the mistake was found"
    assert not list(results.rglob("*checkpoint*"))
    return text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "data/imagse/{sample}.tif"}, "expected a folder data/imagse, found none"),
        ({"images": "data/images/{sample}.png"}, "expected files that match 'data/images/{sample}.png', found none"),
        ({"split": {"train": 0.7, "validation": 0.3, "test": 0}}, "expected a test share above 0, found 0"),
        ({"models": ["unet"]}, "unknown preset 'unet'"),
        ({"annotations": {"format": "label_image", "path": "x/{sample}.tif"}}, "expected annotations of the images"),
        (
            {"annotations": {"format": "rle", "table": "no.csv", "order": "row"}},
            "expected a table, found no file no.csv",
        ),
    ],
)
def test_what_can_be_known_before_any_job_is_said_then(project, changes, message):
    text = failure(project, label_config(**changes))
    assert message in text
    assert "rule " not in text
    assert not (project / "results").exists()


def test_an_unreadable_image_stops_the_run_before_anything_expensive(project):
    (project / "data/images/n03.tif").write_bytes(b"II*\x00 this is no image")
    text = failure(project, label_config())
    assert "n03.tif" in text
    assert "Error: " in text
    status = snakemake(project, "status").stdout
    # Masks are made of the annotations beside the check, and the job of the same images may meet the file as well.
    assert re.search(r"^\d+ of \d+ jobs done, 0 running, [12] failed, \d+ waiting\.$", status, re.MULTILINE)
    assert re.search(r"Failed\n  check_shard d/\S+\n    Error: .*n03\.tif", status, re.DOTALL)


@pytest.mark.long
def test_annotations_that_nothing_can_be_learned_from_stop_the_run_before_training(project):
    for path in (project / "data/labels").glob("*.tif"):
        labels_yx = tifffile.imread(path)
        tifffile.imwrite(path, np.where(labels_yx > 0, 255, 0).astype(np.uint8))
    text = failure(project, label_config())
    assert "(number 255) in 9 of 9 images" in text
    assert "set annotations.format to binary" in text
    assert not (project / "results/d/check/summary.csv").exists()


def test_an_annotation_of_another_size_names_both_sizes(project):
    tifffile.imwrite(project / "data/labels/n04.tif", np.zeros((10, 12), np.uint16))
    text = failure(project, label_config())
    assert "n04" in text
    assert "10" in text
    assert "64" in text


def test_every_broken_file_of_a_shard_is_named_at_once(project):
    for name in ("n00", "n01", "n02", "n03"):
        (project / f"data/images/{name}.tif").write_bytes(b"")
    text = failure(project, {**label_config(), "images_per_job": 1000}, "--keep-going")
    assert all(f"{name}.tif" in text for name in ("n00", "n01", "n02", "n03"))


def test_a_run_past_the_end_is_found_by_the_check(project):
    write_rle_dataset(project / "cells", NAMES, seed=1, shape=(40, 50))
    table = pd.read_csv(project / "cells/train.csv", dtype=str)
    table.loc[0, "annotation"] = "1999 5"
    table.to_csv(project / "cells/train.csv", index=False)
    annotations = {"format": "rle", "table": "cells/train.csv", "order": "row"}
    text = failure(project, label_config(images="cells/{sample}.tif", annotations=annotations))
    assert "n00" in text
    assert "2000" in text


def test_an_error_of_several_shards_is_on_the_terminal_once(project):
    for name in NAMES:
        (project / f"data/labels/{name}.tif").write_bytes(b"no label image")
    text = failure(project, {**label_config(), "images_per_job": 2}, "--keep-going")
    lines = [line for line in text.splitlines() if line.strip()]
    for name in NAMES:
        assert sum(f"data/labels/{name}.tif: expected" in line for line in lines) == 1, name
    failed = sum(line.startswith("  Failed: check_shard d/") for line in lines)
    assert failed >= 3
    # Above them the profile and the plan, below them how to go on and where the log is
    assert len(lines) <= len(NAMES) + 2 * failed + 12, text
    assert "then run the same command again: finished jobs are not repeated." in text
    assert not any(word in text for word in ("RuleException", "CalledProcessError", "Error in rule", "WorkflowError"))


def test_check_looks_and_stops_there(project):
    name = write_config(project, label_config())
    finished = snakemake(project, "--configfile", name, "--cores", "2", "check")
    results = project / "results/d"
    assert (results / "check/summary.csv").is_file()
    assert {path.name for path in results.iterdir()} == {"check", "samples.csv"}
    assert "9 images" in finished.stderr
