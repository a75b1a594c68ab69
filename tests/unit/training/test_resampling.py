"""Interpolation between pixels, equal to that of scipy to the last bit."""

import numpy as np
import pytest
from scipy import ndimage

import cellmill.training.resampling
from cellmill.training.resampling import Places


def places_around(rng, *, result, window, beyond_px):
    """Return positions within a window and up to `beyond_px` outside; the first row is on whole and half pixels."""
    ends = np.array(window)[:, None, None] - 1
    places_cyx = rng.uniform(-beyond_px, ends + beyond_px, (2, *result))
    places_cyx[:, 0] = np.round(2 * places_cyx[:, 0]) / 2
    return places_cyx


@pytest.mark.parametrize("beyond_px", [0, 3])
@pytest.mark.parametrize("window", [(40, 30), (1, 7), (5, 1)])
def test_interpolation_is_that_of_scipy(window, beyond_px, monkeypatch):
    monkeypatch.setattr(cellmill.training.resampling, "BLOCK_PX", 100)  # several blocks, the last one smaller
    rng = np.random.default_rng(0)
    planes_cyx = rng.normal(size=(2, *window)).astype(np.float32)
    planes_cyx.flags.writeable = False
    places_cyx = places_around(rng, result=(23, 17), window=window, beyond_px=beyond_px)
    found_cyx = Places(places_cyx, shape=window).interpolate(planes_cyx)
    assert found_cyx.dtype == np.float32
    for plane_yx, found_yx in zip(planes_cyx, found_cyx, strict=True):
        expected_yx = ndimage.map_coordinates(plane_yx, places_cyx, order=1, mode="nearest")
        assert np.array_equal(found_yx, expected_yx)


@pytest.mark.parametrize(("outside", "mode"), [(None, "nearest"), (65535, "constant")])
def test_the_nearest_pixel_is_that_of_scipy(outside, mode):
    rng = np.random.default_rng(1)
    window = (31, 44)
    labels_tyx = rng.integers(0, 65536, (3, *window)).astype(np.uint16)
    places_cyx = places_around(rng, result=(50, 20), window=window, beyond_px=2)
    found_tyx = Places(places_cyx, shape=window).take_nearest(labels_tyx, outside=outside)
    assert found_tyx.dtype == np.uint16
    for labels_yx, found_yx in zip(labels_tyx, found_tyx, strict=True):
        expected_yx = ndimage.map_coordinates(labels_yx, places_cyx, order=0, mode=mode, cval=outside or 0)
        assert np.array_equal(found_yx, expected_yx)


def test_a_view_of_a_larger_plane_is_read_where_it_lies():
    large_cyx = np.random.default_rng(2).normal(size=(1, 20, 30)).astype(np.float32)
    view_cyx = large_cyx[:, 4:14, 7:19]
    places_cyx = np.random.default_rng(3).uniform(0, 9, (2, 6, 6))
    for take in (Places.interpolate, lambda places, planes: places.take_nearest(planes, outside=None)):
        places = Places(places_cyx, shape=(10, 12))
        assert np.array_equal(take(places, view_cyx), take(places, view_cyx.copy()))
