"""Correct the masks of a finished run, found in its worklist, with the libraries of Fiji and napari, and go on."""

import numpy as np
import pytest
import tifffile
import yaml
from roifile import ImagejRoi, roiread, roiwrite

from project import copy_project, planned_jobs, snakemake, write_config, write_label_dataset

pytestmark = pytest.mark.long

CELLS = [f"c{number:02d}" for number in range(9)]
NEW = "n00"  # without annotation


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("corrections") / "project")
    write_label_dataset(project / "data/cells", [*CELLS, NEW], seed=1)
    (project / f"data/cells/labels/{NEW}.tif").unlink()
    section = {
        "images": "data/cells/images/{sample}.tif",
        "annotations": {"format": "label_image", "path": "data/cells/labels/{sample}.tif", "missing": "unlabelled"},
        "corrections": "corrected/{sample}.*",
        "models": ["classical"],
        "evaluate": {"bootstrap": 20},
    }
    write_config(project, {"images_per_job": 3, "datasets": {"cells": section}}, "config.yaml")
    snakemake(project, "--cores", "2")
    return project


@pytest.fixture
def project(project):
    (project / "corrected").mkdir()
    return project


def rasterized(jobs):
    return {job.split("/")[-1] for job in jobs if job.startswith("rasterize")}


def row_of(project, sample):
    lines = [line.split(",") for line in (project / "results/cells/samples.csv").read_text().splitlines()]
    return next(dict(zip(lines[0], line, strict=True)) for line in lines[1:] if line[0] == sample)


def labels_of(project, sample):
    shard = row_of(project, sample)["shard"]
    return tifffile.imread(project / f"results/cells/labels/{shard}/{sample}.tif")


def test_a_label_image_that_is_edited_as_in_napari_becomes_the_annotation(project):
    shard = row_of(project, "c04")["shard"]
    found_yx = tifffile.imread(project / f"results/cells/classical/segmentation/{shard}/c04.tif")
    found_yx[found_yx == 1] = 0
    found_yx[50:58, 50:60] = 90
    tifffile.imwrite(project / "corrected/c04.tif", found_yx)
    assert rasterized(planned_jobs(project)) == {shard}
    snakemake(project, "--cores", "2")
    assert np.array_equal(labels_of(project, "c04"), found_yx)
    assert row_of(project, "c04")["annotation"] == "corrected/c04.tif"
    assert "a correction takes the place of the annotation" in (project / "results/cells/check/summary.csv").read_text()
    assert planned_jobs(project) == set()


def test_the_worklist_lists_the_unlabelled_image_and_reruns_alone(project):
    rows = (project / "results/cells/worklist.csv").read_text().splitlines()
    assert rows[1].split(",")[:2] == ["1", NEW]
    assert "Which images to annotate next?" in (project / "results/cells/report.html").read_text()
    config = yaml.safe_load((project / "config.yaml").read_text())
    config["datasets"]["cells"]["worklist"] = {"images": 1}
    write_config(project, config, "config.yaml")
    assert planned_jobs(project) == {"worklist cells", "report cells"}


def test_rois_that_are_edited_as_in_fiji_annotate_an_image_that_had_none(project):
    assert row_of(project, NEW)["split"] == "unlabelled"
    rois = roiread(project / f"results/cells/worklist/{NEW}.zip")
    kept = rois[1:] if isinstance(rois, list) else []
    kept.append(ImagejRoi.frompoints(np.array([(40, 40), (50, 40), (50, 52), (40, 52)]), name="drawn"))
    roiwrite(project / f"corrected/{NEW}.zip", kept)
    snakemake(project, "--cores", "2")
    assert row_of(project, NEW)["split"] in ("train", "validation", "test")
    labels_yx = labels_of(project, NEW)
    assert len(np.unique(labels_yx)) - 1 == len(kept)
    assert (labels_yx[40:52, 40:50] == labels_yx[45, 45]).all()
