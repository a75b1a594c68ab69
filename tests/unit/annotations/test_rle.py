"""Run-length encoded masks: order, base, corners, and refused text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cellmill.annotations.rle import decode_crop, encode_crop
from whole_images import decode_rle, encode_rle

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))
orders = st.sampled_from(["row", "column"])


def pixels(text, *, shape, order):
    mask_yx = decode_rle(text, shape=shape, order=order, where="test")
    return [tuple(map(int, place)) for place in np.argwhere(mask_yx)]


def test_row_order_counts_along_rows():
    assert pixels("1 3", shape=(2, 5), order="row") == [(0, 0), (0, 1), (0, 2)]


def test_column_order_counts_down_columns():
    assert pixels("1 3", shape=(2, 5), order="column") == [(0, 0), (0, 1), (1, 0)]


@pytest.mark.parametrize("order", ["row", "column"])
def test_the_first_pixel_is_number_one(order):
    assert pixels("1 1", shape=(3, 4), order=order) == [(0, 0)]


@pytest.mark.parametrize("order", ["row", "column"])
def test_the_last_pixel_is_legal_and_the_next_is_not(order):
    assert pixels("12 1", shape=(3, 4), order=order) == [(2, 3)]
    for text in ("13 1", "12 2", "1 13", "999999999999999999 999999999999999999"):
        with pytest.raises(ValueError, match="table row 5: expected runs inside the 12 pixels of an image of 3 rows"):
            decode_rle(text, shape=(3, 4), order=order, where="table row 5")


def test_a_run_crosses_the_end_of_a_row():
    assert pixels("4 4", shape=(2, 5), order="row") == [(0, 3), (0, 4), (1, 0), (1, 1)]


def test_a_run_crosses_the_end_of_a_column():
    assert pixels("2 2", shape=(2, 5), order="column") == [(0, 1), (1, 0)]


def test_an_asymmetrical_shape_has_the_known_strings():
    mask_yx = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]], dtype=bool)
    assert encode_rle(mask_yx, order="row") == "1 3 5 1 9 1"
    assert encode_rle(mask_yx, order="column") == "1 4 7 1"


@pytest.mark.parametrize("order", ["row", "column"])
def test_corners_the_full_and_the_empty_mask_survive(order):
    corners_yx = np.zeros((4, 6), dtype=bool)
    corners_yx[np.ix_([0, -1], [0, -1])] = True
    for mask_yx in (corners_yx, np.ones((4, 6), dtype=bool), np.zeros((4, 6), dtype=bool)):
        text = encode_rle(mask_yx, order=order)
        assert np.array_equal(decode_rle(text, shape=(4, 6), order=order, where="test"), mask_yx)
    assert encode_rle(np.ones((4, 6), dtype=bool), order=order) == "1 24"
    assert encode_rle(np.zeros((4, 6), dtype=bool), order=order) == ""


@settings(deadline=None, max_examples=80)
@given(masks, orders)
def test_decoding_undoes_encoding(mask_yx, order):
    text = encode_rle(mask_yx, order=order)
    assert np.array_equal(decode_rle(text, shape=mask_yx.shape, order=order, where="test"), mask_yx)


@settings(deadline=None, max_examples=80)
@given(masks, orders)
def test_encoding_undoes_decoding_of_what_it_wrote(mask_yx, order):
    text = encode_rle(mask_yx, order=order)
    again = decode_rle(text, shape=mask_yx.shape, order=order, where="test")
    assert encode_rle(again, order=order) == text


@settings(deadline=None, max_examples=40)
@given(masks)
def test_column_order_is_row_order_of_the_transposed_mask(mask_yx):
    assert encode_rle(mask_yx, order="column") == encode_rle(mask_yx.T, order="row")


@settings(deadline=None, max_examples=40)
@given(masks, orders, st.integers(0, 3), st.integers(0, 3))
def test_a_crop_encodes_as_its_place_in_the_image(mask_yx, order, row, column):
    whole_yx = np.zeros((13, 14), dtype=bool)
    whole_yx[row : row + mask_yx.shape[0], column : column + mask_yx.shape[1]] = mask_yx
    text = encode_crop(mask_yx, order=order, row=row, column=column, shape=whole_yx.shape)
    assert text == encode_rle(whole_yx, order=order)


def test_a_decoded_crop_is_the_tight_box():
    mask_yx = np.zeros((20, 30), dtype=bool)
    mask_yx[4:7, 10] = mask_yx[5, 9:12] = True
    row, column, crop_yx = decode_crop(
        encode_rle(mask_yx, order="column"), shape=(20, 30), order="column", where="test"
    )
    assert (row, column) == (4, 9)
    assert np.array_equal(crop_yx, mask_yx[4:7, 9:12])


def test_touching_runs_are_accepted():
    assert pixels("1 2 3 1", shape=(1, 5), order="row") == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", r"expected pairs of start and length, found 3 numbers\. The text is truncated"),
        ("0 3", r"expected starts that count from 1, found 0\. Add 1"),
        ("-4 3", "expected starts that count from 1, found -4"),
        ("3 0", "expected runs of at least one pixel, found a length of 0"),
        ("1 3 2 2", "expected ascending runs that do not overlap, found '2 2' after '1 3'"),
        ("5 1 1 1", "expected ascending runs that do not overlap, found '1 1' after '5 1'"),
        ("1 2.0", r"expected whole numbers .* found '2\.0'\. Set annotations\.format"),
        ("1 x", "expected whole numbers .* found 'x'"),
        ("--1 2", "expected whole numbers .* found '--1'"),
        ("1 9999999999999999999", "expected whole numbers .* found '9999999999999999999'"),
        ("[[1,2,3]]", r"expected whole numbers .* found '\[\[1,2,3\]\]'"),
    ],
)
def test_bad_text_is_refused_with_its_place(text, message):
    with pytest.raises(ValueError, match=r"train\.csv, row 7: " + message):
        decode_rle(text, shape=(3, 4), order="row", where="train.csv, row 7")
