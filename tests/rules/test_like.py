"""A simulation that imitates another dataset: its place in the chain of rules, and what reruns it."""

from pathlib import Path

import pandas as pd
import pytest
import tifffile
import yaml

from cellmill.planning.make import make_plan
from cellmill.planning.settings import job_settings
from model_files import PRESETS
from project import TINY, copy_project, planned_jobs, snakemake, write_config, write_label_dataset

NAMES = [f"n{number:02d}" for number in range(9)]
CONFIG = {
    "seed": 3,
    "datasets": {
        "alike": {"simulate": {"like": "nuclei", "images": 5}, "models": [{"preset": "sartorius_unet", **TINY}]},
        "nuclei": {
            "images": "data/nuclei/images/{sample}.tif",
            "annotations": {"format": "label_image", "path": "data/nuclei/labels/{sample}.tif"},
            "models": [{"preset": "sartorius_unet", "name": "tuned", "init_from": "alike/sartorius_unet", **TINY}],
        },
    },
}
RAW = [f"results/alike/raw/{part}-0000" for part in ("test", "train", "validation")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Project with finished simulated images and no other results."""
    project = copy_project(tmp_path_factory.mktemp("finished") / "project")
    write_label_dataset(project / "data/nuclei", NAMES, seed=2)
    write_config(project, CONFIG, "config.yaml")
    snakemake(project, "--cores", "2", *RAW)
    return project


def brighten(project: Path, *, part: str) -> None:
    """Invert every image of a part."""
    samples = pd.read_csv(project / "results/nuclei/samples.csv")
    for path in samples.image[samples.split == part]:
        image_yx = tifffile.imread(project / path)
        tifffile.imwrite(project / path, 255 - image_yx)


def test_real_images_may_start_from_a_model_that_was_trained_on_images_like_them(project):
    jobs = planned_jobs(project, "--forceall")
    assert {"match alike", "train alike/sartorius_unet", "train nuclei/tuned", "report alike"} <= jobs
    assert "match nuclei" not in jobs


def test_only_training_images_and_their_labels_are_read(finished, monkeypatch):
    monkeypatch.chdir(finished)
    plan = make_plan(yaml.safe_load(Path("config.yaml").read_text()), presets_dir=PRESETS)
    read = {row["image"] for row in job_settings(plan, "match", dataset="alike")["samples"]}
    shown = snakemake(finished, "-n", "--forcerun", "match", "--", "results/alike/match.json").stdout
    [inputs] = [line for line in shown.splitlines() if line.startswith("    input: ")]
    samples = pd.read_csv(finished / "results/nuclei/samples.csv")
    assert read == set(samples[samples["split"] == "train"]["image"])
    assert "results/nuclei/labels/train-0000" in inputs
    assert "results/nuclei/labels/test-0000" not in inputs
    assert "results/nuclei/labels/validation-0000" not in inputs


@pytest.mark.parametrize("part", ["validation", "test"])
def test_no_image_that_chooses_or_judges_reaches_the_simulation(project, part):
    brighten(project, part=part)
    assert {job for job in planned_jobs(project, *RAW) if not job.startswith("check_")} == set()


def test_changed_training_images_are_matched_and_simulated_again(project):
    brighten(project, part="train")
    simulated = {f"simulate alike/{part}-0000" for part in ("test", "train", "validation")}
    checked = {"check_shard nuclei/train-0000", "check_dataset nuclei"}
    assert planned_jobs(project, *RAW) == {"match alike", "rasterize nuclei/train-0000"} | checked | simulated


def test_the_simulated_images_have_the_size_and_the_counts_of_the_real_ones(finished):
    for folder in RAW:
        for path in (finished / folder / "images").glob("*.tif"):
            image_yx = tifffile.imread(path)
            assert image_yx.shape == (64, 64)
            assert image_yx.dtype == "uint8"
