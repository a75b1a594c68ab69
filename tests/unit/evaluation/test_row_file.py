"""Rows in a file are used like an array, in memory or not."""

import numpy as np
import pytest

from cellmill.evaluation import row_file
from cellmill.evaluation.row_file import BLOCK_ROWS, RowFile


@pytest.fixture(params=["memory", "file"])
def rows(request, tmp_path, monkeypatch):
    """Make a file of rows, and the array of the same numbers: more than two blocks."""
    if request.param == "file":
        monkeypatch.setattr(row_file, "IN_MEMORY", 100)
    numbers = np.random.default_rng(1).integers(0, 1000, (2 * BLOCK_ROWS + 3, 7)).astype(np.float64)
    made = RowFile(tmp_path)
    for row in numbers:
        made.append(row)
    assert made._stream._rolled == (request.param == "file")
    return made, numbers


def test_rows_and_columns_are_those_of_the_array(rows):
    made, numbers = rows
    assert len(made) == len(numbers)
    assert np.array_equal(made[3:300], numbers[3:300])
    assert np.array_equal(made[:, 2:5], numbers[:, 2:5])
    assert made[5000:5001].shape == (0, 7)
    assert np.array_equal(np.concatenate(list(made.blocks())), numbers)


def test_sums_and_weighted_sums_are_those_of_the_array(rows):
    made, numbers = rows
    weights = np.random.default_rng(2).integers(0, 4, (11, len(numbers))).astype(np.float64)
    assert np.array_equal(made.sum(axis=0), numbers.sum(axis=0))
    assert np.array_equal(made.sum(axis=0, keepdims=True), numbers.sum(axis=0, keepdims=True))
    assert np.array_equal(weights @ made, weights @ numbers)


def test_rows_are_sorted_and_more_can_be_added(rows):
    made, numbers = rows
    order = np.random.default_rng(3).permutation(len(numbers))
    ordered = made.sorted(order.tolist())
    ordered.append(numbers[0])
    assert np.array_equal(ordered[: len(numbers)], numbers[order])
    assert np.array_equal(ordered[len(numbers) :], numbers[:1])


def test_nothing_is_left_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(row_file, "IN_MEMORY", 8)
    made = RowFile(tmp_path)
    made.append(np.arange(9.0))
    del made
    assert list(tmp_path.iterdir()) == []
