"""The first sentences of a report: counts, seeds, and what few images do not show."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from cellmill.evaluation import comparisons
from cellmill.metrics.glossary import GLOSSARY
from cellmill.reports import headline, verdict
from cellmill.reports.verdict import Counts, Difference, Number, Standing, say_few


def standing(model="unet", *, images=40, groups=None, seeds=1, counts=None, dice=0.9):
    number = Number(dice, dice - 0.02, dice + 0.02, images, 0)
    return Standing(model, seeds, images if groups is None else groups, number, None, counts)


def text_of(found: headline.Headline) -> str:
    return re.sub(r"\s+", " ", " ".join(sentence.striptags() for sentence in found.sentences))


def write(best, *, second=None, difference=None, n_models=1, **more):
    return headline.write_headline(best, second=second, difference=difference, n_models=n_models, **more)


# ---- counts ------------------------------------------------------------------------------------------------


def test_the_first_sentence_compares_found_and_annotated_objects():
    found = write(standing(counts=Counts(1300, 1234.0, 1234 / 1300 - 1, -0.08, -0.02)))
    assert text_of(found).startswith(
        "unet was scored on 40 test images: it found 1,234 objects where 1,300 are annotated (an error of −5.1 %, "
        "95 % confidence interval −8.0 % to −2.0 %), with Dice"
    )


def test_a_perfect_count_is_an_error_of_zero_without_a_sign():
    assert "where 12 are annotated (an error of 0.0 %)" in text_of(write(standing(counts=Counts(12, 12.0, -0.0))))


def test_without_annotated_objects_no_percentage_is_written():
    said = text_of(write(standing(counts=Counts(0, 3.0, None))))
    assert "it found 3 objects where none is annotated, with Dice" in said
    assert "error" not in said


def test_one_object_is_singular():
    said = text_of(write(standing(counts=Counts(1, 1.0, 0.0))))
    assert "it found 1 object where 1 is annotated" in said


def test_counts_of_older_tables_come_from_the_images():
    scores = pd.DataFrame(
        [
            (model, seed, "test", stage, "raw", sample, true, predicted)
            for model, seed, stage, sample, true, predicted in (
                ("u", 1, "postprocessed", "a", 10, 8), ("u", 2, "postprocessed", "a", 10, 12),
                ("u", 1, "postprocessed", "b", 5, 5), ("u", 2, "postprocessed", "b", 5, 9),
                ("u", 1, "thresholded", "a", 10, 99), ("v", 1, "postprocessed", "a", 10, 99),
            )
        ],
        columns=["model", "seed", "split", "stage", "geometry", "sample", "n_true", "n_predicted"],
    )  # fmt: skip
    counts = verdict.count_objects(scores, model="u")
    assert (counts.annotated, counts.found, counts.error) == (15, 17.0, pytest.approx(2 / 15))
    assert verdict.count_objects(scores, model="w") is None


def test_the_pages_and_the_evaluation_agree_on_the_name_of_the_count():
    assert verdict.COUNT_DIFFERENCE == comparisons.COUNT_DIFFERENCE


# ---- seeds -------------------------------------------------------------------------------------------------


def test_several_seeds_are_reported_as_their_mean():
    said = text_of(write(standing(seeds=3, counts=Counts(300, 290.33, -0.032)), thresholds=[0.41, 0.44, 0.4]))
    assert "unet was scored on 40 test images (mean of 3 seeds, with intervals over images and seeds)" in said
    assert "it found 290.3 objects where 300 are annotated" in said
    assert "at thresholds from 0.400 to 0.440." in said


def test_averaged_predictions_are_not_called_a_mean_of_seeds():
    said = text_of(write(standing("unet.mean"), averages="unet", n_models=2))
    assert "Of 2 models, unet.mean, which averages the predictions of all seeds of unet, is the best on" in said
    assert "mean of" not in said


def test_names_with_markup_stay_text():
    found = write(standing("<i>a</i>"), second=standing("<u>b</u>"), difference=Difference(0.1, None, None, 3, 2, 1))
    assert not any(tag in sentence for sentence in found.sentences for tag in ("<i>", "<u>"))


# ---- few images --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "groups", "expected"),
    [
        (1, 1, ""), (2, 2, "only 2 test images"), (4, 4, "only 4 test images"), (9, 9, "only 9 test images"),
        (10, 10, ""), (200, 200, ""), (60, 3, "only 3 groups of test images"), (60, 12, ""), (60, 1, ""),
        (6, 1, "only 6 test images"),
    ],
)  # fmt: skip
def test_fewer_than_ten_images_or_groups_are_few(images, groups, expected):
    assert say_few(images, groups) == expected


def differ(value, *, images, groups=None):
    return Difference(value, value - 0.01, value + 0.01, images, images, 0, images if groups is None else groups)


def test_four_images_do_not_establish_a_ranking():
    found = write(standing(images=4), second=standing("v", images=4), difference=differ(0.1, images=4), n_models=2)
    [claim] = [text for text in found.asides if "excludes 0" in text]
    assert "only 4 test images" in claim
    assert "does not establish" in claim
    assert any("only 4 test images" in notice for notice in found.notices)


def test_many_images_need_no_such_remark():
    found = write(standing(), second=standing("v"), difference=differ(0.1, images=40), n_models=2)
    assert "The confidence interval of the difference excludes 0." in found.asides
    assert found.notices == ()


def test_many_images_of_few_groups_are_few():
    best = standing(images=90, groups=3)
    found = write(best, second=standing("v"), difference=differ(0.1, images=90, groups=3), n_models=2)
    assert any("excludes 0, but it is computed from only 3 groups of test images" in text for text in found.asides)


def test_an_interval_that_includes_zero_makes_no_claim_either_way():
    found = write(standing(images=4), second=standing("v", seeds=2), difference=differ(0.0, images=4), n_models=2)
    assert any("includes 0: with other images or seeds the ranking could change" in text for text in found.asides)
    assert not any("excludes" in text for text in found.asides)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.02, "0.020 higher than that of v"),
        (-0.02, "0.020 lower than that of v"),
        (-0.0001, "Its AP (Kaggle) equals that of v"),
    ],
)
def test_a_difference_is_put_into_words_by_its_sign(value, expected):
    found = write(standing(), second=standing("v"), difference=differ(value, images=40), n_models=2)
    assert expected in text_of(found)
    assert "−0.000 " not in text_of(found)


def test_the_score_that_ranks_the_models_comes_first_and_is_compared():
    ap = Number(0.6, 0.5, 0.7, 40, 0)
    ranked = [replace(standing(name), ap=ap) for name in "uv"]
    for rank_by, scores, compared in (
        ("ap_kaggle", "a Kaggle average precision of 0.600 (95 % confidence interval 0.500–0.700) and Dice 0.900 (0.880",
         "Its AP (Kaggle) is 0.020 higher"),
        ("dice", "Dice 0.900 (95 % confidence interval 0.880–0.920) and a Kaggle average precision of 0.600 (0.500",
         "Its Dice is 0.020 higher"),
    ):  # fmt: skip
        difference = differ(0.02, images=40)
        found = write(ranked[0], second=ranked[1], difference=difference, n_models=2, rank_by=rank_by)
        assert scores in text_of(found)
        assert compared in text_of(found)
        assert any(GLOSSARY[rank_by].heading in text for text in found.asides)
