import numpy as np
import pytest

from cellmill import statistics
from cellmill.metrics.pixel import BINS, COUNTS, count_pixels, histogram_classes, score_pixels
from cellmill.statistics import (
    METRICS,
    bootstrap_weights,
    percentile_interval,
    score_counts,
    summarize_counts,
    weighted_means,
)


def draw_weights(images, replicates, seed=0):
    return np.concatenate(list(bootstrap_weights(images, replicates=replicates, rng=np.random.default_rng(seed))))


def image_row(seed, foreground=0.3, shape=(16, 16)):
    """Counts of one image of random pixels, without objects."""
    rng = np.random.default_rng(seed)
    truth = rng.random(shape) < foreground
    probability = np.clip(rng.normal(0.3 + 0.4 * truth, 0.2), 0, 1)
    valid = np.ones(shape, dtype=bool)
    counts = count_pixels(probability >= 0.5, truth, valid_yx=valid)
    histogram = histogram_classes(probability, truth, valid_yx=valid)
    return np.array([*(counts[name] for name in COUNTS), 2, 3, *[1] * 10, *histogram.ravel()], dtype=np.float64)


def image_rows(images, **changes):
    return np.stack([image_row(seed, **changes) for seed in range(images)])


def summarize(numbers, bootstrap=200, seed=1):
    rows = summarize_counts(numbers, bootstrap=bootstrap, rng=np.random.default_rng(seed))
    return {(row["metric"], row["aggregation"]): row for row in rows}


def test_a_replicate_draws_as_many_images_as_there_are():
    weights = draw_weights(17, 50)
    assert weights.shape == (50, 17)
    assert (weights.sum(axis=1) == 17).all()


def test_draws_do_not_depend_on_the_size_of_the_pieces(monkeypatch):
    expected = draw_weights(17, 50)
    monkeypatch.setattr(statistics, "MAX_DRAWS", 40)
    assert np.array_equal(draw_weights(17, 50), expected)


def test_weighted_means_are_means_of_drawn_images():
    values = np.random.default_rng(0).random((9, 2))
    values[3, 1] = np.nan
    weights = draw_weights(9, 5)
    for k, row in enumerate(weighted_means(values, weights)):
        drawn = np.repeat(np.arange(9), weights[k].astype(int))
        assert row == pytest.approx(np.nanmean(values[drawn], axis=0))


def test_interval_of_a_mean_is_the_normal_one_for_many_images():
    values = np.random.default_rng(1).normal(0.7, 0.1, (400, 1))
    low, high = percentile_interval(weighted_means(values, draw_weights(400, 4000)), level=0.95)
    error = values.std() / np.sqrt(400)
    assert [low[0], high[0]] == pytest.approx(
        [values.mean() - 1.96 * error, values.mean() + 1.96 * error], abs=0.1 * error
    )


def test_a_score_without_replicates_has_no_interval():
    low, high = percentile_interval(np.full((5, 1), np.nan), level=0.95)
    assert np.isnan(low[0])
    assert np.isnan(high[0])


def test_each_score_is_there_as_mean_and_pooled():
    found = summarize(image_rows(4))
    for name in METRICS:
        assert {(name, "image_mean"), (name, "pooled")} <= set(found)
    assert ("auc_roc", "pooled") in found
    assert ("auc_roc", "image_mean") not in found


def test_image_mean_is_the_mean_of_the_scores():
    numbers = image_rows(6)
    dices = [float(score_pixels(dict(zip(COUNTS, row[:4], strict=True)))["dice"]) for row in numbers]
    row = summarize(numbers)["dice", "image_mean"]
    assert row["value"] == pytest.approx(np.mean(dices))
    assert row["ci_low"] < row["value"] < row["ci_high"]
    assert (row["n"], row["n_undefined"]) == (6, 0)


def test_pooled_dice_is_that_of_all_pixels_together():
    numbers = np.concatenate([image_rows(3), image_rows(3, foreground=0.9)])
    total = numbers.sum(axis=0)
    expected = 2 * total[0] / (2 * total[0] + total[1] + total[2])
    found = summarize(numbers)
    assert found["dice", "pooled"]["value"] == pytest.approx(expected)
    assert found["dice", "pooled"]["value"] != pytest.approx(found["dice", "image_mean"]["value"], abs=1e-3)


def test_undefined_scores_are_left_out_and_counted():
    numbers = np.stack([image_row(0), image_row(1, foreground=0.0), image_row(2)])
    found = summarize(numbers)
    recall = found["recall", "image_mean"]
    assert (recall["n"], recall["n_undefined"]) == (2, 1)
    defined = score_counts(numbers[[0, 2]])["recall"]
    assert recall["value"] == pytest.approx(defined.mean())


def test_mcc_without_both_classes_is_zero_and_flagged():
    numbers = np.stack([image_row(0), image_row(1, foreground=0.0)])
    mcc = summarize(numbers)["mcc", "image_mean"]
    assert mcc["value"] == pytest.approx(score_counts(numbers[:1])["mcc"][0] / 2)
    assert (mcc["n"], mcc["n_undefined"]) == (2, 1)


def test_an_image_of_which_nothing_is_known_is_undefined_in_every_score():
    numbers = np.zeros((1, 4 + 2 + 10 + 2 * BINS))
    assert all(np.isnan(value).all() for value in score_counts(numbers).values())
    for row in summarize(numbers).values():
        assert np.isnan(row["value"])
        assert (row["n"], row["n_undefined"]) == (0, 1)


@pytest.mark.parametrize(("images", "bootstrap"), [(1, 100), (5, 0)])
def test_one_image_or_no_replicates_give_no_interval(images, bootstrap):
    for row in summarize(image_rows(images), bootstrap=bootstrap).values():
        assert np.isfinite(row["value"])
        assert np.isnan(row["ci_low"])
        assert np.isnan(row["ci_high"])


def test_equal_images_have_an_interval_of_no_width():
    row = summarize(np.repeat(image_rows(1), 8, axis=0))["iou", "pooled"]
    assert row["ci_low"] == pytest.approx(row["value"])
    assert row["ci_high"] == pytest.approx(row["value"])
