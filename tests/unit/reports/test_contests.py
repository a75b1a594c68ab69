"""Whether the best trained model is surely better than a model without a network."""

import re

import pandas as pd
import pytest

from cellmill.reports import comparison, runtime
from cellmill.reports.contests import find_contest, write_contest
from cellmill.reports.headline import write_headline
from cellmill.reports.results import replace
from cellmill.reports.verdict import Number, Standing, find_difference
from report_example import make_run

COLUMNS = (
    "model", "against", "split", "metric", "value", "ci_low", "ci_high", "n", "n_better", "n_worse", "n_groups",
)  # fmt: skip


def standing(model, *, dice, ap):
    def number(value):
        return Number(value, value - 0.02, value + 0.02, 40, 0)

    return Standing(model, 1, 40, number(dice), None if ap is None else number(ap))


def table(*differences):
    """Return comparisons.csv with differences: (model, against, metric, value, low, high)."""
    rows = [
        (model, against, "test", metric, value, low, high, 40, 30, 10, 40)
        for model, against, metric, value, low, high in differences
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


UNET, CLASSICAL = standing("unet", dice=0.9, ap=0.62), standing("classical", dice=0.8, ap=0.464)
NAN = float("nan")


def said(standings, comparisons, *, floors=("classical",)):
    found = find_floor(standings, comparisons, floors=floors)
    return None if found is None else re.sub(r"\s+", " ", write_contest(found).striptags())


def find_floor(standings, comparisons, *, floors=("classical",)):
    models = {one.model for one in standings} - set(floors)
    return find_contest("floor", standings, rivals=floors, models=models, comparisons=comparisons)


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.156, 0.12, 0.2, "unet is better than the floor classical, which needs no training (AP (Kaggle) 0.620 "
         "against 0.464, difference +0.156, 95 % confidence interval 0.120–0.200)."),
        (0.156, -0.02, 0.3, "unet is not surely better than the floor classical, which needs no training (AP (Kaggle) "
         "0.620 against 0.464, difference +0.156, 95 % confidence interval −0.020 – 0.300)."),
        (0.156, NAN, NAN, "unet scores higher than the floor classical, which needs no training, on too few images to be "
         "sure (AP (Kaggle) 0.620 against 0.464, difference +0.156)."),
        (-0.01, -0.02, -0.001, "unet is not better than the floor classical, which needs no training (AP (Kaggle) "
         "0.620 against 0.464, difference −0.010, 95 % confidence interval −0.020 – −0.001)."),
    ],
)  # fmt: skip
def test_the_sentence_says_whether_a_trained_model_is_surely_better(value, low, high, expected):
    comparisons = table(("unet", "classical", "ap_kaggle", value, low, high))
    found = said([UNET, CLASSICAL], comparisons)
    assert found == expected


def test_a_floor_that_is_the_best_says_that_no_trained_model_beat_it():
    best = standing("classical", dice=0.95, ap=0.7)
    comparisons = table(("unet", "classical", "ap_kaggle", -0.08, -0.1, -0.05))
    found = said([best, UNET], comparisons)
    assert found.startswith("No trained model is better than this floor, which needs no training; the next is unet (")


def test_without_an_average_precision_the_dice_decides():
    comparisons = table(("unet", "classical", "dice", 0.1, 0.05, 0.15))
    found = said([standing("unet", dice=0.9, ap=None), standing("classical", dice=0.8, ap=None)], comparisons)
    assert "(Dice " in found


def test_without_a_floor_or_a_trained_model_there_is_no_sentence():
    comparisons = table(("unet", "classical", "ap_kaggle", 0.1, 0.05, 0.15))
    assert said([UNET, CLASSICAL], comparisons, floors=()) is None
    assert said([CLASSICAL], comparisons) is None
    assert said([UNET], comparisons) is None
    assert said([UNET, CLASSICAL], table()) is None


def test_two_models_are_compared_once_and_three_also_with_the_floor():
    comparisons = table(
        ("unet", "classical", "ap_kaggle", 0.156, 0.12, 0.2), ("unet", "classical", "dice", 0.1, 0.08, 0.12),
        ("unet", "other", "dice", 0.05, 0.01, 0.09),
    )  # fmt: skip
    other = standing("other", dice=0.85, ap=0.5)
    for ranked, sentences in (([UNET, CLASSICAL], 2), ([UNET, other, CLASSICAL], 3)):
        second = ranked[1].model
        found = write_headline(
            UNET,
            second=ranked[1],
            difference=find_difference(comparisons, model="unet", against=second, metric="dice"),
            n_models=len(ranked),
            contests=[find_floor(ranked, comparisons)],
        )
        assert len(found.sentences) == sentences
        assert "is better than the floor" in found.sentences[-1].striptags()
        assert found.asides[0] == "The confidence interval of the difference excludes 0."


@pytest.mark.parametrize(
    ("kind", "value", "low", "high", "expected"),
    [
        ("masks", 0.1, 0.05, 0.15, "unet is better than other, masks made elsewhere"),
        ("masks", -0.1, -0.15, -0.05, "unet is worse than other, masks made elsewhere, although its Dice is higher"),
        ("masks", -0.1, -0.15, 0.05, "unet is not surely worse than other"),
        ("masks", 0.05, NAN, NAN, "unet is not surely better than other"),
        ("masks", 0.0, 0.0, 0.0, "unet is not surely better or worse than other"),
        ("annotator", 0.1, 0.05, 0.15, "unet agrees more with the annotations than the annotator other does"),
        ("annotator", -0.1, -0.15, -0.05, "unet agrees less with the annotations than the annotator other does"),
        ("annotator", 0.0, NAN, NAN, "unet and the annotator other agree with the annotations equally well, as far as"),
    ],
)  # fmt: skip
def test_masks_and_annotators_have_sentences_of_their_own(kind, value, low, high, expected):
    standings = [UNET, standing("other", dice=0.85, ap=0.5)]
    comparisons = table(("unet", "other", "ap_kaggle", value, low, high))
    found = find_contest(kind, standings, rivals={"other"}, models={"unet", "other"}, comparisons=comparisons)
    assert re.sub(r"\s+", " ", write_contest(found).striptags()).startswith(expected)


def test_a_higher_dice_is_said_only_where_it_is_higher():
    # A person stands behind all models, whatever the scores.
    standings = [UNET, standing("other", dice=0.95, ap=0.7)]
    comparisons = table(("unet", "other", "ap_kaggle", -0.1, -0.15, -0.05))
    found = find_contest("annotator", standings, rivals={"other"}, models={"unet"}, comparisons=comparisons)
    assert "Dice is higher" not in write_contest(found)


def test_names_with_markup_stay_text():
    comparisons = table(("<i>a</i>", "classical", "ap_kaggle", 0.1, 0.05, 0.15))
    found = find_floor([standing("<i>a</i>", dice=0.9, ap=0.6), CLASSICAL], comparisons)
    assert "<i>" not in write_contest(found)


# ---- the other chapters ---------------------------------------------------------------------------------------

RECIPE = {
    "recipe": {"sigma_px": 1.0, "window_px": 87, "polarity": "image"},
    "reason": "best mean Kaggle AP on 12 training and validation images", "images": 12, "searched": [{}] * 9,
}  # fmt: skip


def test_a_run_without_a_network_has_no_parameters_and_no_training_in_the_table_of_costs():
    run = replace(make_run("classical", model="classical", seed=1, made_from=None), recipe=RECIPE)
    jobs = [
        runtime.Job("contrast", "classical", 2.0, None, "test-0000"), runtime.Job("contrast", "classical", 90.0, None, "fit"),
    ]  # fmt: skip
    [row] = comparison.tabulate_costs([run], jobs=jobs, megapixels=6.0).rows
    assert [cell.text for cell in row[:7]] == ["classical", "–", "–", "–", "–", "–", "no training"]
    assert row[8].value == 3.0  # 6 megapixels in 2 s; the choice of the numbers is left out, as a training is


def test_the_numbers_of_a_run_without_a_network_are_described():
    [group] = comparison.describe_recipe(RECIPE)
    assert group["reason"] == "Best mean Kaggle AP on 12 training and validation images"
    assert dict(group["facts"]) == {
        "smoothing, standard deviation": "1 px",
        "threshold": "Otsu, after subtraction of the mean of 87 px",
        "objects": "the rarer side of the threshold, in each image",
        "tried combinations": "9",
    }
    fixed = {**RECIPE, "recipe": {**RECIPE["recipe"], "window_px": None}, "searched": []}
    assert dict(comparison.describe_recipe(fixed)[0]["facts"])["threshold"] == "Otsu, one for the image"
    assert comparison.describe_recipe({}) == []
