"""Exact reruns of runs that take their objects from masks, on a finished project without a network."""

import os
import time

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml

from project import copy_project, planned_jobs, snakemake, write_config, write_label_dataset

pytestmark = pytest.mark.long

CELLS = [f"c{number:02d}" for number in range(9)]
MASKS = {"masks": "data/cells/found/{sample}.tif", "name": "found"}
SECOND = {"masks": "data/cells/second/{sample}.tif", "name": "second", "role": "annotator"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("masks") / "project")
    data = project / "data/cells"
    write_label_dataset(data, CELLS, seed=1)
    for folder in ("found", "second"):
        (data / folder).mkdir()
        for name in CELLS:
            labels_yx = tifffile.imread(data / f"labels/{name}.tif")
            tifffile.imwrite(data / folder / f"{name}.tif", np.roll(labels_yx, 1, axis=0))
    section = {
        "images": "data/cells/images/{sample}.tif",
        "annotations": {"format": "label_image", "path": "data/cells/labels/{sample}.tif"},
        "models": ["classical", MASKS, SECOND],
        "evaluate": {"bootstrap": 20},
    }
    write_config(project, {"images_per_job": 3, "datasets": {"cells": section}}, "config.yaml")
    snakemake(project, "--cores", "2")
    return project


def shard_of(project, sample):
    rows = (project / "results/cells/samples.csv").read_text().splitlines()
    names = rows[0].split(",")
    found = next(dict(zip(names, row.split(","), strict=True)) for row in rows[1:] if row.startswith(f"{sample},"))
    return found["shard"]


def change_labels(path):
    tifffile.imwrite(path, np.roll(tifffile.imread(path), 2, axis=1))


def jobs_after_masks(shard):
    return {
        f"masks cells/found/{shard}", f"evaluate_shard cells/found/{shard}", "postprocess_tables cells/found",
        "evaluate cells", "report cells", "index",
    }  # fmt: skip


def edit_config(project, change):
    path = project / "config.yaml"
    config = yaml.safe_load(path.read_text())
    change(config["datasets"]["cells"])
    path.write_text(yaml.safe_dump(config))


def test_nothing_changed_and_touched_masks_run_nothing(project):
    now = time.time()
    for path in (project / "data/cells/found").iterdir():
        os.utime(path, (now, now))
    assert planned_jobs(project) == set()


def test_a_changed_mask_reruns_its_shard_and_what_follows(project):
    change_labels(project / "data/cells/found/c04.tif")
    assert planned_jobs(project) == jobs_after_masks(shard_of(project, "c04"))
    snakemake(project, "--cores", "2")
    assert planned_jobs(project) == set()


def test_a_changed_annotation_rereads_no_mask(project):
    change_labels(project / "data/cells/labels/c04.tif")
    jobs = planned_jobs(project)
    assert any(job.startswith("rasterize") for job in jobs)
    assert not any(job.startswith("masks") for job in jobs)


def test_a_lost_segmentation_is_made_again_by_its_stage(project):
    shard = shard_of(project, "c04")
    next((project / f"results/cells/found/segmentation/{shard}").glob("*.tif")).unlink()
    said = snakemake(project, "--cores", "2")
    assert "masks makes this folder again" in said.stderr + said.stdout
    assert planned_jobs(project) == set()


def test_the_role_of_masks_changes_the_report_only(project):
    edit_config(project, lambda section: section["models"][1].update(role="annotator"))
    assert planned_jobs(project) == {"report cells", "index"}


def test_masks_that_are_added_are_scored_beside_finished_runs(project):
    edit_config(project, lambda section: section["models"].append({**MASKS, "name": "again"}))
    jobs = planned_jobs(project)
    own = {job for job in jobs if "/again" in job}
    assert jobs - own == {"evaluate cells", "report cells", "index"}
    assert {job.split()[0] for job in own} == {"masks", "evaluate_shard", "postprocess_tables"}


def test_masks_of_the_test_images_alone_have_the_same_scores_there(project):
    scores = pd.read_csv(project / "results/cells/scores.csv")
    before = scores[(scores["model"] == "found") & (scores["split"] == "test")]
    for name in set(CELLS) - set(before["sample"]):
        (project / f"data/cells/found/{name}.tif").unlink()
    edit_config(
        project, lambda section: section["models"][1].update(masks={"path": MASKS["masks"], "missing": "untested"})
    )
    snakemake(project, "--cores", "2")
    scores = pd.read_csv(project / "results/cells/scores.csv")
    after = scores[scores["model"] == "found"]
    assert set(after["split"]) == {"test"}
    pd.testing.assert_frame_equal(after.reset_index(drop=True), before.reset_index(drop=True))
    assert planned_jobs(project) == set()
