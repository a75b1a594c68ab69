import numpy as np
import pytest

from cellmill.evaluation import bootstrap
from cellmill.evaluation.bootstrap import (
    FREE_METRICS,
    LAYOUT,
    METRICS,
    Bootstrap,
    bootstrap_weights,
    number_groups,
    pack_counts,
    percentile_interval,
    score_counts,
    summarize_counts,
    unpack_counts,
    weighted_means,
)
from cellmill.metrics.borders import BORDER_COUNTS
from cellmill.metrics.calibration import count_calibration
from cellmill.metrics.instance import OBJECT_COUNTS, SIZE_COUNTS, SIZES
from cellmill.metrics.pixel import COUNTS, count_pixels, histogram_classes, score_pixels


def draw_weights(images, replicates, seed=0):
    return np.concatenate(list(bootstrap_weights(images, replicates=replicates, rng=np.random.default_rng(seed))))


def image_row(seed, foreground=0.3, shape=(16, 16)):
    """Return the counts of one image of random pixels, without objects."""
    rng = np.random.default_rng(seed)
    truth = rng.random(shape) < foreground
    probability = np.clip(rng.normal(0.3 + 0.4 * truth, 0.2), 0, 1)
    valid = np.ones(shape, dtype=bool)
    counts = count_pixels(probability >= 0.5, truth, valid_yx=valid)
    histogram = histogram_classes(probability, truth, valid_yx=valid)
    objects = dict.fromkeys(OBJECT_COUNTS, 1) | {"n_true": 2, "n_predicted": 3, "matches": [1] * 10}
    return pack_counts(
        {
            **counts, **objects, "matches_inclusive": [1] * 10, **dict.fromkeys(BORDER_COUNTS, 4),
            **count_calibration(probability, truth, valid_yx=valid),
            **dict.fromkeys(SIZE_COUNTS, [1] * SIZES), "background": histogram[0], "foreground": histogram[1],
        }
    )  # fmt: skip


def image_rows(images, **changes):
    return np.stack([image_row(seed, **changes) for seed in range(images)])


def draws(images, replicates=200, seed=1, groups=None):
    return Bootstrap(replicates, np.random.SeedSequence(seed), np.arange(images) if groups is None else groups)


def summarize(numbers, bootstrap=200, seed=1, groups=None):
    rows = summarize_counts(numbers, bootstrap=draws(len(numbers), bootstrap, seed, groups), with_free=True)
    return {(row["metric"], row["aggregation"]): row for row in rows}


def test_a_replicate_draws_as_many_images_as_there_are():
    weights = draw_weights(17, 50)
    assert weights.shape == (50, 17)
    assert (weights.sum(axis=1) == 17).all()


def test_draws_do_not_depend_on_the_size_of_the_pieces(monkeypatch):
    expected = draw_weights(17, 50)
    monkeypatch.setattr(bootstrap, "MAX_DRAWS", 40)
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
    for name in FREE_METRICS:
        assert (name, "pooled") in found
        assert (name, "image_mean") not in found


def test_counts_come_back_as_they_were_packed():
    rows = image_rows(3)
    found = unpack_counts(rows)
    assert found["matches"].shape == (3, 10)
    assert found["confidence"].shape == (3, 256)
    assert np.array_equal(pack_counts({name: values[1] for name, values in found.items()}), rows[1])


def test_images_of_a_group_are_drawn_together():
    groups = number_groups(["b", "a", "b", "c", "a", "b"])
    assert groups.tolist() == [0, 1, 0, 2, 1, 0]
    [weights] = draws(6, groups=groups).weights()
    assert weights.shape == (200, 6)
    for members in ([0, 2, 5], [1, 4]):
        assert (weights[:, members] == weights[:, members[:1]]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_groups_widen_an_interval_where_their_images_are_alike():
    numbers = np.repeat(np.stack([image_row(seed, foreground=0.1 + 0.1 * seed) for seed in range(6)]), 5, axis=0)
    alone, together = (
        summarize(numbers, groups=groups)["dice", "image_mean"] for groups in (None, np.repeat(np.arange(6), 5))
    )
    assert together["value"] == alone["value"]
    assert together["ci_high"] - together["ci_low"] > 1.5 * (alone["ci_high"] - alone["ci_low"])


def test_one_group_falls_back_on_its_images():
    [alone], [one_group] = draws(6).weights(), draws(6, groups=np.zeros(6, dtype=int)).weights()
    assert np.array_equal(alone, one_group)
    assert draws(6, groups=np.zeros(6, dtype=int)).n_groups == 1


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
    numbers = np.zeros((1, sum(LAYOUT.values())))
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
