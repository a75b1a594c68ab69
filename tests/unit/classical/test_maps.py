"""Maps of images by bands: they equal those of the whole image, and find objects that plain thresholds miss."""

import numpy as np
import pytest
from scipy import ndimage

from cellmill.classical import maps
from cellmill.classical.levels import find_level
from cellmill.classical.maps import Flattened, map_bands
from cellmill.preprocessing.geometry import plan_fit
from cellmill.preprocessing.stored_images import StoredImage
from whole_images import fit_image, write_image

GLOBAL = {"sigma_px": 1.0, "window_px": None, "polarity": "image"}
LOCAL = {"sigma_px": 1.0, "window_px": 41, "polarity": "image"}


def discs(shape=(120, 150), *, radius_px=6, spacing_px=30):
    """Mark discs on a grid; they cover about an eighth of the image."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    near = spacing_px // 2
    return ((y % spacing_px - near) ** 2 + (x % spacing_px - near) ** 2) < radius_px**2


def stored(folder, image_yx, *, mode="none", size=None):
    geometry = plan_fit(image_yx.shape, mode=mode, size=size)
    write_image(folder / "a.tif", fit_image(image_yx.astype(np.float32), geometry, pad_value=0))
    return StoredImage(sample="a", image_path=folder / "a.tif", geometry=geometry)


def map_of(folder, image_yx, recipe, **fit):
    return np.concatenate(list(map_bands(stored(folder, image_yx, **fit), recipe=recipe)), axis=1)[0]


def iou(mask_yx, truth_yx):
    return np.count_nonzero(mask_yx & truth_yx) / np.count_nonzero(mask_yx | truth_yx)


def noisy(image_yx, *, seed=0, sigma=10.0):
    return image_yx + np.random.default_rng(seed).normal(0, sigma, image_yx.shape)


@pytest.mark.parametrize("recipe", [GLOBAL, LOCAL])
def test_a_constant_image_has_no_objects(tmp_path, recipe):
    assert not map_of(tmp_path, np.full((30, 40), 1234.0), recipe).any()


@pytest.mark.parametrize("recipe", [GLOBAL, LOCAL])
@pytest.mark.parametrize("contrast", [200, -200])
def test_bright_and_dark_objects_are_found(tmp_path, recipe, contrast):
    truth_yx = discs()
    found = map_of(tmp_path, noisy(1000 + contrast * truth_yx), recipe) >= 0.5
    assert iou(found, truth_yx) > 0.85


def test_a_local_threshold_finds_objects_on_an_uneven_background_and_a_global_one_does_not(tmp_path):
    truth_yx = discs()
    slope_yx = np.broadcast_to(np.linspace(0, 2000, truth_yx.shape[1]), truth_yx.shape)
    image_yx = noisy(500 + slope_yx + 200 * truth_yx)
    local = iou(map_of(tmp_path, image_yx, LOCAL) >= 0.5, truth_yx)
    assert local > 0.7
    assert local > 2 * iou(map_of(tmp_path, image_yx, GLOBAL) >= 0.5, truth_yx)


def test_offset_and_gain_of_the_camera_make_no_difference(tmp_path):
    """The same scene with 8 bits and over the whole range of 16 bits."""
    image_yx = np.round(np.clip(noisy(40 + 120 * discs()), 0, 255))
    for recipe in (GLOBAL, LOCAL):
        eight = map_of(tmp_path, image_yx, recipe)
        sixteen = map_of(tmp_path, image_yx * 257, recipe)
        np.testing.assert_allclose(sixteen, eight, atol=2e-3)


def test_noise_alone_has_no_objects(tmp_path):
    assert not map_of(tmp_path, noisy(np.full((150, 150), 300.0)), GLOBAL).any()
    assert not map_of(tmp_path, noisy(np.full((150, 150), 300.0)), {**GLOBAL, "sigma_px": 0.0}).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (3, 4)])
def test_tiny_images_have_a_map_of_their_shape(tmp_path, shape):
    image_yx = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    for recipe in (GLOBAL, LOCAL):
        found = map_of(tmp_path, image_yx, recipe)
        assert found.shape == shape
        assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize(("sigma_px", "window_px"), [(0.0, None), (2.0, None), (0.0, 31), (1.5, 51), (1.0, 301)])
def test_regions_equal_the_whole_image(sigma_px, window_px):
    image_yx = noisy(1000 + 300 * discs((90, 110))).astype(np.float32)
    whole_yx = image_yx
    if sigma_px:
        whole_yx = ndimage.gaussian_filter(image_yx, sigma_px, mode="nearest")
    if window_px:
        whole_yx = whole_yx - ndimage.uniform_filter(whole_yx, window_px, mode="reflect")
    flat = Flattened(image_yx, sigma_px, window_px)
    for rows, columns in ((slice(0, 90), slice(None)), (slice(13, 31), slice(40, 77)), (slice(80, 90), slice(0, 5))):
        # the running mean of single precision differs in the last digits
        np.testing.assert_allclose(flat.read(rows, columns), whole_yx[rows, columns], rtol=1e-5, atol=2e-3)


@pytest.mark.parametrize("recipe", [GLOBAL, LOCAL])
def test_the_height_of_the_bands_makes_no_difference(tmp_path, monkeypatch, recipe):
    image_yx = noisy(1000 + 300 * discs())
    whole_yx = map_of(tmp_path, image_yx, recipe)
    bands = maps.list_bands
    monkeypatch.setattr(maps, "list_bands", lambda shape: bands(shape, pixels=1000))
    assert len(list(map_bands(stored(tmp_path, image_yx), recipe=recipe))) > 10
    np.testing.assert_allclose(map_of(tmp_path, image_yx, recipe), whole_yx, atol=1e-4)


def test_padding_is_zero_and_does_not_enter_the_threshold(tmp_path):
    image_yx = noisy(1000 + 300 * discs((60, 60)))
    alone_yx = map_of(tmp_path, image_yx, GLOBAL)
    image = stored(tmp_path, image_yx, mode="crop_pad", size=(100, 140))
    padded_yx = np.concatenate(list(map_bands(image, recipe=GLOBAL)), axis=1)[0]
    top, left = -image.geometry.row_offset, -image.geometry.column_offset
    np.testing.assert_allclose(padded_yx[top : top + 60, left : left + 60], alone_yx, atol=1e-5)
    padded_yx[top : top + 60, left : left + 60] = 0
    assert not padded_yx.any()


def test_one_hot_pixel_does_not_hide_the_objects(tmp_path):
    truth_yx = discs()
    image_yx = noisy(1000 + 300 * truth_yx)
    image_yx[3, 3] = 65535
    level = find_level(Flattened(image_yx.astype(np.float32), 1.0, None).count_values(), polarity="image")
    assert 1000 < level.threshold < 1300
