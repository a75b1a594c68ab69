import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import wasserstein_distance
from skimage.morphology import convex_hull_image

from cellmill.images.noise import measure_noise
from cellmill.images.stored import IGNORE_LABEL
from cellmill.matching.distance import _distances_of_parts, distance, permutation_interval
from cellmill.matching.ground import autocorrelation_length
from cellmill.matching.otsu import otsu_objects, split_objects
from cellmill.matching.outlines import clark_evans, solidity_of
from cellmill.matching.statistic_names import STATISTICS
from cellmill.matching.statistics import measure_image

SHAPE = (256, 256)


def random_numbers(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).standard_normal(shape)


def draw_discs(radius_px, *, side=3, shape=SHAPE):
    """Draw `side` x `side` labelled discs on a grid."""
    y, x = np.indices(shape)
    labels_yx = np.zeros(shape, dtype=np.int32)
    step = [size / side for size in shape]
    for index in range(side**2):
        row, column = (index // side + 0.5) * step[0], (index % side + 0.5) * step[1]
        labels_yx[(y - row) ** 2 + (x - column) ** 2 <= radius_px**2] = index + 1
    return labels_yx


def light_up(labels_yx, *, level=100.0, contrast=100.0, sigma_px=1.0, noise=0.0, seed=0):
    light_yx = ndimage.gaussian_filter((labels_yx > 0).astype(float), sigma_px)
    return level + contrast * light_yx + noise * random_numbers(seed, labels_yx.shape)


# ---- single numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.3, 5, 400])
def test_white_noise_is_recovered(sigma):
    known_yx = np.ones(SHAPE, dtype=bool)
    assert measure_noise(1000 + sigma * random_numbers(), is_known_yx=known_yx) == pytest.approx(sigma, rel=0.05)


def test_noise_of_few_whole_numbers_is_their_deviation():
    counts_yx = np.rint(20 + 0.4 * random_numbers())
    found = measure_noise(counts_yx, is_known_yx=np.ones(SHAPE, dtype=bool))
    assert found == pytest.approx(counts_yx.std(), rel=0.05)


def test_slopes_and_specks_are_no_noise():
    y, x = np.indices(SHAPE)
    image_yx = 0.5 * y + 0.01 * x * y + 3 * random_numbers()
    image_yx[::50, ::50] += 500
    assert measure_noise(image_yx, is_known_yx=np.ones(SHAPE, dtype=bool)) == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("contrast", [100, -40])
@pytest.mark.parametrize("sigma_px", [1, 2, 3, 4])
def test_the_blur_of_a_disc_is_recovered(sigma_px, contrast):
    labels_yx = draw_discs(24)
    image_yx = light_up(labels_yx, contrast=contrast, sigma_px=sigma_px, noise=0.03 * abs(contrast))
    assert measure_image(image_yx, labels_yx=labels_yx)["edge_width_px"] == pytest.approx(sigma_px, rel=0.1)


def test_outlines_that_are_off_by_a_pixel_are_no_blur():
    labels_yx = draw_discs(24)
    image_yx = light_up(labels_yx, sigma_px=1)
    moved_yx = ndimage.shift(labels_yx, (1, 1), order=0)
    assert measure_image(image_yx, labels_yx=moved_yx)["edge_width_px"] == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize("sigma_px", [1, 2, 4])
def test_filtered_noise_is_correlated_over_twice_its_filter(sigma_px):
    """The autocorrelation of Gaussian-filtered noise is exp(-r**2 / (4 sigma**2))."""
    filtered_yx = ndimage.gaussian_filter(random_numbers(shape=(512, 512)), sigma_px)
    noisy_yx = filtered_yx + 0.05 * random_numbers(1, (512, 512))
    assert autocorrelation_length(filtered_yx, noise=0) == pytest.approx(2 * sigma_px, rel=0.05)
    assert autocorrelation_length(noisy_yx, noise=0.05) == pytest.approx(2 * sigma_px, rel=0.05)


def test_a_flat_image_has_no_autocorrelation_length():
    assert math.isnan(autocorrelation_length(np.full(SHAPE, 7.0), noise=0))


@pytest.mark.parametrize("seed", range(5))
def test_solidity_counts_the_pixels_of_the_convex_hull(seed):
    mask_yx = ndimage.gaussian_filter(random_numbers(seed, (40, 40)), 3) > 0.05
    pieces_yx, _ = ndimage.label(mask_yx)
    largest_yx = pieces_yx == np.argmax(np.bincount(pieces_yx.ravel())[1:]) + 1
    hull_yx = convex_hull_image(largest_yx, offset_coordinates=False, include_borders=True)
    assert solidity_of(largest_yx) == pytest.approx(np.count_nonzero(largest_yx) / np.count_nonzero(hull_yx), rel=0.02)


def test_solidity_of_simple_shapes():
    ell_yx = np.zeros((4, 4), dtype=bool)
    ell_yx[:, 0] = ell_yx[3] = True
    assert solidity_of(np.ones((5, 9), dtype=bool)) == 1
    assert solidity_of(np.ones((1, 7), dtype=bool)) == 1
    assert solidity_of(ell_yx) == 7 / 10  # 3 of the pixels within the triangle are missing


def test_random_points_are_neither_clustered_nor_regular():
    rng = np.random.default_rng(3)
    ratios = [clark_evans(rng.uniform(0, 200, size=(60, 2)), shape=(200, 200)) for _ in range(60)]
    clustered = np.repeat(rng.uniform(0, 200, size=(6, 2)), 10, axis=0) + rng.standard_normal((60, 2))
    lattice = np.stack(np.meshgrid(np.arange(10, 200, 20), np.arange(10, 200, 20)), axis=-1).reshape(-1, 2)
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)
    assert clark_evans(clustered, shape=(200, 200)) < 0.2
    assert clark_evans(lattice, shape=(200, 200)) > 1.7
    assert math.isnan(clark_evans(clustered[:4], shape=(200, 200)))


# ---- a whole image -------------------------------------------------------------------------------------------------


def test_an_image_of_discs_gives_what_it_was_made_of():
    labels_yx = draw_discs(20)
    found = measure_image(light_up(labels_yx, level=500, contrast=80, noise=4), labels_yx=labels_yx)
    areas = np.bincount(labels_yx.ravel())[1:]
    assert found["radius_px"] == pytest.approx(math.sqrt(np.median(areas) / math.pi), rel=1e-12)
    assert found["foreground_fraction"] == areas.sum() / 256**2
    assert found["objects_per_mpx"] == pytest.approx(9 / 256**2 * 1e6)
    assert found["radius_spread"] == pytest.approx(0, abs=0.02)
    assert found["solidity"] == pytest.approx(1, abs=0.001)
    assert found["elongation"] == pytest.approx(1, abs=0.01)
    assert found["touching_fraction"] == 0
    assert found["background_level"] == pytest.approx(500, abs=0.2)
    assert found["contrast"] == pytest.approx(80, rel=0.03)
    assert found["noise"] == pytest.approx(4, rel=0.05)
    assert found["texture"] < 0.02
    assert found["background_unevenness"] < 0.01
    assert set(found) == set(STATISTICS)


def test_the_unit_of_the_image_does_not_matter():
    labels_yx = draw_discs(15)
    image_yx = light_up(labels_yx, noise=5)
    plain = measure_image(image_yx, labels_yx=labels_yx)
    scaled = measure_image(1e-4 * image_yx - 0.3, labels_yx=labels_yx)
    for name, value in plain.items():
        expected = 1e-4 * value if STATISTICS[name].unit == "counts" else value
        expected -= 0.3 if name == "background_level" else 0
        assert scaled[name] == pytest.approx(expected, rel=1e-6, abs=1e-9), name


def test_contrasts_that_differ_are_a_spread():
    labels_yx = draw_discs(15)
    image_yx = 50.0 + 10 * labels_yx  # contrasts 10, 20 ... 90
    found = measure_image(image_yx, labels_yx=labels_yx)
    assert found["contrast"] == pytest.approx(50)
    assert found["contrast_spread"] == pytest.approx((82 - 18) / 50)  # interpolated quantiles of nine values


def test_texture_is_the_sd_inside_without_the_noise():
    labels_yx = draw_discs(20)
    coarse_yx = ndimage.gaussian_filter(random_numbers(5), 1.5)
    coarse_yx *= 12 / coarse_yx.std()
    image_yx = 100 + (100 + coarse_yx) * (labels_yx > 0) + 6 * random_numbers(6)
    assert measure_image(image_yx, labels_yx=labels_yx)["texture"] == pytest.approx(0.12, rel=0.15)


def test_an_uneven_lamp_is_unevenness_and_no_contrast():
    labels_yx = draw_discs(10, side=4)
    slope_yx = np.linspace(-30, 30, 256)[:, None] * np.ones(256)
    found = measure_image(light_up(labels_yx, noise=3) + slope_yx, labels_yx=labels_yx)
    assert found["background_unevenness"] == pytest.approx(60 / math.sqrt(12) / 100, rel=0.1)
    assert found["contrast"] == pytest.approx(100, rel=0.05)
    assert found["contrast_spread"] < 0.1


def test_pixels_of_which_nobody_knows_count_for_nothing():
    labels_yx = draw_discs(20)
    image_yx = light_up(labels_yx, noise=2)
    plain = measure_image(image_yx, labels_yx=labels_yx)
    labels_yx[:40] = IGNORE_LABEL
    image_yx[:40] = 1e6
    found = measure_image(image_yx, labels_yx=labels_yx)
    for name in ("background_level", "contrast", "noise", "edge_width_px", "radius_px"):
        assert found[name] == pytest.approx(plain[name], rel=0.1), name
    assert found["foreground_fraction"] == pytest.approx(np.mean(labels_yx[40:] > 0))


def test_touching_objects_are_counted():
    labels_yx = np.zeros((100, 100), dtype=int)
    labels_yx[10:20, 10:20], labels_yx[10:20, 20:30], labels_yx[60:70, 60:70] = 1, 2, 3
    assert measure_image(labels_yx * 1.0, labels_yx=labels_yx)["touching_fraction"] == pytest.approx(2 / 3)


def test_what_an_image_does_not_have_is_undefined():
    image_yx = 5 + random_numbers()
    empty = measure_image(image_yx, labels_yx=np.zeros(SHAPE, dtype=int))
    full = measure_image(image_yx, labels_yx=np.ones(SHAPE, dtype=int))
    unknown = measure_image(image_yx, labels_yx=np.full(SHAPE, IGNORE_LABEL))
    assert (empty["foreground_fraction"], empty["objects_per_mpx"]) == (0, 0)
    assert empty["noise"] == pytest.approx(1, rel=0.05)
    assert math.isnan(empty["contrast"])
    assert math.isnan(empty["radius_px"])
    assert full["foreground_fraction"] == 1
    assert math.isnan(full["noise"])
    assert math.isnan(full["radius_px"])  # the object is cut by the border
    assert all(math.isnan(value) for value in unknown.values())


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected labels with the shape of the image, \(4, 4\), found \(4, 5\)"):
        measure_image(np.zeros((4, 4)), labels_yx=np.zeros((4, 5), dtype=int))


# ---- objects without annotation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("contrast", [60, -60])
def test_otsu_finds_bright_and_dark_objects(contrast):
    labels_yx = draw_discs(15)
    image_yx = light_up(labels_yx, contrast=contrast, noise=12)
    found_yx = otsu_objects(image_yx)
    assert found_yx.max() == 9
    assert np.mean((found_yx > 0) == (labels_yx > 0)) > 0.99


def test_touching_discs_are_cut_apart():
    y, x = np.indices((60, 100))
    pair_yx = (np.hypot(y - 30, x - 35) <= 15) | (np.hypot(y - 30, x - 61) <= 15)
    assert split_objects(pair_yx).max() == 2
    assert otsu_objects(100.0 * pair_yx).max() == 2
    assert otsu_objects(100.0 * pair_yx, split_touching=False).max() == 1


def test_specks_are_no_objects():
    image_yx = light_up(draw_discs(15), noise=1)
    image_yx[20:23, ::40] += 300
    assert otsu_objects(image_yx).max() == 9


@pytest.mark.parametrize("image_yx", [np.zeros(SHAPE), np.full(SHAPE, 3e4, dtype=np.uint16), 7 + random_numbers()])
def test_an_image_of_nothing_has_no_objects(image_yx):
    assert not otsu_objects(image_yx).any()


# ---- distances -----------------------------------------------------------------------------------------------------


def test_the_distance_is_wassersteins_over_the_spread():
    one, other = random_numbers(0, 40), 1 + 2 * random_numbers(1, 70)
    spread = math.sqrt((one.var() + other.var()) / 2 + (one.mean() - other.mean()) ** 2 / 4)
    assert distance(one, other) == pytest.approx(wasserstein_distance(one, other) / spread)
    assert distance(1e6 * one, 1e6 * other) == pytest.approx(distance(one, other))
    assert distance(one, other) == pytest.approx(distance(other, one))


def test_equal_samples_lie_nowhere_apart():
    values = random_numbers(0, 30)
    assert distance(values, values[::-1]) == 0
    assert distance(values, np.repeat(values, 3)) == pytest.approx(0, abs=1e-12)
    assert distance([4, 4], [4]) == 0
    assert distance([0, 0], [0]) == 0


def test_two_values_that_differ_lie_two_spreads_apart():
    assert distance([1, 1], [3]) == pytest.approx(2)


def test_undefined_values_are_left_out_and_counted():
    one, other = np.array([1.0, np.nan, 2.0]), np.array([2.0, 1.0])
    assert distance(one, other) == 0
    assert math.isnan(distance([np.nan], other))
    found = permutation_interval(one, other, permutations=20, rng=np.random.default_rng(0))
    assert (found.n_real, found.n_simulated, found.n_undefined) == (2, 2, 1)
    found = permutation_interval([np.nan], other, permutations=20, rng=np.random.default_rng(0))
    assert math.isnan(found.low)
    assert found.n_undefined == 1


def test_all_permutations_at_once_are_the_distances_one_by_one():
    values = np.sort(np.concatenate([random_numbers(3, 9), [0.5] * 5]))
    is_one = np.random.default_rng(1).permuted(np.tile(np.arange(14) < 6, (30, 1)), axis=1)
    expected = [distance(values[row], values[~row]) for row in is_one]
    assert _distances_of_parts(values, is_one) == pytest.approx(np.array(expected))
    assert not _distances_of_parts(np.full(14, 3.7), is_one).any()


def test_samples_of_one_kind_lie_as_far_apart_as_expected():
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(60):
        one, other = rng.standard_normal(25), rng.standard_normal(25)
        interval = permutation_interval(one, other, permutations=100, rng=rng)
        inside += interval.low <= distance(one, other) <= interval.high
    assert inside >= 51  # 57 expected; fewer than 51 in one of a thousand cases


def test_samples_of_two_kinds_lie_farther_apart():
    rng = np.random.default_rng(8)
    one, other = rng.standard_normal(25), 2 + rng.standard_normal(25)
    assert distance(one, other) > permutation_interval(one, other, permutations=100, rng=rng).high
