"""The order in which images are annotated: doubt, novelty, and near copies."""

import numpy as np
import pytest

from cellmill.curation.order import DESCRIPTORS, describe_images, order_images


def describe(**changes):
    rng = np.random.default_rng(0)
    count = 6
    columns = {
        "mean": rng.uniform(50, 90, count), "minimum": np.full(count, 10.0), "maximum": np.full(count, 255.0),
        "contrast": rng.uniform(5, 30, count), "focus": rng.uniform(0, 1, count), "pixels": np.full(count, 1e6),
        "objects": np.array([0, 4, 9, 30, 100, 7.0]), "area_px": np.array([0, 900, 4000, 9000, 9e4, 700.0]),
    }  # fmt: skip
    return describe_images(**{**columns, **changes})


def numbers(*args, **keywords):
    return [number for number, _ in order_images(*args, **keywords)]


def test_novelty_is_one_half_at_the_usual_distance_and_none_for_a_copy():
    places = np.array([[0.0], [0.0], [1.0], [5.0]])
    order = dict(order_images(np.ones(4), places, is_known=np.array([True, False, False, False]), picks=3))
    # The distances to the annotated image are 0, 1 and 5, their median is 1. The farthest is chosen first.
    assert order == pytest.approx({3: 5 / 6, 2: 1 / 2, 1: 0})


def test_unknown_descriptors_are_in_the_middle():
    focus = np.array([5, 5.1, 5.2, 5.1, 5.1, np.nan])
    column = describe(focus=focus)[:, DESCRIPTORS.index("focus")]
    assert column[-1] == 0
    assert column[:5].std() == pytest.approx(1)


def test_descriptors_are_standardised_and_finite():
    described = describe(contrast=np.array([1, 2, np.nan, 3, 4, 5.0]), focus=np.full(6, np.nan))
    assert described.shape == (6, len(DESCRIPTORS))
    assert np.isfinite(described).all()
    assert described.mean(axis=0) == pytest.approx(np.zeros(len(DESCRIPTORS)), abs=1e-9)
    known = np.delete(described, 2, axis=0)  # the third image has no contrast
    assert known[:, 1].std() == pytest.approx(1)
    assert described[:, [0, 2, 3, 4, 5]].std(axis=0) == pytest.approx([1, 0, 1, 1, 1])


def test_the_least_sure_image_is_first_where_all_differ_alike():
    places = np.eye(4)
    assert numbers(np.array([0.1, 0.7, 0.3, 0.5]), places, is_known=np.zeros(4, dtype=bool), picks=4) == [
        1,
        3,
        2,
        0,
    ]


def test_a_near_copy_of_an_annotated_or_chosen_image_waits():
    places = np.array([[0.0, 0], [0.01, 0], [5, 0], [5.01, 0], [0, 5]])
    doubt = np.array([0.5, 0.9, 0.6, 0.59, 0.3])
    is_known = np.array([True, False, False, False, False])
    # Image 1 is the least sure and a copy of the annotated image 0, image 3 of the chosen image 2.
    assert numbers(doubt, places, is_known=is_known, picks=4)[:2] == [2, 4]


def test_images_behind_the_picks_are_in_the_order_too():
    rng = np.random.default_rng(1)
    places, doubt = rng.normal(size=(30, 3)), rng.random(30)
    is_known = np.arange(30) < 5
    order = numbers(doubt, places, is_known=is_known, picks=4)
    assert sorted(order) == list(range(5, 30))
    assert order[:4] == numbers(doubt, places, is_known=is_known, picks=25)[:4]


def test_without_other_images_the_order_is_empty():
    assert numbers(np.array([0.2]), np.zeros((1, 2)), is_known=np.array([True]), picks=3) == []
    assert numbers(np.zeros(2), np.zeros((2, 2)), is_known=np.zeros(2, dtype=bool), picks=3) == [0, 1]
