"""The U-Net of paper 3: size, dropout at the deepest levels, alignment of even kernels."""

import pytest
import torch
from torch import nn

from cellmill.models.registry import count_parameters
from cellmill.models.unet_isbi import UpConv, build

PAPER = {"in_channels": 1, "out_channels": 1, "width": 1, "base_channels": 64, "levels": 4, "dropout": 0.5}


def test_the_network_of_paper_3_has_its_number_of_parameters():
    # SOURCE counted layer by layer: kernels and biases
    def conv(i, o, kernel=3):
        return kernel**2 * i * o + o

    channels = [64, 128, 256, 512, 1024]
    down = sum(conv(i, o) + conv(o, o) for i, o in zip([1, *channels], channels, strict=False))
    up = sum(conv(2 * o, o, 2) + conv(2 * o, o) + conv(o, o) for o in channels[:-1])
    assert down + up + conv(64, 2) + conv(2, 1, 1) == 31_031_685
    with torch.device("meta"):
        assert count_parameters(build(**PAPER)) == 31_031_685


def test_one_level_less_is_what_the_caption_says():
    with torch.device("meta"):
        network = build(**{**PAPER, "levels": 3})
    assert network.stride_px == 8
    assert network.encoder[-1][2].out_channels == 512


def test_the_two_deepest_levels_drop_half_and_the_others_nothing():
    torch.manual_seed(0)
    network = build(**{**PAPER, "width": 1 / 16})
    dropped = []
    network.dropout.register_forward_hook(lambda module, given, result: dropped.append((given[0], result)))
    with torch.no_grad():
        network(torch.randn(1, 1, 128, 128))
    assert [tuple(result.shape[1:]) for _, result in dropped] == [(32, 16, 16), (64, 8, 8)]
    for given, result in dropped:
        assert (result == 0)[given > 0].float().mean() == pytest.approx(0.5, abs=0.05)


def test_skips_leave_after_the_dropout():
    network = build(**{**PAPER, "width": 1 / 16, "dropout": 0.999})
    joined = []
    network.decoder[3].register_forward_pre_hook(lambda module, given: joined.append(given[0]))
    with torch.no_grad():
        network(torch.randn(1, 1, 64, 64))
    assert (joined[0][:, :32] == 0).float().mean() > 0.99


def test_a_kernel_of_2x2_sees_the_pixel_below_and_to_the_right():
    up = UpConv(1, 1)
    with torch.no_grad():
        up.conv.weight.fill_(1.0)
        up.conv.bias.zero_()
        image_bcyx = torch.zeros(1, 1, 3, 3)
        image_bcyx[0, 0, 1, 1] = 1.0
        # After upsampling the pixel covers rows and columns 2 and 3; a window from 1 on includes the first of them.
        line = torch.tensor([0.0, 1.0, 2.0, 1.0, 0.0, 0.0])
        assert torch.equal(up(image_bcyx)[0, 0], line[:, None] * line)


def test_initial_weights_are_those_of_he():
    torch.manual_seed(0)
    network = build(**{**PAPER, "width": 1 / 4})
    assert network.encoder[4][0].weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.01)
    assert all(not module.bias.any() for module in network.modules() if isinstance(module, nn.Conv2d))


def test_width_leaves_the_two_channels_of_the_head():
    assert build(**{**PAPER, "width": 1 / 16}).head[0].out_channels == 2


def test_more_output_planes_work():
    network = build(**{**PAPER, "width": 1 / 16, "out_channels": 3, "in_channels": 5}).eval()
    assert network(torch.randn(2, 5, 32, 48)).shape == (2, 3, 32, 48)


def test_nothing_is_normalised():
    assert not any(isinstance(module, nn.BatchNorm2d) for module in build(**{**PAPER, "width": 1 / 16}).modules())
