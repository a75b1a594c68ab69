"""The reduced picture of a large image is that of the whole image, however few rows are read at once."""

import numpy as np
import pytest

from cellmill.preprocessing.geometry import resample
from cellmill.reports import shrinking
from cellmill.reports.shrinking import pick, shrink


class Watched:
    """Image that records how many rows were requested at once."""

    def __init__(self, array_yx):
        self._array_yx, self.shape, self.most = array_yx, array_yx.shape, 0

    def __getitem__(self, rows):
        part_yx = self._array_yx[rows]
        span = len(part_yx) if isinstance(rows, slice) else int(rows[-1]) - int(rows[0]) + 1
        self.most = max(self.most, span)
        return part_yx


@pytest.mark.parametrize("shape", [(60, 20), (33, 11), (7, 90), (1, 1)])
def test_a_large_image_is_shrunk_in_bands(monkeypatch, shape):
    image_yx = np.random.default_rng(0).normal(100, 20, (90, 45)).astype(np.float32)
    monkeypatch.setattr(shrinking, "BAND_PIXELS", 10 * 45)
    source = Watched(image_yx)
    np.testing.assert_allclose(shrink(source, shape), resample(image_yx, shape), rtol=1e-6)
    if shape[0] > 9:
        assert source.most <= 15
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new) for old, new in zip(image_yx.shape, shape, strict=True)
    )
    assert np.array_equal(pick(source, shape), image_yx[np.ix_(rows, columns)])


def test_a_small_image_grows_by_repeated_pixels(monkeypatch):
    image_yx = np.arange(12).reshape(3, 4)
    expected_yx = np.repeat(np.repeat(image_yx, 5, axis=0), 5, axis=1)
    assert np.array_equal(shrink(image_yx, (15, 20)), expected_yx)
    monkeypatch.setattr(shrinking, "BAND_PIXELS", 1)
    assert np.array_equal(pick(Watched(image_yx), (15, 20)), expected_yx)
