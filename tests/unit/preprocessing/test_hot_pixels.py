"""Search for defective pixels, and their replacement; sound images do not change."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cellmill.preprocessing.hot_pixels import (
    MOST_DEFECTS,
    HotPixel,
    find_defects,
    replace_defects,
)

SHAPE = (60, 80)


def field(dtype=np.uint16, *, seed=0, shape=SHAPE):
    """Return dark ground with noise and bright squares."""
    image_yx = np.random.default_rng(seed).normal(100, 20, shape)
    image_yx[10:20, 15:30] += 700
    image_yx[40:55, 50:60] += 600
    return np.clip(image_yx, 1, None).round().astype(dtype)


def with_values(image_yx, values):
    changed_yx = image_yx.copy()
    for place, value in values.items():
        changed_yx[place] = value
    return changed_yx


def search(image_yx):
    return find_defects([image_yx], shape=image_yx.shape)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_sound_image_has_no_defect_and_stays_the_same_array(dtype):
    image_yx = field(dtype)
    assert search(image_yx).pixels == search(image_yx).lines == ()
    assert replace_defects(image_yx) is image_yx


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(np.uint16, 65535), (np.uint16, 4095), (np.float32, 1e30), (np.float32, -1e6), (np.float64, 1e300)],
)
@pytest.mark.parametrize("place", [(5, 5), (0, 0), (59, 79), (15, 20)])
def test_one_pixel_is_named_and_becomes_the_median_of_its_neighbours(dtype, value, place):
    clean_yx = field(dtype)
    hot_yx = with_values(clean_yx, {place: value})
    defects = search(hot_yx)
    assert defects.pixels == (HotPixel(*place, float(np.array(value, dtype))),)
    others = clean_yx[np.arange(SHAPE[0])[:, None] * SHAPE[1] + np.arange(SHAPE[1]) != place[0] * SHAPE[1] + place[1]]
    assert (defects.lowest, defects.highest) == (others.min(), others.max())
    around = [
        clean_yx[y, x]
        for y in range(place[0] - 1, place[0] + 2)
        for x in range(place[1] - 1, place[1] + 2)
        if (y, x) != place and 0 <= y < SHAPE[0] and 0 <= x < SHAPE[1]
    ]
    mended_yx = replace_defects(hot_yx)
    assert mended_yx.dtype == dtype
    assert mended_yx[place] == pytest.approx(np.median(around), abs=0.5)
    assert np.array_equal(with_values(mended_yx, {place: clean_yx[place]}), clean_yx)


def test_several_pixels_pairs_and_unlike_values_are_found_together():
    places = {(3, 4): 65535, (3, 5): 60000, (30, 70): 20000, (50, 10): 5000}
    assert {(p.row, p.column): p.value for p in search(with_values(field(), places)).pixels} == places


def test_a_dead_pixel_of_a_bright_image_is_found():
    image_yx = np.random.default_rng(1).normal(3000, 30, SHAPE).round().astype(np.uint16)
    assert search(with_values(image_yx, {(7, 9): 0})).pixels == (HotPixel(7, 9, 0.0),)
    both = search(with_values(image_yx, {(7, 9): 0, (20, 3): 65535}))
    assert both.pixels == (HotPixel(7, 9, 0.0), HotPixel(20, 3, 65535.0))


@pytest.mark.parametrize("index", [np.s_[:, 33], np.s_[12, :]])
def test_a_hot_line_is_named_and_kept(index):
    image_yx = field()
    image_yx[index] = 65535
    defects = search(image_yx)
    assert defects.lines == ((("column", 33),) if index[1] == 33 else (("row", 12),))
    assert defects.pixels == ()
    assert replace_defects(image_yx) is image_yx


def test_two_adjacent_hot_columns_are_named():
    image_yx = field()
    image_yx[:, 33:35] = 65535
    assert search(image_yx).lines == (("column", 33), ("column", 34))


def test_a_debris_pixel_beside_bright_objects_is_compared_with_them_too():
    # the object is far beyond the background, but the pixel is not far beyond the object
    image_yx = field()
    image_yx[40:55, 50:60] = 100
    image_yx[30, 70] = 2000
    assert search(image_yx).pixels == ()
    image_yx[30, 70] = 9000
    assert search(image_yx).pixels == (HotPixel(30, 70, 9000.0),)


def test_points_of_light_blurred_by_optics_are_kept():
    rng = np.random.default_rng(2)
    for count in (1, 3, 40):
        for blur_px in (0.6, 1.0):
            light_yx = np.zeros((10 * SHAPE[0], 10 * SHAPE[1]))  # ten times finer than the camera
            light_yx[rng.integers(0, 600, count), rng.integers(0, 800, count)] = rng.uniform(1e6, 1e8, count)
            shown_yx = gaussian_filter(light_yx, 10 * blur_px).reshape(SHAPE[0], 10, SHAPE[1], 10).mean(axis=(1, 3))
            image_yx = shown_yx + rng.normal(100, 5, SHAPE)
            assert search(image_yx).pixels == ()


def test_many_isolated_pixels_are_signal_and_only_counted():
    rng = np.random.default_rng(3)
    image_yx = rng.normal(100, 3, SHAPE)
    image_yx[4::7, 5::9] = 9000
    count = int((image_yx == 9000).sum())
    assert count > MOST_DEFECTS
    assert (search(image_yx).pixels, search(image_yx).spots) == ((), count)


def test_a_bright_object_with_sharp_edges_is_kept():
    image_yx = np.random.default_rng(4).normal(100, 3, SHAPE)
    image_yx[20:24, 30:33] = 9000
    assert (search(image_yx).pixels, search(image_yx).spots) == ((), 0)
    assert replace_defects(image_yx) is image_yx
    image_yx[23, 30:33] = 100  # nine pixels are left
    assert (search(image_yx).pixels, search(image_yx).spots) == ((), 9)
    assert replace_defects(image_yx) is image_yx


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 3), (8, 8)])
def test_tiny_constant_and_nearly_constant_images_have_no_defect(shape):
    image_yx = np.full(shape, 7, np.uint8)
    assert search(image_yx).pixels == ()
    image_yx[0, 0] = 200
    assert search(image_yx).pixels == ()


@pytest.mark.parametrize("rows", [1, 7, 16, 60])
def test_the_search_does_not_depend_on_the_bands(rows):
    image_yx = with_values(field(), {(3, 4): 65535, (31, 70): 30000})
    bands = [image_yx[first : first + rows] for first in range(0, SHAPE[0], rows)]
    assert find_defects(bands, shape=SHAPE) == search(image_yx)


def test_large_images_are_searched_like_small_ones():
    image_yx = np.random.default_rng(5).normal(500, 40, (1500, 1300)).astype(np.float32)
    hot_yx = with_values(image_yx, {(1200, 7): 9e9, (0, 1299): -9e9})
    bands = [hot_yx[first : first + 401] for first in range(0, 1500, 401)]
    assert [(p.row, p.column) for p in find_defects(bands, shape=hot_yx.shape).pixels] == [(0, 1299), (1200, 7)]
