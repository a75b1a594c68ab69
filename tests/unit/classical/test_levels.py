"""Threshold, polarity and map of one image, without a network."""

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from cellmill.classical.levels import Histogram, Level, find_level, find_probability

BINS = 4096


def histogram_of(image_yx, *, noise=0.0):
    counts, edges = np.histogram(image_yx, bins=BINS)
    return Histogram(counts, float(edges[0]), float(edges[-1]), noise)


def two_levels(*, share, low=100.0, high=900.0, size=100):
    """An image whose first rows, `share` of them, are at the high level."""
    image_yx = np.full((size, size), low)
    image_yx[: round(share * size)] = high
    return image_yx


def test_a_constant_image_has_no_level():
    assert find_level(histogram_of(np.full((9, 9), 7.0)), polarity="image") is None
    assert find_level(Histogram(np.zeros(4, dtype=int), 5.0, 5.0, 0.0), polarity="bright") is None


def test_the_threshold_is_that_of_scikit_image():
    rng = np.random.default_rng(1)
    image_yx = np.concatenate([rng.normal(300, 40, 9000), rng.normal(550, 60, 1000)]).reshape(100, 100)
    found = find_level(histogram_of(image_yx), polarity="bright")
    assert found.threshold == pytest.approx(threshold_otsu(image_yx, nbins=BINS), abs=0.5)


def test_between_two_grey_values_the_threshold_is_the_middle_and_the_separation_their_distance():
    found = find_level(histogram_of(two_levels(share=0.3)), polarity="bright")
    assert found.threshold == pytest.approx(500, abs=1)
    assert found.separation == pytest.approx(800, abs=1)


@pytest.mark.parametrize(
    ("share", "polarity", "is_dark"),
    [(0.3, "image", False), (0.7, "image", True), (0.5, "image", False), (0.7, "bright", False), (0.3, "dark", True)],
)
def test_the_side_with_fewer_pixels_is_the_objects_unless_the_polarity_is_set(share, polarity, is_dark):
    assert find_level(histogram_of(two_levels(share=share)), polarity=polarity).is_dark is is_dark


def test_pure_noise_has_no_level():
    """Otsu cuts normal noise into halves whose means are 2 sqrt(2 / pi) = 1.6 standard deviations apart."""
    noise_yx = np.random.default_rng(2).normal(100, 5, (200, 200))
    assert find_level(histogram_of(noise_yx, noise=5.0), polarity="image") is None
    found = find_level(histogram_of(noise_yx), polarity="image")
    assert found.separation == pytest.approx(2 * np.sqrt(2 / np.pi) * 5, rel=0.05)


def test_the_map_is_half_at_the_threshold_and_rises_towards_the_objects():
    values_yx = np.array([[400, 450, 500, 550, 600]], dtype=np.float32)
    bright = find_probability(values_yx, level=Level(500.0, 200.0, is_dark=False))
    dark = find_probability(values_yx, level=Level(500.0, 200.0, is_dark=True))
    assert bright[0, 2] == 0.5
    assert (np.diff(bright[0]) > 0).all()
    np.testing.assert_allclose(bright + dark, 1, rtol=1e-6)
    # half a separation away: 1 / (1 + exp(-2))
    assert bright[0, 4] == pytest.approx(0.880797, abs=1e-6)


def test_extreme_values_stay_in_range():
    found = find_probability(np.array([[-1e9, 1e9]], dtype=np.float32), level=Level(0.0, 1.0, is_dark=False))
    assert found.min() >= 0
    assert found.max() <= 1


def test_without_a_level_the_map_is_zero():
    assert not find_probability(np.ones((2, 3), dtype=np.float32), level=None).any()
