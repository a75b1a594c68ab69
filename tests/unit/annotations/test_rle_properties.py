"""Runs of tables and of COCO under random and damaged input: the mask of a plain loop, or a ValueError."""

import re
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from cellmill.annotations.coco import CocoEntry, read_coco
from cellmill.annotations.coco_masks import decode_counts, encode_counts
from cellmill.annotations.rle import decode_crop, draw_runs, encode_crop, find_runs
from whole_images import decode_rle, encode_rle

SHAPE = (7, 10)
GUARD_S = 20  # against decoders that count to a number in the text

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))
masks_of_shape = arrays(bool, SHAPE)
orders = st.sampled_from(["row", "column"])
many = settings(max_examples=100, deadline=None)


@st.composite
def damaged(draw, texts):
    """Draw a text edited in a few places: characters inserted, removed or replaced."""
    text = draw(texts)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(text)))
        taken = draw(st.integers(0, 2))
        text = text[:place] + draw(st.text("0123456789 -.\tx;`oP\xa0é", max_size=2)) + text[place + taken :]
    return text


def quickly(function, *, where="test"):
    """Return a function's result, or None after a ValueError of three parts; fail if it takes too long."""
    start = time.perf_counter()
    message = None
    try:
        result = function()
    except ValueError as error:
        result, message = None, str(error)
    assert time.perf_counter() - start < GUARD_S
    assert message is None or re.match(where + r": expected .+, found .+\. .+\.$", message, re.DOTALL)
    return result


def fill(runs, *, shape, order):
    """Draw 0-based runs pixel by pixel."""
    flat = np.zeros(shape[0] * shape[1], dtype=bool)
    for first, length in runs:
        for pixel in range(first, first + length):
            flat[pixel] = True
    return flat.reshape(shape) if order == "row" else flat.reshape(shape[::-1]).T


def read_by_loop(text, *, shape, order):
    """Read "start length ..." token by token; return None if it is not a mask."""
    tokens = text.split()
    if len(tokens) % 2 or not all(re.fullmatch("[0-9]{1,18}", token) for token in tokens):
        return None
    runs, end = [], 0
    for start, length in zip(map(int, tokens[::2]), map(int, tokens[1::2]), strict=True):
        if length < 1 or start - 1 < end or start - 1 + length > shape[0] * shape[1]:
            return None
        end = start - 1 + length
        runs.append((start - 1, length))
    return fill(runs, shape=shape, order=order)


def counts_by_loop(text):
    """Read compressed counts character by character; return None if the text is invalid."""
    counts, value, place = [], 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or place == 7:
            return None
        value |= (code & 31) << (5 * place)
        place += 1
        if code < 32:
            value -= (code >= 16) << (5 * place)
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = place = 0
    return None if place else counts


def drawn_counts(counts, *, shape):
    """Draw counts; return None if they do not describe a mask of this shape."""
    if counts is None or min(counts, default=0) < 0 or sum(counts) != shape[0] * shape[1]:
        return None
    ends = np.cumsum([0, *counts]).tolist()
    return fill(zip(ends[1::2], counts[1::2], strict=False), shape=shape, order="column")


def read_segmentation(segmentation, *, shape):
    table = {"a": CocoEntry(None, [(0, {"id": 5, "segmentation": segmentation})])}
    (instance,) = read_coco({"sample": "a"}, shape=shape, annotations={"table": "labels.json"}, table=table)
    mask_yx = np.zeros(shape, dtype=bool)
    assert mask_yx[instance.box].shape == instance.mask_yx.shape
    mask_yx[instance.box] = instance.mask_yx
    return mask_yx


def quick_segmentation(segmentation, *, shape):
    return quickly(lambda: read_segmentation(segmentation, shape=shape), where=r"sample a, labels\.json, annotation 5")


def same(found, expected):
    return found is expected is None or np.array_equal(found, expected)


@many
@given(masks, orders)
def test_decoding_undoes_encoding(mask_yx, order):
    text = encode_rle(mask_yx, order=order)
    assert np.array_equal(decode_rle(text, shape=mask_yx.shape, order=order, where="test"), mask_yx)
    assert np.array_equal(read_by_loop(text, shape=mask_yx.shape, order=order), mask_yx)


@many
@given(masks, orders, st.integers(0, 3), st.integers(0, 3))
def test_a_crop_decodes_to_the_tight_box_at_its_place(mask_yx, order, row, column):
    whole_yx = np.zeros((mask_yx.shape[0] + row + 2, mask_yx.shape[1] + column + 1), dtype=bool)
    whole_yx[row : row + mask_yx.shape[0], column : column + mask_yx.shape[1]] = mask_yx
    text = encode_crop(mask_yx, order=order, row=row, column=column, shape=whole_yx.shape)
    top, left, crop_yx = decode_crop(text, shape=whole_yx.shape, order=order, where="test")
    again_yx = np.zeros_like(whole_yx)
    again_yx[top : top + crop_yx.shape[0], left : left + crop_yx.shape[1]] = crop_yx
    assert np.array_equal(again_yx, whole_yx)
    if mask_yx.any():
        rows, columns = np.nonzero(whole_yx)
        along = (np.ptp(rows) + 1, np.ptp(columns) + 1)
        # where a run continues on the next line, the box is as wide as the image
        wide = (along[0], whole_yx.shape[1]) if order == "row" else (whole_yx.shape[0], along[1])
        assert crop_yx.shape in (along, wide)


@many
@given(masks, orders)
def test_drawing_undoes_finding(mask_yx, order):
    firsts, lengths = find_runs(mask_yx, order=order, row=0, column=0, shape=mask_yx.shape)
    row, column, crop_yx = draw_runs(firsts, lengths, shape=mask_yx.shape, order=order)
    assert crop_yx.sum() == mask_yx.sum()
    assert np.array_equal(mask_yx[row : row + crop_yx.shape[0], column : column + crop_yx.shape[1]], crop_yx)


@many
@given(st.text() | st.text("0123456789 -") | st.lists(st.integers(-1, 80)).map(lambda x: " ".join(map(str, x))), orders)
@example("", "row")
@example("  ", "row")
@example(" 1  1 ", "row")
@example("0000000000000000001 1", "row")
@example("1 0000000000000000001", "row")
@example("000000000000000001 1", "row")
@example("9223372036854775808 1", "row")
@example("1 99999999999999999999999999999", "row")
@example("1\x1c1\xa03 1", "row")
@example("١ 1", "row")
@example("-0 1", "row")
@example("\ud800", "row")
def test_any_text_is_the_mask_of_a_plain_loop_or_refused(text, order):
    found = quickly(lambda: decode_rle(text, shape=SHAPE, order=order, where="test"))
    assert same(found, read_by_loop(text, shape=SHAPE, order=order))


@many
@given(damaged(st.builds(encode_rle, masks_of_shape, order=orders)), orders)
def test_a_damaged_text_is_the_mask_of_a_plain_loop_or_refused(text, order):
    found = quickly(lambda: decode_rle(text, shape=SHAPE, order=order, where="test"))
    assert same(found, read_by_loop(text, shape=SHAPE, order=order))


@pytest.mark.parametrize("text", ["1 1 " * 50_000, "x" * 200_000, "9" * 200_000, "-" * 200_000, "1\t" * 100_000])
def test_a_long_bad_text_is_refused_quickly(text):
    assert quickly(lambda: decode_rle(text, shape=SHAPE, order="row", where="test")) is None


@many
@given(masks)
def test_compressed_counts_are_those_of_pycocotools(mask_yx):
    runs = coco_mask.encode(np.asfortranarray(mask_yx.astype(np.uint8)))
    text = runs["counts"].decode()
    counts = decode_counts(text, where="test")
    assert counts.tolist() == counts_by_loop(text)
    assert encode_counts(counts) == text
    size = list(mask_yx.shape)
    for segmentation in ({"size": size, "counts": text}, {"size": size, "counts": counts.tolist()}):
        assert np.array_equal(read_segmentation(segmentation, shape=mask_yx.shape), mask_yx)


@many
@given(st.lists(st.integers(0, 2**31), min_size=1))
def test_counts_of_any_size_survive_compression(counts):
    text = encode_counts(np.array(counts))
    assert decode_counts(text, where="test").tolist() == counts == counts_by_loop(text)


def compressed(mask_yx):
    return coco_mask.encode(np.asfortranarray(mask_yx.astype(np.uint8)))["counts"].decode()


@many
@given(st.text() | st.text([chr(code) for code in range(48, 112)]) | damaged(masks_of_shape.map(compressed)))
@example("ooooooo0")
@example("o" * 100_000)
@example("0" * 100_000)
@example("\ud800")
def test_any_compressed_text_is_the_mask_of_a_plain_loop_or_refused(text):
    found = quick_segmentation({"size": list(SHAPE), "counts": text}, shape=SHAPE)
    assert same(found, drawn_counts(counts_by_loop(text), shape=SHAPE))


@many
@given(
    st.lists(st.integers(-3, 75) | st.integers() | st.floats())
    | st.lists(st.integers(0, 70)).map(lambda x: [*x, 70 - sum(x)])
)
@example([10**400])
@example([0, 0, 0, 5, 0, 0, 65])
def test_any_counts_are_the_mask_of_a_plain_loop_or_refused(counts):
    found = quick_segmentation({"size": list(SHAPE), "counts": counts}, shape=SHAPE)
    whole = all(isinstance(count, int) or count.is_integer() for count in counts)
    assert same(found, drawn_counts([int(count) for count in counts] if whole else None, shape=SHAPE))


scalars = st.none() | st.booleans() | st.integers(-5, 15) | st.integers() | st.floats() | st.text(max_size=4)
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=8) | st.dictionaries(st.sampled_from(["size", "counts", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)
outlines = st.lists(st.lists(st.floats(-20, 30) | st.integers(-5, 15) | scalars, max_size=9), max_size=3)
some_runs = st.fixed_dictionaries({"size": st.just(list(SHAPE)) | json_values, "counts": json_values})


@settings(max_examples=200, deadline=None)
@given(json_values | outlines | some_runs)
def test_any_segmentation_is_a_mask_or_refused(segmentation):
    quick_segmentation(segmentation, shape=SHAPE)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
@many
@given(
    st.lists(
        st.lists(st.floats(-20, 30), min_size=6, max_size=14).filter(lambda x: len(x) % 2 == 0), min_size=1, max_size=3
    )
)
def test_any_outline_is_drawn_as_pycocotools_draws_it_on_the_whole_image(parts):
    expected_yx = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, *SHAPE))).astype(bool)
    assert np.array_equal(read_segmentation(parts, shape=SHAPE), expected_yx)
