"""Fitting frames to one size and back: the inverse is exact where the frames overlap."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellmill.images.stored import IGNORE_LABEL
from cellmill.preprocessing.geometry import (
    Geometry,
    fit_label_rows,
    fit_labels,
    plan_fit,
    read_geometry,
    resample,
    write_geometry,
)
from whole_images import fit_image, unfit_labels, unfit_probability

sides = st.integers(1, 12)


def numbered(rows, columns):
    return np.arange(1, rows * columns + 1, dtype=np.uint16).reshape(rows, columns)


@functools.cache
def discs(rows, columns, *, radius, seed):
    """Draw discs that do not touch, each with its own label."""
    rng = np.random.default_rng(seed)
    labels_yx = np.zeros((rows, columns), np.uint16)
    pitch = 2 * radius + 4
    y, x = np.mgrid[:pitch, :pitch]
    for row in range(0, rows - pitch, pitch):
        for column in range(0, columns - pitch, pitch):
            centre = pitch / 2 + rng.uniform(-1, 1, 2)
            box = labels_yx[row : row + pitch, column : column + pitch]
            box[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2] = labels_yx.max() + 1
    labels_yx.flags.writeable = False
    return labels_yx


@settings(max_examples=60)
@given(sides, sides, sides, sides)
def test_crop_and_pad_are_undone_exactly_where_the_frames_overlap(rows, columns, new_rows, new_columns):
    raw_yx = numbered(rows, columns)
    geometry = plan_fit((rows, columns), mode="crop_pad", size=[new_rows, new_columns])
    fitted_yx = fit_labels(raw_yx, geometry)
    back_yx = unfit_labels(np.where(fitted_yx == IGNORE_LABEL, 0, fitted_yx), geometry)
    kept = back_yx > 0
    assert fitted_yx.shape == (new_rows, new_columns)
    assert np.array_equal(back_yx[kept], raw_yx[kept])
    assert kept.sum() == min(rows, new_rows) * min(columns, new_columns)
    assert (fitted_yx == IGNORE_LABEL).sum() == new_rows * new_columns - kept.sum()


@settings(max_examples=60)
@given(sides, sides, sides, sides, st.data())
def test_a_region_is_undone_exactly(rows, columns, new_rows, new_columns, data):
    at = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    raw_yx = numbered(rows, columns)
    geometry = plan_fit((rows, columns), mode="crop_pad", size=[new_rows, new_columns], at=at)
    fitted_yx = fit_labels(raw_yx, geometry)
    back_yx = unfit_labels(np.where(fitted_yx == IGNORE_LABEL, 0, fitted_yx), geometry)
    wanted_yx = np.zeros_like(raw_yx)
    region = np.s_[at[0] : at[0] + new_rows, at[1] : at[1] + new_columns]
    wanted_yx[region] = raw_yx[region]
    assert np.array_equal(back_yx, wanted_yx)
    assert fitted_yx[0, 0] == raw_yx[at]


@settings(max_examples=30)
@given(sides, sides, sides, sides)
def test_image_and_labels_are_fitted_to_the_same_place(rows, columns, new_rows, new_columns):
    raw_yx = numbered(rows, columns)
    geometry = plan_fit((rows, columns), mode="crop_pad", size=(new_rows, new_columns))
    image_yx = fit_image(raw_yx, geometry, pad_value=-1)
    labels_yx = fit_labels(raw_yx, geometry)
    assert np.array_equal(np.where(labels_yx == IGNORE_LABEL, -1, labels_yx.astype(float)), image_yx)


def test_an_odd_pixel_goes_to_the_end():
    padded = plan_fit((4, 7), mode="crop_pad", size=[7, 4])
    assert (padded.row_offset, padded.column_offset) == (-1, 1)
    assert fit_labels(np.ones((4, 7), np.uint16), padded)[:, 0].tolist() == [65535, 1, 1, 1, 1, 65535, 65535]


def test_a_larger_pad_adds_ignored_pixels_only():
    labels_yx = discs(40, 50, radius=5, seed=1)
    for size in ([60, 60], [90, 110]):
        fitted_yx = fit_labels(labels_yx, plan_fit((40, 50), mode="crop_pad", size=size))
        valid = fitted_yx[fitted_yx != IGNORE_LABEL]
        assert np.array_equal(valid, labels_yx.ravel())


@pytest.mark.parametrize(("mode", "size"), [("none", None), ("resize", (61, 23)), ("crop_pad", (61, 23))])
def test_labels_are_fitted_by_rows_as_in_one_piece(mode, size):
    labels = np.random.default_rng(0).integers(0, 9, (40, 50)).astype(np.uint16)
    geometry = plan_fit(labels.shape, mode=mode, size=size)
    bands = [
        fit_label_rows(lambda numbers: labels[numbers], geometry, slice(first, min(first + 7, geometry.rows)))
        for first in range(0, geometry.rows, 7)
    ]
    assert np.array_equal(np.concatenate(bands), fit_labels(labels, geometry))


def test_pad_value_fills_images_outside_the_raw_frame():
    geometry = plan_fit((3, 3), mode="crop_pad", size=[5, 5])
    image_yx = fit_image(np.full((3, 3), -2.5, np.float32), geometry, pad_value=7)
    assert image_yx.sum() == 9 * -2.5 + 16 * 7


def test_mode_none_changes_nothing():
    raw_yx = numbered(5, 8)
    geometry = plan_fit((5, 8), mode="none", size=None)
    assert np.array_equal(fit_image(raw_yx, geometry, pad_value=0), raw_yx)
    assert np.array_equal(fit_labels(raw_yx, geometry), raw_yx)
    assert np.array_equal(unfit_labels(raw_yx, geometry), raw_yx)
    assert np.array_equal(unfit_probability(raw_yx, geometry), raw_yx)


@pytest.mark.parametrize("size", [[512, 512], [256, 256], [700, 800]])
def test_a_resize_adds_no_label(size):
    labels_yx = discs(520, 704, radius=8, seed=2)
    geometry = plan_fit((520, 704), mode="resize", size=size)
    fitted_yx = fit_labels(labels_yx, geometry)
    assert fitted_yx.shape == tuple(size)
    assert set(np.unique(fitted_yx)) <= set(np.unique(labels_yx))
    assert set(np.unique(unfit_labels(fitted_yx, geometry))) <= set(np.unique(labels_yx))


@pytest.mark.parametrize("radius", [8, 12])
def test_discs_survive_the_way_to_512_and_back(radius):
    labels_yx = discs(520, 704, radius=radius, seed=3)
    geometry = plan_fit((520, 704), mode="resize", size=[512, 512])
    fitted_yx = fit_labels(labels_yx, geometry)
    back_yx = unfit_labels(fitted_yx, geometry)
    scale = (512 * 512) / (520 * 704)
    before, fitted, after, both = (
        np.bincount(image.ravel(), minlength=int(labels_yx.max()) + 1)[1:]
        for image in (labels_yx, fitted_yx, back_yx, np.where(labels_yx == back_yx, labels_yx, 0))
    )
    area_ratios = fitted / (before * scale)
    ious = both / (before + after - both)
    # a single disc may lose the pixels along one side of its outline
    assert np.mean(area_ratios) == pytest.approx(1, abs=0.01)
    assert min(area_ratios) > 0.9
    assert np.mean(ious) > 0.95
    assert min(ious) > 0.88


def test_soft_masks_survive_the_way_to_512_and_back():
    for radius in (8, 12):
        mask_yx = discs(520, 704, radius=radius, seed=4) > 0
        geometry = plan_fit((520, 704), mode="resize", size=[512, 512])
        prob_yx = fit_image(mask_yx, geometry, pad_value=0)
        back_yx = unfit_probability(prob_yx, geometry) >= 0.5
        assert (back_yx & mask_yx).sum() / (back_yx | mask_yx).sum() > 0.95


def test_shrinking_keeps_the_mean():
    image_yx = np.random.default_rng(5).random((52, 71))
    assert resample(image_yx, (13, 17)).mean() == pytest.approx(image_yx.mean(), rel=1e-5)


def test_shrinking_by_a_whole_factor_is_the_mean_of_blocks():
    image_yx = np.random.default_rng(6).random((12, 15)).astype(np.float32)
    blocks = image_yx.reshape(4, 3, 3, 5).mean(axis=(1, 3))
    assert resample(image_yx, (4, 3)) == pytest.approx(blocks, abs=1e-6)


@settings(max_examples=40)
@given(sides, sides, sides, sides)
def test_a_resized_constant_stays_constant(rows, columns, new_rows, new_columns):
    constant_yx = np.full((rows, columns), 41000, np.uint16)
    assert resample(constant_yx, (new_rows, new_columns)) == pytest.approx(41000, rel=1e-6)


@settings(max_examples=40)
@given(sides, sides, sides, sides)
def test_a_resize_does_not_overshoot(rows, columns, new_rows, new_columns):
    image_yx = np.random.default_rng(rows * 13 + columns).random((rows, columns))
    resized_yx = resample(image_yx, (new_rows, new_columns))
    assert image_yx.min() - 1e-6 <= resized_yx.min()
    assert resized_yx.max() <= image_yx.max() + 1e-6


def test_growing_a_ramp_gives_a_ramp_in_pixel_centres():
    ramp = resample(np.arange(10, dtype=float)[np.newaxis].repeat(2, axis=0), (2, 30))[0]
    inner = (np.arange(30) + 0.5) / 3 - 0.5
    assert ramp[1:-1] == pytest.approx(inner[1:-1].clip(0, 9), abs=1e-5)


def test_probabilities_outside_the_fitted_frame_are_zero():
    geometry = plan_fit((6, 6), mode="crop_pad", size=[4, 8])
    back_yx = unfit_probability(np.ones((4, 8), np.float32), geometry)
    assert back_yx[[0, 5]].sum() == 0
    assert back_yx[1:5].min() == 1


def test_geometry_comes_back_from_its_table(tmp_path):
    geometries = {
        "a,b": plan_fit((520, 704), mode="crop_pad", size=[512, 1024]),
        "c": Geometry(3, 4, "none", 3, 4, 0, 0, pixel_size_um=0.65),
    }
    write_geometry(tmp_path / "geometry.csv", geometries)
    assert read_geometry(tmp_path / "geometry.csv") == geometries
    header = (tmp_path / "geometry.csv").read_text().splitlines()[0]
    assert header == (
        "sample,raw_rows,raw_columns,mode,rows,columns,row_offset,column_offset,pixel_size_um,scaled_rows,scaled_columns"
    )


def test_a_frame_of_another_size_is_refused():
    geometry = plan_fit((6, 6), mode="none", size=None)
    with pytest.raises(ValueError, match=r"expected a frame of 6 rows and 6 columns, found \(6, 7\)"):
        fit_labels(np.zeros((6, 7), np.uint16), geometry)
