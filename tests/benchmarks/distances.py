"""Targets made from label images: two nearest cells and flows, each timed against a plain way. Run it to print both."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in ("workflow", "tests")]

if TYPE_CHECKING:
    from bench import Row

SIZE_PX = 512
CELLS_A_SIDE = 20
RADIUS_PX = 8
# For a sigma of 5 px
REACH_PX = 22


def grid_of_cells() -> np.ndarray:
    """Draw 400 discs of radius 8 px in 512 x 512, each somewhere in its own square."""
    rng = np.random.default_rng(0)
    labels_yx = np.zeros((SIZE_PX, SIZE_PX), dtype=np.uint16)
    y, x = np.indices(labels_yx.shape)
    pitch = SIZE_PX / CELLS_A_SIDE
    for number in range(CELLS_A_SIDE**2):
        row, column = ((place + 0.5) * pitch + rng.uniform(-4, 4) for place in divmod(number, CELLS_A_SIDE))
        labels_yx[np.hypot(y - row, x - column) <= RADIUS_PX] = number + 1
    return labels_yx


def two_nearest_cells() -> "Row":
    """Time distances to the two nearest of 400 cells: within their boxes against the whole image for each cell."""
    from bench import compare

    from cellmill.objects.distances import find_two_nearest

    labels_yx = grid_of_cells()

    def ours() -> tuple[np.ndarray, np.ndarray]:
        return find_two_nearest(labels_yx, reach_px=REACH_PX, reading="to_cell")

    def plain() -> tuple[np.ndarray, np.ndarray]:
        first_yx = np.full(labels_yx.shape, np.inf)
        second_yx = first_yx.copy()
        for number in range(1, CELLS_A_SIDE**2 + 1):
            distance_yx = ndimage.distance_transform_edt(labels_yx != number)
            second_yx = np.minimum(second_yx, np.maximum(first_yx, distance_yx))
            first_yx = np.minimum(first_yx, distance_yx)
        return first_yx, second_yx

    for found_yx, plain_yx in zip(ours(), plain(), strict=True):
        assert np.array_equal(found_yx, np.where(plain_yx <= REACH_PX, plain_yx, np.inf))
    return compare(
        "two nearest of 400 cells, 512 x 512", ours, "the whole image for each cell", plain, "> 10", repeats=3
    )


def flow_fields() -> "Row":
    """Time flows of 400 cells: in blocks of boxes against a list of the nine neighbours of each pixel."""
    from bench import compare

    from cellmill.objects.flows import unit_flows

    labels_yx = grid_of_cells()

    def plain() -> np.ndarray:
        padded_yx = np.pad(labels_yx, 1)
        y, x = np.nonzero(padded_yx)
        around = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
        is_same = np.stack([padded_yx[y + row, x + column] == padded_yx[y, x] for row, column in around])
        places = np.stack([np.ravel_multi_index((y + row, x + column), padded_yx.shape) for row, column in around])
        heat = np.zeros(padded_yx.size)
        numbers = np.arange(1, CELLS_A_SIDE**2 + 1)
        middles = np.round(ndimage.center_of_mass(padded_yx > 0, padded_yx, numbers)).astype(int)
        sources = np.ravel_multi_index(tuple(middles.T), padded_yx.shape)
        for _ in range(2 * (4 * RADIUS_PX + 4)):
            heat[sources] += 1
            heat[places[4]] = (heat[places] * is_same).mean(axis=0)
        slopes = np.stack([heat[places[a]] * is_same[a] - heat[places[b]] * is_same[b] for a, b in ((7, 1), (5, 3))])
        flows_cyx = np.zeros((2, *padded_yx.shape))
        flows_cyx[:, y, x] = slopes / np.maximum(np.hypot(*slopes), 1e-300)
        return flows_cyx[:, 1:-1, 1:-1]

    # The two find the middle of a cell in different ways, so they differ near it.
    assert np.mean(np.abs(unit_flows(labels_yx) - plain()) > 0.1) < 0.01
    return compare(
        "flows of 400 cells of radius 8, 512 x 512", lambda: unit_flows(labels_yx),
        "lists of neighbours", plain, "> 1", repeats=3,
    )  # fmt: skip


def rows() -> list["Row"]:
    """Run all benchmarks of this module."""
    return [two_nearest_cells(), flow_fields()]


if __name__ == "__main__":
    for measured in rows():
        print(
            f"{measured.what}: {measured.ours_s:.3g} s, {measured.peer}: {measured.peer_s:.3g} s, "
            f"{measured.ratio:.3g} times (wanted {measured.wanted})"
        )
