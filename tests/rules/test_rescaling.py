"""Images rescaled by a measured diameter: a corrected annotation preprocesses again only if the diameter changes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from cellmill.preprocessing.diameters import read_diameter
from cellmill.preprocessing.geometry import read_geometry
from project import TINY, copy_project, planned_jobs, snakemake, write_config, write_label_dataset

# Whole runs
pytestmark = pytest.mark.long

NAMES = [f"n{number:02d}" for number in range(9)]
CONFIG = {
    "seed": 3,
    "datasets": {
        "nuclei": {
            "images": "data/nuclei/images/{sample}.tif",
            "annotations": {"format": "label_image", "path": "data/nuclei/labels/{sample}.tif"},
            "preprocess": {"rescale": {"diameter_px": 18}},
            "models": [{"preset": "sartorius_unet", **TINY}],
        }
    },
}
IMAGES, TRAINED_ON = "results/nuclei/images/test-0000", "results/nuclei/labels/train-0000"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Project with preprocessed test images and no other results."""
    project = copy_project(tmp_path_factory.mktemp("finished") / "project")
    write_label_dataset(project / "data/nuclei", NAMES, seed=2)
    write_config(project, CONFIG, "config.yaml")
    snakemake(project, "--cores", "2", IMAGES)
    return project


def change_labels(project, change, *, part):
    """Change the label images of a part."""
    samples = pd.read_csv(project / "results/nuclei/samples.csv")
    for path in samples.annotation[samples.split == part]:
        tifffile.imwrite(project / path, change(tifffile.imread(project / path)))


def times(project):
    return {name: (project / name).stat().st_mtime_ns for name in (IMAGES, TRAINED_ON)}


def test_the_objects_of_the_training_images_get_the_wanted_diameter(finished):
    object_px = read_diameter(finished / "results/nuclei/diameter.json")
    assert 8 < object_px < 16  # discs of radius 4 to 8 px, some of them partly covered
    for geometry in read_geometry(finished / IMAGES / "geometry.csv").values():
        assert geometry.rows == pytest.approx(64 * 18 / object_px, abs=1)


def test_only_labels_of_training_images_are_measured(project):
    change_labels(project, lambda labels_yx: labels_yx * (labels_yx != 2), part="test")
    assert planned_jobs(project, IMAGES) == set()


def test_an_equal_diameter_preprocesses_nothing_again(project):
    before = times(project)
    # Other numbers for the same objects
    change_labels(project, lambda labels_yx: (labels_yx > 0) * (labels_yx + np.uint16(1)), part="train")
    # A dry run measures nothing, so it has to expect another diameter.
    assert "preprocess nuclei/test-0000" in planned_jobs(project, IMAGES)
    snakemake(project, "--cores", "2", IMAGES)
    assert times(project)[TRAINED_ON] != before[TRAINED_ON]
    assert times(project)[IMAGES] == before[IMAGES]


def test_another_diameter_preprocesses_again(project):
    def join(labels_yx):
        joined_yx = (labels_yx > 0).astype(np.uint16)
        joined_yx[:40, :40] = 1
        return joined_yx

    before = read_geometry(project / IMAGES / "geometry.csv")
    change_labels(project, join, part="train")
    snakemake(project, "--cores", "2", IMAGES)
    after = read_geometry(project / IMAGES / "geometry.csv")
    assert read_diameter(project / "results/nuclei/diameter.json") > 40
    assert all(after[sample].rows < before[sample].rows / 2 for sample in before)
