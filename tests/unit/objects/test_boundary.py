import json

import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from cellmill.objects.boundary import (
    boundary_features,
    decide,
    features_reach_px,
    find_boundary,
    fit_classifier,
    held_out_accuracy,
    measure_grey,
    scale_grey,
    tune_boundary,
)

AGREEMENT = 1e-6
ROWS, COLUMNS = np.indices((50, 60))
DISC = (ROWS - 25) ** 2 + (COLUMNS - 30) ** 2 <= 15**2
EVERYWHERE = np.ones((50, 60), dtype=bool)


def draw_pixels(pixels=600, seed=0):
    rng = np.random.default_rng(seed)
    is_object = rng.random(pixels) < 0.4
    grey = np.clip(rng.normal(0.4 + 0.1 * is_object, 0.12), 0, 1)
    edge = np.abs(rng.normal(0.1 + 0.03 * is_object, 0.05))
    return np.stack([grey, edge], axis=1), is_object


def grey_of(image, valid=EVERYWHERE):
    return scale_grey(image, grey=measure_grey(image, valid_yx=valid))


def features_of(image, *, scales=(0.0,)):
    return boundary_features(image, grey=measure_grey(image, valid_yx=EVERYWHERE), scales_px=scales)


def tune(mask, image, model, *, scales=(0.0,)):
    grey = measure_grey(image, valid_yx=EVERYWHERE)
    return tune_boundary(mask, image, model=model, scales_px=scales, grey=grey, valid_yx=EVERYWHERE)


def fit(features, is_object, **changes):
    settings = {"classifier": "svm", "standardise": True, "coef0": 1.0, "cost": 1.0}
    return fit_classifier(features, is_object, **(settings | changes))


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("coef0", [0.0, 1.0])
def test_polynomial_is_the_support_vector_machine(standardise, coef0):
    features, is_object = draw_pixels()
    elsewhere = np.random.default_rng(1).random((5000, 2))
    scaler = StandardScaler(with_mean=standardise, with_std=standardise).fit(features)
    machine = SVC(kernel="poly", degree=3, coef0=coef0, gamma="scale", C=1.0)
    expected = machine.fit(scaler.transform(features), is_object).decision_function(scaler.transform(elsewhere))
    found = decide(fit(features, is_object, standardise=standardise, coef0=coef0), elsewhere)
    assert np.abs(found - expected).max() < AGREEMENT * np.abs(expected).max()
    assert np.array_equal(found > 0, machine.predict(scaler.transform(elsewhere)))


@pytest.mark.parametrize(("coef0", "terms"), [(0, 5), (1, 10)])
def test_without_coef0_five_coefficients_are_not_zero(coef0, terms):
    assert np.count_nonzero(fit(*draw_pixels(), coef0=coef0)["coefficients"]) == terms


def test_polynomial_is_gaussian_bayes():
    features, is_object = draw_pixels()
    logs = GaussianNB().fit(features, is_object).predict_log_proba(features)
    found = decide(fit(features, is_object, classifier="bayes", standardise=False), features)
    assert np.allclose(found, logs[:, 1] - logs[:, 0], rtol=AGREEMENT, atol=1e-9)


@pytest.mark.parametrize("classifier", ["svm", "bayes"])
def test_more_scales_are_the_machine_too(classifier):
    rng = np.random.default_rng(4)
    features = rng.random((500, 6))
    is_object = features[:, 0] * features[:, 3] + 0.3 * features[:, 5] + rng.normal(0, 0.1, 500) > 0.4
    scaled = StandardScaler().fit_transform(features)
    if classifier == "svm":
        expected = SVC(kernel="poly", degree=3, coef0=1, gamma="scale").fit(scaled, is_object).decision_function(scaled)
    else:
        logs = GaussianNB().fit(scaled, is_object).predict_log_proba(scaled)
        expected = logs[:, 1] - logs[:, 0]
    model = fit(features, is_object, classifier=classifier)
    assert len(model["coefficients"]) == 84  # terms up to degree 3 of 6 features
    assert np.abs(decide(model, features) - expected).max() < AGREEMENT * np.abs(expected).max()


def test_features_are_two_a_scale_and_reach_as_far_as_they_say():
    image = np.zeros(DISC.shape)
    image[25, 30] = 1.0
    scales = (0.0, 1.5)
    features = boundary_features(image, grey=(0.0, 1.0), scales_px=scales)
    assert features.shape == (*DISC.shape, 4)
    assert np.array_equal(features[..., :2], boundary_features(image, grey=(0.0, 1.0), scales_px=(0.0,)))
    rows, columns, _ = np.nonzero(features)
    assert max(abs(rows - 25).max(), abs(columns - 30).max()) == features_reach_px(scales)


def test_a_large_image_has_the_range_of_a_part_of_its_pixels(monkeypatch):
    image = np.random.default_rng(0).normal(100, 10, DISC.shape)
    whole = measure_grey(image, valid_yx=EVERYWHERE)
    monkeypatch.setattr("cellmill.objects.boundary.MAX_RANGE_PIXELS", 800)
    assert measure_grey(image, valid_yx=EVERYWHERE) == pytest.approx(whole, rel=0.1)
    assert measure_grey(image, valid_yx=EVERYWHERE) != whole


@pytest.mark.parametrize("classifier", ["svm", "bayes"])
def test_positive_means_object(classifier):
    features, _ = draw_pixels()
    model = fit(features, features[:, 0] > 0.5, classifier=classifier)
    assert decide(model, np.array([0.9, 0.1])) > 0 > decide(model, np.array([0.1, 0.1]))


def test_a_model_survives_json_to_the_last_bit():
    features, is_object = draw_pixels()
    model = fit(features, is_object)
    assert np.array_equal(decide(json.loads(json.dumps(model)), features), decide(model, features))


def test_one_constant_feature_is_no_division_by_zero():
    features, is_object = draw_pixels()
    features[:, 1] = 0.25
    assert np.isfinite(decide(fit(features, is_object), features)).all()


def test_the_unit_of_the_image_does_not_change_the_tuned_mask():
    rng = np.random.default_rng(3)
    image = np.where(DISC, 150, 60) + rng.integers(0, 60, DISC.shape)
    features = features_of(image)
    model = fit(features[find_boundary(DISC, valid_yx=EVERYWHERE)], DISC[find_boundary(DISC, valid_yx=EVERYWHERE)])
    predicted = np.roll(DISC, 2, axis=0)
    images = [
        image.astype(np.uint8),
        image.astype(np.uint16) * 257,
        image / 255,
        (image / 255).astype(np.float32),
        image - 1000.0,
    ]
    tuned = [tune(predicted, each, model) for each in images]
    assert (tuned[0] != predicted).any()
    for other in tuned[1:]:
        assert np.array_equal(other, tuned[0])


def test_grey_values_of_a_constant_image_are_zero():
    assert not grey_of(np.full((5, 6), 7.5), np.ones((5, 6), dtype=bool)).any()


def test_a_hot_pixel_does_not_darken_the_image():
    image = np.where(DISC, 100.0, 20.0)
    hot = image.copy()
    hot[0, 0] = 1e6
    assert np.array_equal(grey_of(hot)[1:], grey_of(image)[1:])


def test_padding_does_not_enter_the_range():
    image = np.where(DISC, 100.0, 20.0)
    padded = np.pad(image, 30, constant_values=-500.0)
    valid = np.pad(EVERYWHERE, 30)
    inner = grey_of(padded, valid)[30:-30, 30:-30]
    assert np.array_equal(inner, grey_of(image))


def test_boundary_has_both_sides_of_the_border():
    boundary = find_boundary(DISC, valid_yx=EVERYWHERE)
    assert (boundary & DISC).any()
    assert (boundary & ~DISC).any()
    assert not find_boundary(EVERYWHERE, valid_yx=EVERYWHERE).any()


def test_tuning_leaves_all_but_the_boundary():
    features, is_object = draw_pixels()
    image = np.random.default_rng(5).random(DISC.shape)
    tuned = tune(DISC, image, fit(features, is_object))
    away = ~find_boundary(DISC, valid_yx=EVERYWHERE)
    assert np.array_equal(tuned[away], DISC[away])


def test_tuning_repairs_a_border_that_the_grey_values_show():
    image = np.where(DISC, 200.0, 50.0)
    boundary = find_boundary(DISC, valid_yx=EVERYWHERE)
    model = fit(features_of(image)[boundary], DISC[boundary])
    shrunk = (ROWS - 25) ** 2 + (COLUMNS - 30) ** 2 <= 14**2
    tuned = tune(shrunk, image, model)
    assert np.count_nonzero(tuned != DISC) < np.count_nonzero(shrunk != DISC) / 4


def test_an_empty_mask_stays_empty():
    features, is_object = draw_pixels()
    nothing = np.zeros(DISC.shape, dtype=bool)
    assert not tune(nothing, DISC * 1.0, fit(features, is_object)).any()


def accuracy(features, is_object, groups, **changes):
    settings = {
        "by": "pixel", "repeats": 4, "max_points": 300, "rng": np.random.default_rng(0), "classifier": "bayes",
        "standardise": True, "coef0": 1.0, "cost": 1.0,
    }  # fmt: skip
    return held_out_accuracy(features, is_object, groups, **(settings | changes))


def test_held_out_accuracy_of_what_can_be_learnt_is_high():
    features, _ = draw_pixels()
    found = accuracy(features, features[:, 0] > 0.45, np.arange(600) // 20)
    assert found["repeats"] == 4
    assert found["mean"] > 0.9


def test_holding_out_images_uncovers_what_pixels_hide():
    # Each image has its own grey value and a single class, so that its pixels reveal each other's label.
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(4), 50)
    grey, label = np.array([0.2, 0.4, 0.6, 0.8]), np.array([False, True, True, False])
    features = np.stack([grey[groups] + rng.normal(0, 0.01, 200), rng.normal(0.1, 0.01, 200)], axis=1)
    by_pixel = accuracy(features, label[groups], groups, repeats=8)
    by_image = accuracy(features, label[groups], groups, repeats=8, by="image")
    assert by_pixel["mean"] > 0.95
    assert by_image["mean"] < 0.9


def test_no_repeats_and_a_single_image_give_no_accuracy():
    features, is_object = draw_pixels()
    none = {"mean": None, "std": None, "repeats": 0}
    assert accuracy(features, is_object, np.arange(600), repeats=0) == none
    assert accuracy(features, is_object, np.zeros(600, dtype=int), by="image") == none
