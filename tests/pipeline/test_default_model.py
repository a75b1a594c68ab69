"""The default model on difficult folders: few images, objects of any size, empty images, mixed colours and grounds.

All of them are datasets of one config, with a network that is small and trained for a few steps. What is checked is
that each has a documented result, not how good it is.
"""

import json
import math

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage

from cellmill.config.errors import ConfigError
from cellmill.planning.make import make_plan
from project import ROOT, copy_project, snakemake, write_config

# A whole run
pytestmark = pytest.mark.long

QUICK = {"preset": "default", "width": 0.125, "train": {"steps": 30, "epochs": 2, "patch": [64, 64]}}
SHAPE = (96, 96)


def draw(rng, *, diameter_px, shape=SHAPE, blur_px=0.0, noise=6, is_dark=False, is_coloured=False):
    """Draw discs on a grid, bright on a dark ground or dark on a bright one; return the image and its labels."""
    labels_yx = np.zeros(shape, np.uint16)
    y, x = np.mgrid[: shape[0], : shape[1]]
    pitch = math.ceil(1.6 * diameter_px)
    places = [(r, c) for r in range(pitch // 2, shape[0], pitch) for c in range(pitch // 2, shape[1], pitch)]
    for number, (row, column) in enumerate(places, start=1):
        labels_yx[(y - row) ** 2 + (x - column) ** 2 <= (diameter_px / 2) ** 2] = number
    image_yx = ndimage.gaussian_filter(np.where(labels_yx > 0, 160.0, 60.0), blur_px) + rng.normal(0, noise, shape)
    image_yx = np.clip(220 - image_yx if is_dark else image_yx, 0, 255).astype(np.uint8)
    if is_coloured:
        return np.dstack([image_yx, (0.8 * image_yx).astype(np.uint8), image_yx]), labels_yx
    return image_yx, labels_yx


def write_folder(folder, images):
    """Write images and their labels, and return the section of the config."""
    for room in ("images", "labels"):
        (folder / room).mkdir(parents=True)
    for number, (image, labels_yx) in enumerate(images):
        photometric = "rgb" if image.ndim == 3 else "minisblack"
        tifffile.imwrite(folder / f"images/i{number:02d}.tif", image, photometric=photometric)
        tifffile.imwrite(folder / f"labels/i{number:02d}.tif", labels_yx)
    return {
        "images": f"data/{folder.name}/images/{{sample}}.tif",
        "annotations": {"format": "label_image", "path": f"data/{folder.name}/labels/{{sample}}.tif"},
        "models": ["classical", QUICK],
        "evaluate": {"bootstrap": 50},
    }


def many_kinds(rng):
    """Draw grey and coloured images, with dark and with bright ground."""
    return [
        draw(
            rng, diameter_px=18, is_dark=number % 2 == 1, is_coloured=number % 4 > 1, shape=(96, 96 + 8 * (number % 3))
        )
        for number in range(12)
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    project, rng = copy_project(tmp_path_factory.mktemp("default") / "project"), np.random.default_rng(4)
    empty = (rng.normal(60, 3, SHAPE).astype(np.uint8), np.zeros(SHAPE, np.uint16))
    folders = {
        "three": [draw(rng, diameter_px=18) for _ in range(3)],
        "large": [draw(rng, diameter_px=150, shape=(520, 520)) for _ in range(6)],
        "small": [draw(rng, diameter_px=4) for _ in range(6)],
        "some_empty": [draw(rng, diameter_px=18, blur_px=1.5, noise=3) for _ in range(7)] + [empty] * 3,
        "mixed": many_kinds(rng),
    }
    datasets = {name: write_folder(project / "data" / name, images) for name, images in folders.items()}
    write_config(project, {"seed": 1, "datasets": datasets}, "config.yaml")
    snakemake(project, "--cores", "2")
    return project


def input_of(project, dataset):
    """Return section input of the trained network, with what was chosen."""
    return json.loads((project / f"results/{dataset}/default/train.json").read_text())["settings"]["input"]


@pytest.mark.parametrize("dataset", ["three", "large", "small", "some_empty", "mixed"])
def test_every_folder_reaches_its_report_with_a_score_of_both_models(finished, dataset):
    metrics = pd.read_csv(finished / f"results/{dataset}/metrics.csv")
    for model in ("classical", "default"):
        dice = metrics[
            (metrics["model"] == model) & (metrics["metric"] == "dice") & (metrics["stage"] == "postprocessed")
        ]
        assert len(dice)
    assert (finished / f"results/{dataset}/report.html").is_file()


@pytest.mark.parametrize(("dataset", "diameter_px"), [("large", 150), ("small", 4), ("three", 18)])
def test_objects_of_any_size_are_brought_to_the_working_diameter(finished, dataset, diameter_px):
    found = input_of(finished, dataset)
    assert (found["scale"], found["diameter_px"]) == ("dataset", 16)
    assert found["object_px"] == pytest.approx(diameter_px, rel=0.1)


@pytest.mark.parametrize("dataset", ["large", "small", "mixed"])
def test_masks_have_the_size_of_the_raw_images(finished, dataset):
    for path in (finished / f"results/{dataset}/default/segmentation").rglob("*.tif"):
        raw = tifffile.imread(finished / f"data/{dataset}/images" / path.name)
        assert tifffile.imread(path).shape == raw.shape[:2]


def test_the_least_contrast_follows_from_images_with_objects_alone(finished):
    [choice] = [
        choice
        for choice in json.loads((finished / "results/some_empty/default/choices.json").read_text())
        if choice["key"] == "input.min_contrast"
    ]
    # Blurred objects are 100 above the ground and noise is 3, so that contrast is about 7; that of empty images is 1.
    assert 1 < choice["value"] < 3
    assert input_of(finished, "some_empty")["min_contrast"] == choice["value"]


def test_dark_and_bright_grounds_are_aligned(finished):
    assert input_of(finished, "mixed")["polarity"] == "bright"


@pytest.mark.parametrize("images", [1, 2])
def test_too_few_annotated_images_are_answered_with_a_model_that_needs_none(tmp_path, monkeypatch, images):
    rng = np.random.default_rng(1)
    section = write_folder(tmp_path / "data/few", [draw(rng, diameter_px=18) for _ in range(images)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        make_plan({"datasets": {"few": section}}, presets_dir=ROOT / "resources/models")
    [message] = caught.value.mistakes
    assert f"expected at least 3 groups to split into train, validation, test, found {images}." in message
    assert "To train nothing, set models: [classical, {apply: nuclei}]" in message
