"""Images that differ from those that a model was trained on."""

import numpy as np
import pytest

from cellmill.checks.unlike_training import find_unlike, measure_image, summarize_images


def image_of(shape=(100, 120), *, level=200.0, spread=30.0, seed=0):
    return np.random.default_rng(seed).normal(level, spread, shape).astype(np.float32)


def seen():
    images = [image_of(seed=1), image_of((110, 140), level=260, spread=40, seed=2)]
    return summarize_images(measure_image(image, pixel_size_um=0.5) for image in images)


def test_the_range_is_that_of_all_images():
    summary = seen()
    assert summary["images"] == 2
    assert summary["short_side_px"] == [100, 110]
    assert summary["long_side_px"] == [120, 140]
    assert summary["pixel_size_um"] == [0.5, 0.5]
    assert summary["brightness"] == pytest.approx([200, 260], abs=3)
    # 2 x 2.326 standard deviations lie between the 1st and the 99th percentile
    assert summary["contrast"] == pytest.approx([4.65 * 30, 4.65 * 40], rel=0.05)


@pytest.mark.parametrize("image", [image_of(seed=7), image_of((60, 250), level=330, spread=80, seed=8)])
def test_what_is_like_them_is_not_flagged(image):
    assert find_unlike(measure_image(image, pixel_size_um=0.6), seen()) == []


@pytest.mark.parametrize(
    ("image", "pixel_size_um", "said"),
    [
        (image_of((40, 120)), 0.5, "its shorter side is 40 px, compared with 100 to 110 in the training images"),
        (image_of((100, 500)), 0.5, "its longer side is 500 px, compared with 120 to 140 in the training images"),
        (image_of(), 0.9, "its pixels are 0.9 um wide, compared with 0.5 in the training images"),
        (image_of(spread=300), 0.5, "its contrast is"),
        (image_of(level=5000), 0.5, "its brightness is 5e+03, compared with "),
    ],
)
def test_each_difference_is_said_with_what_was_seen(image, pixel_size_um, said):
    [found] = find_unlike(measure_image(image, pixel_size_um=pixel_size_um), seen())
    assert found.startswith(said)


def test_nothing_is_said_where_nothing_is_known():
    assert find_unlike(measure_image(image_of(), pixel_size_um=None), summarize_images([])) == []
    unknown = summarize_images([measure_image(image_of(), pixel_size_um=None)])
    assert unknown["pixel_size_um"] is None
    assert find_unlike(measure_image(image_of(), pixel_size_um=0.1), unknown) == []


def test_a_part_of_a_large_image_is_enough(monkeypatch):
    whole = measure_image(image_of(), pixel_size_um=None)
    monkeypatch.setattr("cellmill.checks.unlike_training.MAX_PIXELS", 2000)
    part = measure_image(image_of(), pixel_size_um=None)
    assert part["long_side_px"] == whole["long_side_px"]
    assert part["contrast"] == pytest.approx(whole["contrast"], rel=0.15)
    assert part["contrast"] != whole["contrast"]


def test_a_constant_image_is_measured():
    assert measure_image(np.full((5, 5), 3.0), pixel_size_um=None)["contrast"] == 0
