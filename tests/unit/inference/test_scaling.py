"""Working scale of a network: images and maps are resampled, and come back in their own geometry."""

import errno
import os

import numpy as np
import pytest

from cellmill.inference import scaling
from cellmill.inference.scaling import (
    ScaledImages,
    limit_factor,
    limit_scale,
    plan_working_size,
    scale_box,
    unscale_bands,
)


@pytest.mark.parametrize(("factor", "shape"), [(0.5, (20, 30)), (2.0, (80, 120)), (0.26, (10, 16)), (1.0, (40, 60))])
def test_both_sides_change_by_the_factor(factor, shape):
    assert plan_working_size((40, 60), factor=factor).shape == shape


def test_small_images_are_not_made_smaller_than_eight_pixels():
    assert plan_working_size((20, 4), factor=0.125).shape == (8, 4)


def test_factors_close_to_one_change_nothing():
    assert limit_factor(1.019) == 1.0
    assert limit_factor(0.985) == 1.0
    assert limit_factor(1.05) == 1.05


@pytest.mark.parametrize(("factor", "limit"), [(100.0, 8.0), (0.001, 0.125)])
def test_factors_are_limited(factor, limit):
    assert limit_factor(factor) == limit


@pytest.mark.parametrize(
    ("wanted", "says"), [(0.5, "A"), (1.01, "A"), (0.1, "A; a factor of 0.1 is beyond the limits of 1/8 and 8")]
)
def test_a_factor_that_is_limited_is_said(wanted, says):
    scale = limit_scale(wanted, because="A")
    assert (scale.factor, scale.because) == (limit_factor(wanted), says)


@pytest.mark.parametrize("shape", [(10, 15), (37, 81), (80, 120)])
def test_the_valid_box_stays_inside_the_valid_pixels(shape):
    first, last = scale_box((5, 33), old=40, new=shape[0])
    assert first * 40 / shape[0] >= 5 - 1e-9
    assert last * 40 / shape[0] <= 33 + 1e-9
    assert scale_box((0, 40), old=40, new=shape[0]) == (0, shape[0])


@pytest.mark.parametrize("factor", [0.4, 1.7])
@pytest.mark.parametrize("room", [0, 1 << 20])
def test_a_scaled_image_is_the_same_in_memory_and_on_disk(monkeypatch, factor, room):
    monkeypatch.setattr(scaling, "MEMORY_BYTES", room)
    image_yx = np.random.default_rng(0).random((50, 70), dtype=np.float32)
    geometry = plan_working_size(image_yx.shape, factor=factor)
    scaled_yx = ScaledImages(kept=None).find("a", image_yx, geometry)
    assert scaled_yx.shape == geometry.shape
    assert scaled_yx.mean() == pytest.approx(image_yx.mean(), abs=2e-3)
    assert isinstance(scaled_yx, np.memmap) == (room == 0)


def test_a_constant_image_stays_constant():
    image_yx = np.full((31, 47), 7, dtype=np.float32)
    for factor in (0.3, 0.9, 2.6):
        scaled_yx = ScaledImages(kept=None).find("a", image_yx, plan_working_size((31, 47), factor=factor))
        assert np.allclose(scaled_yx, 7)


def test_an_image_is_resampled_once_and_the_oldest_is_dropped():
    images = {name: np.full((20, 20), value, dtype=np.float32) for value, name in enumerate("abc")}
    geometry, store = plan_working_size((20, 20), factor=2), ScaledImages(kept=2)
    first_yx = store.find("a", images["a"], geometry)
    assert store.find("a", images["a"], geometry) is first_yx
    store.find("b", images["b"], geometry)
    store.find("c", images["c"], geometry)
    again_yx = store.find("a", images["a"], geometry)
    assert again_yx is not first_yx
    assert (again_yx == first_yx).all()


@pytest.mark.parametrize("factor", [0.31, 0.5, 1.6, 3.0])
def test_maps_come_back_in_the_shape_of_the_image(factor):
    y, x = np.mgrid[:90, :70]
    smooth_yx = np.sin(y / 30) * np.cos(x / 25)
    geometry = plan_working_size((90, 70), factor=factor)
    maps_yx = ScaledImages(kept=None).find("a", smooth_yx.astype(np.float32), geometry)
    maps_cyx = np.stack([maps_yx, -maps_yx]).astype(np.float16)
    cut = geometry.rows // 3
    back = list(unscale_bands([maps_cyx[:, :cut], maps_cyx[:, cut:]], geometry))
    back_cyx = np.concatenate(back, axis=1)
    assert back_cyx.dtype == np.float16
    assert back_cyx.shape == (2, 90, 70)
    assert np.abs(back_cyx[0] - smooth_yx).max() < 0.05
    assert np.allclose(back_cyx[0], -back_cyx[1], atol=1e-3)


def test_maps_of_an_unscaled_image_pass_through():
    band_cyx = np.ones((3, 5, 6), dtype=np.float16)
    (found_cyx,) = unscale_bands([band_cyx], plan_working_size((5, 6), factor=1))
    assert found_cyx is band_cyx


def test_a_full_disk_is_an_error_and_not_a_crash(monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cellmill.inference.scaling.MEMORY_BYTES", 0)
    monkeypatch.setattr(os, "posix_fallocate", fail)
    store, image_yx = ScaledImages(kept=None), np.zeros((40, 40), np.float32)
    with pytest.raises(OSError, match="No space left"):
        store.find("a", image_yx, plan_working_size((40, 40), factor=2.0))
