"""Images that differ from those that a model was trained on, as a network receives them."""

import numpy as np
import pytest

from cellmill.checks.unlike_training import (
    RANGES,
    find_unlike,
    measure_image,
    measure_labels,
    measure_objects,
    summarize_images,
)

RADIUS_PX = 5


def field(seed, *, scale=1.0, shape=(100, 120), ground=60.0, cells=180.0, noise=6.0, count=12):
    """Draw discs in a grid with some jitter: the image in counts, and its labels."""
    rng = np.random.default_rng(seed)
    sides = tuple(round(side * scale) for side in shape)
    labels_yx = np.zeros(sides, dtype=np.int32)
    row, column = np.mgrid[: sides[0], : sides[1]]
    places = [(r, c) for r in range(14, shape[0] - 8, 22) for c in range(14, shape[1] - 8, 22)]
    for number, place in enumerate(rng.permutation(places)[:count], start=1):
        y, x = (place + rng.uniform(-3, 3, 2)) * scale
        labels_yx[(row - y) ** 2 + (column - x) ** 2 <= (rng.uniform(0.9, 1.1) * RADIUS_PX * scale) ** 2] = number
    image_yx = np.where(labels_yx > 0, cells, ground) + rng.normal(0, noise, sides)
    return image_yx.astype(np.float32), labels_yx


def measure(image_yx, labels_yx, *, pixel_size_um=None):
    return measure_image(image_yx, pixel_size_um=pixel_size_um) | measure_labels([labels_yx])


def seen(*, normalise="zscore", pixel_size_um=None, **drawn):
    rows = [measure(*field(seed, **drawn), pixel_size_um=pixel_size_um) for seed in range(8)]
    return summarize_images(rows, normalise=normalise)


@pytest.mark.parametrize("seed", range(20, 25))
@pytest.mark.parametrize(
    "change",
    [
        lambda counts: counts,
        lambda counts: 2 * counts,  # twice the bits, or the exposure
        lambda counts: 257 * counts,  # 8 to 16 bits
        lambda counts: counts + 32768,  # an offset
        lambda counts: 0.2 * counts - 3,
        lambda counts: np.rint(counts / 16),  # fewer bits
    ],
)
def test_bit_depth_offset_and_exposure_make_no_difference(seed, change):
    image_yx, labels_yx = field(seed)
    assert find_unlike(measure(change(image_yx), labels_yx), seen()) == []


@pytest.mark.parametrize(
    "drawn",
    [
        {"shape": (300, 340), "count": 100},
        {"shape": (58, 80)},
        {"count": 5},
        {"count": 20},
        {"noise": 15.0},
        {"ground": 20.0, "cells": 60.0, "noise": 3.0},
    ],
    ids=str,
)
def test_other_fields_of_the_same_objects_are_not_flagged(drawn):
    assert [find_unlike(measure(*field(seed, **drawn)), seen()) for seed in range(30, 34)] == [[]] * 4


@pytest.mark.parametrize("seed", range(40, 44))
@pytest.mark.parametrize(("scale", "words"), [(0.5, "finer"), (2.0, "coarser")])
def test_objects_of_half_or_twice_the_size_are_flagged(seed, scale, words):
    image_yx, labels_yx = field(seed, scale=scale)
    found = find_unlike(measure(image_yx, labels_yx), seen())
    assert len(found) == 2
    assert f"its details are {words} than in the training images" in found[0]
    assert found[1].startswith("its objects have a median diameter of ")
    assert f"{2 * RADIUS_PX * scale:.0f}" in found[1] or "compared with" in found[1]
    # Without objects, as where a network finds none, the image is enough.
    nothing = measure_image(image_yx, pixel_size_um=None) | measure_objects(np.zeros(0), known_px=image_yx.size)
    assert find_unlike(nothing, seen()) == found[:1]


@pytest.mark.parametrize("seed", range(50, 54))
def test_the_opposite_polarity_is_flagged(seed):
    dark = {"ground": 180.0, "cells": 60.0}
    found = find_unlike(measure(*field(seed, **dark)), seen())
    assert found == ["its structures are darker than the ground, and brighter in the training images"]
    found = find_unlike(measure(*field(seed)), seen(**dark))
    assert found == ["its structures are brighter than the ground, and darker in the training images"]
    assert find_unlike(measure(*field(seed, **dark)), seen(**dark)) == []


@pytest.mark.parametrize(("share", "is_flagged"), [(0.2, False), (0.6, True), (0.9, True), (1.0, True)])
def test_objects_that_cover_most_of_an_image_are_flagged(share, is_flagged):
    image_yx, labels_yx = field(60)
    found_yx = np.zeros_like(labels_yx)
    found_yx[: round(share * len(found_yx))] = 1
    found = find_unlike(measure(image_yx, found_yx), seen())
    assert bool(found) == is_flagged
    assert all(reason.startswith(f"objects cover {share:.0%} of it, compared with at most ") for reason in found)


def test_dense_objects_are_no_surprise_after_dense_training_images():
    rows = [{"covered": share} for share in (0.7, 0.8, 0.85)]
    assert find_unlike({"covered": 0.9}, summarize_images(rows, normalise="zscore")) == []
    assert len(find_unlike({"covered": 0.99}, summarize_images(rows, normalise="zscore"))) == 1


def test_the_ranges_of_objects_include_those_that_the_model_finds():
    """Annotations that join touching objects are larger than the objects found."""
    rows = [{"diameter_px": diameter} for diameter in (20.0, 22.0)]
    found = [{"diameter_px": 12.0, "covered": 0.1}]
    alone, wider = (summarize_images(rows, found=part, normalise="zscore") for part in ([], found))
    assert len(find_unlike({"diameter_px": 11.0}, alone)) == 1
    assert find_unlike({"diameter_px": 11.0}, wider) == []
    assert wider["images"] == 2


def test_counts_matter_to_a_network_without_normalisation():
    image_yx, labels_yx = field(70)
    raw = seen(normalise="none")
    assert find_unlike(measure(image_yx, labels_yx), raw) == []
    [contrast] = find_unlike(measure(image_yx * 8 - 420, labels_yx), raw)
    assert contrast.startswith("its contrast is ")
    [brightness] = find_unlike(measure(image_yx + 5000, labels_yx), raw)
    assert brightness.startswith("its brightness is 5.06e+03, compared with ")


def test_the_pixel_size_counts_only_where_objects_cannot_be_compared():
    image_yx, labels_yx = field(80)
    micro = seen(pixel_size_um=0.5)
    assert find_unlike(measure(image_yx, labels_yx, pixel_size_um=1.0), micro) == []
    nothing = measure_image(image_yx, pixel_size_um=1.0) | measure_objects(np.zeros(0), known_px=1)
    assert find_unlike(nothing, micro) == ["its pixels are 1 um wide, compared with 0.5 in the training images"]
    assert find_unlike({**nothing, "pixel_size_um": 0.6}, micro) == []


def test_nothing_is_said_where_nothing_is_known():
    image_yx, labels_yx = field(90, scale=0.5)
    assert find_unlike(measure(image_yx, labels_yx), summarize_images([], normalise="zscore")) == []
    # As in files of earlier versions
    old = {"images": 6, "short_side_px": [20, 30], "long_side_px": [20, 30], "pixel_size_um": None,
           "brightness": [1.0, 2.0], "contrast": [3.0, 4.0]}  # fmt: skip
    assert find_unlike(measure(image_yx, labels_yx), old) == []
    assert set(summarize_images([], normalise="none")) == {"images", "normalise", "details", *RANGES}


def test_an_empty_image_is_not_unlike_and_widens_no_range():
    noise_yx = np.random.default_rng(5).normal(100, 4, (100, 120)).astype(np.float32)
    empty = measure(noise_yx, np.zeros(noise_yx.shape, np.int32))
    assert find_unlike(empty, seen()) == []
    rows = [measure(*field(seed)) for seed in range(8)]
    assert summarize_images([*rows, empty], normalise="zscore")["details"] == seen()["details"]


def test_a_few_unusual_training_images_leave_the_ranges_narrow():
    rows = [{"diameter_px": 20.0 + number / 100} for number in range(99)] + [{"diameter_px": 300.0}]
    assert summarize_images(rows, normalise="zscore")["diameter_px"][1] < 21


def test_the_diameter_is_that_of_a_disc_of_the_median_area():
    areas_px = np.pi * np.array([4.0, 10.0, 30.0]) ** 2 / 4
    assert measure_objects(areas_px, known_px=1000)["diameter_px"] == pytest.approx(10)
    assert measure_objects(areas_px[:2], known_px=1000)["diameter_px"] is None
    assert measure_objects(areas_px, known_px=0)["covered"] is None


def test_unknown_pixels_are_no_object():
    labels_yx = np.zeros((10, 10), np.uint16)
    labels_yx[:5], labels_yx[0, :4] = 65535, [1, 2, 3, 3]
    measured = measure_labels([labels_yx])
    assert measured["covered"] == pytest.approx(4 / 54)
    assert measured["diameter_px"] == pytest.approx(2 / np.sqrt(np.pi))


def test_a_part_of_a_large_image_is_enough(monkeypatch):
    image_yx, labels_yx = field(100, shape=(400, 420), count=300)
    monkeypatch.setattr("cellmill.checks.unlike_training.MAX_PIXELS", 2000)
    monkeypatch.setattr("cellmill.images.stored.CENTRE_PX", 100)
    assert find_unlike(measure(image_yx, labels_yx), seen()) == []


@pytest.mark.parametrize("shape", [(5, 5), (1, 40), (64, 64)])
def test_a_constant_image_is_measured(shape):
    measured = measure_image(np.full(shape, 3.0), pixel_size_um=None)
    assert measured["contrast"] == 0
    assert measured["asymmetry"] is None
    assert measured["details"] == []
