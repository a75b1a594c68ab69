"""Losses: hand-computed values, pixels that do not count, the side on which the weight lies."""

import math

import pytest
import torch

from cellmill.losses import IGNORED_TARGET, segmentation_loss


def loss_of(logits, target, *, name="bce", positive_weight=1):
    return segmentation_loss(
        torch.as_tensor(logits, dtype=torch.float32),
        torch.as_tensor(target, dtype=torch.uint8),
        loss={"name": name, "positive_weight": positive_weight},
    )


def test_cross_entropy_of_no_opinion_is_the_logarithm_of_two():
    assert loss_of([[[0.0, 0.0]]], [[[0, 1]]]).item() == pytest.approx(0.693147, abs=1e-6)


def test_cross_entropy_is_the_mean_over_pixels_computed_by_hand():
    probability = [1 / (1 + math.exp(-z)) for z in (2.0, -1.0, 0.5)]
    expected = -(math.log(probability[0]) + math.log(1 - probability[1]) + math.log(1 - probability[2])) / 3
    assert loss_of([[[2.0, -1.0, 0.5]]], [[[1, 0, 0]]]).item() == pytest.approx(expected, rel=1e-6)


def test_the_weight_is_not_divided_out_where_all_is_foreground():
    plain = loss_of([[[0.3, -2.0]]], [[[1, 1]]])
    assert loss_of([[[0.3, -2.0]]], [[[1, 1]]], positive_weight=2).item() == pytest.approx(2 * plain.item())


def test_the_weight_leaves_background_alone():
    assert loss_of([[[0.3]]], [[[0]]], positive_weight=5) == loss_of([[[0.3]]], [[[0]]])


def test_a_larger_weight_pulls_the_prediction_towards_foreground():
    pulls = []
    for weight in (1, 3):
        logit = torch.zeros(1, requires_grad=True)
        target = torch.tensor([[[1, 0, 0, 0]]], dtype=torch.uint8)
        loss = {"name": "bce", "positive_weight": weight}
        segmentation_loss(logit.expand(1, 1, 4), target, loss=loss).backward()
        pulls.append(logit.grad.item())
    assert pulls[1] < pulls[0]


@pytest.mark.parametrize("name", ["bce", "dice", "bce_dice"])
def test_more_padding_changes_no_loss(name):
    generator = torch.Generator().manual_seed(1)
    logits, target = torch.randn(2, 8, 8, generator=generator), torch.randint(0, 2, (2, 8, 8), generator=generator)
    wide_logits = torch.full((2, 20, 13), 50.0)
    wide_target = torch.full((2, 20, 13), IGNORED_TARGET)
    wide_logits[:, 3:11, 2:10], wide_target[:, 3:11, 2:10] = logits, target
    wide, narrow = loss_of(wide_logits, wide_target, name=name), loss_of(logits, target, name=name)
    assert wide.item() == pytest.approx(narrow.item(), rel=1e-6)


@pytest.mark.parametrize("name", ["bce", "dice", "bce_dice"])
def test_ignored_pixels_have_no_gradient(name):
    logits = torch.zeros(1, 1, 3, requires_grad=True)
    target = torch.tensor([[[1, IGNORED_TARGET, 0]]], dtype=torch.uint8)
    segmentation_loss(logits, target, loss={"name": name, "positive_weight": 1}).backward()
    assert logits.grad[0, 0, 1] == 0
    assert logits.grad[0, 0, 0] < 0 < logits.grad[0, 0, 2]


@pytest.mark.parametrize("name", ["bce", "dice", "bce_dice"])
def test_a_patch_of_ignored_pixels_has_no_loss(name):
    assert loss_of([[[3.0, -1.0]]], [[[IGNORED_TARGET, IGNORED_TARGET]]], name=name).item() == 0


def test_dice_of_a_certain_and_right_prediction_is_zero():
    assert loss_of([[[40.0, -40.0]]], [[[1, 0]]], name="dice").item() == pytest.approx(0, abs=1e-6)


def test_dice_of_a_certain_and_wrong_prediction_is_near_one():
    wrong = loss_of([[[-40.0] * 500 + [40.0] * 500]], [[[1] * 500 + [0] * 500]], name="dice")
    assert wrong.item() == pytest.approx(1 - 1 / 1001, abs=1e-6)


def test_an_empty_patch_that_is_predicted_empty_has_no_dice_loss():
    assert loss_of([[[-40.0, -40.0]]], [[[0, 0]]], name="dice").item() == pytest.approx(0, abs=1e-6)


def test_the_combined_loss_is_the_sum_of_both():
    logits, target = [[[0.2, -1.0, 2.0]]], [[[1, 0, 0]]]
    parts = [loss_of(logits, target, name=name).item() for name in ("bce", "dice")]
    assert loss_of(logits, target, name="bce_dice").item() == pytest.approx(sum(parts), rel=1e-6)
