"""Confidence of objects and images: traits by hand, fits against scikit-learn, and what a confidence is worth."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cellmill.evaluation.bootstrap import Bootstrap
from cellmill.evaluation.ranking import count_ranked, summarize_ranking
from cellmill.metrics.pixel import BINS
from cellmill.objects import confidence
from cellmill.objects.confidence import (
    FLOW_TRAITS,
    TRAITS,
    Traits,
    measure_traits,
    rate,
    rate_objects,
    uncalibrated,
)
from cellmill.objects.confidence_fit import FEWEST, Rated, fit_confidence

SHAPE = (12, 14)


def measure(labels_yx, maps_cyx, traits=TRAITS):
    return measure_traits(
        lambda rows: labels_yx[rows], lambda rows: maps_cyx[:, rows].astype(np.float32),
        shape=labels_yx.shape, highest=int(labels_yx.max()), traits=traits, threshold=0.5,
    )  # fmt: skip


def test_traits_of_a_square_are_those_computed_by_hand():
    labels_yx = np.zeros(SHAPE, dtype=np.int64)
    labels_yx[3:5, 3:5] = 2
    probability_yx = np.full(SHAPE, 0.25)
    probability_yx[3:5, 3:5] = [[1, 0.5], [0.75, 0.75]]
    flow_y, flow_x = np.zeros(SHAPE), np.zeros(SHAPE)
    flow_y[3, 3:5], flow_y[4, 3:5] = 0.6, -0.6  # towards the middle
    flow_x[3:5, 3], flow_x[3:5, 4] = 0.8, -0.8
    found = measure(labels_yx, np.stack([probability_yx, flow_y, flow_x]), FLOW_TRAITS)
    by_name = dict(zip(FLOW_TRAITS, found.means_nt[2], strict=True))
    # Four pixels, eight sides; each side lies beside a background of 0.25.
    assert by_name == pytest.approx({"probability": 0.75, "step": 0.5, "flow": 1.0, "inward": (4 * 0.6 + 4 * 0.8) / 8})
    assert found.areas_px.tolist() == [0, 0, 4]
    assert found.outside_px == pytest.approx(0.25 * (12 * 14 - 4))


def test_foreground_that_was_left_out_on_purpose_is_not_missed():
    labels_yx, probability_yx = np.zeros(SHAPE, dtype=np.int64), np.full(SHAPE, 0.25)
    labels_yx[3:5, 3:5] = 1
    probability_yx[0:2] = 0.9  # an object at the border that a filter dropped
    found = measure(labels_yx, probability_yx[None])
    assert found.outside_px == pytest.approx(0.25 * (12 * 14 - 2 * 14 - 4))


def test_a_border_between_objects_counts_for_both_and_has_no_step():
    labels_yx = np.zeros((4, 6), dtype=np.int64)
    labels_yx[:, :3], labels_yx[:, 3:] = 1, 2
    maps_cyx = np.stack([np.ones((4, 6)), np.zeros((4, 6)), np.where(labels_yx == 1, -1.0, 1.0)])
    found = measure(labels_yx, maps_cyx, FLOW_TRAITS)
    for number in (1, 2):
        assert dict(zip(FLOW_TRAITS, found.means_nt[number], strict=True)) == {
            "probability": 1, "step": 0, "flow": 1, "inward": 1,
        }  # fmt: skip


def test_traits_do_not_depend_on_the_bands(monkeypatch):
    rng = np.random.default_rng(0)
    labels_yx = rng.integers(0, 5, size=(40, 30))
    maps_cyx = rng.normal(size=(3, 40, 30)).astype(np.float32)
    whole = measure(labels_yx, maps_cyx, FLOW_TRAITS)
    monkeypatch.setattr(confidence, "list_bands", lambda shape: [slice(0, 7), slice(7, 8), slice(8, 40)])
    parts = measure(labels_yx, maps_cyx, FLOW_TRAITS)
    assert parts.means_nt == pytest.approx(whole.means_nt, abs=1e-6)
    assert parts.areas_px.tolist() == whole.areas_px.tolist()
    assert parts.outside_px == pytest.approx(whole.outside_px)


def draw_rated(rng, *, n_objects=60):
    """Return an image whose right objects have a higher probability, in part, than its wrong ones."""
    side = 8
    labels_yx = np.zeros((side * n_objects, side + 2), dtype=np.int64)
    truth_yx, probability_yx = labels_yx.copy(), np.full(labels_yx.shape, 0.1)
    right = rng.random(n_objects) < 0.7
    for number in range(n_objects):
        part = np.s_[number * side + 1 : number * side + 6, 2:8]
        labels_yx[part] = number + 1
        probability_yx[part] = np.clip(rng.normal(0.8 if right[number] else 0.65, 0.1), 0, 1)
        if right[number]:
            truth_yx[part] = number + 1
    known_yx = np.ones(labels_yx.shape, dtype=bool)
    return Rated(labels_yx, truth_yx, known_yx, probability_yx[None].astype(np.float32)), right


def test_the_fit_is_the_logistic_regression_of_scikit_learn_and_calibrated():
    rng = np.random.default_rng(1)
    images, rights = zip(*(draw_rated(rng) for _ in range(10)), strict=True)
    fitted = fit_confidence(images, output="foreground", threshold=0.5)
    traits_nt = np.concatenate([measure(image.labels_yx, image.maps_cyx).means_nt[1:] for image in images])
    is_right = np.concatenate(rights)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(traits_nt, is_right)
    found = rate_objects(traits_nt, fitted)
    assert found == pytest.approx(model.predict_proba(traits_nt)[:, 1], abs=1e-4)
    assert (fitted["right"], fitted["wrong"]) == (is_right.sum(), (~is_right).sum())
    others, right = zip(*(draw_rated(rng) for _ in range(20)), strict=True)
    new = np.concatenate([rate_objects(measure(one.labels_yx, one.maps_cyx).means_nt[1:], fitted) for one in others])
    is_right = np.concatenate(right)
    assert roc_auc_score(is_right, new) > 0.8
    for low, high in ((0, 0.5), (0.5, 0.8), (0.8, 1)):
        chosen = (new >= low) & (new < high)
        assert new[chosen].mean() == pytest.approx(is_right[chosen].mean(), abs=0.1)


def test_too_few_wrong_objects_leave_the_confidence_uncalibrated():
    image, right = draw_rated(np.random.default_rng(0), n_objects=20)
    assert (~right).sum() < FEWEST
    fitted = fit_confidence([image], output="foreground", threshold=0.5)
    assert not fitted["calibrated"]
    assert f"{right.sum()} right and {(~right).sum()} wrong" in fitted["reason"]
    traits = measure(image.labels_yx, image.maps_cyx)
    assert rate_objects(traits.means_nt, fitted) == pytest.approx(traits.means_nt[:, 0])
    assert fit_confidence([], output="flow", threshold=0.5)["leading"] == "flow"


def test_objects_of_unknown_truth_are_not_fitted():
    image, _ = draw_rated(np.random.default_rng(0))
    unknown = Rated(image.labels_yx, image.truth_yx, np.zeros_like(image.known_yx), image.maps_cyx)
    assert fit_confidence([unknown], output="foreground", threshold=0.5)["right"] == 0


def rating(values, *, outside_px, typical_px=None):
    areas_px = np.array([0.0, *[20.0] * len(values)])
    traits = Traits(np.array([[0.0, 0.0], *[[value, 0.0] for value in values]]), areas_px, outside_px)
    return rate(traits, uncalibrated("foreground", reason=""), typical_px=typical_px)


def test_an_image_has_the_expected_share_of_right_objects():
    assert rating([0.9, 0.5], outside_px=0).of_image == pytest.approx(0.7)
    # Foreground of two more objects lies outside.
    assert rating([0.9, 0.5], outside_px=40).of_image == pytest.approx(1.4 / 4)
    assert rating([], outside_px=0, typical_px=20).of_image == 1
    assert rating([], outside_px=60, typical_px=20).of_image == pytest.approx(0.25)
    assert rating([], outside_px=60).of_image == 1
    assert rating([0.9, 0.5], outside_px=0).of_objects[1:].tolist() == [0.9, 0.5]


def test_ranking_is_the_area_under_the_roc_curve():
    rng = np.random.default_rng(3)
    right, wrong = rng.integers(60, 256, size=(4, 30)), rng.integers(0, 180, size=(4, 12))
    ranked = np.stack([count_ranked({"right_at": a, "wrong_at": b}) for a, b in zip(right, wrong, strict=True)])
    assert ranked.shape == (4, 2 * BINS)
    draws = Bootstrap(200, np.random.SeedSequence(0), np.arange(4))
    found = summarize_ranking(ranked, bootstrap=draws)
    is_right = np.repeat([1, 0], [right.size, wrong.size])
    assert found["value"] == pytest.approx(roc_auc_score(is_right, np.concatenate([right.ravel(), wrong.ravel()])))
    assert found["ci_low"] < found["value"] < found["ci_high"]
    alone = summarize_ranking(ranked, bootstrap=Bootstrap(0, np.random.SeedSequence(0), np.arange(4)))
    assert np.isnan(alone["ci_low"])


def test_a_ranking_without_wrong_objects_is_undefined():
    ranked = np.stack([count_ranked({"right_at": [3, 200], "wrong_at": []})] * 2)
    found = summarize_ranking(ranked, bootstrap=Bootstrap(20, np.random.SeedSequence(0), np.arange(2)))
    assert np.isnan(found["value"])
    assert (found["n"], found["n_undefined"]) == (0, 2)
