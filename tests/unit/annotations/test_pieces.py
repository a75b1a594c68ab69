"""Objects cut out of a label image band by band equal those of the whole image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellmill.annotations.pieces import gather_objects
from cellmill.images.stored import StoredRows, write_labels
from shapes import scattered_objects

SHAPE = (30, 41)


class Cut:
    """Label image that is read in bands which end at given rows."""

    def __init__(self, labels_yx, ends):
        self.shape = labels_yx.shape
        self._labels_yx, self._ends = labels_yx, sorted(ends)

    def bands(self):
        for first, last in zip([0, *self._ends], [*self._ends, len(self._labels_yx)], strict=True):
            yield slice(first, last), self._labels_yx[first:last]


def assert_is(objects, labels_yx):
    assert list(objects) == np.setdiff1d(labels_yx, [0]).tolist()
    for number, (row, column, mask_yx) in objects.items():
        placed_yx = np.zeros(labels_yx.shape, bool)
        placed_yx[row : row + mask_yx.shape[0], column : column + mask_yx.shape[1]] = mask_yx
        assert np.array_equal(placed_yx, labels_yx == number)
        assert all(mask_yx.any(axis=axis)[[0, -1]].all() for axis in (0, 1))


@given(
    seed=st.integers(0, 2**32 - 1),
    ends=st.sets(st.integers(1, SHAPE[0] - 1), max_size=6),
    scale=st.sampled_from([1, 7, 70_000, 2**21]),
)
def test_objects_do_not_depend_on_where_the_bands_end(seed, ends, scale):
    labels_yx = scattered_objects(SHAPE, objects=12, seed=seed).astype(np.uint32) * scale
    assert_is(gather_objects(Cut(labels_yx, ends), where=""), labels_yx)
    assert_is(gather_objects(labels_yx, where=""), labels_yx)


def test_a_label_file_is_read_by_bands(tmp_path, monkeypatch):
    labels_yx = scattered_objects(SHAPE, objects=12, seed=1).astype(np.uint32)
    write_labels(tmp_path / "a.tif", labels_yx)
    file = StoredRows(tmp_path / "a.tif")
    bands = list(file.bands(max_pixels=7 * SHAPE[1]))
    assert [(rows.start, rows.stop) for rows, _ in bands] == [(0, 7), (7, 14), (14, 21), (21, 28), (28, 30)]
    assert np.array_equal(np.concatenate([band_yx for _, band_yx in bands]), labels_yx)
    # An image wider than a band is read row by row.
    assert len(list(file.bands(max_pixels=1))) == SHAPE[0]
    assert_is(gather_objects(file, where="a.tif"), labels_yx)


def test_negative_labels_are_refused():
    with pytest.raises(ValueError, match=r"^a\.tif: expected labels from 0, found -4\. Renumber the objects\.$"):
        gather_objects(np.array([[1, -4]]), where="a.tif")


def test_no_object_is_an_empty_dict():
    assert gather_objects(np.zeros((3, 4), np.uint16), where="") == {}
