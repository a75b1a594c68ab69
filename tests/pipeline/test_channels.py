"""A network that sees two channels, from raw images to objects, exports, and other images that its model is applied to."""

import json
import zipfile

import numpy as np
import onnx
import pytest
import tifffile
import yaml

from project import TINY, copy_project, draw_cells, planned_jobs, snakemake, write_config

# Whole runs
pytestmark = pytest.mark.long

RUN = "results/cells/unet"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished project: cells and others have the nuclei in another channel."""
    project = copy_project(tmp_path_factory.mktemp("channels") / "project")
    for room in ("cells", "others", "labels"):
        (project / "data" / room).mkdir(parents=True)
    for number in range(9):
        rng = np.random.default_rng(number)
        nuclei_yx, labels_yx = draw_cells(rng, (64, 64), 4)
        planes = (nuclei_yx, rng.integers(0, 9, (64, 64)), 255 - nuclei_yx)
        image_cyx = np.stack(planes).astype(np.uint8)
        options = {"imagej": True, "metadata": {"axes": "CYX"}}
        tifffile.imwrite(project / f"data/cells/c{number}.tif", image_cyx, **options)
        tifffile.imwrite(project / f"data/others/o{number}.tif", image_cyx[::-1], **options)
        tifffile.imwrite(project / f"data/labels/c{number}.tif", labels_yx)
    cells = {
        "images": "data/cells/{sample}.tif",
        "annotations": {"format": "label_image", "path": "data/labels/{sample}.tif"},
        "preprocess": {"channels": [0, {"channel": 2, "background": {"method": "gaussian", "sigma_px": 20}}]},
        "models": ["classical", {"preset": "default", "name": "unet", **TINY}],
        "evaluate": {"bootstrap": 20},
        "export": ["onnx", "bioimageio"],
    }
    others = {
        "images": "data/others/{sample}.tif", "preprocess": {"channels": [2, 0]}, "models": [{"apply": "cells/unet"}],
    }  # fmt: skip
    write_config(project, {"datasets": {"cells": cells, "others": others}}, "config.yaml")
    snakemake(project, "--cores", "2")
    return project


def test_every_stage_runs_and_nothing_is_left_to_do(finished):
    assert planned_jobs(finished) == set()
    assert (finished / "results/cells/report.html").exists()
    [path, *_] = sorted((finished / "results/cells/images").glob("*/*.tif"))
    assert tifffile.imread(path).shape == (2, 64, 64)
    choices = json.loads((finished / RUN / "choices.json").read_text())
    assert "start" not in {choice["key"] for choice in choices}


def test_the_same_images_with_other_channels_give_the_same_probabilities(finished):
    found = {}
    for dataset in ("cells", "others"):
        for path in (finished / f"results/{dataset}/unet/probabilities").glob("*/*.tif"):
            found[dataset, path.stem[1:]] = tifffile.imread(path)
    numbers = {number for dataset, number in found if dataset == "cells"}
    assert numbers
    for number in numbers:
        assert np.array_equal(found["cells", number], found["others", number])


def test_exports_name_the_channels(finished):
    graph = onnx.load(finished / RUN / "model.onnx").graph
    assert graph.input[0].type.tensor_type.shape.dim[1].dim_value == 2
    [package] = (finished / RUN).glob("*bioimageio*.zip")
    with zipfile.ZipFile(package) as archive:
        described = yaml.safe_load(archive.read("bioimageio.yaml"))
    [image] = described["inputs"]
    assert next(axis for axis in image["axes"] if axis["type"] == "channel")["channel_names"] == ["0", "2"]


def test_a_changed_background_of_a_channel_runs_the_images_again(finished, tmp_path):
    text = (finished / "config.yaml").read_text()
    changed = text.replace("sigma_px: 20", "sigma_px: 10")
    assert changed != text
    (finished / "mine.yaml").write_text(changed)
    jobs = planned_jobs(finished, "--configfile", "mine.yaml")
    assert any(job.startswith("preprocess cells/") for job in jobs)
    assert any(job.startswith("train cells/unet") for job in jobs)
    assert not any(job.startswith("rasterize") for job in jobs)
