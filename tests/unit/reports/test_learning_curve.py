"""What a learning curve says about more annotated images."""

import re

import pandas as pd
import pytest

from cellmill.reports.learning_curve import describe_curve

CURVE = {"model": "unet", "images": 40, "draws": 3, "parts": [[10, "unet.images10"], [20, "unet.images20"]]}
NAN = float("nan")


def row(model, value, low, high, *, against="", metric="ap_kaggle"):
    return {
        "model": model, "against": against, "split": "test", "metric": metric, "value": value, "ci_low": low, "ci_high": high,
        "n": 12, "n_undefined": 0, "n_seeds": 3, "n_groups": 12, "n_better": 9, "n_worse": 3,
    }  # fmt: skip


def table(difference=(0.08, 0.03, 0.13), **points):
    points = points or {"unet.images10": 0.3, "unet.images20": 0.42, "unet": 0.5}
    rows = [row(model, value, value - 0.05, value + 0.05) for model, value in points.items()]
    return pd.DataFrame(
        [*rows, row("unet", *difference, against="unet.images20"), row("unet", 0.2, 0.1, 0.3, against="unet.images10")]
    )


def sentence(comparisons, curve=None):
    return re.sub(r"\s+", " ", describe_curve(curve or CURVE, comparisons)["sentence"].striptags())


def test_a_sure_gain_is_extrapolated_with_its_interval():
    assert sentence(table()) == (
        "From 20 to 40 training images, the AP (Kaggle) of unet changed by +0.080 (95 % confidence interval 0.030–0.130). If "
        "it goes on like this, twice as many as 40 images would be worth about +0.080. Gains usually become smaller."
    )


def test_the_gain_is_that_of_doubling_where_the_step_is_larger():
    parts = {**CURVE, "parts": [[10, "unet.images10"]]}
    assert "twice as many as 40 images would be worth about +0.100" in sentence(table(), parts)


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        ((0.02, -0.01, 0.05), "The interval includes 0: it is not sure that more annotated images would help."),
        ((-0.04, -0.06, -0.01), "More of these images did not help"),
        ((0.08, NAN, NAN), "With a single test image, nothing can be said about other images."),
    ],
)
def test_what_is_not_sure_is_not_promised(difference, said):
    text = sentence(table(difference))
    assert said in text
    assert "would be worth" not in text


def test_every_point_is_drawn_and_tabulated_from_few_to_all_images():
    found = describe_curve(CURVE, table())
    assert [cell.text for cell in (line[0] for line in found["table"].rows)] == ["10", "20", "40"]
    assert [line[1].text for line in found["table"].rows] == ["unet.images10", "unet.images20", "unet"]
    [figure] = found["figures"]  # the table has no Dice
    assert "Means over 3 draws of images" in figure.caption


def test_a_single_point_is_no_curve():
    assert describe_curve(CURVE, table(unet=0.5)) is None
