"""Stage contrast: numbers and maps of a run without a network, from the images alone."""

import json
import zipfile

import numpy as np
import pytest
import tifffile

from cellmill.classical.recipes import RECIPE_FORMAT, read_recipe
from cellmill.exports import model_file
from cellmill.exports.model_file import ModelDescription, export_model, read_description
from cellmill.images.stored import sample_paths
from cellmill.planning import layout
from cellmill.shards import read_manifest
from cellmill.stages.contrast import contrast_shard
from cellmill.stages.contrast_fit import fit_contrast
from training_shards import write_training_shard

NETWORK = {
    "architecture": "classical", "output": "foreground", "sigma_px": None, "threshold": "auto", "window_px": None,
    "polarity": "auto",
}  # fmt: skip
SHAPES = [(70, 90), (64, 64)]


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    return write_training_shard(tmp_path_factory.mktemp("data"), "s", shapes=SHAPES)


@pytest.fixture(scope="module")
def recipe(shard, tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "classical.json"
    fit_contrast(output_path=path, images_dirs=[shard[0]], labels_dirs=[shard[1]], network=NETWORK, seed=1)
    return path


def test_the_numbers_are_written_with_what_was_tried(recipe):
    content = json.loads(recipe.read_text())
    assert content["format"] == RECIPE_FORMAT
    assert content["images"] == len(SHAPES)
    assert read_recipe(recipe) == content["recipe"]
    best = max(way["ap_kaggle"] for way in content["searched"])
    [chosen] = [way for way in content["searched"] if {**way, **content["recipe"]} == way]
    assert chosen["ap_kaggle"] == best


def test_each_image_gets_a_map_of_its_shape(tmp_path, shard, recipe):
    contrast_shard(output_dir=tmp_path / "p", images_dir=shard[0], recipe_path=recipe)
    stored = {sample: tifffile.imread(path) for sample, path in sample_paths(tmp_path / "p").items()}
    assert {name: map_yx.squeeze().shape for name, map_yx in stored.items()} == {"s0": SHAPES[0], "s1": SHAPES[1]}
    assert all(map_yx.dtype == np.float16 for map_yx in stored.values())


def test_the_maps_are_the_same_bytes_again(tmp_path, shard, recipe):
    for name in ("p", "q"):
        contrast_shard(output_dir=tmp_path / name, images_dir=shard[0], recipe_path=recipe)
    assert read_manifest(tmp_path / "p") == read_manifest(tmp_path / "q")


def test_an_exported_model_contains_the_numbers(tmp_path, recipe):
    path = tmp_path / "model.cellmill"
    description = ModelDescription(network=NETWORK, input={}, preprocess={}, predict={}, postprocess={})
    export_model(path, weights_path=recipe, postprocess_text="{}\n", description=description)
    assert read_recipe(path) == read_recipe(recipe)
    assert read_description(path).network["architecture"] == "classical"
    with zipfile.ZipFile(path) as archive:
        assert layout.RECIPE == model_file.RECIPE
        assert layout.RECIPE in archive.namelist()


def test_numbers_of_another_version_are_refused(tmp_path):
    path = tmp_path / "classical.json"
    path.write_text('{"format": 99, "recipe": {}}')
    with pytest.raises(ValueError, match=r"expected numbers of format 1, found 99\. .*run contrast_fit again"):
        read_recipe(path)
