"""Lengths of trainings in the report: steps and budgets in tables, curves over what the length was set in."""

import pytest
from test_seeds import make_runs

from cellmill.reports import comparison, results

ROWS = [
    {"epoch": float(k), "step": 220.0 * k, "train_loss": 1 / k, "validation_loss": 1 / k, "learning_rate": 0.01}
    for k in (1, 2, 3)
]


def run_of(*, steps_from, minutes=None, index=0):
    summary = {
        "steps": 660, "steps_from": steps_from, "steps_done": 660, "epochs_done": 3, "best_epoch": 2, "seconds": 840.0,
        "device": "cpu", "settings": {"train": {"minutes": minutes}},
    }  # fmt: skip
    return results.replace(make_runs()[index], history=ROWS, summary=summary)


def cells_of(runs):
    table = comparison.tabulate_costs(runs, jobs=[], megapixels=1.0)
    return [dict(zip((column.label for column in table.columns), row, strict=True)) for row in table.rows]


def test_a_budget_stands_beside_the_time_that_was_taken():
    timed, plain = cells_of([run_of(steps_from="minutes: 15", minutes=15.0), run_of(steps_from="epochs: 3", index=1)])
    assert [timed[name].text for name in ("Steps", "Training time", "Budget")] == ["660", "14 min 0 s", "15 min 0 s"]
    assert (plain["Budget"].text, plain["Budget"].value) == (timed["Peak memory, MB"].text, None)


def test_without_budgets_there_is_no_column_for_them():
    [plain] = cells_of([run_of(steps_from="epochs: 3")])
    assert "Budget" not in plain
    assert plain["Steps"].text == "660"


@pytest.mark.parametrize(
    ("steps_from", "axis", "chosen"),
    [("epochs: 3", "epoch", 2), ("steps: 660", "step", 440), ("minutes: 15", "step", 440), (None, "epoch", 2)],
)
def test_curves_of_a_number_of_steps_are_drawn_over_steps(steps_from, axis, chosen):
    loss = comparison._training_curves([run_of(steps_from=steps_from)])[0]
    assert f"<title>{axis} {chosen}</title>" in str(loss.svg)


def test_curves_of_seeds_with_different_lengths_are_drawn_over_epochs():
    runs = [run_of(steps_from="minutes: 15"), run_of(steps_from="epochs: 3", index=1)]
    assert ">epoch<" in str(comparison._training_curves(runs)[0].svg)


def test_the_facts_of_a_model_contain_its_steps_and_its_budget():
    facts = dict(comparison._training_facts(run_of(steps_from="minutes: 15", minutes=15.0).summary))
    assert (facts["steps"], facts["budget"]) == ("660", "15 min 0 s")
    assert "budget" not in dict(comparison._training_facts(run_of(steps_from="epochs: 3").summary))
