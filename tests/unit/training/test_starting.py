"""Start from a shipped model: taken where it finds the foreground of the training images, and left otherwise."""

import numpy as np
import pytest
import torch
from torch import nn

import cellmill.training.starting
from cellmill.images.stored import IGNORE_LABEL
from cellmill.models.weights import write_weights
from cellmill.training.starting import choose_start, explain_normalisation
from training_shards import draw_cells, image_set, tiny_preset, write_shard, write_training_shard

CPU = torch.device("cpu")


class Threshold(nn.Module):
    """A network whose foreground are the pixels above the mean of the image, or below it with a negative gain."""

    stride_px = 4
    is_recurrent = False

    def __init__(self, gain=0.0):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(float(gain)))

    def forward(self, images_bcyx):
        assert images_bcyx.shape[-1] % self.stride_px == images_bcyx.shape[-2] % self.stride_px == 0
        return self.gain * (images_bcyx - 1.0)


def write_model(folder, *, gain):
    preset = tiny_preset()
    path = folder / "blobs.cellmill"
    write_weights(path, network=preset["network"], input=preset["input"], state_dict=Threshold(gain).state_dict())
    return path


@pytest.mark.parametrize(("gain", "value"), [(20, "blobs"), (-20, None)])
def test_weights_that_find_the_foreground_are_taken(tmp_path, gain, value):
    images = image_set(write_training_shard(tmp_path, "t", shapes=[(48, 47), (60, 90)]))
    model = Threshold()
    choice = choose_start(model, images, path=write_model(tmp_path, gain=gain), device=CPU)
    assert (choice.key, choice.value) == ("start", value)
    assert choice.because.startswith(
        "in 2 training images, the foreground that blobs finds has a mean Dice coefficient"
    )
    assert model.gain.item() == 0


def test_images_without_objects_are_not_counted(tmp_path):
    rng = np.random.default_rng(1)
    empty = (rng.normal(100, 5, (40, 40)).astype(np.float32), np.zeros((40, 40), np.uint16))
    drawn = {"cells": draw_cells(rng, (48, 48)), "empty": empty}
    path = write_model(tmp_path, gain=20)
    images = image_set(write_shard(tmp_path, "some", drawn))
    assert "in 1 training images" in choose_start(Threshold(), images, path=path, device=CPU).because
    nothing = image_set(write_shard(tmp_path, "none", {"empty": empty}))
    choice = choose_start(Threshold(), nothing, path=path, device=CPU)
    assert (choice.value, choice.because) == (
        None,
        "the parts of training images that were looked at contain no annotated object",
    )


def test_pixels_to_ignore_are_not_judged(tmp_path):
    image_yx, labels_yx = draw_cells(np.random.default_rng(2), (64, 64))
    labels_yx[(labels_yx == 0) & (np.arange(64) < 40)] = IGNORE_LABEL
    image_yx[labels_yx == IGNORE_LABEL] += 500
    images = image_set(write_shard(tmp_path, "t", {"a": (image_yx, labels_yx)}))
    model = Threshold()
    # Above 0 is above the mean of the image, which the ignored pixels raise.
    model.forward = lambda images_bcyx: 20.0 * (images_bcyx - images_bcyx.min() - 0.2)
    choice = choose_start(model, images, path=write_model(tmp_path, gain=1), device=CPU)
    assert choice.value == "blobs"


def test_a_large_image_is_looked_at_in_its_middle(tmp_path, monkeypatch):
    monkeypatch.setattr(cellmill.training.starting, "WINDOW_PX", 32)
    image_yx, labels_yx = np.full((96, 96), 100, np.float32), np.zeros((96, 96), np.uint16)
    labels_yx[40:50, 40:50], labels_yx[:20, :20] = 1, 2
    image_yx[40:50, 40:50] = 160  # the object in the corner is invisible
    images = image_set(write_shard(tmp_path, "t", {"a": (image_yx, labels_yx)}))
    choice = choose_start(Threshold(), images, path=write_model(tmp_path, gain=20), device=CPU)
    assert choice.value == "blobs"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("resources/weights/nuclei.cellmill", "nuclei"),
        ("results/cells/first/weights.pt", "first"),
        (None, "random weights"),
    ],
)
def test_the_normalisation_is_explained_by_the_name_of_the_model(path, name):
    choice = explain_normalisation("percentile", path=path)
    assert (choice.key, choice.value) == ("input.normalise", "percentile")
    assert f"starts from {name}" in choice.because
