"""The table of systems: sizes counted independently, and no score that was not measured."""

import datetime

import pandas as pd
import pytest
import yaml

from cellmill.reports.published import load_paper
from cellmill.stages.evaluate import METRIC_COLUMNS
from generate import systems
from generate.systems import (
    COMMON_KEY,
    HEADLINES,
    SIDE_PX,
    main,
    measure_size,
    read_scores,
    score_study,
    systems_of,
    systems_page,
)
from project import ROOT

STUDIES = ROOT / "resources" / "studies"
# Counted by hand from the papers' tables of layers.
PARAMETERS = {
    "stemnet1": 305_442, "stemnet5": 307_042, "clstm_unet_text": 128_169_090, "clstm_unet_code": 74_606_531,
    "unet_isbi": 31_031_685, "segnet_vgg16": 29_443_010, "sartorius_unet": 7_765_409, "sartorius_hot": 7_766_273,
    "sartorius_hot_weighted": 7_766_273, "sartorius_hot_flow": 7_766_273, "sartorius_hot_drop": 7_766_273,
    "fcrn_a": 1_365_282,
}  # fmt: skip


def rows_of(page):
    lines = [line for line in page.splitlines() if line.startswith("| [")]
    return {
        cells[0].split("]")[0][1:]: cells
        for cells in ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    }


def write_metrics(folder, rows):
    folder.mkdir(parents=True)
    blank = dict.fromkeys(METRIC_COLUMNS, 0)
    wanted = {"split": "test", "stage": "thresholded", "geometry": "raw", "seed": 7, "n": 3}
    pd.DataFrame([blank | wanted | row for row in rows]).to_csv(folder / "metrics.csv", index=False)


def test_the_table_has_the_twelve_systems_with_their_parameters():
    rows = rows_of(systems_page())
    assert {name: int(cells[1].replace(",", "")) for name, cells in rows.items()} == PARAMETERS


def test_cost_is_what_the_layers_of_fcrn_sum_up_to():
    # 3x3 convolutions: (in, out, share), at a resolution of one pixel in `share`; then the 1x1 one.
    layers = [(1, 32, 1), (32, 64, 4), (64, 128, 16), (128, 512, 64), (512, 128, 16), (128, 64, 4), (64, 32, 1)]
    each_pixel = sum(9 * inputs * outputs / share for inputs, outputs, share in layers) + 32 * 2
    size = measure_size("fcrn_a")
    assert size.multiplications == each_pixel * SIDE_PX**2
    assert size.receptive_field_px == 54


def test_every_paper_has_a_headline_of_its_first_table():
    for name, (published, ours) in HEADLINES.items():
        paper = load_paper(name)
        assert {published, *ours} <= set(paper.tables[0].measures)
        assert all(paper.tables[0].measures[key].metric for key in ours)
        assert systems_of(paper)


def test_a_system_without_a_run_says_so(monkeypatch, tmp_path):
    (tmp_path / "scores.yaml").write_text("# head\n[]\n")
    monkeypatch.setattr(systems, "read_scores", lambda: read_scores(tmp_path / "scores.yaml"))
    for cells in rows_of(systems_page()).values():
        assert cells[5:] == ["not run", "not run"]


def test_scores_of_a_study_are_those_of_its_metrics(tmp_path):
    rows = [
        {"model": "before", "metric": "mcc", "aggregation": "pooled", "value": 0.41},
        {"model": "after", "metric": "mcc", "aggregation": "pooled", "value": 0.731234},
        {"model": "after", "metric": "mcc", "aggregation": "image_mean", "value": 0.1},
        {"model": "after", "metric": "mcc", "aggregation": "pooled", "value": 0.2, "split": "train"},
    ]
    write_metrics(tmp_path / "nuclei", rows)
    [entry] = score_study(STUDIES / "simcep.yaml", results_dir=tmp_path, hardware="an abacus", minutes=3)
    assert (entry["study"], entry["paper"], entry["hardware"], entry["minutes"]) == ("simcep", "simcep", "an abacus", 3)
    assert entry["date"] == datetime.date.today()
    assert {name: run["scores"] for name, run in entry["runs"].items()} == {
        "before": {"mcc": 0.41}, "after": {"mcc": 0.7312}, "real_only": {},
    }  # fmt: skip
    # An applied model has the preset that it was trained with.
    assert entry["runs"]["before"]["preset"] == "fcrn_a"


def test_the_command_replaces_the_earlier_run_of_the_same_study_and_machine(monkeypatch, tmp_path):
    path = tmp_path / "scores.yaml"
    other = {"study": "simcep", "paper": "simcep", "dataset": "nuclei", "date": datetime.date(2020, 1, 1),
             "hardware": "a GPU", "minutes": 1, "runs": {}}  # fmt: skip
    path.write_text("# head\n" + yaml.safe_dump([other, other | {"hardware": "an abacus"}]))
    monkeypatch.setattr(systems, "SCORES_PATH", path)
    monkeypatch.setattr(systems, "read_scores", lambda: read_scores(path))
    write_metrics(
        tmp_path / "results/nuclei", [{"model": "after", "metric": "mcc", "aggregation": "pooled", "value": 0.5}]
    )
    main(
        [
            str(STUDIES / "simcep.yaml"),
            "--results",
            str(tmp_path / "results"),
            "--hardware",
            "an abacus",
            "--minutes",
            "2",
        ]
    )
    assert path.read_text().startswith("# head\n")
    assert [(entry["hardware"], entry["minutes"]) for entry in read_scores(path)] == [("a GPU", 1), ("an abacus", 2)]
    row = rows_of(systems_page())["fcrn_a"]
    assert row[5].startswith("MCC 0.500 (after, width 1, an abacus, ")
    assert row[6] == "not run"


def test_a_study_that_was_not_run_is_a_mistake(tmp_path):
    with pytest.raises(
        ValueError, match=r"simcep\.yaml: expected the metrics of a dataset .* found none\. Run the study first"
    ):
        score_study(STUDIES / "simcep.yaml", results_dir=tmp_path, hardware="none", minutes=0)


def test_measured_scores_are_of_runs_of_the_studies_and_of_known_measures():
    for entry in read_scores():
        config = yaml.safe_load((STUDIES / f"{entry['study']}.yaml").read_text())
        names = {model if isinstance(model, str) else model.get("name", model.get("preset"))
                 for model in config["datasets"][entry["dataset"]]["models"]}  # fmt: skip
        assert set(entry["runs"]) <= names
        for run in entry["runs"].values():
            assert set(run["scores"]) <= {*load_paper(entry["paper"]).tables[0].measures, COMMON_KEY}
            assert run["preset"] in PARAMETERS
