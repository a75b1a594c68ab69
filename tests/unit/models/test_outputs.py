"""Meaning of the output channels: probabilities by hand, their ranges, their order."""

import math

import pytest
import torch

from cellmill.models.outputs import OUTPUT_CHANNELS, foreground_logit, to_probabilities

CHANNELS = {"foreground": 1, "two_classes": 2, "contour": 3, "distance": 2, "flow": 3, "flow_gray": 1}


def pixel(*logits):
    return torch.tensor(logits)[None, :, None, None]


def probabilities_of(*logits, output):
    return to_probabilities(pixel(*logits), output=output).flatten().tolist()


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


def test_each_output_has_its_channels():
    assert OUTPUT_CHANNELS == CHANNELS


@pytest.mark.parametrize(
    ("output", "logits", "expected"),
    [
        ("foreground", [0.7], [sigmoid(0.7)]),
        ("two_classes", [0.2, 1.7], [sigmoid(1.5)]),
        ("contour", [0.0, 1.0, 2.0], [math.e / (1 + math.e + math.e**2), math.e**2 / (1 + math.e + math.e**2)]),
        ("distance", [-1.2, 0.4], [sigmoid(-1.2), 0.4]),
        ("distance", [-1.2, -0.4], [sigmoid(-1.2), 0]),
        ("distance", [-1.2, 1.4], [sigmoid(-1.2), 1]),
        ("flow", [3.0, -5.0, 2.5], [sigmoid(3), -1, 0.5]),
        ("flow_gray", [0.3], [0.3]),
        ("flow_gray", [-0.3], [0]),
        ("flow_gray", [1.3], [1]),
    ],
)
def test_probabilities_are_those_computed_by_hand(output, logits, expected):
    assert probabilities_of(*logits, output=output) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("output", CHANNELS)
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_the_first_channel_is_a_probability_whatever_the_logits(output, size):
    logits = size * torch.randn(2, CHANNELS[output], 5, 7, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    found = to_probabilities(logits, output=output)
    assert found.shape[0] == 2
    assert found.shape[2:] == (5, 7)
    assert torch.isfinite(found).all()
    assert 0 <= found[:, 0].min() < found[:, 0].max() <= 1
    assert torch.equal(logits, before)


def test_no_opinion_is_one_half_and_not_the_sigmoid_of_it():
    assert probabilities_of(0.0, output="foreground") == [0.5]
    assert probabilities_of(8.0, output="foreground")[0] > 0.999


def test_logits_of_half_precision_give_probabilities_of_full_precision():
    logits = pixel(0.2, 1.7).bfloat16()
    found = to_probabilities(logits, output="two_classes")
    assert found.dtype == torch.float32
    assert torch.equal(found, to_probabilities(logits.float(), output="two_classes"))


@pytest.mark.parametrize("output", ["foreground", "two_classes", "distance", "flow"])
def test_the_logit_of_foreground_is_that_of_its_probability(output):
    logits = torch.randn(2, CHANNELS[output], 4, 5, generator=torch.Generator().manual_seed(0))
    expected = to_probabilities(logits, output=output)[:, 0]
    assert torch.allclose(foreground_logit(logits, output=output).sigmoid(), expected, rtol=1e-5)


def test_channels_of_another_output_are_refused():
    with pytest.raises(AssertionError, match="contour"):
        to_probabilities(pixel(0.0, 0.0), output="contour")
