"""Network input: statistics of the valid pixels only, equal in whole images and in windows."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from cellmill.images.windows import release_pages, sample_pixels
from cellmill.inference.normalise import has_bright_ground, measure_contrast, measure_input, mirror, read_window
from cellmill.preprocessing.geometry import plan_fit, valid_box
from whole_images import fit_image


def geometry_of(shape, *, mode="none", size=None):
    return plan_fit(shape, mode=mode, size=size)


def see(image_yx, geometry, *, normalise="zscore"):
    """Return the whole image as network input."""
    scale = measure_input(image_yx, geometry=geometry, normalise=normalise, polarity="keep", min_contrast=0.0)
    rows, columns = (np.arange(size) for size in image_yx.shape)
    return read_window(image_yx, rows=rows, columns=columns, scale=scale)


@pytest.fixture
def image_yx():
    image_yx = np.random.default_rng(3).normal(40_000, 7, (1100, 50)).astype(np.float32)
    image_yx.setflags(write=False)
    return image_yx


def test_an_image_gets_mean_zero_and_deviation_one(image_yx):
    seen_yx = see(image_yx, geometry_of(image_yx.shape)).astype(np.float64)
    assert seen_yx.dtype == np.float64
    assert seen_yx.mean() == pytest.approx(0, abs=1e-3)
    assert seen_yx.std() == pytest.approx(1, abs=1e-3)


def test_statistics_of_blocks_are_those_of_the_whole(image_yx):
    scale = measure_input(
        image_yx, geometry=geometry_of(image_yx.shape), normalise="zscore", polarity="keep", min_contrast=0.0
    )
    assert scale.offset == pytest.approx(image_yx.mean(dtype=np.float64), rel=1e-9)
    assert scale.scale == pytest.approx(image_yx.std(dtype=np.float64), rel=1e-6)


def test_a_camera_with_another_gain_and_offset_shows_the_same(image_yx):
    other_yx = (image_yx - 39_000) * np.float32(0.5)
    geometry = geometry_of(image_yx.shape)
    assert np.allclose(see(other_yx, geometry), see(image_yx, geometry), atol=2e-3)


def test_a_constant_image_is_zero():
    assert np.array_equal(see(np.full((8, 9), 700, np.float32), geometry_of((8, 9))), np.zeros((8, 9)))


def test_none_leaves_the_values(image_yx):
    assert np.array_equal(see(image_yx, geometry_of(image_yx.shape), normalise="none"), image_yx)


@pytest.mark.parametrize("pad_value", [0, 1e6])
def test_padding_enters_no_statistic_and_reads_as_the_mean(pad_value):
    raw_yx = np.random.default_rng(5).normal(300, 20, (20, 31)).astype(np.float32)
    geometry = geometry_of(raw_yx.shape, mode="crop_pad", size=[40, 24])
    seen_yx = see(fit_image(raw_yx, geometry, pad_value=pad_value), geometry)
    kept_yx = raw_yx[:, 3:27].astype(np.float64)
    expected_yx = np.zeros((40, 24))
    expected_yx[10:30] = (kept_yx - kept_yx.mean()) / kept_yx.std()
    assert np.allclose(seen_yx, expected_yx, atol=1e-4)


def test_the_valid_box_of_a_cropped_image_is_all_of_it():
    assert valid_box(geometry_of((50, 60), mode="crop_pad", size=[32, 40])) == ((0, 32), (0, 40))


def test_the_valid_box_of_a_resized_image_is_all_of_it():
    assert valid_box(geometry_of((50, 60), mode="resize", size=[80, 90])) == ((0, 80), (0, 90))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_mirrored_positions_are_those_of_numpy(size):
    expected = np.pad(np.arange(size), (7, 9), mode="symmetric")
    assert np.array_equal(mirror(-7, 7 + size + 9, size), expected)


def test_pages_of_a_file_are_let_go_and_read_again(tmp_path):
    """Pages read from an image of gigabytes must be released: jobs are stopped when they use too much memory."""
    np.full((4000, 2500), 3, dtype=np.float32).tofile(tmp_path / "image.bin")
    image = np.memmap(tmp_path / "image.bin", mode="r", dtype=np.float32, shape=(4000, 2500))
    before = resident_mb()
    assert image.sum() > 0
    assert resident_mb() > before + 30
    release_pages(image)
    assert resident_mb() < before + 10
    assert float(image[17, 23]) == 3
    release_pages(np.ones(3))  # nothing to release
    inside = image[7:3990, 3:2400]
    sampled = sample_pixels(inside, max_pixels=60_000)
    assert resident_mb() < before + 10
    assert sampled.shape == inside[::13, ::13].shape
    ramp = np.arange(300.0).reshape(20, 15)
    assert np.array_equal(sample_pixels(ramp, max_pixels=50), ramp[::3, ::3])
    assert np.array_equal(sample_pixels(ramp, max_pixels=300), ramp)


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE / 1e6


def spread_image(*, shape=(60, 80)):
    """Return an image whose sorted pixels are 0, 1, 2, …, so that percentiles are known."""
    count = shape[0] * shape[1]
    return np.random.default_rng(3).permutation(count).astype(np.float32).reshape(shape)


def test_percentiles_become_minus_one_and_three():
    image_yx = spread_image()
    scale = measure_input(
        image_yx, geometry=geometry_of(image_yx.shape), normalise="percentile", polarity="keep", min_contrast=0.0
    )
    last = image_yx.size - 1
    seen = (np.array([0.01 * last, 0.998 * last]) - scale.offset) / scale.scale
    assert seen == pytest.approx([-1, 3])


def test_percentiles_ignore_hot_pixels():
    image_yx = spread_image()
    hot_yx = image_yx.copy()
    hot_yx[7, 9] = 1e6
    geometry = geometry_of(image_yx.shape)
    scales = [
        measure_input(each, geometry=geometry, normalise="percentile", polarity="keep", min_contrast=0.0)
        for each in (image_yx, hot_yx)
    ]
    assert scales[1].scale == pytest.approx(scales[0].scale, rel=2e-3)


@pytest.mark.parametrize("normalise", ["zscore", "percentile"])
def test_an_image_on_bright_ground_looks_like_its_negative(normalise):
    rng = np.random.default_rng(5)
    bright_yx = rng.normal(10, 1, (64, 64)).astype(np.float32)
    bright_yx[10:20, 10:20] += 50
    geometry = geometry_of(bright_yx.shape)
    seen = []
    for image_yx in (bright_yx, 200 - bright_yx):
        scale = measure_input(image_yx, geometry=geometry, normalise=normalise, polarity="bright", min_contrast=0.0)
        seen.append((image_yx - scale.offset) / scale.scale)
    assert np.allclose(seen[0], seen[1], atol=1e-4)


def test_polarity_is_kept_unless_asked_for():
    bright_yx = np.full((20, 20), 200, dtype=np.float32)
    bright_yx[5:8, 5:8] = 10
    scale = measure_input(
        bright_yx, geometry=geometry_of((20, 20)), normalise="percentile", polarity="keep", min_contrast=0.0
    )
    assert scale.scale > 0


@pytest.mark.parametrize("polarity", ["keep", "bright"])
def test_a_constant_image_becomes_zero(polarity):
    image_yx = np.full((9, 11), 37, dtype=np.float32)
    scale = measure_input(
        image_yx, geometry=geometry_of((9, 11)), normalise="percentile", polarity=polarity, min_contrast=0.0
    )
    assert ((image_yx - scale.offset) / scale.scale == 0).all()
    assert not has_bright_ground(image_yx)


def test_a_few_bright_pixels_on_constant_ground_are_seen():
    image_yx = np.full((100, 100), 5, dtype=np.float32)
    image_yx[3, 3] = 25  # less than 0.2 % of the pixels
    scale = measure_input(
        image_yx, geometry=geometry_of((100, 100)), normalise="percentile", polarity="keep", min_contrast=0.0
    )
    seen_yx = (image_yx - scale.offset) / scale.scale
    assert seen_yx.min() == pytest.approx(-1)
    assert seen_yx.max() == pytest.approx(3)


NOISE = 3.0


def draw_field(*, nuclei, signal=60.0):
    """Draw noise of 3 on an uneven background of 140, and squares that are brighter by `signal`."""
    rng = np.random.default_rng(8)
    field_yx = 140 + rng.normal(0, NOISE, (200, 240)) + 4 * np.cos(np.linspace(0, 3, 200))[:, None]
    for row, column in rng.integers(10, 170, (nuclei, 2)):
        field_yx[row : row + 16, column : column + 16] += signal
    return field_yx.astype(np.float32)


def measure(image_yx, *, normalise, min_contrast, polarity="keep"):
    return measure_input(
        image_yx,
        geometry=geometry_of(image_yx.shape),
        normalise=normalise,
        polarity=polarity,
        min_contrast=min_contrast,
    )


def test_contrast_is_one_for_noise_and_free_of_units():
    noise_yx = np.random.default_rng(1).normal(500, 7, (300, 300)).astype(np.float32)
    assert measure_contrast(noise_yx) == pytest.approx(1, abs=0.03)
    field_yx = draw_field(nuclei=30)
    assert measure_contrast(field_yx) > 6
    assert measure_contrast(100 * field_yx + 7) == pytest.approx(measure_contrast(field_yx), rel=1e-3)


@pytest.mark.parametrize("image_yx", [np.full((30, 30), 5.0), np.arange(40.0)[None], np.zeros((0, 9))])
def test_an_image_without_noise_has_no_contrast(image_yx):
    assert measure_contrast(image_yx.astype(np.float32)) is None


@pytest.mark.parametrize(("normalise", "divisor"), [("zscore", 1.0), ("percentile", (2.878 + 2.326) / 4)])
@pytest.mark.parametrize("polarity", ["keep", "invert"])
def test_noise_without_objects_is_not_amplified(normalise, divisor, polarity):
    free, limited = (
        measure(draw_field(nuclei=0), normalise=normalise, polarity=polarity, min_contrast=least) for least in (0, 6)
    )
    assert abs(limited.scale) == pytest.approx(6 * NOISE * divisor, rel=0.03)
    assert limited.scale / free.scale == pytest.approx(limited.stretch)
    assert 3 < limited.stretch < 6
    assert free.stretch == 1


def test_the_ground_stays_where_it_is_with_percentiles():
    image_yx = draw_field(nuclei=0)
    for polarity in ("keep", "invert"):
        scale = measure(image_yx, normalise="percentile", polarity=polarity, min_contrast=6.0)
        seen_yx = (image_yx - scale.offset) / scale.scale
        assert np.percentile(seen_yx, 1) == pytest.approx(-1, abs=1e-3), polarity
        assert np.percentile(seen_yx, 99.8) < 0.4


@pytest.mark.parametrize("normalise", ["zscore", "percentile"])
def test_an_image_with_objects_keeps_its_normalisation(normalise):
    image_yx = draw_field(nuclei=30)
    least = measure_contrast(image_yx) * 0.999
    scales = [measure(image_yx, normalise=normalise, min_contrast=each) for each in (0.0, least)]
    assert scales[0] == scales[1]


@pytest.mark.parametrize("normalise", ["zscore", "percentile"])
def test_a_single_object_stays_visible(normalise):
    image_yx = draw_field(nuclei=1)
    scale = measure(image_yx, normalise=normalise, min_contrast=6.0)
    seen_yx = (image_yx - scale.offset) / scale.scale
    assert np.sort(seen_yx, axis=None)[-200] - np.median(seen_yx) > 2


def test_the_noise_of_a_large_image_is_that_of_its_centre():
    image_yx = np.random.default_rng(2).normal(100, 2, (60, 1400)).astype(np.float32)
    image_yx[:, :150] += np.random.default_rng(3).normal(0, 50, (60, 150))
    assert measure(image_yx, normalise="zscore", min_contrast=1000).scale == pytest.approx(2000, rel=0.03)


def test_values_that_are_not_normalised_stay_as_they_are():
    assert measure(draw_field(nuclei=0), normalise="none", min_contrast=6.0).scale == 1


def test_pixels_without_noise_set_no_limit():
    image_yx = np.full((40, 40), 7, dtype=np.float32)
    image_yx[10, 10] = 9
    for normalise in ("zscore", "percentile"):
        assert measure(np.full_like(image_yx, 7), normalise=normalise, min_contrast=6.0).scale == 1
