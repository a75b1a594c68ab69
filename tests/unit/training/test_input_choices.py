"""Choices that a preset leaves to the training images: polarity, least contrast and working scale."""

from dataclasses import replace

import numpy as np
import pytest

from cellmill.inference.normalise import measure_contrast
from cellmill.preprocessing.geometry import Geometry, plan_fit
from cellmill.training.choosing import Example, choose_factors, choose_input, measure_examples, settle_input
from training_shards import image_set, tiny_preset, write_shard

OPEN = {"normalise": "percentile", "polarity": "auto", "min_contrast": 0.0, "diameter_px": 16.0, "scale": "auto"}


def section(**changes):
    return {**tiny_preset()["input"], **OPEN, **changes}


def example(name="a", *, diameter_px=20.0, dark=False, ground=False, pixel_size_um=None, contrast=20.0):
    return Example(name, 5, diameter_px, pixel_size_um, dark, ground, contrast)


def choose(examples, *, is_sequential=False, can_look=True, **changes):
    return choose_input(examples, input=section(**changes), is_sequential=is_sequential, can_look=can_look)


def draw(diameters, *, shape=(120, 120), dark=False):
    """Draw squares with the areas of discs in a row; return the image and its labels."""
    labels_yx = np.zeros(shape, dtype=np.uint16)
    column = 2
    for number, diameter in enumerate(diameters, start=1):
        side = round(diameter * np.sqrt(np.pi) / 2)
        labels_yx[5 : 5 + side, column : column + side] = number
        column += side + 3
    rng = np.random.default_rng(1)
    image_yx = rng.normal(100, 3, shape) + np.where(labels_yx > 0, -60 if dark else 60, 0)
    return image_yx.astype(np.float32), labels_yx


@pytest.fixture
def images(tmp_path):
    pairs = {"small": draw([10, 12, 14]), "large": draw([40, 44], dark=True), "empty": draw([])}
    return image_set(write_shard(tmp_path, "train", pairs))


def test_every_image_is_measured(images):
    measured = {each.sample: each for each in measure_examples(images, pixel_size_um=None)}
    assert measured["small"].diameter_px == pytest.approx(12, rel=0.06)
    assert measured["large"].diameter_px == pytest.approx(42, rel=0.06)
    assert measured["empty"].diameter_px is None
    assert [measured[name].objects for name in ("small", "large", "empty")] == [3, 2, 0]
    assert [measured[name].has_dark_objects for name in ("small", "large", "empty")] == [False, True, None]
    assert [measured[name].has_bright_ground for name in ("small", "large")] == [False, True]


def test_images_of_both_polarities_are_aligned_if_the_ground_tells_which():
    mixed = [example(), example(), example(dark=True, ground=True)]
    input, choices = choose(mixed)
    assert input["polarity"] == "bright"
    assert "darker than the ground in 1 of 3" in choices[0].because


def test_images_of_both_polarities_stay_as_they_are_if_the_ground_does_not_tell():
    mixed = [example(), example(ground=True), example(dark=True, ground=True)]
    assert choose(mixed)[0]["polarity"] == "keep"


@pytest.mark.parametrize(("dark", "polarity"), [(False, "keep"), (True, "invert")])
def test_dark_objects_are_made_bright_whatever_the_ground(dark, polarity):
    assert choose([example(dark=dark, ground=True), example(dark=dark)])[0]["polarity"] == polarity


def test_alike_images_have_one_scale_and_others_one_each():
    assert choose([example(diameter_px=d) for d in (18, 20, 22)])[0]["scale"] == "dataset"
    assert choose([example(diameter_px=d) for d in (9, 20, 50)])[0]["scale"] == "image"


def test_frames_of_a_sequence_have_one_scale():
    assert choose([example(diameter_px=d) for d in (9, 50)], is_sequential=True)[0]["scale"] == "dataset"


def test_without_flows_all_images_have_one_scale():
    assert choose([example(diameter_px=d) for d in (9, 50)], can_look=False)[0]["scale"] == "dataset"


def test_settings_of_the_config_are_not_chosen():
    mixed = [example(diameter_px=9), example(diameter_px=50, dark=True, ground=True)]
    input, choices = choose(mixed, polarity="keep", scale="dataset")
    assert (input["polarity"], input["scale"], choices) == ("keep", "dataset", [])


def test_each_choice_has_a_key_and_a_reason():
    _, choices = choose([example()])
    assert [choice.key for choice in choices] == ["input.polarity", "input.scale"]
    assert all(choice.because for choice in choices)


@pytest.mark.parametrize(
    ("diameter_px", "says"),
    [
        (32.0, "The typical factor is 0.5, because objects have 32 px and 16 px are wanted"),
        (
            160.0,
            "The typical factor is 0.125, because objects have 160 px and 16 px are wanted; a factor of 0.1 is beyond",
        ),
    ],
)
def test_the_reason_of_a_scale_states_the_factor(diameter_px, says):
    _, choices = choose([example(diameter_px=diameter_px)])
    assert says in choices[1].because


def test_the_typical_diameter_is_the_median_of_the_images():
    input, _ = choose([example(diameter_px=d) for d in (10, 20, 1000)])
    assert input["object_px"] == pytest.approx(20)
    assert input["object_um"] is None


def test_sizes_in_um_need_the_pixel_size_of_every_image():
    known = [example(diameter_px=10, pixel_size_um=0.5), example(diameter_px=20, pixel_size_um=0.25)]
    assert choose(known)[0]["object_um"] == pytest.approx(5)
    assert choose([*known, example()])[0]["object_um"] is None


def test_a_pixel_size_of_the_config_overrides_that_of_the_files(images):
    input, _ = choose(measure_examples(images, pixel_size_um=2.0))
    assert input["object_um"] == pytest.approx(2 * input["object_px"])


def test_pixels_of_resampled_images_have_their_own_size():
    resized = Geometry(40, 60, "resize", 20, 30, 0, 0, pixel_size_um=0.5)
    assert resized.edge_um(None) == pytest.approx(1)
    assert resized.edge_um(3.0) == pytest.approx(6)
    assert plan_fit((40, 60), mode="none", size=None).edge_um(None) is None


def test_a_scale_for_each_image_follows_its_objects():
    examples = [example("a", diameter_px=8), example("b", diameter_px=64), example("c", diameter_px=None)]
    input, _ = choose(examples)
    factors = choose_factors(examples, input=input)
    assert factors["a"] == pytest.approx(2)
    assert factors["b"] == pytest.approx(0.25)
    assert factors["c"] == pytest.approx(16 / np.sqrt(8 * 64))


def test_without_objects_nothing_is_resampled():
    examples = [example(diameter_px=None, dark=None)] * 2
    input, _ = choose(examples)
    assert (input["polarity"], input["scale"], input["object_px"]) == ("keep", "dataset", None)
    assert choose_factors(examples, input=input) == {}


def test_a_network_without_a_working_diameter_receives_images_as_they_are():
    examples = [example(diameter_px=9), example(diameter_px=50)]
    input, choices = choose(examples, diameter_px=None)
    assert input["scale"] == "dataset"
    assert choose_factors(examples, input=input) == {}
    assert [choice.key for choice in choices] == ["input.polarity"]


def test_images_and_labels_of_a_set_are_scaled_alike(images):
    examples = measure_examples(images, pixel_size_um=None)
    input, _ = choose(examples)
    images.settle(input=input, factors=choose_factors(examples, input=input))
    for index, image in enumerate(images.images):
        labels_yx, _ = images.truth(index)
        assert labels_yx.shape == images.view(index).shape, image.sample
    seen = {image.sample: images.view(index) for index, image in enumerate(images.images)}
    # The squares of 42 px become 16 px wide, and are bright at last.
    rows, columns = (np.arange(side) for side in seen["large"].shape)
    assert seen["large"].shape == (pytest.approx(120 * 16 / 42, abs=2),) * 2
    assert np.median(seen["large"].read(rows, columns)) < 0.5


@pytest.mark.parametrize(
    ("contrasts", "expected"), [([24.8, 20.0, None], 5.0), ([26.0, 30.0], 6.0), ([3.1, 40.0], 0.0), ([None], 0.0)]
)
def test_the_least_contrast_is_a_quarter_of_that_of_the_training_images(contrasts, expected):
    input, choices = choose([example(contrast=each) for each in contrasts], min_contrast="auto", polarity="keep")
    assert input["min_contrast"] == expected
    [choice] = [choice for choice in choices if choice.key == "input.min_contrast"]
    assert choice.value == expected
    assert ("more than 6" in choice.because) == (expected == 6)
    assert ("not above the 1 of nothing but noise" in choice.because) == (3.1 in contrasts)
    assert ("no training image" in choice.because) == (contrasts == [None])


def test_images_without_objects_do_not_lower_the_least_contrast():
    empty = replace(example(diameter_px=None, contrast=1.2), objects=0)
    assert choose([example(contrast=16.0), empty], min_contrast="auto")[0]["min_contrast"] == 4.0


@pytest.mark.parametrize("diameter_px", [None, 16.0])
def test_a_training_sees_images_of_little_contrast_as_prediction_does(tmp_path, diameter_px):
    input = section(
        polarity="keep", min_contrast=3.0, scale="dataset", normalise="zscore", diameter_px=diameter_px
    )  # fmt: skip
    shard = write_shard(tmp_path, "train", {"full": draw([40, 44]), "none": draw([])})
    images = image_set(shard, preset=tiny_preset(input=input))
    settled, choices = settle_input(
        images, images, input=input, pixel_size_um=None, is_sequential=False, can_look=True
    )  # fmt: skip
    assert (settled["min_contrast"], choices) == (3.0, [])
    stretches = {image.sample: images.view(number).frames[0][1].stretch for number, image in enumerate(images.images)}
    assert stretches == {"full": 1.0, "none": pytest.approx(3 / measure_contrast(draw([])[0]))}
