"""SegNet of paper 3: size, and features that return to the places from which they were pooled."""

import pytest
import torch
from torch import nn

from cellmill.models.registry import count_parameters
from cellmill.models.segnet import build, pool, unpool

PAPER = {"in_channels": 1, "out_channels": 2, "width": 1, "base_channels": 64, "norm": "batch"}


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({}, 29_443_010),
        ({"in_channels": 3}, 29_444_162),
        ({"norm": "none"}, 29_427_138),
        ({"out_channels": 1}, 29_442_433),
    ],
)
def test_the_network_of_paper_3_has_its_number_of_parameters(changes, parameters):
    with torch.device("meta"):
        assert count_parameters(build(**{**PAPER, **changes})) == parameters


def test_the_convolutions_are_those_of_vgg16_and_their_mirror_image():
    with torch.device("meta"):
        network = build(**PAPER)
    channels = [module.out_channels for module in network.encoder.modules() if isinstance(module, nn.Conv2d)]
    assert channels == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    decoder = [
        module.out_channels
        for block in reversed(network.decoder)
        for module in block.modules()
        if isinstance(module, nn.Conv2d)
    ]
    assert decoder == [512] * 3 + [512, 512, 256] + [256, 256, 128] + [128, 64] + [64]
    assert len(channels) + len(decoder) + 1 == 26


@pytest.mark.parametrize("size", [(32, 64), (45, 45), (45, 31), (1, 7)])
def test_pooling_and_unpooling_leave_a_sparse_image_as_it_is(size):
    image_bcyx = torch.zeros(2, 3, *size)
    generator = torch.Generator().manual_seed(0)
    # One pixel of each 2x2 block, at a random place in it, including the last odd row and column.
    for row in range(0, size[0], 2):
        for column in range(0, size[1], 2):
            down, right = torch.randint(2, (2,), generator=generator).tolist()
            place = (min(row + down, size[0] - 1), min(column + right, size[1] - 1))
            image_bcyx[:, :, place[0], place[1]] = torch.rand(2, 3, generator=generator) + 0.1
    values_bcyx, places_bcyx = pool(image_bcyx)
    assert torch.equal(unpool(values_bcyx, places_bcyx, size=image_bcyx.shape[-2:]), image_bcyx)


def test_unpooling_is_that_of_torch():
    image_bcyx = torch.randn(2, 3, 12, 10)
    values_bcyx, places_bcyx = pool(image_bcyx)
    # A training in the same process may require deterministic operations, which torch's own unpooling is not.
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        expected_bcyx = nn.functional.max_unpool2d(values_bcyx, places_bcyx, kernel_size=2)
    finally:
        torch.use_deterministic_algorithms(was_deterministic)
    assert torch.equal(unpool(values_bcyx, places_bcyx, size=image_bcyx.shape[-2:]), expected_bcyx)


def test_five_levels_of_odd_sizes_come_back():
    features_bcyx = torch.zeros(1, 1, 45, 45)
    features_bcyx[0, 0, 44, 44], features_bcyx[0, 0, 3, 17] = 1.0, 2.0
    image_bcyx, pooled, sizes = features_bcyx, [], []
    for _ in range(5):
        sizes.append(features_bcyx.shape[-2:])
        features_bcyx, places_bcyx = pool(features_bcyx)
        pooled.append(places_bcyx)
    assert [size[0] for size in sizes] == [45, 23, 12, 6, 3]
    for places_bcyx, size in zip(reversed(pooled), reversed(sizes), strict=True):
        features_bcyx = unpool(features_bcyx, places_bcyx, size=size)
    assert torch.equal(features_bcyx, image_bcyx)


@pytest.mark.parametrize("size", [(45, 45), (33, 70), (500, 20)])
def test_odd_sizes_survive_the_network(size):
    network = build(**{**PAPER, "width": 1 / 32}).eval()
    assert network(torch.randn(1, 1, *size)).shape == (1, 2, *size)
    assert network.stride_px == 32


def test_one_output_plane_works():
    network = build(**{**PAPER, "width": 1 / 32, "out_channels": 1}).eval()
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 1, 32, 32)


@pytest.mark.parametrize(("norm", "count"), [("batch", 25), ("none", 0)])
def test_every_convolution_but_the_last_is_normalised_or_none(norm, count):
    network = build(**{**PAPER, "width": 1 / 32, "norm": norm})
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == count
