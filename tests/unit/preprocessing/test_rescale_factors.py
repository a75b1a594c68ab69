"""Rescaling: the way back is exact, intensities are kept, and factors follow from pixel sizes or diameters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from cellmill.images.stored import IGNORE_LABEL
from cellmill.preprocessing.geometry import (
    covered_part,
    fit_label_rows,
    fit_labels,
    fit_rows,
    plan_rescale,
    raw_rows_of,
    unfit_image_rows,
    valid_box,
)
from cellmill.preprocessing.rescaling import choose_factors, plan_factors
from whole_images import fit_image, unfit_labels, unfit_probability

FACTORS = (0.25, 0.5, 0.77, 1.5, 2.0, 3.0)
BY_PIXEL = {"pixel_size_um": 0.5, "diameter_px": None, "object_px": None, "object_pixel_um": None, "given_um": None}
BY_DIAMETER = {**BY_PIXEL, "pixel_size_um": None, "diameter_px": 24.0, "object_px": 60.0}


def plan(shape, factor, *, mode="none", size=None):
    return plan_rescale(shape, factors=(factor, factor), mode=mode, size=size)


def touching(rows, columns, *, side):
    """Tile the frame with touching squares, each with its own label."""
    y, x = np.mgrid[:rows, :columns]
    labels_yx = (1 + y // side * -(-columns // side) + x // side).astype(np.uint16)
    labels_yx[: rows // 3, : columns // 3] = 0
    labels_yx.flags.writeable = False
    return labels_yx


# ---- labels, there and back -----------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 2, 3, 5, 16])
def test_labels_come_back_exactly_from_a_whole_factor(factor):
    labels_yx = np.random.default_rng(1).integers(0, 300, (13, 29)).astype(np.uint16)
    geometry = plan(labels_yx.shape, factor)
    assert geometry.shape == (13 * factor, 29 * factor)
    fitted_yx = fit_labels(labels_yx, geometry)
    assert np.array_equal(fitted_yx, labels_yx.repeat(factor, axis=0).repeat(factor, axis=1))
    assert np.array_equal(unfit_labels(fitted_yx, geometry), labels_yx)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("shape", [(60, 83), (41, 41), (63, 101)])
def test_touching_objects_of_4_px_survive_both_ways(factor, shape):
    labels_yx = touching(*shape, side=4)
    # Squares that the border cuts are smaller.
    whole = {label for label, area in zip(*np.unique(labels_yx, return_counts=True), strict=True) if area >= 16}
    geometry = plan(shape, factor)
    fitted_yx = fit_labels(labels_yx, geometry)
    back_yx = unfit_labels(fitted_yx, geometry)
    assert back_yx.shape == shape
    assert whole <= set(np.unique(fitted_yx).tolist())
    assert whole <= set(np.unique(back_yx).tolist())
    assert set(np.unique(back_yx)) <= set(np.unique(labels_yx))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.floats(1 / 16, 16))
def test_the_way_back_has_the_raw_size_for_any_factor(rows, columns, factor):
    geometry = plan((rows, columns), factor)
    assert all(size >= 1 for size in geometry.shape)
    assert geometry.shape[0] == pytest.approx(rows * factor, abs=1.0)
    assert unfit_labels(np.ones(geometry.shape, np.uint16), geometry).shape == (rows, columns)
    assert unfit_labels(np.ones(geometry.shape, np.uint16), geometry).min() == 1


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (1, 1)])
@pytest.mark.parametrize("factor", FACTORS)
def test_a_single_row_stays_at_least_one_row(shape, factor):
    geometry = plan(shape, factor)
    expected = [max(1, int(np.ceil(side * factor))) for side in shape]
    assert list(geometry.shape) == expected
    assert fit_image(np.full(shape, 7, np.uint8), geometry, pad_value=0) == pytest.approx(7)


def test_rounded_pixel_sizes_add_no_row():
    assert plan((520, 704), 1.9999999).shape == (1040, 1408)
    assert plan((520, 704), 2.0000001).shape == (1040, 1408)


def test_each_axis_has_its_own_factor():
    geometry = plan_rescale((20, 30), factors=(0.5, 2.0), mode="none", size=None)
    assert geometry.shape == (10, 60)
    labels_yx = touching(20, 30, side=5)
    assert set(np.unique(unfit_labels(fit_labels(labels_yx, geometry), geometry))) == set(np.unique(labels_yx))


# ---- images ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", FACTORS)
def test_a_constant_image_stays_constant_and_the_mean_is_kept(factor):
    geometry = plan((61, 83), factor)
    assert fit_image(np.full((61, 83), 4100, np.uint16), geometry, pad_value=0) == pytest.approx(4100, rel=1e-6)
    image_yx = gaussian_filter(np.random.default_rng(2).normal(500, 300, (61, 83)), 3)
    rescaled_yx = fit_image(image_yx, geometry, pad_value=0)
    assert rescaled_yx.mean() == pytest.approx(image_yx.mean(), rel=1e-5 if factor < 1 else 2e-3)


def test_fine_stripes_average_out_instead_of_turning_into_coarse_ones():
    stripes_yx = np.tile([0.0, 100.0], (40, 100))
    rescaled_yx = fit_image(stripes_yx, plan((40, 200), 0.26), pad_value=0)
    assert rescaled_yx.std() < 0.15 * stripes_yx.std()


@pytest.mark.parametrize("factor", FACTORS)
def test_a_band_equals_the_whole_image(factor):
    image_yx = np.random.default_rng(3).random((50, 37)).astype(np.float32)
    for mode, size in (("none", None), ("crop_pad", (70, 20))):
        geometry = plan(image_yx.shape, factor, mode=mode, size=size)
        whole_yx = fit_image(image_yx, geometry, pad_value=-1)
        for first in range(0, geometry.rows, 9):
            rows = slice(first, min(first + 9, geometry.rows))
            raw = raw_rows_of(geometry, rows)
            part_yx = fit_rows(image_yx[raw], geometry, rows=rows, raw_rows=raw, pad_value=-1)
            assert part_yx == pytest.approx(whole_yx[rows], abs=1e-6)
        bands = [unfit_image_rows(whole_yx, geometry, slice(i, min(i + 7, 50))) for i in range(0, 50, 7)]
        assert np.concatenate(bands) == pytest.approx(unfit_probability(whole_yx, geometry), abs=1e-6)


# ---- with crop and pad ----------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("size", [(16, 200), (200, 16), (40, 50)])
def test_crop_and_pad_work_on_the_rescaled_frame(factor, size):
    labels_yx = touching(60, 83, side=6)
    scaled_yx = fit_labels(labels_yx, plan((60, 83), factor))
    geometry = plan((60, 83), factor, mode="crop_pad", size=size)
    fitted_yx = fit_labels(labels_yx, geometry)
    assert fitted_yx.shape == size
    (top, bottom), (left, right) = valid_box(geometry)
    inside_yx = fitted_yx[top:bottom, left:right]
    assert IGNORE_LABEL not in inside_yx
    assert (fitted_yx == IGNORE_LABEL).sum() == fitted_yx.size - inside_yx.size
    # The middle of the rescaled frame, cut out independently
    rows, columns = (max(0, (old - new) // 2) for old, new in zip(scaled_yx.shape, size, strict=True))
    assert np.array_equal(inside_yx, scaled_yx[rows : rows + bottom - top, columns : columns + right - left])
    back_yx = unfit_labels(np.where(fitted_yx == IGNORE_LABEL, 0, fitted_yx), geometry)
    straight_yx = unfit_labels(scaled_yx, plan((60, 83), factor))
    covered = covered_part(geometry)
    assert np.array_equal(back_yx[covered], straight_yx[covered])
    assert back_yx.sum() == back_yx[covered].sum()


@pytest.mark.parametrize("factor", FACTORS)
def test_probabilities_are_zero_outside_the_crop_and_whole_inside(factor):
    geometry = plan((60, 83), factor, mode="crop_pad", size=(16, 200))
    back_yx = unfit_probability(np.ones(geometry.shape, np.float32), geometry)
    covered = covered_part(geometry)
    assert back_yx[covered] == pytest.approx(1, abs=1e-6)
    assert back_yx.sum() == pytest.approx(back_yx[covered].sum())


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("size", [None, (33, 64)])
def test_labels_are_rescaled_by_rows_as_in_one_piece(factor, size):
    labels_yx = touching(40, 50, side=5)
    geometry = plan((40, 50), factor, mode="none" if size is None else "crop_pad", size=size)
    bands = [
        fit_label_rows(lambda numbers: labels_yx[numbers], geometry, slice(first, min(first + 7, geometry.rows)))
        for first in range(0, geometry.rows, 7)
    ]
    assert np.array_equal(np.concatenate(bands), fit_labels(labels_yx, geometry))


# ---- factors --------------------------------------------------------------------------------------------


def test_pixels_get_the_wanted_size_along_each_axis():
    assert choose_factors(BY_PIXEL, edges_um=(0.25, 0.5), where="a") == (0.5, 1.0)
    assert choose_factors({**BY_PIXEL, "given_um": 1.0}, edges_um=(0.25, 0.5), where="a") == (2.0, 2.0)


def test_objects_get_the_wanted_diameter_whatever_the_pixel_size():
    for edges_um in (None, (0.25, 0.25)):
        assert choose_factors(BY_DIAMETER, edges_um=edges_um, where="a") == (0.4, 0.4)


def test_a_diameter_measured_in_other_pixels_is_converted_where_both_sizes_are_known():
    section = {**BY_DIAMETER, "object_pixel_um": 0.5}
    # Objects of 60 px of 0.5 um have 30 um: 120 px of 0.25 um
    assert choose_factors(section, edges_um=(0.25, 0.25), where="a") == pytest.approx((0.2, 0.2))
    assert choose_factors(section, edges_um=None, where="a") == (0.4, 0.4)


@pytest.mark.parametrize(
    ("section", "edges_um", "message"),
    [
        (BY_PIXEL, None, r"a.tif: expected a pixel size for preprocess.rescale.pixel_size_um, found none"),
        (BY_PIXEL, (0.03, 0.03), r"factor from 1/16 to 16, found 0.06 \(pixels of 0.03 um and rescale.pixel_size_um 0"),
        (BY_PIXEL, (0.5, 9.0), r"found 1 along rows and 18 along columns \(pixels of 0.5 x 9 um"),
        ({**BY_DIAMETER, "object_px": 1.0}, None, r"found 24 \(objects of 1 px and rescale.diameter_px 24\)"),
    ],
)
def test_impossible_factors_are_refused_with_their_numbers(section, edges_um, message):
    with pytest.raises(ValueError, match=message):
        choose_factors(section, edges_um=edges_um, where="a.tif")


def test_nothing_is_rescaled_without_the_section():
    assert plan_factors([{"sample": "a"}], rescale=None) == ({}, {})
