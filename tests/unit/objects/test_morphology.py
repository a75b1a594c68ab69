import numpy as np
import pytest
from scipy import ndimage
from skimage import measure

from cellmill.images.stored import IGNORE_LABEL
from cellmill.objects.instances import keep_objects
from cellmill.objects.morphology import (
    avoid_ignore_label,
    close_mask,
    fill_holes,
    label_components,
    make_footprint,
    number_objects,
)


def random_mask(seed, shape=(40, 60)):
    mask = np.random.default_rng(seed).random(shape) < 0.6
    mask.flags.writeable = False
    return mask


def test_cross_of_radius_one_is_the_library_default():
    assert np.array_equal(make_footprint("cross", radius_px=1), ndimage.generate_binary_structure(2, 1))


def test_footprints_have_the_area_of_their_shape():
    assert make_footprint("cross", radius_px=3).sum() == 4 * 3 + 1
    assert make_footprint("square", radius_px=3).sum() == 49
    assert make_footprint("disk", radius_px=1).sum() == 5


@pytest.mark.parametrize("shape", ["cross", "square", "disk"])
@pytest.mark.parametrize("radius_px", [1, 2, 3])
def test_closing_holds_every_pixel_also_at_the_borders(shape, radius_px):
    mask = random_mask(1)
    assert mask[0].any()
    assert mask[:, -1].any()
    closed = close_mask(mask, footprint=make_footprint(shape, radius_px=radius_px))
    assert not (mask & ~closed).any()


def test_closing_keeps_an_object_along_the_whole_border():
    frame = np.ones((12, 12), dtype=bool)
    frame[4:8, 4:8] = False
    closed = close_mask(frame, footprint=make_footprint("cross", radius_px=1))
    assert np.array_equal(closed[0], np.ones(12, dtype=bool))


@pytest.mark.parametrize("shape", ["cross", "square", "disk"])
def test_closing_twice_changes_nothing(shape):
    footprint = make_footprint(shape, radius_px=2)
    once = close_mask(random_mask(2), footprint=footprint)
    assert np.array_equal(close_mask(once, footprint=footprint), once)


def test_closing_of_radius_zero_changes_nothing():
    mask = random_mask(3)
    assert np.array_equal(close_mask(mask, footprint=make_footprint("disk", radius_px=0)), mask)


def test_closing_fills_a_gap_of_one_pixel():
    mask = np.zeros((9, 11), dtype=bool)
    mask[2:7, 1:5] = mask[2:7, 6:10] = True
    closed = close_mask(mask, footprint=make_footprint("cross", radius_px=1))
    assert closed[3:6, 5].all()


def test_only_holes_up_to_the_limit_are_filled():
    mask = np.ones((20, 20), dtype=bool)
    mask[3:5, 3:5] = False
    mask[10:13, 10:13] = False
    mask[17:, 8] = False
    filled = fill_holes(mask, max_hole_px=4)
    assert filled[3:5, 3:5].all()
    assert not filled[10:13, 10:13].any()
    assert not filled[17:, 8].any()


def test_without_a_limit_holes_are_those_of_scipy():
    mask = random_mask(4)
    assert np.array_equal(fill_holes(mask, max_hole_px=mask.size), ndimage.binary_fill_holes(mask))


def test_filling_is_off_at_zero():
    mask = random_mask(5)
    assert np.array_equal(fill_holes(mask, max_hole_px=0), mask)


def test_a_diagonal_line_is_one_component():
    assert label_components(np.eye(7, dtype=bool)).max() == 1


@pytest.mark.parametrize("largest", [900, 1 << 30])
def test_numbering_keeps_the_order_of_labels(largest):
    labels = np.array([[0, 7, 7], [largest, 0, 3]])
    numbered, count = number_objects(labels)
    assert count == 3
    assert np.array_equal(numbered, [[0, 2, 2], [3, 0, 1]])


@pytest.mark.parametrize("label", [5, 1 << 30])
def test_numbering_works_without_background(label):
    numbered, count = number_objects(np.full((2, 3), label))
    assert count == 1
    assert (numbered == 1).all()


def test_small_objects_become_background():
    labels = np.zeros((6, 6), dtype=np.int64)
    labels[0, 0] = 1
    labels[2:4, 2:4] = 2
    labels[5, 1:4] = 5
    limits = {"min_area_px": 3, "max_area_px": None, "min_solidity": None, "exclude_border": False}
    stays = keep_objects(labels, box=((0, 6), (0, 6)), limits=limits)
    kept, _ = number_objects(np.where(stays[labels], labels, 0))
    assert np.array_equal(np.unique(kept), [0, 1, 2])
    assert kept[0, 0] == 0
    assert (kept[5, 1:4] == 2).all()


def test_no_object_carries_the_ignore_label():
    labels = np.arange(1, 300 * 300 + 1).reshape(300, 300)
    safe = avoid_ignore_label(labels)
    assert not (safe == IGNORE_LABEL).any()
    assert len(np.unique(safe)) == labels.size
    assert np.array_equal(safe.ravel()[: IGNORE_LABEL - 1], np.arange(1, IGNORE_LABEL))


def test_components_agree_with_scikit_image():
    mask = random_mask(6) & random_mask(7)
    assert np.array_equal(label_components(mask), measure.label(mask, connectivity=2))
