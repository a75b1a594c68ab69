"""Losses: hand-computed values, ignored pixels, which side the class weight acts on, and parts of a batch."""

import math

import pytest
import torch

from cellmill.models.outputs import OUTPUT_CHANNELS
from cellmill.training.losses import IGNORED_TARGET, OUTPUTS_OF_LOSS, Truth, measure_loss

PLAIN = {
    "positive_weight": 1,
    "class_weights": None,
    "normaliser": "pixels",
    "gamma": 2,
    "distance": None,
}
DISTANCE = {"weight": 10.0, "sigma_px": 5.0, "factor": 1, "reading": "to_border", "inside": False}
VALUE_PLANES = {"distance": 1, "flow": 2, "flow_gray": 1}
# Every kind of loss on every output it applies to
CASES = [(output, PLAIN | {"name": name}) for name, outputs in OUTPUTS_OF_LOSS.items() for output in outputs] + [
    ("two_classes", PLAIN | {"name": "ce", "class_weights": [1, 2]}),
    ("two_classes", PLAIN | {"name": "ce", "distance": DISTANCE, "normaliser": "weights"}),
    ("contour", PLAIN | {"name": "ce", "class_weights": [0.15, 0.25, 0.6], "normaliser": "weights"}),
    ("contour", PLAIN | {"name": "ce", "class_weights": [0.15, 0.25, 0.6], "distance": DISTANCE}),
    ("foreground", PLAIN | {"name": "focal", "positive_weight": 3, "gamma": 0.5}),
]
# Losses that are means over pixels, so that the parts of a batch add up to the whole
MEANS = [(output, loss) for output, loss in CASES if "dice" not in loss["name"]]


def name_of(part):
    return part if isinstance(part, str) else "-".join(str(value) for value in part.values() if value)[:40]


def random_case(output, loss, *, shape=(3, 9, 11), size=1.0, ignored=0.3, seed=0):
    """Return logits and a ground truth in which each patch has a larger share of ignored pixels than the one before."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*channels):
        return torch.randn(shape[0], *channels, *shape[1:], generator=generator)

    classes = torch.randint(0, 3 if output == "contour" else 2, shape, generator=generator).to(torch.uint8)
    limit = torch.linspace(0, 2 * ignored, shape[0])[:, None, None]
    classes[torch.rand(shape, generator=generator) < limit] = IGNORED_TARGET
    values = draw(VALUE_PLANES[output]).clamp(-1, 1) if output in VALUE_PLANES else None
    weights = 8 * torch.rand(shape, generator=generator) if loss["distance"] else None
    return size * draw(OUTPUT_CHANNELS[output]), Truth(classes, values, weights)


def loss_of(logits, target, *, output="foreground", values=None, weights=None, **changes):
    """Compute loss and weight of one row of pixels: logits of (channels, pixels), classes of (pixels,)."""
    truth = Truth(
        torch.as_tensor(target, dtype=torch.uint8)[None, None],
        None if values is None else torch.as_tensor(values, dtype=torch.float32)[None, :, None],
        None if weights is None else torch.as_tensor(weights, dtype=torch.float32)[None, None],
    )
    logits = torch.as_tensor(logits, dtype=torch.float32)[None, :, None]
    loss, weight = measure_loss(logits, truth, output=output, loss=PLAIN | {"name": "bce"} | changes)
    return loss.item(), weight.item()


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))


def test_cross_entropy_of_no_opinion_is_the_logarithm_of_two():
    for name, output, channels in (("bce", "foreground", 1), ("bce", "two_classes", 2), ("ce", "two_classes", 2)):
        loss, weight = loss_of([[0.0, 0.0]] * channels, [0, 1], name=name, output=output)
        assert loss == pytest.approx(0.693147, abs=1e-6)
        assert weight == 2


def test_cross_entropy_is_the_mean_over_pixels_computed_by_hand():
    probability = [sigmoid(z) for z in (2.0, -1.0, 0.5)]
    expected = -(math.log(probability[0]) + math.log(1 - probability[1]) + math.log(1 - probability[2])) / 3
    assert loss_of([[2.0, -1.0, 0.5]], [1, 0, 0]) == pytest.approx((expected, 3), rel=1e-6)


def test_numbers_of_one_logit_are_those_of_torch_to_the_last_bit():
    logits, truth = random_case("foreground", PLAIN, ignored=0)
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))(logits[:, 0], truth.classes_byx.float())
    loss, weight = measure_loss(logits, truth, output="foreground", loss=PLAIN | {"name": "bce", "positive_weight": 3})
    assert loss == expected
    assert weight == truth.classes_byx.numel()


def test_the_weight_is_not_divided_out_where_all_is_foreground():
    plain, _ = loss_of([[0.3, -2.0]], [1, 1])
    assert loss_of([[0.3, -2.0]], [1, 1], positive_weight=2)[0] == pytest.approx(2 * plain)


@pytest.mark.parametrize("name", ["bce", "focal"])
def test_the_weight_leaves_background_alone(name):
    assert loss_of([[0.3]], [0], name=name, positive_weight=5) == loss_of([[0.3]], [0], name=name)


@pytest.mark.parametrize("name", ["bce", "bce_dice", "focal", "distance", "flow"])
def test_a_larger_weight_pulls_the_prediction_towards_foreground(name):
    output = OUTPUTS_OF_LOSS[name][0]
    pulls = []
    for weight in (1, 3):
        logit = torch.zeros(1, requires_grad=True)
        logits = torch.cat([logit.expand(1, 1, 1, 4), torch.zeros(1, OUTPUT_CHANNELS[output] - 1, 1, 4)], dim=1)
        classes = torch.tensor([[[1, 0, 0, 0]]], dtype=torch.uint8)
        truth = Truth(classes, torch.zeros(1, VALUE_PLANES.get(output, 0), 1, 4), None)
        measure_loss(logits, truth, output=output, loss=PLAIN | {"name": name, "positive_weight": weight})[0].backward()
        pulls.append(logit.grad.item())
    assert pulls[1] < pulls[0]


@pytest.mark.parametrize("name", ["bce", "dice", "bce_dice", "focal"])
def test_two_classes_are_measured_by_the_difference_of_their_logits(name):
    loss = PLAIN | {"name": name, "positive_weight": 2}
    logits, truth = random_case("two_classes", loss)
    both, _ = measure_loss(logits, truth, output="two_classes", loss=loss)
    one, _ = measure_loss(logits[:, 1:] - logits[:, :1], truth, output="foreground", loss=loss)
    assert both == one


def test_cross_entropy_of_two_classes_is_the_binary_one_with_its_weight():
    logits, truth = random_case("two_classes", PLAIN)
    binary = measure_loss(logits, truth, output="two_classes", loss=PLAIN | {"name": "bce", "positive_weight": 3})
    classes = measure_loss(logits, truth, output="two_classes", loss=PLAIN | {"name": "ce", "class_weights": [1, 3]})
    assert binary[0].item() == pytest.approx(classes[0].item(), rel=1e-6)
    assert binary[1] == classes[1]


def test_class_weights_count_in_the_sum_and_in_the_divisor_only_where_that_is_the_sum_of_weights():
    logits, classes = [[0.5, -1.0], [1.5, 0.3]], [1, 1]
    plain, _ = loss_of(logits, classes, name="ce", output="two_classes")
    weighted = {"name": "ce", "output": "two_classes", "class_weights": [1, 2]}
    assert loss_of(logits, classes, **weighted) == pytest.approx((2 * plain, 2), rel=1e-6)
    assert loss_of(logits, classes, **weighted, normaliser="weights") == pytest.approx((plain, 4), rel=1e-6)


def test_cross_entropy_with_the_sum_of_weights_is_that_of_torch():
    weights = [0.15, 0.25, 0.6]
    loss = PLAIN | {"name": "ce", "class_weights": weights, "normaliser": "weights"}
    logits, truth = random_case("contour", loss)
    peer = torch.nn.CrossEntropyLoss(torch.tensor(weights), ignore_index=IGNORED_TARGET)
    found, _ = measure_loss(logits, truth, output="contour", loss=loss)
    assert found.item() == pytest.approx(peer(logits, truth.classes_byx.long()).item(), rel=1e-6)


@pytest.mark.parametrize("normaliser", ["pixels", "weights"])
def test_the_weight_of_the_place_is_added_to_that_of_the_class(normaliser):
    logits = [[0.5, -1.0, 0.0], [1.5, 0.3, 2.0]]
    cross = [math.log1p(math.exp(z)) for z in (1.0, -1.3, -2.0)]  # classes 0, 1, 1
    weights = [1 + 4.0, 3 + 0.0, 3 + 8.5]
    found = loss_of(
        logits, [0, 1, 1], name="ce", output="two_classes", class_weights=[1, 3], distance=DISTANCE,
        weights=[4.0, 0.0, 8.5], normaliser=normaliser,
    )  # fmt: skip
    divisor = 3 if normaliser == "pixels" else sum(weights)
    expected = sum(weight * value for weight, value in zip(weights, cross, strict=True)) / divisor
    assert found == pytest.approx((expected, divisor), rel=1e-6)


def test_classes_of_no_weight_have_no_loss():
    found = loss_of([[0.5], [1.5]], [0], name="ce", output="two_classes", class_weights=[0, 1], normaliser="weights")
    assert found == (0, 0)


def test_focal_loss_is_that_computed_by_hand():
    p = [sigmoid(2.0), 1 - sigmoid(-1.0), 1 - sigmoid(0.5)]  # of the true class
    terms = [-((1 - share) ** 2) * math.log(share) for share in p]
    expected = (3 * terms[0] + terms[1] + terms[2]) / 3
    assert loss_of([[2.0, -1.0, 0.5]], [1, 0, 0], name="focal", positive_weight=3) == pytest.approx(
        (expected, 3), rel=1e-6
    )


def test_focal_loss_without_focus_is_cross_entropy():
    logits, truth = random_case("foreground", PLAIN)
    focal, bce = (
        measure_loss(logits, truth, output="foreground", loss=PLAIN | {"name": name, "gamma": 0, "positive_weight": 3})[
            0
        ]
        for name in ("focal", "bce")
    )
    assert focal.item() == pytest.approx(bce.item(), rel=1e-6)


def test_focal_loss_cares_less_for_what_is_right():
    for logit in (0.5, 2.0, 5.0):
        share = loss_of([[logit]], [1], name="focal")[0] / loss_of([[logit]], [1])[0]
        assert share == pytest.approx((1 - sigmoid(logit)) ** 2, rel=1e-5)


def test_grey_values_have_half_the_mean_square():
    expected = 0.5 * (0.3**2 + 0.5**2) / 2
    found = loss_of([[0.3, 0.2, 9.0]], [0, 1, IGNORED_TARGET], name="mse", output="flow_gray", values=[[0.0, 0.7, 0.0]])
    assert found == pytest.approx((expected, 2), rel=1e-6)


def test_distance_is_half_the_mean_square_and_cross_entropy():
    bce, _ = loss_of([[0.4, -2.0]], [1, 0], positive_weight=2)
    found, weight = loss_of(
        [[0.4, -2.0], [0.9, 0.2]], [1, 0], name="distance", output="distance", values=[[0.5, 0.0]], positive_weight=2
    )
    assert found == pytest.approx(bce + 0.5 * (0.4**2 + 0.2**2) / 2, rel=1e-6)
    assert weight == 2


def test_flows_are_compared_at_five_times_their_length():
    bce, _ = loss_of([[0.4, -2.0]], [1, 0])
    logits = [[0.4, -2.0], [2.0, 0.5], [-4.5, 0.0]]
    found, _ = loss_of(logits, [1, 0], name="flow", output="flow", values=[[0.6, 0.0], [-0.8, 0.0]])
    squares = [(2.0 - 3.0) ** 2, 0.5**2, (-4.5 + 4.0) ** 2, 0]
    assert found == pytest.approx(bce + 0.5 * sum(squares) / 4, rel=1e-6)


def test_a_flow_that_is_right_leaves_cross_entropy_alone():
    bce, _ = loss_of([[0.4]], [1])
    assert loss_of([[0.4], [3.0], [-4.0]], [1], name="flow", output="flow", values=[[0.6], [-0.8]])[0] == bce


def test_dice_of_a_certain_and_right_prediction_is_zero():
    assert loss_of([[40.0, -40.0]], [1, 0], name="dice") == pytest.approx((0, 1), abs=1e-6)


def test_dice_of_a_certain_and_wrong_prediction_is_near_one():
    wrong, _ = loss_of([[-40.0] * 500 + [40.0] * 500], [1] * 500 + [0] * 500, name="dice")
    assert wrong == pytest.approx(1 - 1 / 1001, abs=1e-6)


def test_an_empty_patch_that_is_predicted_empty_has_no_dice_loss():
    assert loss_of([[-40.0, -40.0]], [0, 0], name="dice")[0] == pytest.approx(0, abs=1e-6)


def test_the_combined_loss_is_the_sum_of_both():
    logits, target = [[0.2, -1.0, 2.0]], [1, 0, 0]
    parts = [loss_of(logits, target, name=name)[0] for name in ("bce", "dice")]
    assert loss_of(logits, target, name="bce_dice")[0] == pytest.approx(sum(parts), rel=1e-6)


@pytest.mark.parametrize("name", ["dice", "bce_dice"])
def test_dice_weighs_patches_that_are_not_ignored_as_a_whole(name):
    logits, truth = random_case("foreground", PLAIN)
    truth.classes_byx[1] = IGNORED_TARGET
    assert measure_loss(logits, truth, output="foreground", loss=PLAIN | {"name": name})[1] == 2


@pytest.mark.parametrize(("output", "loss"), MEANS, ids=name_of)
def test_parts_of_a_batch_add_up_to_the_whole(output, loss):
    logits, truth = random_case(output, loss, shape=(5, 9, 11), ignored=0.45)
    whole, weight = measure_loss(logits, truth, output=output, loss=loss)
    parts = [
        measure_loss(logits[part], truth[part], output=output, loss=loss)
        for part in (slice(0, 1), slice(1, 3), slice(3, 5))
    ]
    assert sum(part_weight for _, part_weight in parts).item() == pytest.approx(weight.item(), rel=1e-6)
    assert sum(part * part_weight for part, part_weight in parts) / weight == pytest.approx(whole.item(), rel=1e-6)
    # unlike the plain mean of the parts
    assert sum(part for part, _ in parts).item() / 3 != pytest.approx(whole.item(), rel=1e-4)


@pytest.mark.parametrize(("output", "loss"), CASES, ids=name_of)
def test_more_padding_changes_no_loss(output, loss):
    logits, truth = random_case(output, loss)

    def widen(part, value):
        return None if part is None else torch.nn.functional.pad(part, (3, 2, 5, 1), value=value)

    wide = Truth(
        widen(truth.classes_byx, IGNORED_TARGET), widen(truth.values_bcyx, 0), widen(truth.weights_byx, 0)
    )  # fmt: skip
    narrow = measure_loss(logits, truth, output=output, loss=loss)
    padded = measure_loss(widen(logits, 50), wide, output=output, loss=loss)
    assert [number.item() for number in padded] == pytest.approx([number.item() for number in narrow], rel=1e-6)


@pytest.mark.parametrize("size", [1, 1e4])
@pytest.mark.parametrize(("output", "loss"), CASES, ids=name_of)
def test_losses_and_gradients_are_finite_and_ignored_pixels_have_none(output, loss, size):
    logits, truth = random_case(output, loss, size=size)
    logits[0, :, 0, :2] = 1e4 * torch.tensor([-1.0, 1.0])  # certain, right or wrong
    logits.requires_grad_()
    found, weight = measure_loss(logits, truth, output=output, loss=loss)
    found.backward()
    assert math.isfinite(found.item())
    assert found > 0
    assert weight > 0
    assert torch.isfinite(logits.grad).all()
    ignored = (truth.classes_byx == IGNORED_TARGET)[:, None].expand_as(logits)
    assert not logits.grad[ignored].any()
    if size == 1:
        assert (logits.grad[~ignored] != 0).float().mean() > 0.9


@pytest.mark.parametrize(("output", "loss"), CASES, ids=name_of)
def test_a_batch_of_ignored_pixels_has_no_loss_no_weight_and_no_gradient(output, loss):
    logits, truth = random_case(output, loss)
    truth.classes_byx[:] = IGNORED_TARGET
    logits.requires_grad_()
    found, weight = measure_loss(logits, truth, output=output, loss=loss)
    assert (found.item(), weight.item()) == (0, 0)
    found.backward()
    assert not logits.grad.any()


@pytest.mark.parametrize(("output", "loss"), CASES, ids=name_of)
def test_losses_of_half_precision_logits_are_computed_in_full_precision(output, loss):
    logits, truth = random_case(output, loss, size=3)
    logits = logits.bfloat16()
    expected = measure_loss(logits.float(), truth, output=output, loss=loss)
    with torch.autocast("cpu", torch.bfloat16):
        found = measure_loss(logits, truth, output=output, loss=loss)
    assert [number.dtype for number in found] == [torch.float32] * 2
    assert found == expected


@pytest.mark.parametrize(("output", "loss"), CASES, ids=name_of)
def test_a_step_downhill_makes_the_loss_smaller(output, loss):
    logits, truth = random_case(output, loss)
    logits.requires_grad_()
    before, _ = measure_loss(logits, truth, output=output, loss=loss)
    before.backward()
    after, _ = measure_loss(logits - 0.1 * logits.grad, truth, output=output, loss=loss)
    assert after < before


def test_a_truth_goes_to_a_device_as_a_whole():
    _, truth = random_case("flow", PLAIN)
    moved = truth.to(torch.device("meta"))
    assert moved.classes_byx.device.type == moved.values_bcyx.device.type == "meta"
    assert moved.weights_byx is None


def test_a_loss_is_not_measured_of_an_output_it_does_not_fit():
    with pytest.raises(AssertionError, match="mse"):
        loss_of([[0.0]], [0], name="mse")
