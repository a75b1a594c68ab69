"""Exact reruns of a learning curve: a finished project with trainings on few images."""

import re

import numpy as np
import pytest
import tifffile

from project import TINY, copy_project, planned_jobs, snakemake, write_config, write_label_dataset

pytestmark = pytest.mark.long

CELLS = [f"c{number:02d}" for number in range(15)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("curve") / "project")
    write_label_dataset(project / "data/cells", CELLS, seed=1)
    section = {
        "images": "data/cells/images/{sample}.tif",
        "annotations": {"format": "label_image", "path": "data/cells/labels/{sample}.tif"},
        "models": [{"preset": "sartorius_unet", "name": "unet", **TINY}],
        "learning_curve": {"images": [2, 4], "draws": 2},
        "evaluate": {"bootstrap": 20},
    }
    write_config(project, {"images_per_job": 5, "datasets": {"cells": section}}, "config.yaml")
    snakemake(project, "--cores", "2")
    return project


def trained(jobs):
    return {job.removeprefix("train cells/") for job in jobs if job.startswith("train ")}


def runs_with(project, sample):
    """Return the runs of the curve that were trained on an image, by the shards that hold it."""
    held = {path.parent.name for path in (project / "results/cells/images").glob(f"draw*/{sample}.tif")}
    ends = [tuple(map(int, re.fullmatch(r"draw(\d+)to(\d+)-0000", shard).groups())) for shard in held]
    return {f"unet.images{images}.draw{draw}" for draw, last in ends for images in (2, 4) if images >= last}


def test_the_report_has_a_chapter_and_the_table_of_scores_only_the_model(finished):
    page = (finished / "results/cells/report.html").read_text()
    assert "Would more annotated images help?" in page
    assert "Of 5 models" not in page
    assert planned_jobs(finished) == set()


def test_a_changed_training_image_reruns_the_trainings_that_have_it(project):
    parts = [line.split(",") for line in (project / "results/cells/samples.csv").read_text().splitlines()]
    training = [line[0] for line in parts[1:] if "train" in line]
    users = {sample: runs_with(project, sample) for sample in training}
    sample = max((name for name in training if len(users[name]) < 4), key=lambda name: len(users[name]))
    assert users[sample]
    path = project / f"data/cells/images/{sample}.tif"
    tifffile.imwrite(path, np.roll(tifffile.imread(path), 3, axis=1))
    assert trained(planned_jobs(project)) == {"unet", *users[sample]}


def test_other_draws_train_only_what_is_new(project):
    config = (project / "config.yaml").read_text()
    (project / "config.yaml").write_text(config.replace("draws: 2", "draws: 3"))
    assert trained(planned_jobs(project)) == {"unet.images2.draw3", "unet.images4.draw3"}
