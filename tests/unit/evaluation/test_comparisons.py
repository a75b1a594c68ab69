"""Numbers of annotated and found objects in comparisons.csv, computed a second time from plain sums."""

import numpy as np
import pandas as pd
import pytest

from cellmill.evaluation.bootstrap import METRICS
from cellmill.evaluation.comparisons import COUNT_DIFFERENCE, Compared

IMAGES = ("a", "b", "c", "d", "e", "f")
TRUE = np.array([10, 20, 30, 40, 5, 15])


def compare(counts, *, true=TRUE, bootstrap=400, groups=IMAGES):
    """Return comparisons.csv as a table; `counts` maps (model, seed) to the predicted objects of each image."""
    compared = Compared()
    for (model, seed), predicted in counts.items():
        compared.add(
            model=model, seed=seed, split="test", samples=IMAGES[: len(true)], groups=groups[: len(true)],
            scores={name: np.full(len(true), 0.5) for name in METRICS},
            counts={"n_true": true, "n_predicted": np.asarray(predicted)},
        )  # fmt: skip
    table = pd.DataFrame(compared.summarize(bootstrap=bootstrap, seed=3))
    return table[table["metric"] == COUNT_DIFFERENCE].set_index("model"), table


def test_the_error_is_that_of_all_objects_together_and_not_a_mean_over_images():
    found, _ = compare({("u", 1): [10, 20, 30, 40, 10, 22]})
    row = found.loc["u"]
    assert (row["n_true"], row["n_predicted"]) == (120, 132)
    assert row["value"] == pytest.approx(12 / 120)
    assert row["ci_low"] < row["value"] < row["ci_high"]
    assert (row["against"], row["n"], row["n_groups"], row["n_seeds"]) == ("", 6, 6, 1)


def test_objects_that_are_lost_make_a_negative_error():
    assert compare({("u", 1): TRUE // 5 * 4})[0].loc["u", "value"] == pytest.approx(-0.2)


def test_several_seeds_count_as_their_mean_and_widen_the_interval():
    fewer, more = TRUE // 5 * 4, TRUE // 5 * 6
    row = compare({("u", 1): fewer, ("u", 2): more})[0].loc["u"]
    assert (row["n_seeds"], row["n_predicted"], row["value"]) == (2, 120, 0)
    # Every image of a seed is wrong by the same share, so that only the draw of seeds matters.
    assert (row["ci_low"], row["ci_high"]) == (pytest.approx(-0.2), pytest.approx(0.2))


def test_without_annotated_objects_there_is_no_error_in_percent():
    row = compare({("u", 1): [1, 2, 3]}, true=np.zeros(3, dtype=int))[0].loc["u"]
    assert (row["n_true"], row["n_predicted"], row["n"]) == (0, 6, 0)
    assert np.isnan(row["value"])


def test_one_image_has_counts_and_no_interval():
    row = compare({("u", 1): [12]}, true=np.array([10]))[0].loc["u"]
    assert row["value"] == pytest.approx(0.2)
    assert np.isnan(row["ci_low"])


def test_images_of_a_group_are_drawn_together():
    predicted = [20, 40, 60, 40, 5, 15]  # twice too many in the first well
    wells = ("w1", "w1", "w1", "w2", "w2", "w2")
    single = compare({("u", 1): predicted})[0].loc["u"]
    grouped = compare({("u", 1): predicted}, groups=wells)[0].loc["u"]
    assert grouped["n_groups"] == 2
    assert (grouped["ci_low"], grouped["ci_high"]) == (0.0, 1.0)
    assert single["ci_high"] - single["ci_low"] < 1.0


def test_the_rows_of_the_scores_do_not_depend_on_the_counts():
    tables = [compare({("u", 1): counts, ("v", 1): TRUE})[1] for counts in (TRUE, TRUE * 2)]
    first, second = (table[table["metric"] != COUNT_DIFFERENCE] for table in tables)
    pd.testing.assert_frame_equal(first, second)
