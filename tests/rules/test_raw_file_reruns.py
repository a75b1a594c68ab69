"""Changes of raw files: what reruns, what is a touch only, and what happens if one is replaced while a run goes on."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from cellmill.planning import file_digests
from cellmill.planning.make import make_plan
from cellmill.planning.settings import job_settings
from cellmill.stages.check_shard import check_shard
from model_files import PRESETS
from project import copy_project, planned_jobs, snakemake, write_config, write_label_dataset

CELLS = [f"c{number:02d}" for number in range(6)]
SECTION = {
    "images": "data/images/{sample}.tif",
    "annotations": {"format": "label_image", "path": "data/labels/{sample}.tif"},
    "models": ["classical"],
    "evaluate": {"bootstrap": 20},
}


def make_project(folder):
    project = copy_project(folder)
    write_label_dataset(project / "data", CELLS, seed=1)
    write_config(project, {"images_per_job": 2, "datasets": {"cells": SECTION}}, "config.yaml")
    return project


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("raw") / "project")
    snakemake(project, "--cores", "2")
    return project


@pytest.fixture
def project(finished, tmp_path):
    copy = tmp_path / "project"
    shutil.copytree(finished, copy)
    return copy


def masks_of(project):
    return {
        path.relative_to(project): path.read_bytes()
        for path in sorted(project.glob("results/cells/classical/segmentation/*/*.tif"))
    }


def rules_of(jobs):
    return {job.split()[0] for job in jobs}


def test_files_from_the_future_and_touched_ones_run_nothing(project):
    tomorrow = time.time() + 86400
    for path in (project / "data").rglob("*.tif"):
        os.utime(path, (tomorrow, tomorrow))
    assert planned_jobs(project) == set()


def test_another_image_of_the_same_size_and_time_reruns_its_shard(project):
    path = project / "data/images/c00.tif"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    jobs = planned_jobs(project)
    assert {"check_shard", "preprocess", "rasterize"} <= rules_of(jobs)
    assert sum(job.startswith("preprocess ") for job in jobs) == 1


def test_an_image_that_is_only_stored_otherwise_changes_no_object(project):
    path = project / "data/images/c00.tif"
    before = masks_of(project)
    tifffile.imwrite(path, tifffile.imread(path), compression="zlib")
    snakemake(project, "--cores", "2")
    assert masks_of(project) == before
    assert planned_jobs(project) == set()


@pytest.mark.parametrize(
    ("new", "found"),
    [
        (
            lambda image_yx: np.roll(image_yx, 9, axis=0),
            "expected the content that the file had when this run was planned",
        ),
        (None, "expected a readable file, found: No such file or directory"),
    ],
    ids=["replaced", "removed"],
)
def test_an_image_that_is_replaced_while_a_run_goes_on_fails_its_job_and_the_next_run_mends_it(tmp_path, new, found):
    project = make_project(tmp_path / "project")
    # Snakemake plans for seconds after the files were read
    run = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "2", "--keep-going"],
        cwd=project, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    kept = project / ".snakemake/cellmill" / file_digests.FILE
    while not kept.exists() and run.poll() is None:
        time.sleep(0.01)
    path = project / "data/images/c00.tif"
    image_yx = tifffile.imread(path)
    path.unlink() if new is None else tifffile.imwrite(path, new(image_yx))
    _, output = run.communicate(timeout=300)
    assert run.returncode != 0
    assert f"data/images/c00.tif: {found}" in output
    undisturbed = make_project(tmp_path / "undisturbed")
    if new is None:
        tifffile.imwrite(path, image_yx)
    else:
        tifffile.imwrite(undisturbed / "data/images/c00.tif", new(image_yx))
    snakemake(project, "--cores", "2")
    snakemake(undisturbed, "--cores", "2")
    assert masks_of(project) == masks_of(undisturbed)


def test_large_files_are_recorded_by_the_check_and_touching_them_changes_no_setting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(file_digests, "READ_AT_ONCE", -1)
    monkeypatch.setattr(file_digests, "SETTLED_S", -1.0)
    write_label_dataset(tmp_path / "data", CELLS, seed=1)

    def settings():
        plan = make_plan({"datasets": {"cells": SECTION}}, presets_dir=PRESETS)
        stages = ("check_shard", "preprocess", "rasterize")
        return {
            (stage, shard): job_settings(plan, stage, dataset="cells", shard=shard)
            for stage in stages
            for shard in plan.shards("cells")
        }

    before = settings()
    for (stage, shard), own in before.items():
        if stage == "check_shard":
            check_shard(output_path=f"results/cells/check/{shard}.json", **own)
    now = time.time() + 1
    for path in (tmp_path / "data").rglob("*.tif"):
        os.utime(path, (now, now))
    assert settings() == before
    tifffile.imwrite("data/images/c00.tif", np.roll(tifffile.imread("data/images/c00.tif"), 1, axis=0))
    changed = settings()
    assert sum(changed[key] != before[key] for key in before) == 3


@pytest.mark.parametrize("room", ["images", "labels"])
def test_a_changed_file_stops_the_stage_that_read_it(tmp_path, monkeypatch, room):
    monkeypatch.chdir(tmp_path)
    write_label_dataset(tmp_path / "data", CELLS, seed=1)
    plan = make_plan({"datasets": {"cells": SECTION}}, presets_dir=PRESETS)
    shard = next(row.shard for row in plan.samples["cells"] if row.sample == "c00")
    own = job_settings(plan, "check_shard", dataset="cells", shard=shard)
    changed = tmp_path / f"data/{room}/c00.tif"
    tifffile.imwrite(changed, np.roll(tifffile.imread(changed), 1, axis=0))
    with pytest.raises(ValueError, match=f"data/{room}/c00.tif: expected the content that the file had"):
        check_shard(output_path="c.json", **own)
    assert not (tmp_path / "c.json").exists()
