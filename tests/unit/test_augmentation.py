"""Augmentation: image and target move together, labels are never mixed, named sizes are what they say."""

import numpy as np
import pytest
from training_shards import tiny_preset

from cellmill.augmentation import Augmentation, augment, draw_augmentation, margin_px
from cellmill.losses import IGNORED_TARGET

PATCH = (64, 64)
STILL = Augmentation(
    affine=False,
    rotation_deg=0,
    zoom=1,
    shift_yx_px=(0, 0),
    quarter_turns=0,
    flip_rows=False,
    flip_columns=False,
    gain=1,
    offset=0,
    noise=0,
)
ALL_GEOMETRY = {
    "flip": True,
    "rotate_90": True,
    "affine_probability": 0.8,
    "rotation_deg": 40,
    "zoom": [0.7, 1.4],
    "translation": 0.1,
}


def settings_of(**changes):
    return tiny_preset(train={"augmentation": changes})["train"]["augmentation"]


def blob(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    target_yx = ((y - 0.4 * shape[0]) ** 2 / 400 + (x - 0.55 * shape[1]) ** 2 / 120 < 1).astype(np.uint8)
    target_yx[: shape[0] // 3, : shape[1] // 4] = 1
    target_yx.setflags(write=False)
    return target_yx


def apply(window_yx, target_yx, drawn, *, seed=0, patch=PATCH):
    return augment(window_yx, target_yx, drawn=drawn, patch=patch, rng=np.random.default_rng(seed))


def affine(**changes):
    return Augmentation(**{**STILL.__dict__, "affine": True, **changes})


def test_image_and_target_move_together_over_a_hundred_draws():
    settings = settings_of(**ALL_GEOMETRY)
    margin = margin_px(settings, patch=PATCH)
    for seed in range(100):
        rng = np.random.default_rng(seed)
        drawn = draw_augmentation(settings, patch=PATCH, rng=rng)
        side = PATCH[0] + 2 * (margin if drawn.affine else 0)
        target_yx = blob((side, side))
        image_yx, moved_yx = apply(target_yx.astype(np.float32), target_yx, drawn)
        found, truth = image_yx > 0.5, moved_yx == 1
        assert (found & truth).sum() > 0.97 * (found | truth).sum()


def test_no_label_appears_that_was_not_there():
    settings = settings_of(**ALL_GEOMETRY)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        drawn = draw_augmentation(settings, patch=PATCH, rng=rng)
        target_yx = np.where(blob((64, 64)) == 1, 1, IGNORED_TARGET).astype(np.uint8)
        moved_yx = apply(np.zeros((64, 64), np.float32), target_yx, drawn)[1]
        assert moved_yx.dtype == np.uint8
        assert set(np.unique(moved_yx)) <= {1, IGNORED_TARGET}


def test_the_margin_holds_all_that_the_largest_change_reaches():
    settings = settings_of(**ALL_GEOMETRY)
    margin = margin_px(settings, patch=PATCH)
    side = PATCH[0] + 2 * margin
    corner = affine(rotation_deg=40, zoom=0.7, shift_yx_px=(6.4, 6.4))
    for sign in (1, -1):
        drawn = Augmentation(**{**corner.__dict__, "rotation_deg": 40 * sign, "shift_yx_px": (6.4 * sign, 6.4 * sign)})
        moved_yx = apply(np.zeros((side, side), np.float32), np.zeros((side, side), np.uint8), drawn)[1]
        assert not (moved_yx == IGNORED_TARGET).any()


def test_the_margin_is_no_larger_than_needed():
    settings = settings_of(affine_probability=1, rotation_deg=0, zoom=[1, 1], translation=0.25)
    assert margin_px(settings, patch=PATCH) <= 16 + 2


def test_without_affine_changes_there_is_no_margin():
    assert margin_px(settings_of(flip=True), patch=PATCH) == 0


def test_what_lies_outside_the_window_is_ignored():
    moved_yx = apply(np.zeros((64, 64), np.float32), np.zeros((64, 64), np.uint8), affine(shift_yx_px=(20.0, 0.0)))[1]
    assert (moved_yx[-20:] == IGNORED_TARGET).all()
    assert (moved_yx[:-20] == 0).all()


def test_a_small_rotation_in_degrees_moves_a_corner_by_less_than_a_pixel():
    # 0.2 degrees at the corner of 256 x 256: 181 px * 0.0035 = 0.63 px; taken for radians it would be 36 px.
    y, x = np.mgrid[:256, :256].astype(np.float32)
    drawn = affine(rotation_deg=0.2)
    moved = [apply(plane, np.zeros((256, 256), np.uint8), drawn, patch=(256, 256))[0] for plane in (y, x)]
    displacement = np.hypot(moved[0] - y, moved[1] - x)
    assert 0.4 < displacement.max() < 1


def test_a_magnification_of_two_makes_areas_four_times_as_large():
    target_yx = np.zeros((64, 64), np.uint8)
    target_yx[26:38, 26:38] = 1
    moved_yx = apply(target_yx.astype(np.float32), target_yx, affine(zoom=2.0))[1]
    assert (moved_yx == 1).sum() == pytest.approx(4 * 144, rel=0.1)


def test_a_still_draw_changes_nothing():
    image_yx = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
    image_yx.setflags(write=False)
    kept_yx, target_yx = apply(image_yx, blob((64, 64)), STILL)
    assert np.array_equal(kept_yx, image_yx)
    assert np.array_equal(target_yx, blob((64, 64)))


def test_the_neutral_affine_change_is_the_middle_of_the_window():
    image_yx = np.random.default_rng(1).normal(size=(84, 84)).astype(np.float32)
    kept_yx, _ = apply(image_yx, np.zeros((84, 84), np.uint8), affine())
    assert np.allclose(kept_yx, image_yx[10:74, 10:74], atol=1e-5)


def test_flips_and_quarter_turns_only_move_pixels():
    settings = settings_of(flip=True, rotate_90=True)
    image_yx = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    seen = set()
    for seed in range(200):
        drawn = draw_augmentation(settings, patch=PATCH, rng=np.random.default_rng(seed))
        moved_yx = apply(image_yx, np.zeros((64, 64), np.uint8), drawn)[0]
        assert np.array_equal(np.sort(moved_yx, axis=None), image_yx.ravel())
        seen.add((moved_yx[0, 0], moved_yx[0, -1]))
    assert len(seen) == 8  # the symmetries of the square


def test_intensities_change_and_labels_do_not():
    settings = settings_of(contrast=1, brightness=0.5, invert_probability=0.5, noise=0.1)
    image_yx = blob((64, 64)).astype(np.float32)
    signs = []
    for seed in range(50):
        drawn = draw_augmentation(settings, patch=PATCH, rng=np.random.default_rng(seed))
        assert 0.5 <= abs(drawn.gain) <= 2
        assert abs(drawn.offset) <= 0.5
        changed_yx, target_yx = apply(image_yx, blob((64, 64)), drawn, seed=seed)
        assert np.array_equal(target_yx, blob((64, 64)))
        signs.append(changed_yx[image_yx == 1].mean() > changed_yx[image_yx == 0].mean())
    assert 10 < sum(signs) < 40


def test_switching_one_change_on_leaves_the_draws_of_the_others():
    plain = draw_augmentation(settings_of(flip=True), patch=PATCH, rng=np.random.default_rng(5))
    both = draw_augmentation(settings_of(flip=True, contrast=1), patch=PATCH, rng=np.random.default_rng(5))
    assert (plain.flip_rows, plain.flip_columns) == (both.flip_rows, both.flip_columns)
