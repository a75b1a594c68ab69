"""Models with several seeds: the mean over the seeds is shown, and is not mixed up with averaged predictions."""

from pathlib import Path
from statistics import stdev

import pandas as pd
import pytest

from cellmill.reports import comparison, results, seeds
from cellmill.reports.verdict import read_table
from cellmill.stages.evaluate import METRIC_COLUMNS
from cellmill.stages.report import write_report
from report_example import build_example, make_run

DICE = {("u", 1): 0.7, ("u", 2): 0.8, ("u", 3): 0.9, ("v", 1): 0.85, ("u.mean", 1): 0.95}


def make_metrics():
    rows = [
        (model, seed, "test", "postprocessed", "raw", "dice", "image_mean", dice, dice - 0.01, dice + 0.01, 20, 0)
        for (model, seed), dice in DICE.items()
    ]
    return pd.DataFrame(rows, columns=METRIC_COLUMNS)


def make_comparisons():
    row = {"against": "", "split": "test", "metric": "dice", "n": 20, "n_undefined": 0, "n_groups": 20}
    return pd.DataFrame(
        [
            {"model": "u", "value": 0.8, "ci_low": 0.62, "ci_high": 0.93, "n_seeds": 3, **row},
            {"model": "v", "value": 0.85, "ci_low": 0.84, "ci_high": 0.86, "n_seeds": 1, **row},
        ]
    )


def make_runs():
    runs = [make_run(f"{model}.seed{seed}", model=model, seed=seed, made_from=None) for model, seed in DICE]
    return [results.replace(run, averages="u") if run.model == "u.mean" else run for run in runs]


def test_the_table_starts_with_the_mean_over_the_seeds():
    _, table = comparison.compare_runs(make_runs(), make_metrics(), comparisons=make_comparisons())
    rows = [(row[0].text, row[1].text, row[2].text, row[2].note) for row in table.rows]
    spread = f"{stdev([0.7, 0.8, 0.9]):.3f}"
    assert rows == [
        ("u", "mean of 3", "0.800", f"0.620–0.930, ± {spread}"),
        ("u", "1", "0.700", "0.690–0.710"), ("u", "2", "0.800", "0.790–0.810"), ("u", "3", "0.900", "0.890–0.910"),
        ("v", "1", "0.850", "0.840–0.860"),
        ("u.mean", "averaged", "0.950", "0.940–0.960"),
    ]  # fmt: skip


def test_the_plot_has_one_line_for_each_model_and_shows_its_seeds():
    figures, _ = comparison.compare_runs(make_runs(), make_metrics(), comparisons=make_comparisons())
    svg = str(figures[0].svg)
    labels = [part.partition("</text>")[0].rpartition(">")[2] for part in svg.split('class="row-label"')[1:]]
    assert labels == ["u, mean of 3 seeds", "v", "u.mean (averaged)"]
    assert [f"seed {seed}: {DICE['u', seed]:.3f}" in svg for seed in (1, 2, 3)] == [True, True, True]
    assert "single seeds" in figures[0].caption


def test_without_several_seeds_nothing_is_called_a_mean():
    runs = [run for run in make_runs() if run.model == "v"]
    figures, table = comparison.compare_runs(runs, make_metrics(), comparisons=make_comparisons())
    assert [column.label for column in table.columns] == ["Model", "Dice"]
    assert table.rows[0][1].note == "0.840–0.860"
    assert figures[0].caption == ""


def test_a_mean_without_its_row_in_the_comparisons_has_no_interval():
    runs = [run for run in make_runs() if run.model == "u"]
    empty = make_comparisons().iloc[:0]
    found = seeds.average_seeds(runs, metric="dice", metrics=make_metrics(), comparisons=empty)
    assert (found.number.value, found.number.low) == (pytest.approx(0.8), None)
    assert found.spread == pytest.approx(0.1)
    assert seeds.average_seeds(runs, metric="iou", metrics=make_metrics(), comparisons=empty) is None


def test_a_run_of_averaged_predictions_is_recognised_by_what_it_lacks(tmp_path):
    (tmp_path / "objects.csv").write_text("sample,area_px\n")
    (tmp_path / "counts.csv").write_text("sample,objects\n")
    files = {
        "objects": tmp_path / "objects.csv",
        "counts": tmp_path / "counts.csv",
        "flags": tmp_path / "flags.csv",
        "probabilities": {},
        "segmentation": {},
    }
    history = tmp_path / "history.csv"
    history.write_text("epoch\n1\n")
    summary = tmp_path / "train.json"
    summary.write_text("{}")
    trained = {"history": history, "summary": summary}
    read = results.read_runs(
        [
            {"run": "u.seed1", "model": "u", "seed": 1, **files, **trained},
            {"run": "u.seed2", "model": "u", "seed": 2, **files, **trained},
            {"run": "u.mean", "model": "u.mean", "seed": 1, **files},
            {"run": "v.mean", "model": "v.mean", "seed": 1, **files, **trained},  # a name that the user has chosen
            {"run": "u.other", "model": "u.other", "seed": 1, **files, "apply": "d/u"},
        ]
    )
    assert [run.averages for run in read] == ["", "", "u", "", ""]


def make_seeds(root: Path) -> dict:
    """Turn the two models of the example into two seeds of one: the headline must contain their mean."""
    arguments = build_example(root)
    for number, run in enumerate(arguments["runs"], start=1):
        run |= {"run": f"net.seed{number}", "model": "net", "seed": number}
    names = {"narrow": 1, "wide": 2}
    for table in ("metrics", "scores", "curves", "sizes", "confidence"):
        content = read_table(root / f"{table}.csv")
        content = content.assign(seed=content["model"].map(names), model="net")
        content.to_csv(root / f"{table}.csv", index=False)
    compared = read_table(root / "comparisons.csv")
    alone = compared[(compared["against"] == "") & (compared["model"] == "wide")].assign(model="net", n_seeds=2)
    alone.loc[alone["metric"] == "dice", ["value", "ci_low", "ci_high"]] = [0.783333, 0.6, 0.9]
    alone.loc[alone["metric"] == "ap_kaggle", ["value", "ci_low", "ci_high"]] = [0.483333, 0.3, 0.6]
    alone.loc[alone["metric"] == "count_difference", ["value", "n_predicted"]] = [-0.5, 4.5]
    alone.to_csv(root / "comparisons.csv", index=False)
    return arguments


def test_the_page_of_one_model_with_two_seeds_contains_their_mean(tmp_path):
    arguments = make_seeds(tmp_path)
    write_report(output_path=tmp_path / "report.html", **arguments)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    verdict = text[text.index('<p class="verdict">') : text.index("</p>", text.index('<p class="verdict">'))]
    # Dice by hand: (0.85 + 0.716667) / 2
    assert "<strong>net</strong> was scored on 3 test images (mean of 2 seeds" in verdict
    assert "<strong>0.783</strong>" in verdict
    assert "found <strong>4.5</strong> objects where <strong>9</strong> are annotated" in verdict
    assert "0.850" not in verdict
    assert "mean of 2</td>" in text
    assert seeds.EXPLANATION in text
