"""Objects from flows: with perfect and noisy flows, of touching discs and of real annotations."""

import numpy as np
import pytest

from cellmill.metrics.instance import count_objects, count_overlaps, score_instances
from cellmill.objects.flow_tracking import MIN_PILE_PIXELS, find_piles, follow_flows, track_objects
from cellmill.objects.flows import unit_flows


def touching_discs(cells, *, size=256, seed=0, radii=(7, 13)):
    """Draw discs of random radii one by one, without overlap with earlier ones, many of them touching."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((size, size))
    labels, placed = np.zeros((size, size), dtype=np.uint16), []
    while len(placed) < cells:
        radius, row, column = rng.uniform(*radii), *rng.uniform(0, size, 2)
        if all((row - a) ** 2 + (column - b) ** 2 >= 0.95 * (radius + r) ** 2 for a, b, r in placed):
            placed.append((row, column, radius))
            labels[((y - row) ** 2 + (x - column) ** 2 <= radius**2) & (labels == 0)] = len(placed)
    return labels


def turn(flows_cyx, *, sigma, seed=0):
    """Turn each vector by a random angle (rad)."""
    angle = np.random.default_rng(seed).normal(0, sigma, flows_cyx.shape[1:])
    y, x = flows_cyx
    return np.stack([y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)])


def average_precision(found, truth):
    overlaps = count_overlaps(found, truth, valid_yx=np.ones(truth.shape, dtype=bool))
    return score_instances(count_objects(overlaps))


def plain_walk(flows_cyx, row, column, steps):
    """Follow one point by Euler steps, with the weights of the four neighbours written out."""
    _, rows, columns = flows_cyx.shape

    def flow(r, c):
        return flows_cyx[:, r, c] if 0 <= r < rows and 0 <= c < columns else np.zeros(2)

    for _ in range(steps):
        r, c = int(np.floor(row)), int(np.floor(column))
        down, across = row - r, column - c
        step = (1 - down) * ((1 - across) * flow(r, c) + across * flow(r, c + 1)) + down * (
            (1 - across) * flow(r + 1, c) + across * flow(r + 1, c + 1)
        )
        row, column = np.clip(row + step[0], 0, rows - 1), np.clip(column + step[1], 0, columns - 1)
    return row, column


@pytest.mark.parametrize(("sigma", "least"), [(0.0, 0.98), (0.5, 0.97)])
@pytest.mark.parametrize("seed", range(3))
def test_touching_discs_come_apart(sigma, least, seed):
    truth = touching_discs(138, seed=seed)
    flows = turn(unit_flows(truth), sigma=sigma)
    found = track_objects(flows, truth > 0, max_flow_error=0.4 + sigma)
    assert average_precision(found, truth)["ap_0.50"] >= least
    assert average_precision(found, truth)["ap_0.75"] >= least


def test_walkers_go_where_a_plain_walk_goes():
    truth = touching_discs(6, size=64, seed=3)
    flows, mask = unit_flows(truth), truth > 0
    ends = follow_flows(flows, mask, steps=40)
    places = np.argwhere(mask)
    for number in np.random.default_rng(0).choice(len(places), 40, replace=False):
        expected = plain_walk(flows, *places[number].astype(float), 40)
        # Points that merged are up to 1/16 px off; around a centre they circle.
        assert np.abs(ends[:, number] - expected).max() < 1.5
    exact = follow_flows(flows, mask, steps=7)  # before any points merge
    for number in range(0, len(places), 37):
        assert np.allclose(exact[:, number], plain_walk(flows, *places[number].astype(float), 7), atol=1e-4)


def test_ends_lie_in_the_middle_of_their_cell():
    truth = touching_discs(30, size=160, seed=4)
    ends = follow_flows(unit_flows(truth), truth > 0)
    owner = truth[truth > 0]
    for cell in range(1, 31):
        if (np.argwhere(truth == cell).min() > 0) and (np.argwhere(truth == cell).max() < 159):
            middle = np.argwhere(truth == cell).mean(axis=0)
            assert np.abs(ends[:, owner == cell].mean(axis=1) - middle).max() < 0.5


def test_flow_outside_of_the_mask_moves_nobody_and_longer_vectors_are_shortened():
    mask = np.zeros((9, 30), dtype=bool)
    mask[4, 2:8] = True
    flows = np.zeros((2, 9, 30))
    flows[1] = 50.0
    ends = follow_flows(flows, mask, steps=100)
    assert ends[1].max() < 9
    assert np.allclose(ends[0], 4)
    assert np.allclose(follow_flows(flows, mask, steps=1)[1, :5], np.arange(3, 8))


def test_the_way_through_a_large_cell_is_walked_to_its_end():
    """From the ends of a cell 600 px long, more than 200 steps are needed to reach its centre."""
    mask = np.zeros((9, 640), dtype=bool)
    mask[2:7, 20:620] = True
    flows = np.zeros((2, *mask.shape))
    flows[1] = np.where(np.arange(640) < 320, 1.0, -1.0)
    assert track_objects(flows, mask, max_flow_error=None).max() == 1
    assert np.abs(follow_flows(flows, mask)[1] - 320).max() < 3
    assert np.abs(follow_flows(flows, mask, steps=200)[1] - 320).max() > 90


def test_small_piles_start_no_object():
    truth = np.zeros((40, 40), dtype=np.uint16)
    truth[5:8, 5:8], truth[20:30, 20:30] = 1, 2
    assert MIN_PILE_PIXELS > 9
    found = track_objects(unit_flows(truth), truth > 0, max_flow_error=None)
    assert np.array_equal(found > 0, truth == 2)


def test_objects_that_do_not_explain_their_flow_are_dropped():
    truth = touching_discs(12, size=96, seed=5)
    flows = unit_flows(truth)
    # Flows reversed in every other band of 12 rows, which the resulting objects cannot reproduce
    wrong = np.where(np.arange(96)[:, None] % 24 < 12, 1, -1) * flows
    assert track_objects(flows, truth > 0, max_flow_error=0.4).max() == 12
    assert (
        track_objects(wrong, truth > 0, max_flow_error=0.4).max()
        < track_objects(wrong, truth > 0, max_flow_error=None).max()
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (17, 1), (30, 31)])
def test_empty_full_and_thin_masks(shape):
    flows = np.zeros((2, *shape))
    assert not track_objects(flows, np.zeros(shape, dtype=bool), max_flow_error=0.4).any()
    found = track_objects(flows, np.ones(shape, dtype=bool), max_flow_error=None)
    assert found.shape == shape
    assert np.isfinite(follow_flows(flows, np.ones(shape, dtype=bool))).all()


def test_no_pixel_is_no_pile():
    assert find_piles(np.zeros((2, 0)), shape=(5, 5), min_pixels=1).shape == (0,)
