"""Flows: against a plain simulation, followed to the cell centres, and under flips and quarter turns."""

import numpy as np
import pytest
from scipy import ndimage

from cellmill.images.stored import IGNORE_LABEL
from cellmill.objects.flows import grey_of_flows, unit_flows

# Sums in another order differ in the last of 53 bits and directions by little more, which float32 does not resolve
ROUNDING = 1e-6
EULER_STEPS = 200


def read_only(labels):
    labels = np.array(labels, dtype=np.uint16)
    labels.setflags(write=False)
    return labels


def scattered_cells(shape=(70, 80), cells=25, seed=0):
    """Draw ellipses, some of which touch, cover one another or are cut by the border."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    labels = np.zeros(shape, dtype=np.uint16)
    for number in rng.permutation(3 * cells)[:cells] + 1:
        angle, long, short = rng.uniform(0, np.pi), rng.uniform(1, 12), rng.uniform(1, 6)
        row, column = y - rng.uniform(0, shape[0]), x - rng.uniform(0, shape[1])
        along, across = row * np.cos(angle) + column * np.sin(angle), column * np.cos(angle) - row * np.sin(angle)
        labels[(along / long) ** 2 + (across / short) ** 2 <= 1] = number
    return read_only(labels)


def crowded_cells(shape=(100, 120), cells=60, radius=9, seed=0):
    """Draw discs cut half-way where they would overlap: convex, touching, some cut by the border."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0, shape, size=(cells, 2))
    y, x = np.indices(shape)
    distances = np.hypot(y[..., None] - places[:, 0], x[..., None] - places[:, 1])
    labels = np.where(distances.min(axis=-1) <= radius, distances.argmin(axis=-1) + 1, 0)
    areas = np.bincount(labels.ravel())
    return read_only(np.where(areas[labels] >= 30, labels, 0))


def packed_squares(size=11, count=4):
    """Draw convex cells that fill the image; each touches its neighbours or the border on every side."""
    number = np.arange(1, count**2 + 1, dtype=np.uint16).reshape(count, count)
    return read_only(np.kron(number, np.ones((size, size), dtype=np.uint16)))


def middle_of(mask):
    """Return the point where the flow of a mask converges: the pixel nearest to the mean, or the mean of tied ones."""
    places = np.argwhere(mask)
    squared = ((places - places.mean(axis=0)) ** 2).sum(axis=1)
    nearest = places[np.isclose(squared, squared.min(), rtol=0, atol=1e-9)]
    return nearest.mean(axis=0) if np.ptp(nearest, axis=0).max() <= 1 else nearest[0]


def plain_flow(mask):
    """Simulate heat diffusion in one mask, pixel by pixel, and return the unit vectors of its gradient."""
    places = [tuple(place) for place in np.argwhere(mask)]
    height, width = np.ptp(np.argwhere(mask), axis=0) + 1
    middle = middle_of(mask)
    sources = [place for place in places if np.abs(np.array(place) - middle).max() <= 0.5]
    heat = dict.fromkeys(places, 0.0)
    around = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
    for _ in range(2 * (height + width + 2)):
        for place in sources:
            heat[place] += 1 / len(sources)
        heat = {(y, x): sum(heat.get((y + row, x + column), 0) for row, column in around) / 9 for y, x in places}
    flow = np.zeros((2, *mask.shape))
    for y, x in places:
        sides = [way for way in around if abs(way[0]) + abs(way[1]) == 1]
        if not any((y + row, x + column) in heat for row, column in sides):
            sides = around
        slope = sum(np.array(way) * heat.get((y + way[0], x + way[1]), 0) for way in sides)
        # flat except for rounding
        flow[:, y, x] = slope / np.hypot(*slope) if np.hypot(*slope) > 1e-14 * heat[y, x] else 0
    return flow


def follow(flows, labels):
    """Follow the flows and return the end points of all pixels of cells: (pixels, 2)."""
    places = np.argwhere(labels > 0).T.astype(float)
    for _ in range(EULER_STEPS):
        places = places + [ndimage.map_coordinates(plane, places, order=1, mode="nearest") for plane in flows]
    return places.T


@pytest.mark.parametrize("seed", range(2))
def test_flows_are_those_of_heat_in_each_cell(seed):
    labels = scattered_cells(shape=(40, 45), cells=12, seed=seed)
    expected = sum(plain_flow(labels == number) for number in set(np.unique(labels)) - {0})
    assert np.allclose(unit_flows(labels), expected, atol=ROUNDING)


def test_flows_have_length_one_in_cells_and_none_outside():
    labels = scattered_cells()
    flows = unit_flows(labels)
    assert flows.dtype == np.float32
    lengths = np.hypot(*flows)
    assert not lengths[labels == 0].any()
    flowing = lengths[labels > 0] > 0
    assert np.allclose(lengths[labels > 0][flowing], 1, atol=ROUNDING)
    # All but the centres and an occasional fragment cut off by a covering cell
    assert flowing.mean() > 0.95


def test_flows_lead_upwards_below_the_middle_and_left_right_of_it():
    labels = np.zeros((21, 31), dtype=np.uint16)
    labels[5:16, 8:19] = 1
    flow_y, flow_x = unit_flows(read_only(labels))
    assert flow_y[15, 13] == -1
    assert flow_y[5, 13] == 1
    assert flow_x[10, 18] == -1
    assert flow_x[10, 8] == 1
    assert flow_y[10, 13] == flow_x[10, 13] == 0


@pytest.mark.parametrize(
    "labels", [*(crowded_cells(seed=seed) for seed in range(3)), packed_squares(), packed_squares(size=8)]
)
def test_following_flows_leads_every_pixel_to_the_middle_of_its_own_cell(labels):
    ends, numbers = follow(unit_flows(labels), labels), labels[labels > 0]
    offsets = {n: ends[numbers == n] - middle_of(labels == n) for n in np.unique(numbers)}
    assert len(offsets) >= 16
    for offset in offsets.values():
        # Within half a pixel of the central pixel, which itself extends half a pixel to each side
        assert np.abs(offset).max() <= 1
    # A field shifted by half a pixel would shift all of them by as much.
    assert np.abs(np.mean([offset.mean(axis=0) for offset in offsets.values()], axis=0)).max() < 0.15


def test_the_middle_of_a_symmetric_cell_is_exactly_level():
    y, x = np.indices((41, 41))
    for radius in np.arange(1, 19, 0.5):
        for stretch in (1.0, 1.7):
            labels = read_only(np.hypot((y - 20) * stretch, x - 20) <= radius)
            flow_y, flow_x = unit_flows(labels)
            assert flow_y[20, 20] == flow_x[20, 20] == 0
            # On the axes there is no sideways flow.
            assert not flow_y[20].any()
            assert not flow_x[:, 20].any()


@pytest.mark.parametrize("size", [7, 8])
def test_cells_side_by_side_flow_apart(size):
    labels = np.zeros((20, 30), dtype=np.uint16)
    labels[5 : 5 + size, 5 : 5 + size], labels[5 : 5 + size, 5 + size : 5 + 2 * size] = 1, 2
    flow_x = unit_flows(read_only(labels))[1]
    assert (flow_x[5 : 5 + size, 4 + size] < 0).all()
    assert (flow_x[5 : 5 + size, 5 + size] > 0).all()


def test_a_cell_flows_the_same_whatever_is_beside_it():
    labels = scattered_cells()
    flows = unit_flows(labels)
    for number in set(np.unique(labels)) - {0}:
        alone = unit_flows(read_only((labels == number) * 5))
        assert np.array_equal(alone[:, labels == number], flows[:, labels == number])


def test_a_process_one_pixel_wide_flows_over_corners():
    labels = np.eye(15, dtype=np.uint16)
    flow_y, flow_x = unit_flows(read_only(labels))
    expected = np.sqrt(0.5) * np.sign(7 - np.arange(15))
    assert np.allclose(np.diag(flow_y), expected, atol=ROUNDING)
    assert np.allclose(np.diag(flow_x), expected, atol=ROUNDING)
    assert np.allclose(follow(unit_flows(labels), labels), 7, atol=1)


def test_one_pixel_does_not_flow():
    labels = np.zeros((5, 6), dtype=np.uint16)
    labels[0, 0] = labels[2, 3] = 1
    labels[4, 5] = 3
    assert not unit_flows(read_only(labels))[:, 2:].any()


def test_a_ring_flows_to_one_place():
    y, x = np.indices((25, 25))
    radius = np.hypot(y - 12, x - 12)
    labels = read_only((radius >= 6) & (radius <= 9))
    ends = follow(unit_flows(labels), labels)
    ends = ends[np.hypot(*(ends - ends.mean(axis=0)).T) < 3]
    # Only pixels opposite the centre, where both ways round are equally long, may stay.
    assert len(ends) > 0.9 * np.count_nonzero(labels)


@pytest.mark.parametrize("labels", [scattered_cells(), scattered_cells(seed=3), packed_squares(size=6)])
def test_mirrored_labels_have_the_mirrored_flows_to_the_last_bit(labels):
    flow_y, flow_x = unit_flows(labels)
    # The centre is found in integers and shared between ties, and sums do not depend on the side.
    assert np.array_equal(unit_flows(labels[:, ::-1]), [flow_y[:, ::-1], -flow_x[:, ::-1]])
    assert np.array_equal(unit_flows(labels[::-1]), [-flow_y[::-1], flow_x[::-1]])


@pytest.mark.parametrize("labels", [scattered_cells(), scattered_cells(seed=3), packed_squares(size=6)])
def test_turned_labels_have_the_turned_flows(labels):
    flow_y, flow_x = unit_flows(labels)
    # A quarter turn moves the right side to the top, so that flow to the right becomes flow upwards.
    assert np.allclose(unit_flows(np.rot90(labels)), [-np.rot90(flow_x), np.rot90(flow_y)], atol=ROUNDING)
    assert np.allclose(unit_flows(labels.T), [flow_x.T, flow_y.T], atol=ROUNDING)


def test_ignored_pixels_are_no_cell_however_many_there_are():
    labels = scattered_cells()
    padded = np.full((100, 110), IGNORE_LABEL, dtype=np.uint16)
    padded[13:83, 7:87] = labels
    flows = unit_flows(read_only(padded))
    assert np.array_equal(flows[:, 13:83, 7:87], unit_flows(labels))
    assert not flows[:, padded == IGNORE_LABEL].any()


def test_a_process_hundreds_of_pixels_long_flows_along_itself():
    labels = np.zeros((5, 400), dtype=np.uint16)
    labels[2, :] = labels[1, :200] = 1
    flow_x = unit_flows(read_only(labels))[1]
    # The mean is at column 166, and where there are two rows each attracts the flow of the other a little.
    assert (flow_x[2, :130] > 0.9).all()
    assert (flow_x[2, 170:] < -0.9).all()


def test_images_without_cells_have_no_flow():
    for labels in (np.zeros((4, 6)), np.full((4, 6), IGNORE_LABEL)):
        assert not unit_flows(read_only(labels)).any()


def test_grey_is_that_of_the_colour_picture():
    rng = np.random.default_rng(0)
    flows = rng.uniform(-0.7, 0.7, size=(2, 30, 30)).astype(np.float32)
    flow_y, flow_x = flows.astype(float)
    angle = np.arctan2(flow_x, flow_y) + np.pi
    red, green, blue = ((1 + np.cos(angle + k * 2 * np.pi / 3)) / 2 * np.hypot(flow_y, flow_x) for k in range(3))
    grey = grey_of_flows(flows)
    assert grey.dtype == np.float32
    assert np.allclose(grey, 0.299 * red + 0.587 * green + 0.114 * blue, atol=ROUNDING)


def test_grey_of_unit_flows_varies_with_the_direction_and_no_flow_is_black():
    turn = np.linspace(0, 2 * np.pi, 3601)
    grey = grey_of_flows(np.stack([np.sin(turn), np.cos(turn)])[:, None])
    assert grey.min() == pytest.approx(0.29, abs=0.005)
    assert grey.max() == pytest.approx(0.71, abs=0.005)
    assert not grey_of_flows(np.zeros((2, 3, 3))).any()
