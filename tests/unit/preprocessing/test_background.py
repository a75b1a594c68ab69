"""Background subtraction: what is removed, what is preserved, and signs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.morphology import disk, opening
from skimage.restoration import rolling_ball

from cellmill.preprocessing.background import (
    choose_frames,
    single_frame_method,
    subtract_gaussian,
    subtract_rolling_ball,
    subtract_tophat,
    temporal_median,
    temporal_mode,
)

METHODS = ["rolling_ball", "tophat", "gaussian"]
METHODS_AND_NONE = ["none", *METHODS]


def subtract(image_yx, *, method, size=20.0):
    return single_frame_method(method=method, radius_px=size, sigma_px=size)(image_yx)


def read_only(array):
    array.flags.writeable = False
    return array


def frame_with_spots(*, noise, seed=0):
    """Draw nine spots 80 counts high on a tilted background of 100 to 200 counts; return image, background, spots."""
    y, x = np.mgrid[:120, :150]
    background_yx = 100 + 0.4 * y + 0.35 * x
    spots_yx = sum(
        80 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 3**2)) for cy in (20, 60, 100) for cx in (25, 75, 125)
    )
    noise_yx = np.random.default_rng(seed).normal(0, noise, y.shape) if noise else 0
    return read_only(background_yx + spots_yx + noise_yx), background_yx, spots_yx


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
def test_a_constant_image_leaves_nothing(method, dtype):
    result_yx = subtract(read_only(np.full((33, 47), 200, dtype)), method=method)
    assert result_yx.dtype == np.float32
    assert result_yx == pytest.approx(0, abs=1e-3)


def test_no_background_keeps_the_counts():
    image_yx = read_only(np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000)
    result_yx = subtract(image_yx, method="none")
    assert result_yx.dtype == np.float32
    assert np.array_equal(result_yx, image_yx)


@pytest.mark.parametrize("method", METHODS)
def test_spots_keep_their_height_and_the_slope_goes(method):
    image_yx, background_yx, spots_yx = frame_with_spots(noise=0)
    result_yx = subtract(image_yx, method=method)
    empty = spots_yx < 0.5
    # a Gaussian blur also removes the mean of the spots
    assert result_yx[60, 75] == pytest.approx(80, rel=0.15)
    assert np.abs(result_yx[empty] - result_yx[empty].mean()).mean() < 0.1 * background_yx.std()


@pytest.mark.parametrize("method", ["rolling_ball", "tophat"])
def test_bright_object_methods_are_never_negative(method):
    image_yx, _, _ = frame_with_spots(noise=5)
    assert subtract(image_yx, method=method).min() >= 0


def test_a_pixel_below_its_background_becomes_negative_not_huge():
    image_yx = np.full((41, 41), 12, np.uint8)
    image_yx[20, 20] = 10
    result_yx = subtract_gaussian(image_yx, sigma_px=10)
    assert result_yx[20, 20] == pytest.approx(-2, abs=0.01)


def test_a_frame_below_the_temporal_background_becomes_negative():
    stack_tyx = np.full((5, 3, 4), 12, np.uint8)
    stack_tyx[2] = 10
    assert np.array_equal(stack_tyx[2].astype(np.float32) - temporal_median(stack_tyx), np.full((3, 4), -2.0))


@pytest.mark.parametrize("radius", [12, 25, 40])
def test_the_shrunk_ball_stays_near_the_ball_at_full_size(radius):
    image_yx, _, _ = frame_with_spots(noise=3)
    full_yx = image_yx - rolling_ball(image_yx, radius=radius, workers=1)
    difference_yx = subtract_rolling_ball(image_yx, radius_px=radius) - full_yx
    # a third of the noise, where spots are 80 counts high
    assert np.sqrt((difference_yx**2).mean()) < 1


def test_a_small_ball_rolls_at_full_size():
    image_yx, _, _ = frame_with_spots(noise=3)
    full_yx = image_yx - rolling_ball(image_yx.astype(np.float32), radius=9, workers=1)
    assert subtract_rolling_ball(image_yx, radius_px=9) == pytest.approx(full_yx, abs=1e-3)


def test_the_decomposed_disk_opens_like_the_whole_one():
    image_yx = frame_with_spots(noise=3)[0].astype(np.float32)
    expected_yx = image_yx - opening(image_yx, disk(10))
    assert np.array_equal(subtract_tophat(image_yx, radius_px=10), expected_yx)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (37, 2), (64, 64), (65, 63)])
@pytest.mark.parametrize("method", METHODS)
def test_any_size_keeps_its_shape(method, shape):
    image_yx = np.random.default_rng(0).random(shape)
    assert subtract(image_yx, method=method, size=35).shape == shape


@pytest.mark.parametrize("method", METHODS_AND_NONE)
def test_a_stack_is_refused(method):
    with pytest.raises(ValueError, match=r"shape \(rows, columns\), found \(2, 5, 5\)\. Pass one channel"):
        subtract(np.zeros((2, 5, 5)), method=method)


@pytest.mark.parametrize("value", [0, -3, float("nan")])
def test_a_length_must_be_positive(value):
    for function, name in [
        (subtract_rolling_ball, "radius_px"),
        (subtract_tophat, "radius_px"),
        (subtract_gaussian, "sigma_px"),
    ]:
        with pytest.raises(ValueError, match=rf"preprocess\.background\.{name}: expected a length above 0 px"):
            function(np.zeros((5, 5)), **{name: value})


@pytest.mark.parametrize("estimate", [temporal_median, temporal_mode])
def test_a_moving_object_is_not_in_the_temporal_background(estimate):
    pattern_yx = np.random.default_rng(1).uniform(50, 90, (6, 40)).astype(np.float32)
    stack_tyx = np.stack([pattern_yx] * 20)
    for t in range(20):
        stack_tyx[t, :, 2 * t : 2 * t + 4] += 100
    assert estimate(read_only(stack_tyx)) == pytest.approx(pattern_yx, abs=1e-4)


def test_the_mode_holds_where_changing_objects_cover_most_frames():
    rng = np.random.default_rng(2)
    stack_tyx = rng.normal(100, 1, (60, 5, 5))
    stack_tyx[:36] += rng.uniform(50, 400, (36, 5, 5))
    assert np.abs(temporal_mode(stack_tyx) - 100).max() < 3
    assert (temporal_median(stack_tyx) > 120).all()


@pytest.mark.parametrize("frames", [3, 4, 5, 8, 21])
def test_the_mode_is_the_half_sample_mode_of_each_pixel(frames):
    stack_tyx = np.random.default_rng(frames).gamma(2, 10, (frames, 4, 3)).astype(np.float32)
    expected_yx = np.empty((4, 3))
    for y, x in np.ndindex(4, 3):
        values = sorted(stack_tyx[:, y, x].tolist())
        while len(values) > 2:
            half = -(-len(values) // 2)
            windows = [values[i : i + half] for i in range(len(values) - half + 1)]
            values = min(windows, key=lambda window: window[-1] - window[0])
        expected_yx[y, x] = sum(values) / len(values)
    assert temporal_mode(stack_tyx) == pytest.approx(expected_yx, rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400), st.integers(3, 120))
def test_chosen_frames_are_even_distinct_and_reach_both_ends(count, max_frames):
    chosen = choose_frames(count, max_frames=max_frames)
    steps = np.diff(chosen)
    assert len(chosen) == min(count, max_frames)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    if count > 1:
        assert steps.min() >= 1
        assert steps.max() - steps.min() <= 1
