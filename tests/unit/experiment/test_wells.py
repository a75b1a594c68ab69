"""Wells of a plate: their names, and the plate that has them."""

import pytest

from cellmill.experiment.wells import find_well, plate_shape, write_well


@pytest.mark.parametrize(
    ("name", "well"),
    [("A01", (0, 0)), ("A1", (0, 0)), ("a01", (0, 0)), ("H12", (7, 11)), ("P24", (15, 23)), ("B010", (1, 9))],
)
def test_a_well_has_a_row_and_a_column(name, well):
    assert find_well(name) == well


@pytest.mark.parametrize("name", ["", "A", "A0", "A00", "A25", "Q1", "1", "A1b", "AA1", "A1 ", "A-1"])
def test_other_names_are_no_wells(name):
    assert find_well(name) is None


def test_every_well_of_the_largest_plate_comes_back():
    wells = [(row, column) for row in range(16) for column in range(24)]
    assert [find_well(write_well(well)) for well in wells] == wells
    assert write_well((0, 0)) == "A01"


@pytest.mark.parametrize(
    ("well", "shape"),
    [((0, 0), (2, 3)), ((2, 3), (3, 4)), ((3, 5), (4, 6)), ((5, 7), (6, 8)), ((7, 11), (8, 12)), ((0, 12), (16, 24))],
)
def test_the_smallest_plate_with_a_well_is_taken(well, shape):
    assert plate_shape([(0, 0), well]) == shape
