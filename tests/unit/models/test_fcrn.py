"""FCRN-A of paper 5: size in all variants, initial weights."""

import pytest
import torch
from torch import nn

from cellmill.models.fcrn import build
from cellmill.models.registry import count_parameters

PAPER = {
    "in_channels": 1,
    "out_channels": 2,
    "width": 1,
    "base_channels": 32,
    "norm": "none",
    "init": "xavier",
    "upsampling": "nearest",
    "head_kernel_px": 1,
}


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({}, 1_365_282),
        ({"head_kernel_px": 3}, 1_365_794),
        ({"out_channels": 1}, 1_365_249),
        ({"norm": "batch"}, 1_366_242),
        ({"upsampling": "bilinear"}, 1_365_282),
        ({"init": "he"}, 1_365_282),
    ],
)
def test_the_network_of_paper_5_has_its_number_of_parameters(changes, parameters):
    assert count_parameters(build(**{**PAPER, **changes})) == parameters


def test_the_parameters_of_each_layer_are_those_of_the_table():
    network = build(**PAPER)
    stages = [*network.encoder, *network.decoder, network.head]
    assert [count_parameters(stage) for stage in stages] == [320, 18_496, 73_856, 590_336, 589_952, 73_792, 18_464, 66]


def test_convolutions_before_a_norm_have_no_bias():
    network = build(**{**PAPER, "norm": "batch"})
    assert all(stage[0].bias is None for stage in [*network.encoder, *network.decoder])
    assert network.head.bias is not None
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 7


@pytest.mark.parametrize(
    ("init", "std"),
    [("xavier", (2 / (9 * (128 + 512))) ** 0.5), ("he", (2 / (9 * 128)) ** 0.5)],
)
def test_initial_weights_have_the_spread_of_their_author(init, std):
    torch.manual_seed(0)
    network = build(**{**PAPER, "init": init})
    assert network.encoder[3][0].weight.std().item() == pytest.approx(std, rel=0.01)
    assert all(not module.bias.any() for module in network.modules() if isinstance(module, nn.Conv2d))


def test_xavier_is_uniform():
    torch.manual_seed(0)
    weight = build(**PAPER).encoder[3][0].weight
    limit = (6 / (9 * (128 + 512))) ** 0.5
    assert 0.999 * limit < weight.abs().max() <= limit


def test_an_unknown_upsampling_is_refused():
    with pytest.raises(AssertionError, match="cubic"):
        build(**{**PAPER, "upsampling": "cubic"})


def test_both_upsamplings_agree_on_a_constant_image_far_from_the_border():
    networks = {}
    for upsampling in ("nearest", "bilinear"):
        torch.manual_seed(2)
        networks[upsampling] = build(**{**PAPER, "width": 1 / 8, "upsampling": upsampling}).eval()
    halo = networks["bilinear"].halo_px
    image_bcyx = torch.ones(1, 1, 88, 88)
    with torch.no_grad():
        first, second = (network(image_bcyx)[:, :, halo:-halo, halo:-halo] for network in networks.values())
        noise_bcyx = torch.randn(1, 1, 88, 88)
        assert not torch.allclose(networks["nearest"](noise_bcyx), networks["bilinear"](noise_bcyx), atol=1e-3)
    assert first.numel() > 0
    assert torch.allclose(first, second, atol=1e-6)
