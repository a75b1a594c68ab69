"""The page on scores lists every score and states correctly what the code returns for empty images."""

import numpy as np
import pytest

from cellmill.evaluation import ranking
from cellmill.evaluation.bootstrap import FREE_METRICS, METRICS
from cellmill.evaluation.paper_scores import ALL_PIXEL_METRICS, score_rates
from cellmill.metrics.borders import count_borders, score_borders
from cellmill.metrics.glossary import GLOSSARY, metrics_page
from cellmill.metrics.instance import count_objects, count_overlaps, score_instances
from cellmill.metrics.isbi2012 import ISBI2012_METRICS
from cellmill.metrics.pixel import count_pixels

NOTHING = np.zeros((10, 10), int)
ONE = np.zeros((10, 10), int)
ONE[2:4, 3:8] = 1  # a tenth of the image
VALUES = {"NaN": np.nan, "0": 0, "1": 1, "TN / N": 0.9, "1 - TN / N": 0.1}


def score(predicted_yx, truth_yx):
    known_yx = np.ones(truth_yx.shape, bool)
    return (
        score_rates(count_pixels(predicted_yx > 0, truth_yx > 0, valid_yx=known_yx))
        | score_instances(count_objects(count_overlaps(predicted_yx, truth_yx, valid_yx=known_yx)))
        | score_borders(count_borders(predicted_yx, truth_yx, valid_yx=known_yx, tolerance_px=2))
    )


def test_every_score_is_on_the_page():
    assert set(GLOSSARY) == {*METRICS, *FREE_METRICS, *ALL_PIXEL_METRICS, *ISBI2012_METRICS, ranking.METRIC}
    page = metrics_page()
    assert all(f"| `{name}` |" in page for name in GLOSSARY)


@pytest.mark.parametrize(
    ("case", "predicted_yx", "truth_yx"), [(0, NOTHING, NOTHING), (1, ONE, NOTHING), (2, NOTHING, ONE)]
)
def test_scores_of_empty_images_are_those_of_the_page(case, predicted_yx, truth_yx):
    found = score(predicted_yx, truth_yx)
    told = {name: meaning.empty[case] for name, meaning in GLOSSARY.items() if meaning.empty}
    assert set(told) == {*METRICS, "fpr"}
    for name, text in told.items():
        assert float(found[name]) == pytest.approx(VALUES[text], nan_ok=True), name
