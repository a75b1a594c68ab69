"""The part of an image that statistics are measured in."""

import pytest

from cellmill.images.stored import central_part


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, (0, 0)), (1, (0, 1)), (1024, (0, 1024)), (1025, (0, 1024)), (1026, (1, 1025)), (3001, (988, 2012))],
)
def test_the_centre_is_1024_px_or_the_whole_of_a_smaller_image(size, expected):
    rows, columns = central_part((size, 50))
    assert (rows.start, rows.stop) == expected
    assert (columns.start, columns.stop) == (0, 50)
