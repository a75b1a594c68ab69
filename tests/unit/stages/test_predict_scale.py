"""Prediction at a working scale: maps have the geometry of the image, and a first look finds the size of its objects."""

import logging

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

import cellmill.stages.predict
from cellmill.images.stored import sample_paths
from cellmill.models.weights import write_weights
from cellmill.objects.flows import unit_flows
from cellmill.stages.predict import predict_shard
from training_shards import network_of, tiny_preset, write_shard
from whole_images import read_probabilities

SIZES_PX = {"small": 8, "usual": 18, "large": 48}
INPUT = {"normalise": "none", "diameter_px": 16.0}


class Exact(nn.Module):
    """A network that finds every disc, and is unsure of its flows where a disc is larger than it is trained on."""

    stride_px, halo_px, receptive_field_px, is_recurrent = 1, 0, 1, False

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images_bcyx):
        labels_yx, _ = ndimage.label(images_bcyx[0, 0].numpy() > 0.5)
        flows_cyx = 5 * unit_flows(labels_yx.astype(np.uint16))
        widths = np.sqrt(np.bincount(labels_yx.ravel()) * 4 / np.pi)[labels_yx]
        flows_cyx = np.where(widths > 27, 0, flows_cyx)
        logits_yx = np.where(labels_yx > 0, 9.0, -9.0)
        return torch.from_numpy(np.concatenate([logits_yx[None], flows_cyx]).astype(np.float32))[None]


def draw(diameter_px, *, shape=(160, 200)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    step = 2 * diameter_px
    near = [np.abs(axis % step - step / 2) for axis in (y, x)]
    return (np.hypot(*near) < diameter_px / 2).astype(np.float32)


def predict(folder, monkeypatch, **input):
    drawn = {name: draw(diameter_px) for name, diameter_px in SIZES_PX.items()}
    images, _ = write_shard(
        folder, "s", {name: (image, (image > 0).astype(np.uint16)) for name, image in drawn.items()}
    )
    preset = tiny_preset(network={"output": "flow"}, train={"loss": {"name": "flow"}})
    settled = {**preset["input"], **INPUT, "object_px": 16.0, "object_um": None, **input}
    write_weights(folder / "weights.pt", network=network_of(preset), input=settled, state_dict=Exact().state_dict())
    monkeypatch.setattr(cellmill.stages.predict, "build_network", lambda network: Exact())
    predict_shard(
        output_dir=folder / "maps", images_dir=images, around_dirs=[], weights_path=folder / "weights.pt",
        predict={"tile": [1024, 1024], "batch": 1, "average": "none", "precision": "fp32"}, passages=None, classes=None,
        pixel_size_um=None, threads=1, gpu=0,
    )  # fmt: skip
    maps = {sample: read_probabilities(path) for sample, path in sample_paths(folder / "maps").items()}
    return drawn, maps


def test_a_first_look_finds_the_scale_of_each_image(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    drawn, maps = predict(tmp_path, monkeypatch, scale="image")
    for name, diameter_px in SIZES_PX.items():
        [line] = [message for message in caplog.messages if message.startswith(f"{name}: working scale")]
        assert float(line.split("scale ")[1].split(",")[0]) == pytest.approx(16 / diameter_px, rel=0.15)
        assert maps[name].shape == (3, *drawn[name].shape)
        # Borders move by a part of a pixel at the working scale.
        differs = (maps[name][0] >= 0.5) != (drawn[name] > 0.5)
        assert differs.mean() < 0.12


def test_one_scale_is_that_of_the_training_images(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    seen = []
    forward = Exact.forward
    monkeypatch.setattr(Exact, "forward", lambda self, images: seen.append(images.shape[-2:]) or forward(self, images))
    drawn, maps = predict(tmp_path, monkeypatch, scale="dataset", object_px=32.0)
    assert "usual: working scale 0.5, because objects of the training images have a median diameter of 32 px" in (
        caplog.messages
    )
    assert set(seen) == {(80, 100)}
    assert {planes.shape for planes in maps.values()} == {(3, *drawn["small"].shape)}
