"""StemNet of paper 1: size, position of the dropout, initial weights."""

import pytest
import torch
from torch import nn

from cellmill.models.registry import count_parameters
from cellmill.models.stemnet import DroppedConv, build

PAPER = {
    "in_channels": 1,
    "out_channels": 2,
    "width": 1,
    "base_channels": 16,
    "levels": 3,
    "kernel_px": 5,
    "dropout": 0.25,
    "relu_logits": False,
}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build(**PAPER)


def test_the_networks_of_paper_1_have_their_number_of_parameters():
    # SOURCE twelve layers and the output, counted one by one: kernels and biases
    def conv(i, o, kernel=5):
        return kernel**2 * i * o + o

    down = conv(1, 16) + conv(16, 16) + conv(16, 32) + conv(32, 32) + conv(32, 64) + conv(64, 64)
    up = conv(64, 32, 2) + conv(64, 32) + conv(32, 32) + conv(32, 16, 2) + conv(32, 16) + conv(16, 16)
    assert down + up + conv(16, 2, 1) == 305_442
    assert count_parameters(build(**PAPER)) == 305_442
    assert count_parameters(build(**{**PAPER, "in_channels": 5})) == 307_042


@pytest.mark.parametrize(("base_channels", "parameters"), [(8, 76_562), (32, 1_220_162), (64, 4_877_442)])
def test_other_channels_have_theirs(base_channels, parameters):
    with torch.device("meta"):
        assert count_parameters(build(**{**PAPER, "base_channels": base_channels})) == parameters


def test_width_and_base_channels_say_the_same():
    assert count_parameters(build(**{**PAPER, "width": 0.5})) == 76_562


def test_kernels_of_3x3_have_116770():
    assert count_parameters(build(**{**PAPER, "kernel_px": 3})) == 116_770


def test_a_quarter_of_the_features_is_dropped_not_kept(network):
    # In tf_unet the setting of the same name is the probability to keep.
    zeros = (network.encoder[0][0].dropout(torch.ones(200_000)) == 0).float().mean()
    assert zeros == pytest.approx(0.25, abs=0.01)


def test_dropout_takes_single_features_before_the_bias():
    torch.manual_seed(0)
    layer = DroppedConv(1, 8, kernel_px=5, dropout=0.25)
    nn.init.constant_(layer.conv.weight, 1.0)
    inner_bcyx = layer(torch.ones(1, 1, 104, 104))[:, :, 2:-2, 2:-2]
    # 25 ones, divided by the share kept on average; where they are dropped, the bias remains.
    values = inner_bcyx.detach().unique()
    assert values.tolist() == pytest.approx([0.1, 25 / 0.75 + 0.1], rel=1e-5)
    dropped_cyx = inner_bcyx[0] < 1
    assert dropped_cyx.float().mean() == pytest.approx(0.25, abs=0.01)
    assert not torch.equal(dropped_cyx[0], dropped_cyx[1])
    assert 0 < dropped_cyx[0].float().mean() < 1


def test_every_convolution_and_nothing_else_drops(network):
    layers = [module for module in network.modules() if isinstance(module, DroppedConv)]
    dropouts = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    assert len(layers) == len(dropouts) == 10
    assert {dropout.p for dropout in dropouts} == {0.25}


def test_evaluation_drops_nothing(network):
    images_bcyx = torch.randn(1, 1, 32, 32)
    network.eval()
    try:
        assert torch.equal(network(images_bcyx), network(images_bcyx))
    finally:
        network.train()


def test_initial_weights_have_the_spread_of_their_channels_and_no_tails(network):
    def check(weight, *, features):
        std = (2 / (25 * features)) ** 0.5
        assert weight.abs().max() <= 2 * std
        # A normal distribution cut at two standard deviations keeps .880 of its spread.
        assert weight.std().item() == pytest.approx(0.880 * std, rel=0.08)

    check(network.encoder[0][1].conv.weight, features=16)
    check(network.encoder[2][0].conv.weight, features=64)
    check(network.decoder[1][0].conv.weight, features=64)
    check(network.decoder[0][1].conv.weight, features=32)
    check(network.up[1].weight, features=64)


def test_all_biases_start_at_a_tenth(network):
    biases = [value for name, value in network.named_parameters() if "bias" in name]
    assert len(biases) == 13
    assert all(torch.equal(bias, torch.full_like(bias, 0.1)) for bias in biases)


def test_relu_on_the_logits_leaves_nothing_negative():
    torch.manual_seed(1)
    plain = build(**PAPER).eval()
    torch.manual_seed(1)
    rectified = build(**{**PAPER, "relu_logits": True}).eval()
    with torch.no_grad():
        for network in (plain, rectified):
            network.head.bias.fill_(-0.2)
        images_bcyx = torch.randn(1, 1, 32, 32)
        logits_bcyx = plain(images_bcyx)
        assert (logits_bcyx < 0).any()
        assert torch.equal(rectified(images_bcyx), logits_bcyx.clamp(min=0))
