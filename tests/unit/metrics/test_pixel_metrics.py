from fractions import Fraction
from math import isqrt

import numpy as np
import pytest
from sklearn import metrics as oracle

from cellmill.metrics.pixel import (
    BINS,
    COUNTS,
    PIXEL_METRICS,
    auc_roc,
    average_precision,
    best_threshold,
    count_pixels,
    histogram_classes,
    matthews_correlation,
    mcc_is_conventional,
    score_pixels,
    sweep_counts,
)

EXACT = 1e-12


def random_pair(seed, shape=(30, 40)):
    rng = np.random.default_rng(seed)
    truth = rng.random(shape) < 0.3
    predicted = np.where(rng.random(shape) < 0.8, truth, ~truth)
    return predicted, truth


def eight_bit_probability(seed, shape=(60, 50)):
    rng = np.random.default_rng(seed)
    truth = rng.random(shape) < 0.2
    steps = np.clip(rng.normal(90 + 60 * truth, 50), 0, 255).astype(np.uint8)
    return (steps / 255).astype(np.float32), truth


def everywhere(array):
    return np.ones(array.shape, dtype=bool)


def score(predicted, truth):
    return score_pixels(count_pixels(predicted, truth, valid_yx=everywhere(truth)))


def histogram_of(seed):
    probability, truth = eight_bit_probability(seed)
    return histogram_classes(probability, truth, valid_yx=everywhere(truth))


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_scikit_learn(seed):
    predicted, truth = random_pair(seed)
    flat = truth.ravel(), predicted.ravel()
    expected = {
        "dice": oracle.f1_score(*flat),
        "iou": oracle.jaccard_score(*flat),
        "accuracy": oracle.accuracy_score(*flat),
        "precision": oracle.precision_score(*flat),
        "recall": oracle.recall_score(*flat),
        "specificity": oracle.recall_score(*(~x for x in flat)),
        "mcc": oracle.matthews_corrcoef(*flat),
    }
    found = score(predicted, truth)
    assert list(found) == list(PIXEL_METRICS)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=EXACT)


# Ten pixels, two of them foreground where not empty; the table of section 6 of the specification.
NAN = float("nan")
EMPTY_CASES = {
    # predicted and true pixels; dice, iou, accuracy, precision, recall, specificity, mcc
    "both": ((0, 0), (1, 1, 1, NAN, NAN, 1, 0)),
    "truth": ((2, 0), (0, 0, 0.8, 0, NAN, 0.8, 0)),
    "prediction": ((0, 2), (0, 0, 0.8, NAN, 0, 1, 0)),
}


@pytest.mark.parametrize("case", EMPTY_CASES)
def test_empty_masks_score_by_the_table(case):
    (n_predicted, n_true), expected = EMPTY_CASES[case]
    predicted, truth = (np.arange(10).reshape(2, 5) < n for n in (n_predicted, n_true))
    counts = count_pixels(predicted, truth, valid_yx=everywhere(truth))
    found = score_pixels(counts)
    assert [float(found[name]) for name in PIXEL_METRICS] == pytest.approx(expected, nan_ok=True)
    assert mcc_is_conventional(counts)


def test_a_full_truth_has_no_specificity():
    truth = np.ones((4, 5), dtype=bool)
    assert np.isnan(score(truth, truth)["specificity"])


def test_dice_follows_from_iou_and_is_never_below_it():
    counts = dict(zip(COUNTS, np.random.default_rng(0).integers(0, 50, (4, 500)), strict=True))
    found = score_pixels(counts)
    assert np.allclose(found["dice"], 2 * found["iou"] / (1 + found["iou"]), rtol=0, atol=EXACT)
    assert (found["dice"] >= found["iou"]).all()
    assert (np.abs(found["mcc"]) <= 1).all()


def test_mcc_of_the_inverted_prediction_is_the_negative():
    predicted, truth = random_pair(4)
    assert score(~predicted, truth)["mcc"] == pytest.approx(-score(predicted, truth)["mcc"], abs=EXACT)


def test_mcc_of_millions_of_pixels_does_not_overflow():
    tp, fp, fn, tn = 3_000_000, 1_000_000, 500_000, 900_000_000
    square = Fraction((tp * tn - fp * fn) ** 2, (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    digits = 10**15
    expected = isqrt(square.numerator * digits**2 // square.denominator) / digits
    as_int32 = (np.int32(count) for count in (tp, fp, fn, tn))
    assert float(matthews_correlation(*as_int32)) == pytest.approx(expected, abs=EXACT)


def test_counts_add_up_to_the_pixels_of_accuracys_denominator():
    # Paper 4, eq. 8 divides by |A or B| + |neither|, which is every pixel.
    predicted, truth = random_pair(5)
    counts = count_pixels(predicted, truth, valid_yx=everywhere(truth))
    union, neither = np.count_nonzero(predicted | truth), np.count_nonzero(~predicted & ~truth)
    assert sum(counts.values()) == union + neither == truth.size


def test_ignored_pixels_count_nowhere():
    predicted, truth = random_pair(6)
    valid = np.random.default_rng(7).random(truth.shape) < 0.7
    kept = count_pixels(predicted, truth, valid_yx=valid)
    cut = count_pixels(predicted[valid][None], truth[valid][None], valid_yx=np.ones((1, valid.sum()), dtype=bool))
    assert kept == cut


def test_an_image_of_ignored_pixels_has_no_score():
    predicted, truth = random_pair(8)
    found = score_pixels(count_pixels(predicted, truth, valid_yx=np.zeros(truth.shape, dtype=bool)))
    assert all(np.isnan(value) for value in found.values())


def test_sweep_counts_are_those_of_thresholding_float16():
    rng = np.random.default_rng(9)
    probability = rng.random((40, 40)).astype(np.float16).astype(np.float32)
    probability[0, :5] = [0, 1, 0.5, 0.25, np.nextafter(np.float32(0.5), np.float32(0))]
    truth = rng.random((40, 40)) < probability
    found = sweep_counts(histogram_classes(probability, truth, valid_yx=everywhere(truth)))
    for step in range(0, BINS, 5):
        expected = count_pixels(probability >= step / BINS, truth, valid_yx=everywhere(truth))
        assert {name: found[name][step] for name in COUNTS} == expected


def test_each_eight_bit_probability_has_a_bin_of_its_own():
    probability = (np.arange(256) / 255).astype(np.float32)[None]
    histogram = histogram_classes(probability, probability > 2, valid_yx=everywhere(probability))
    assert np.array_equal(histogram[0], np.ones(256))


def test_best_threshold_beats_every_other():
    probability, truth = eight_bit_probability(10)
    threshold, mcc = best_threshold(histogram_of(10))
    others = [score(probability >= step / BINS, truth)["mcc"] for step in range(1, BINS)]
    assert mcc == pytest.approx(max(others), abs=EXACT)
    assert score(probability >= threshold, truth)["mcc"] == pytest.approx(mcc, abs=EXACT)


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.9), (0.6, 0.9), (0.1, 0.3)])
def test_among_equal_thresholds_the_one_nearest_a_half_is_chosen(low, high):
    probability = np.array([[low, low, low, high, high]])
    truth = probability == high
    threshold, mcc = best_threshold(histogram_classes(probability, truth, valid_yx=everywhere(truth)))
    assert mcc == 1
    candidates = np.arange(1, BINS) / BINS
    possible = candidates[(candidates > low) & (candidates <= high)]
    assert threshold == possible[np.argmin(np.abs(possible - 0.5))]


@pytest.mark.parametrize("seed", range(3))
def test_areas_under_curves_are_those_of_scikit_learn(seed):
    probability, truth = eight_bit_probability(seed)
    histogram = histogram_of(seed)
    flat = truth.ravel(), probability.ravel()
    assert float(auc_roc(histogram)) == pytest.approx(oracle.roc_auc_score(*flat), abs=EXACT)
    assert float(average_precision(histogram)) == pytest.approx(oracle.average_precision_score(*flat), abs=EXACT)


def test_areas_under_curves_of_one_class_are_undefined():
    only_background = histogram_of(1) * np.array([[1], [0]])
    assert np.isnan(auc_roc(only_background))
    assert np.isnan(average_precision(only_background))


def test_many_histograms_at_once_score_as_one_by_one():
    histograms = [histogram_of(seed) for seed in range(4)]
    assert np.array_equal(auc_roc(np.stack(histograms)), [auc_roc(each) for each in histograms])
    assert np.array_equal(average_precision(np.stack(histograms)), [average_precision(each) for each in histograms])


@pytest.mark.parametrize("wrong", [-0.01, 1.5, np.nan])
def test_what_is_no_probability_is_refused(wrong):
    probability = np.array([[0.5, wrong]])
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\], found .*not its logits"):
        histogram_classes(probability, probability > 2, valid_yx=everywhere(probability))
