"""Statistics over replicates, against scipy by other routes, hand-computed numbers, and simulated plates."""

import math

import numpy as np
import pytest
from scipy import stats

from cellmill.experiment.effects import compare_means, correct_p_values, estimate_mean

WELLS = [12.0, 15.0, 11.0, 14.5]
CONTROL = [20.0, 18.5, 24.0]


# ---- means ----------------------------------------------------------------------------------------------------


def test_the_interval_of_a_mean_is_the_t_interval_of_a_textbook():
    # 1, 2, 3: mean 2, sd 1, t(0.975, 2) = 4.3027, so 2 ± 4.3027 / sqrt(3)
    found = estimate_mean([1.0, 2.0, 3.0])
    assert (found.n, found.value, found.sd) == (3, 2.0, 1.0)
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)


def test_the_interval_of_a_mean_is_that_of_a_one_sample_test():
    expected = stats.ttest_1samp(WELLS, 0).confidence_interval(0.95)
    found = estimate_mean(WELLS)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("values", [[4.0], [4.0, math.nan]])
def test_one_replicate_has_a_value_and_no_interval(values):
    found = estimate_mean(values)
    assert (found.n, found.value) == (1, 4.0)
    assert math.isnan(found.low)
    assert math.isnan(found.sd)


def test_no_replicate_has_no_value():
    found = estimate_mean([math.nan])
    assert found.n == 0
    assert math.isnan(found.value)


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [0.1 + 0.2, 0.3, 0.3]])
def test_equal_replicates_have_no_interval(values):
    found = estimate_mean(values)
    assert found.sd == 0
    assert math.isnan(found.low)


# ---- effects --------------------------------------------------------------------------------------------------


def test_an_effect_is_that_of_welchs_test():
    test = stats.ttest_ind(WELLS, CONTROL, equal_var=False)
    expected = test.confidence_interval(0.95)
    found = compare_means(WELLS, CONTROL)
    assert found.p == pytest.approx(test.pvalue)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.difference == pytest.approx(np.mean(WELLS) - np.mean(CONTROL))
    assert found.percent == pytest.approx(100 * (np.mean(WELLS) / np.mean(CONTROL) - 1))


@pytest.mark.parametrize("seed", range(20))
def test_effects_of_random_replicates_are_those_of_scipy(seed):
    rng = np.random.default_rng(seed)
    own, other = rng.normal(5, 1, rng.integers(2, 7)), rng.normal(6, 3, rng.integers(2, 7))
    test = stats.ttest_ind(own, other, equal_var=False)
    expected = test.confidence_interval(0.95)
    found = compare_means(own, other)
    assert (found.p, found.low, found.high) == pytest.approx((test.pvalue, expected.low, expected.high))


def test_hedges_g_by_hand():
    # 1, 2, 3 and 3, 4, 5: difference -2, pooled sd 1; the correction for 4 degrees is 2 sqrt(2) / gamma(1.5) / 4 ...
    correction = math.gamma(2) / (math.sqrt(2) * math.gamma(1.5))
    found = compare_means([1.0, 2.0, 3.0], [3.0, 4.0, 5.0])
    assert found.hedges_g == pytest.approx(-2 * correction)
    assert correction == pytest.approx(1 - 3 / (4 * 4 - 1), abs=0.005)  # the usual approximation


def test_a_single_replicate_has_a_difference_and_no_p():
    found = compare_means([4.0], CONTROL)
    assert found.difference == pytest.approx(4 - np.mean(CONTROL))
    assert math.isnan(found.p)
    assert math.isnan(found.low)
    assert math.isnan(found.hedges_g)


def test_wells_without_any_object_are_compared_with_the_control():
    test = stats.ttest_1samp(CONTROL, 0)  # Welch's test with one side without spread
    found = compare_means([0.0, 0.0, 0.0], CONTROL)
    assert found.p == pytest.approx(test.pvalue)
    assert found.percent == -100


def test_two_sides_without_spread_have_no_p():
    found = compare_means([1.0, 1.0], [2.0, 2.0])
    assert (found.difference, found.percent) == (-1.0, -50.0)
    assert math.isnan(found.p)


@pytest.mark.parametrize("control", [[0.0, 0.0], [-2.0, -1.0], [-1.0, 1.0]])
def test_there_is_no_percentage_of_a_control_that_is_not_positive(control):
    assert math.isnan(compare_means([1.0, 2.0], control).percent)


def test_nothing_is_compared_without_replicates():
    assert math.isnan(compare_means([math.nan], CONTROL).difference)


def test_arguments_are_not_changed():
    own, other = np.array(WELLS), np.array(CONTROL)
    own.flags.writeable = other.flags.writeable = False
    compare_means(own, other)
    estimate_mean(own)


# ---- many comparisons -----------------------------------------------------------------------------------------


def test_p_values_are_corrected_as_in_the_paper():
    # By hand: p(k) * m / k from the largest down, never above the one before
    assert correct_p_values([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.04, 0.04])


def test_a_missing_p_value_is_not_counted():
    found = correct_p_values([0.01, math.nan, 0.02])
    assert found[0] == pytest.approx(0.02)
    assert math.isnan(found[1])
    assert correct_p_values([]) == []
    assert all(map(math.isnan, correct_p_values([math.nan])))


# ---- simulated plates -----------------------------------------------------------------------------------------

PLATES = 2000
EFFECT = -1.5


def simulate_plates(*, wells=3, cells=50, sd_of_wells=1.0, sd_of_cells=2.0):
    """Return the cells of a condition and of the control on many plates: (plate, side, well, cell)."""
    rng = np.random.default_rng(3)
    means = rng.normal(10, sd_of_wells, (PLATES, 2, wells, 1))
    means[:, 0] += EFFECT
    return means + rng.normal(0, sd_of_cells, (PLATES, 2, wells, cells))


@pytest.fixture(scope="module")
def plates():
    return simulate_plates()


def test_intervals_over_wells_hold_the_effect_in_95_of_100_plates(plates):
    effects = [compare_means(*plate.mean(axis=-1)) for plate in plates]
    covered = np.mean([effect.low <= EFFECT <= effect.high for effect in effects])
    # Welch's interval of three wells is a little too wide. Standard error of the simulation: 0.005
    assert 0.94 <= covered <= 0.98


def test_intervals_over_cells_would_be_too_narrow(plates):
    tests = [
        stats.ttest_ind(*plate.reshape(2, -1), equal_var=False).confidence_interval(0.95) for plate in plates[:500]
    ]
    covered = np.mean([test.low <= EFFECT <= test.high for test in tests])
    assert covered < 0.5


def test_a_bootstrap_of_three_wells_would_be_too_narrow(plates):
    """From three wells, a percentile bootstrap draws an interval that holds the mean in about three of four cases."""
    wells = plates[:, 1].mean(axis=-1)
    draws = np.random.default_rng(1).integers(0, 3, (500, 3))
    low, high = np.quantile(wells[:, draws].mean(axis=-1), [0.025, 0.975], axis=1)
    assert 0.7 <= np.mean((low <= 10) & (high >= 10)) <= 0.82
    covered = np.mean([(mean := estimate_mean(own)).low <= 10 <= mean.high for own in wells])
    assert covered == pytest.approx(0.95, abs=0.015)


def test_without_an_effect_one_of_twenty_plates_has_a_small_p():
    rng = np.random.default_rng(8)
    p_values = np.array([compare_means(*rng.normal(10, 1, (2, 4))).p for _ in range(PLATES)])
    assert np.mean(p_values < 0.05) == pytest.approx(0.045, abs=0.015)
    # Of families of ten comparisons without any effect, about one of twenty has a corrected p below 0.05.
    families = [min(correct_p_values(own)) < 0.05 for own in p_values.reshape(-1, 10)]
    assert np.mean(families) <= 0.09
