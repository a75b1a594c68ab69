"""Illumination profiles: known truth is recovered, objects leave no trace, even images stay as they are."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cellmill.images.files import read_plane
from cellmill.preprocessing.flat_field import DEGREE, TERMS, FlatField, evaluate, places, read_flat_fields
from cellmill.preprocessing.flat_field import write_flat_fields as write
from cellmill.preprocessing.geometry import resample
from cellmill.preprocessing.shading import estimate_profile, fit_profile
from cellmill.simulation.illumination import parabolic_illumination

SHAPE = (48, 64)
# rms error of a profile, as a fraction of it
TOLERANCE = 0.01
DARK = 100.0


def paraboloid(depth, *, shape=SHAPE):
    """Return a profile with mean 1 that is dimmer by `depth` at its darkest corner."""
    profile_yx = 1 - depth * (1 - parabolic_illumination(shape, centre_shift=(0.1, -0.15)))
    return profile_yx / profile_yx.mean()


def draw_images(count, *, profile_yx, seed=0, discs=12, centred=False, dark=DARK, noise=3.0):
    """Draw images with bright discs on a ground of another brightness each; discs crowd at the centre if `centred`."""
    rng = np.random.default_rng(seed)
    rows, columns = profile_yx.shape
    y, x = np.mgrid[:rows, :columns]
    images = []
    for _ in range(count):
        light_yx = np.full(profile_yx.shape, rng.uniform(200, 900))
        for _ in range(discs):
            at = rng.normal(0.5, 0.15, 2) if centred else rng.random(2)
            distance_yx = np.hypot(y - at[0] * rows, x - at[1] * columns)
            light_yx += rng.uniform(200, 4000) * (distance_yx < rng.uniform(2, 4))
        images.append(dark + profile_yx * gaussian_filter(light_yx, 1) + rng.normal(0, noise, profile_yx.shape))
    return np.array(images, dtype=np.float32)


def estimate(images_nyx, dark=DARK):
    return estimate_profile(images_nyx, shape=images_nyx.shape[1:], dark=dark, where="here")


def error_of(flat_field, profile_yx):
    return float(np.std(flat_field.profile_rows(slice(0, flat_field.rows)) / profile_yx))


@pytest.mark.parametrize("count", [3, 10, 40])
@pytest.mark.parametrize("centred", [False, True])
def test_a_known_profile_is_recovered(count, centred):
    profile_yx = paraboloid(0.5)
    flat_field, remarks = estimate(draw_images(count, profile_yx=profile_yx, centred=centred))
    assert error_of(flat_field, profile_yx) < TOLERANCE
    assert (flat_field.images, remarks) == (count, [])


def test_the_mean_of_images_is_ten_times_worse_where_objects_crowd():
    profile_yx = paraboloid(0.5)
    images_nyx = draw_images(40, profile_yx=profile_yx, centred=True)
    mean_yx = (images_nyx - DARK).mean(axis=0)
    plain = np.std(mean_yx / mean_yx.mean() / profile_yx)
    assert plain > 10 * error_of(estimate(images_nyx)[0], profile_yx)


def test_even_images_have_an_even_profile():
    flat_field, _ = estimate(draw_images(20, profile_yx=np.ones(SHAPE)))
    assert flat_field.profile_rows(slice(0, SHAPE[0])) == pytest.approx(1, abs=TOLERANCE)
    assert flat_field.border_before == pytest.approx(1, abs=TOLERANCE)


def test_the_profile_has_mean_one_and_is_the_same_for_brighter_images():
    images_nyx = draw_images(12, profile_yx=paraboloid(0.4), dark=0.0)
    flat_field, _ = estimate(images_nyx, dark=0.0)
    brighter, _ = estimate(8 * images_nyx, dark=0.0)
    assert flat_field.profile_rows(slice(0, SHAPE[0])).mean() == pytest.approx(1, abs=1e-3)
    assert brighter.coefficients == pytest.approx(flat_field.coefficients, abs=1e-4)


def test_dark_frames_and_a_blank_frame_do_not_count_more_than_others():
    profile_yx = paraboloid(0.5)
    images_nyx = draw_images(12, profile_yx=profile_yx)
    unlit_nyx = np.full((3, *SHAPE), DARK, dtype=np.float32)
    blank_nyx = np.full((1, *SHAPE), 60000, dtype=np.float32)  # saturated
    flat_field, remarks = estimate(np.concatenate([images_nyx, unlit_nyx, blank_nyx]))
    assert flat_field.images == 13
    assert error_of(flat_field, profile_yx) < 3 * TOLERANCE
    assert remarks == ["3 images are not brighter than the dark level of 100 counts"]


def test_the_border_is_as_bright_as_the_centre_after_the_division():
    profile_yx = paraboloid(0.5)
    flat_field, _ = estimate(draw_images(20, profile_yx=profile_yx))
    is_border_yx = np.ones(SHAPE, dtype=bool)
    is_border_yx[6:-6, 8:-8] = False
    expected = profile_yx[is_border_yx].mean() / profile_yx[12:-12, 16:-16].mean()
    assert flat_field.border_before == pytest.approx(expected, abs=TOLERANCE)
    assert flat_field.border_after == pytest.approx(1, abs=TOLERANCE)


def test_the_expected_error_is_of_the_size_of_the_error():
    profile_yx = paraboloid(0.3)
    # Each image has blotches of its own, as wide as the profile.
    rng = np.random.default_rng(1)
    blotches = [np.exp(2 * gaussian_filter(rng.normal(size=SHAPE), 10)) for _ in range(20)]
    images_nyx = 100 + 500 * profile_yx * np.array(blotches)
    images_nyx += rng.normal(0, 3, images_nyx.shape)
    flat_field, _ = estimate(images_nyx.astype(np.float32))
    assert 0.4 < flat_field.error / error_of(flat_field, profile_yx) < 2.5


def test_a_profile_that_halves_of_the_images_disagree_on_is_reported():
    rng = np.random.default_rng(2)
    tilts = 1 + rng.uniform(-0.3, 0.3, (12, 1, 1)) * np.linspace(-1, 1, SHAPE[1])
    images_nyx = np.broadcast_to(500 * tilts, (12, *SHAPE)) + rng.normal(0, 1, (12, *SHAPE))
    _, [remark] = estimate(images_nyx.astype(np.float32), dark=0.0)
    assert remark.startswith("the profile is uncertain: two halves of the images differ by about")


@pytest.mark.parametrize("depth", [0.2, 0.5])
def test_a_dark_level_is_found_from_images_of_different_brightness(depth):
    profile_yx = paraboloid(depth)
    flat_field, _ = estimate(draw_images(30, profile_yx=profile_yx), dark="auto")
    # The ground is 200 to 900 counts above it.
    assert flat_field.dark == pytest.approx(DARK, abs=20)
    assert error_of(flat_field, profile_yx) < 2 * TOLERANCE


def test_an_offset_that_is_not_subtracted_hides_a_part_of_the_shading():
    profile_yx = paraboloid(0.5)
    images_nyx = draw_images(20, profile_yx=profile_yx, dark=500.0)
    assert estimate(images_nyx, dark=0.0)[0].corner > estimate(images_nyx, dark=500.0)[0].corner + 0.1


@pytest.mark.parametrize(
    "images_nyx",
    [
        pytest.param(draw_images(20, profile_yx=np.ones(SHAPE)), id="even"),
        pytest.param(draw_images(6, profile_yx=paraboloid(0.5)), id="few"),
        pytest.param(
            100 + 500 * paraboloid(0.5) + np.random.default_rng(0).normal(0, 3, (20, *SHAPE)), id="equally bright"
        ),
    ],
)
def test_images_that_do_not_determine_a_dark_level_are_refused(images_nyx):
    message = r"here: expected images that determine a dark level for background.dark auto: 10 or more, uneven, and of"
    with pytest.raises(ValueError, match=message):
        estimate(images_nyx.astype(np.float32), dark="auto")


def test_a_dark_level_above_the_images_is_refused():
    message = (
        r"here: expected at least 3 images that are brighter than the dark level of 5000 counts, found 0 of 5 with "
        r"medians of \d+.* counts. Set background.dark to the counts of an image without light, or another method."
    )
    with pytest.raises(ValueError, match=message):
        estimate(draw_images(5, profile_yx=paraboloid(0.5)), dark=5000.0)


def test_images_without_light_are_refused():
    with pytest.raises(ValueError, match=r"brighter than the dark level of 0 counts, found 0 of 4"):
        estimate(np.zeros((4, *SHAPE), dtype=np.float32), dark=0.0)


def test_a_profile_that_falls_to_nothing_is_refused():
    profile_yx = np.clip(paraboloid(1.0), 0.0, None)
    images_nyx = 1000 * np.stack([profile_yx] * 4) + np.random.default_rng(0).normal(0, 1, (4, *SHAPE))
    with pytest.raises(ValueError, match=r"here: expected a profile above 0.05 of its mean, found"):
        estimate(images_nyx.astype(np.float32), dark=0.0)


def test_constant_images_are_even():
    levels = np.array([300, 500, 900], dtype=np.float32)
    flat_field, _ = estimate(levels[:, np.newaxis, np.newaxis] * np.ones((3, *SHAPE), dtype=np.float32))
    assert flat_field.profile_rows(slice(0, SHAPE[0])) == pytest.approx(1, abs=1e-4)


def test_bands_of_a_corrected_image_are_the_rows_of_the_whole():
    flat_field = FlatField(333, 257, 12.5, tuple(0.9 ** (5 * k) for k in range(len(TERMS))), images=3)
    raw_yx = np.random.default_rng(0).integers(0, 4000, (333, 257)).astype(np.uint16)
    whole_yx = flat_field.correct_rows(raw_yx, slice(0, 333))
    bands = [slice(first, min(first + 50, 333)) for first in range(0, 333, 50)]
    assert np.array_equal(np.concatenate([flat_field.correct_rows(raw_yx[rows], rows) for rows in bands]), whole_yx)
    assert whole_yx.dtype == np.float32
    profile_yx = flat_field.profile_rows(slice(0, 333))
    assert whole_yx * profile_yx + 12.5 == pytest.approx(raw_yx.astype(float), abs=0.01)


def test_the_terms_are_products_of_legendre_polynomials():
    rows, columns = places(7), places(9)
    polynomials = [
        lambda t: t * 0 + 1,
        lambda t: t,
        lambda t: (3 * t**2 - 1) / 2,
        lambda t: (5 * t**3 - 3 * t) / 2,
        lambda t: (35 * t**4 - 30 * t**2 + 3) / 8,
        lambda t: (63 * t**5 - 70 * t**3 + 15 * t) / 8,
        lambda t: (231 * t**6 - 315 * t**4 + 105 * t**2 - 5) / 16,
    ]
    for k, (i, j) in enumerate(TERMS):
        expected_yx = np.outer(polynomials[i](rows), polynomials[j](columns))
        assert evaluate(np.eye(len(TERMS))[k], rows, columns) == pytest.approx(expected_yx, abs=1e-6)
        assert i + j <= DEGREE


def test_a_file_is_read_as_it_was_written(tmp_path):
    flat_field, _ = estimate(draw_images(8, profile_yx=paraboloid(0.5)))
    write(tmp_path / "flat_field.json", [flat_field, None])
    assert read_flat_fields(tmp_path / "flat_field.json") == [flat_field, None]


@pytest.mark.parametrize("depth", [0.3, 0.5])
def test_the_seams_of_real_tiles_vanish(depth, real_data):
    paths = sorted((real_data / "bbbc039/images").iterdir())
    tiles = [resample(read_plane(path, channel="luminance"), (130, 174)) for path in paths]
    profile_yx = paraboloid(depth, shape=(130, 174))
    shaded_nyx = np.array([tile_yx * profile_yx for tile_yx in tiles], dtype=np.float32)
    flat_field, _ = estimate(shaded_nyx, dark=0.0)
    flat_nyx = [flat_field.correct_rows(tile_yx, slice(0, 130)) for tile_yx in shaded_nyx]
    # Even light has steps too, because the fields have different objects.
    even, before, after = (seams(part) for part in (tiles, shaded_nyx, flat_nyx))
    assert before - even > 0.2 * depth
    assert after - even < 0.02


def seams(tiles):
    """Return the ground at the borders of tiles, their median, relative to their middle: 0 if they are alike."""
    edges = [
        np.concatenate([tile[:4].ravel(), tile[-4:].ravel(), tile[:, :4].ravel(), tile[:, -4:].ravel()])
        for tile in tiles
    ]
    middles = [tile[40:-40, 60:-60] for tile in tiles]
    return float(np.median([1 - np.median(a) / np.median(b) for a, b in zip(edges, middles, strict=True)]))


def test_the_order_of_the_images_does_not_matter():
    images_nyx = draw_images(9, profile_yx=paraboloid(0.5))
    turned = fit_profile(images_nyx[::-1] - DARK).coefficients
    assert turned == pytest.approx(fit_profile(images_nyx - DARK).coefficients, abs=1e-3)


def test_a_division_that_makes_the_ground_less_even_is_reported():
    # Borders are brighter than the centre in every other image, and darker in the others.
    hills = (2 - paraboloid(0.3), paraboloid(0.3))
    images_nyx = np.array([500 * hills[number % 2] for number in range(12)])
    images_nyx += np.random.default_rng(3).normal(0, 1, images_nyx.shape)
    _, remarks = estimate(images_nyx.astype(np.float32), dark=0.0)
    assert "the ground is less even after the division than before" in remarks[-1]
