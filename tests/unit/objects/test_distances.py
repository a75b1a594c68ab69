"""Distances: against one transform of the whole image per cell, by hand, and with touching cells and padding."""

import math

import numpy as np
import pytest
from scipy import ndimage

from cellmill.images.stored import IGNORE_LABEL
from cellmill.objects.distances import (
    distance_weights,
    find_two_nearest,
    normalised_distance,
    reach_px,
    separate_touching,
)
from cellmill.objects.morphology import remove_ignored

PAPER = {"weight": 10.0, "sigma_px": 5.0, "factor": 1, "reading": "to_border", "inside": False}
FLOAT32 = 1e-6


def read_only(labels):
    labels = np.array(labels, dtype=np.uint16)
    labels.setflags(write=False)
    return labels


def scattered_cells(shape=(90, 120), cells=40, seed=0, ignored=False):
    """Draw discs, some of which touch, cover one another or are cut by the border."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    labels = np.zeros(shape, dtype=np.uint16)
    for number in rng.permutation(3 * cells)[:cells] + 1:
        radius = rng.uniform(0.4, 8)
        labels[np.hypot(y - rng.uniform(0, shape[0]), x - rng.uniform(0, shape[1])) <= radius] = number
    if ignored:
        labels[30:40, 50:100] = labels[:, -7:] = IGNORE_LABEL
    return read_only(labels)


def two_bars(gap, *, label=(1, 2)):
    labels = np.zeros((41, 20 + gap), dtype=np.uint16)
    labels[:, :10], labels[:, 10 + gap :] = label
    return read_only(labels)


def plain_distances(labels, *, border=False):
    """Return the two smallest distances of each pixel, from one transform of the whole image for each cell."""
    distances = [np.full(labels.shape, np.inf)] * 2
    for number in sorted(set(np.unique(labels)) - {0, IGNORE_LABEL}):
        mask = labels == number
        if border:
            mask &= ~ndimage.binary_erosion(mask | (labels == IGNORE_LABEL), border_value=1)
        distances.append(ndimage.distance_transform_edt(~mask) if mask.any() else np.full(labels.shape, np.inf))
    return np.partition(np.stack(distances), 1, axis=0)[:2]


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("reading", ["to_cell", "to_border"])
@pytest.mark.parametrize("reach", [1, 9, 22, 300])
def test_the_two_nearest_cells_are_those_of_the_plain_way_to_the_last_bit(reach, reading, ignored):
    labels = scattered_cells(ignored=ignored)
    found = find_two_nearest(labels, reach_px=reach, reading=reading)
    for ours, plain in zip(found, plain_distances(labels, border=reading == "to_border"), strict=True):
        assert np.array_equal(ours, np.where(plain <= reach, plain, np.inf))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("factor", [1, 2])
def test_what_lies_beyond_the_reach_is_below_a_hundred_millionth_of_the_weight(seed, factor):
    labels = scattered_cells(cells=12, seed=seed)
    separated = separate_touching(labels)
    total = plain_distances(separated).sum(axis=0)
    exact = np.where(separated == 0, 10 * np.exp(-(total**2) / (factor * 25)), 0)
    # float32 rounds by 6e-8 of the value, which is at most 10
    found = distance_weights(labels, **(PAPER | {"factor": factor}))
    assert np.allclose(found, exact, rtol=1e-7, atol=1e-7)
    assert exact[found == 0].max() < 1e-7


@pytest.mark.parametrize(("sigma", "factor", "reach"), [(5, 1, 22), (5, 2, 31), (1, 1, 5)])
def test_the_reach_follows_sigma(sigma, factor, reach):
    assert reach_px(sigma_px=sigma, factor=factor) == reach
    assert math.exp(-(reach**2) / (factor * sigma**2)) < 1e-8 < math.exp(-((reach - 1) ** 2) / (factor * sigma**2))


@pytest.mark.parametrize(("factor", "expected"), [(1, 2.369), (2, 4.868)])
def test_three_px_from_both_cells_the_factor_doubles_the_weight(factor, expected):
    weights = distance_weights(two_bars(5), **(PAPER | {"factor": factor}))
    assert weights[20, 12] == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("reading", ["to_border", "to_cell"])
def test_a_gap_of_one_pixel_has_the_weight_of_distances_one_and_one(reading):
    weights = distance_weights(two_bars(1), **(PAPER | {"reading": reading}))
    assert np.allclose(weights[:, 10], 10 * math.exp(-4 / 25), rtol=FLOAT32)
    assert np.count_nonzero(weights) == 41


def test_touching_cells_have_a_heavy_ridge_on_the_side_of_the_lower_number():
    weights = distance_weights(two_bars(0), **PAPER)
    assert (weights[:, 9] > 8).all()
    assert np.count_nonzero(weights) == 41
    assert (distance_weights(two_bars(0, label=(2, 1)), **PAPER)[:, 10] > 8).all()


def test_cells_that_touch_along_a_diagonal_have_a_heavy_ridge():
    y, x = np.indices((40, 40))
    weights = distance_weights(read_only(np.where(x + y < 40, 1, 2)), **PAPER)
    assert (weights[x + y == 39] > 8).all()
    assert np.count_nonzero(weights) == 40


def test_cells_merged_to_one_have_no_weight():
    assert not distance_weights(read_only(two_bars(0) > 0), **PAPER).any()
    assert not distance_weights(read_only(two_bars(1) > 0), **PAPER).any()


@pytest.mark.parametrize("label", [0, 7, IGNORE_LABEL])
@pytest.mark.parametrize("inside", [False, True])
def test_fewer_than_two_cells_have_no_weight(label, inside):
    labels = np.zeros((30, 30), dtype=np.uint16)
    labels[10:20, 10:20] = label
    assert not distance_weights(read_only(labels), **(PAPER | {"inside": inside})).any()


def test_ignored_pixels_are_no_second_cell_and_have_no_weight():
    assert not distance_weights(two_bars(3, label=(1, IGNORE_LABEL)), **PAPER).any()
    labels = two_bars(5).copy()
    labels[15:25, 11:14] = IGNORE_LABEL
    weights, whole = distance_weights(read_only(labels), **PAPER), distance_weights(two_bars(5), **PAPER)
    assert not weights[labels == IGNORE_LABEL].any()
    assert np.array_equal(weights[labels == 0], whole[labels == 0])


@pytest.mark.parametrize("reading", ["to_border", "to_cell"])
def test_pixels_of_cells_have_a_weight_only_where_it_is_asked_for(reading):
    labels = scattered_cells()
    outside = distance_weights(labels, **(PAPER | {"reading": reading}))
    everywhere = distance_weights(labels, **(PAPER | {"reading": reading, "inside": True}))
    separated = separate_touching(labels)
    assert not outside[separated > 0].any()
    assert np.array_equal(outside[separated == 0], everywhere[separated == 0])
    assert everywhere[separated > 0].max() > 5


def test_inside_of_a_cell_the_readings_differ_by_the_way_to_its_own_border():
    labels = np.zeros((61, 61), dtype=np.uint16)
    labels[20:41, 10:30], labels[20:41, 34:50] = 1, 2
    to_cell, to_border = (
        distance_weights(read_only(labels), **(PAPER | {"reading": reading, "inside": True}))
        for reading in ("to_cell", "to_border")
    )
    # Three pixels within the left cell: 0 to the cell, 3 to its border, 4 + 4 to the other cell
    assert to_cell[30, 26] == pytest.approx(10 * math.exp(-(8**2) / 25), rel=FLOAT32)
    assert to_border[30, 26] == pytest.approx(10 * math.exp(-((3 + 8) ** 2) / 25), rel=FLOAT32)


def test_more_padding_changes_no_weight_and_no_depth():
    labels = scattered_cells(seed=4)
    padded = np.full((150, 160), IGNORE_LABEL, dtype=np.uint16)
    padded[20:110, 33:153] = labels
    for settings in (PAPER, PAPER | {"inside": True}, PAPER | {"inside": True, "reading": "to_cell"}):
        weights = distance_weights(read_only(padded), **settings)
        assert np.array_equal(weights[20:110, 33:153], distance_weights(labels, **settings))
        assert not weights[padded == IGNORE_LABEL].any()
    depth = normalised_distance(read_only(padded))
    assert np.array_equal(depth[20:110, 33:153], normalised_distance(labels))
    assert not depth[padded == IGNORE_LABEL].any()


@pytest.mark.parametrize("seed", range(5))
def test_separated_cells_touch_nowhere_and_none_is_lost(seed):
    labels = scattered_cells(cells=60, seed=seed, ignored=True)
    separated = separate_touching(labels)
    assert set(np.unique(separated)) - {0} == set(np.unique(labels)) - {0}
    assert np.array_equal(separated[separated > 0], labels[separated > 0])
    ridge = (labels > 0) & (separated == 0)
    assert ridge.any()
    # Each pixel of the ridge has a neighbour with a higher number, so that the ridge is as thin as possible.
    cells = remove_ignored(labels)
    neighbours = ndimage.maximum_filter(cells, footprint=ndimage.generate_binary_structure(2, 1))
    assert (neighbours[ridge] > cells[ridge]).all()
    for ours, theirs in ((separated[1:], separated[:-1]), (separated[:, 1:], separated[:, :-1])):
        meet = (ours != theirs) & (ours > 0) & (theirs > 0) & (ours != IGNORE_LABEL) & (theirs != IGNORE_LABEL)
        # Only a cell that consists entirely of border may still touch.
        for number in np.unique(np.minimum(ours[meet], theirs[meet])):
            assert (neighbours[labels == number] > number).all()


def test_a_cell_one_pixel_thin_keeps_its_pixels():
    labels = read_only([[0, 1, 2, 2], [0, 1, 2, 2], [0, 1, 2, 2]])
    assert np.array_equal(separate_touching(labels), labels)


def test_cells_that_meet_at_a_corner_are_apart():
    labels = read_only([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]])
    assert np.array_equal(separate_touching(labels), labels)


def test_labels_of_32_bits_beyond_the_ignored_one_are_cells():
    labels = np.where(two_bars(5) == 1, 70000, two_bars(5)).astype(np.uint32)
    assert np.array_equal(distance_weights(labels, **PAPER), distance_weights(two_bars(5), **PAPER))


def test_depth_of_a_square_counts_its_rings():
    labels = np.zeros((9, 9), dtype=np.uint16)
    labels[2:7, 2:7] = 3
    rings = [[min(row, column, 4 - row, 4 - column) + 1 for column in range(5)] for row in range(5)]
    depth = normalised_distance(read_only(labels))
    assert np.allclose(depth[2:7, 2:7], np.array(rings) / 3, rtol=FLOAT32)
    assert np.count_nonzero(depth) == 25


def test_touching_cells_are_deep_each_on_its_own():
    labels = read_only([[1] * 5 + [2] * 3] * 5)
    depth = normalised_distance(labels)
    # The cells' extent beyond the image is unknown, so the only edge is the one between them.
    assert np.allclose(depth, [[1, 0.8, 0.6, 0.4, 0.2, 1 / 3, 2 / 3, 1]] * 5, rtol=FLOAT32)


def test_every_cell_has_depth_one_somewhere_and_no_pixel_more():
    labels = scattered_cells()
    depth = normalised_distance(labels)
    assert depth.dtype == np.float32
    assert not depth[labels == 0].any()
    for number in set(np.unique(labels)) - {0}:
        assert depth[labels == number].max() == 1
        assert depth[labels == number].min() > 0


def test_a_cell_without_edges_is_deep_everywhere():
    assert (normalised_distance(read_only(np.full((5, 7), 2))) == 1).all()
    labels = read_only([[IGNORE_LABEL] * 4, [IGNORE_LABEL, 1, 1, IGNORE_LABEL], [IGNORE_LABEL] * 4])
    assert normalised_distance(labels).tolist() == [[0] * 4, [0, 1, 1, 0], [0] * 4]


def test_one_pixel_has_depth_one():
    labels = np.zeros((5, 5), dtype=np.uint16)
    labels[2, 3] = 9
    assert normalised_distance(read_only(labels)).tolist() == (labels > 0).tolist()


def test_images_without_cells_give_zeros():
    for labels in (np.zeros((4, 6)), np.full((4, 6), IGNORE_LABEL)):
        assert not normalised_distance(read_only(labels)).any()
        assert not distance_weights(read_only(labels), **PAPER).any()
