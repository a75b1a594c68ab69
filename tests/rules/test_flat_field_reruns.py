"""Reruns of an illumination profile: a training image that it is estimated from changes it, a test image does not."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from cellmill.preprocessing.flat_field import read_flat_fields
from project import TINY, copy_project, planned_jobs, snakemake, write_config, write_label_dataset

# Whole runs
pytestmark = pytest.mark.long

NAMES = [f"n{number:02d}" for number in range(16)]
BACKGROUND = {"method": "flat_field", "dark": 50}
CONFIG = {
    "seed": 3,
    "images_per_job": 5,
    "datasets": {
        "nuclei": {
            "images": "data/nuclei/images/{sample}.tif",
            "annotations": {"format": "label_image", "path": "data/nuclei/labels/{sample}.tif"},
            "preprocess": {"background": BACKGROUND},
            "models": [{"preset": "sartorius_unet", **TINY}],
        }
    },
}
PROFILE = "results/nuclei/flat_field.json"
ESTIMATE = "estimate_flat_field nuclei"
DIMMEST = 0.5


def shade(image_yx):
    """Dim the right side of an image to half of the light."""
    light_yx = image_yx * np.linspace(1, DIMMEST, image_yx.shape[1])
    return (50 + light_yx).round().astype(image_yx.dtype)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Project with preprocessed images and no other results."""
    project = copy_project(tmp_path_factory.mktemp("finished") / "project")
    write_label_dataset(project / "data/nuclei", NAMES, seed=2)
    for path in sorted((project / "data/nuclei/images").iterdir()):
        tifffile.imwrite(path, shade(tifffile.imread(path)))
    write_config(project, CONFIG, "config.yaml")
    snakemake(project, "--cores", "2", *shards_of(project))
    return project


@pytest.fixture
def project(finished, tmp_path) -> Path:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy, symlinks=True)
    return copy


def shards_of(project):
    """List the folders of preprocessed images that a run plans."""
    jobs = planned_jobs(project, "results/nuclei/report.html")
    shards = {job.partition("/")[2] for job in jobs if job.startswith("preprocess nuclei/")}
    return [f"results/nuclei/images/{shard}" for shard in sorted(shards)]


def images_of(project, part):
    samples = pd.read_csv(project / "results/nuclei/samples.csv")
    return [project / path for path in samples.image[samples.split == part]]


def folders(project):
    return [
        str(path.relative_to(project))
        for path in sorted((project / "results/nuclei/images").iterdir())
        if path.is_dir()
    ]


def jobs_of(project):
    return planned_jobs(project, *folders(project))


def brighten(path):
    image_yx = tifffile.imread(path)
    tifffile.imwrite(path, image_yx + np.uint8(3))


def test_the_profile_is_that_of_the_training_images(finished):
    flat_field = read_flat_fields(finished / PROFILE)[0]
    assert flat_field.images == len(images_of(finished, "train"))
    profile_yx = flat_field.profile_rows(slice(0, 64))
    left, right = profile_yx[:, :8].mean(), profile_yx[:, -8:].mean()
    assert right / left == pytest.approx(DIMMEST, abs=0.1)


def test_nothing_is_rerun_without_a_change(project):
    assert jobs_of(project) == set()


def test_a_changed_training_image_reruns_the_profile_and_all_images(project):
    brighten(images_of(project, "train")[0])
    shards = {f"preprocess nuclei/{Path(folder).name}" for folder in folders(project)}
    assert jobs_of(project) == {ESTIMATE, *shards}


def test_a_changed_test_image_reruns_only_its_shard(project):
    brighten(images_of(project, "test")[0])
    assert jobs_of(project) == {"preprocess nuclei/test-0000"}


def test_another_subtraction_afterwards_estimates_nothing_again(project):
    section = {**CONFIG["datasets"]["nuclei"], "preprocess": {"background": {**BACKGROUND, "then": "tophat"}}}
    write_config(project, {**CONFIG, "datasets": {"nuclei": section}}, "config.yaml")
    jobs = jobs_of(project)
    assert ESTIMATE not in jobs
    assert "preprocess nuclei/test-0000" in jobs


def test_another_dark_level_estimates_again(project):
    section = {**CONFIG["datasets"]["nuclei"], "preprocess": {"background": {**BACKGROUND, "dark": 40}}}
    write_config(project, {**CONFIG, "datasets": {"nuclei": section}}, "config.yaml")
    assert ESTIMATE in jobs_of(project)
