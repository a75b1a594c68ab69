"""Batch normalisation folded into convolutions: the same outputs, in every architecture that has it."""

import copy

import pytest
import torch
from torch import nn

from cellmill.config.networks import network_settings
from cellmill.config.preset import ModelPreset
from cellmill.inference.folding import fold_norms
from cellmill.models.layers import make_norm
from cellmill.models.registry import build_network
from cellmill.planning.runs import load_preset
from project import ROOT

PRESETS = sorted({path.stem for path in (ROOT / "resources/models").glob("*.yaml")} - {"classical"})


def trained(network):
    """Set in normalisations the statistics, gains and offsets of a training."""
    torch.manual_seed(3)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.2, 3)
            nn.init.uniform_(part.weight, -1, 2)
            nn.init.normal_(part.bias)
    return network.eval()


def norms_in(network):
    return sum(isinstance(part, nn.BatchNorm2d) for part in network.modules())


def differ(network, folded, *images):
    with torch.inference_mode():
        before, after = network(*images), folded(*images)
    if network.is_recurrent:
        before, after = before[0], after[0]
    return float((before - after).abs().max() / before.abs().max())


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_predicts_the_same_without_its_norms(name):
    content = load_preset(name, presets_dir=ROOT / "resources/models", where="test")
    preset = ModelPreset.model_validate({**content, "width": 0.125}).model_dump(mode="json")
    network = trained(build_network(network_settings(preset)))
    folded = fold_norms(copy.deepcopy(network))
    images = torch.randn(2, len(preset["input"]["class_planes"]) + preset["input"]["frames"], 64, 96)
    assert differ(network, folded, *((images[:, None], None) if network.is_recurrent else (images,))) < 1e-5
    assert norms_in(folded) == 0


def test_a_norm_whose_output_is_changed_by_class_is_folded_too():
    settings = {"base_channels": 4, "levels": 2, "width": 1.0, "norm": "batch", "dropout": 0.0, "film": 2}
    network = trained(build_network({"architecture": "unet", "output": "foreground", "in_channels": 3, **settings}))
    for name, parameter in network.named_parameters():
        if "film" in name:
            nn.init.normal_(parameter)
    images = torch.randn(1, 3, 16, 16)
    images[:, 1:] = torch.tensor([0.0, 1.0])[:, None, None]
    assert differ(network, fold_norms(copy.deepcopy(network)), images) < 1e-5


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_a_norm_of_the_image_itself_stays(norm):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), make_norm(norm, 4)).eval()
    assert [type(part) for part in fold_norms(copy.deepcopy(network))] == [type(part) for part in network]
