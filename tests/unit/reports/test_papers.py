"""The published figures: the files are valid, the remarks on them are correct, and the report chapter shows them."""

import csv
import itertools
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from cellmill.config.report import Report
from cellmill.evaluation.paper_scores import ALL_PIXEL_METRICS, BASELINE, CONSTANT, GREY, HALF, SECTION_AGGREGATIONS
from cellmill.metrics.instance import INSTANCE_METRICS
from cellmill.metrics.isbi2012 import ISBI2012_METRICS
from cellmill.metrics.pixel import SWEEP_METRICS
from cellmill.planning.layout import RESULTS
from cellmill.planning.make import make_plan
from cellmill.planning.settings import job_settings
from cellmill.reports import papers, published
from cellmill.reports.published import PAPERS_DIR, WAYS, load_paper
from cellmill.reports.results import Origin, RunFiles
from cellmill.stages.evaluate import METRIC_COLUMNS
from project import ROOT
from report_example import make_run

NAMES = ("stemnet", "clstm_unet", "isbi2012", "sartorius", "simcep")
# The named systems of the five papers
PRESETS = {
    "stemnet1", "stemnet5", "clstm_unet_text", "clstm_unet_code", "unet_isbi", "segnet_vgg16", "sartorius_unet",
    "sartorius_hot", "sartorius_hot_weighted", "sartorius_hot_flow", "sartorius_hot_drop", "fcrn_a",
}  # fmt: skip
HALF_DIGIT = 0.5


def values_of(paper, table=0):
    return {
        system.label: {key: value.published for key, value in system.values.items()}
        for system in load_paper(paper).tables[table].systems
    }


def within(digits):
    """Return a function from a value to the interval (low, high) of numbers that are printed the same."""
    return lambda value: (value - HALF_DIGIT * 10**-digits, value + HALF_DIGIT * 10**-digits)


# ---- the files ---------------------------------------------------------------------------------------------------


def test_config_names_the_files_that_are_there():
    choices = Report.model_json_schema()["properties"]["paper"]["anyOf"][0]["enum"]
    assert sorted(choices) == sorted(NAMES) == sorted(path.stem for path in PAPERS_DIR.glob("*.yaml"))
    assert Report().paper is None


def test_every_file_counts_in_the_digest_of_the_page():
    folder = (ROOT / "workflow/cellmill/reports").resolve()
    assert {(folder / path).resolve() for path in published.DATA_FILES} == set(PAPERS_DIR.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_file_is_sound(name):
    paper = load_paper(name)
    assert paper.remarks
    for table in paper.tables:
        for measure in table.measures.values():
            known = {*ALL_PIXEL_METRICS, *SWEEP_METRICS, *INSTANCE_METRICS, *ISBI2012_METRICS, "seg", ""}
            assert measure.metric in known
            assert measure.aggregation in {"", "pooled", *SECTION_AGGREGATIONS}
        for system in table.systems:
            assert {system.preset} - {""} <= PRESETS
            assert all(0 < value.published < 1 for value in system.values.values())
            assert all(table.measures[key].digits >= 3 for key in system.values)


def test_every_named_system_stands_in_a_table():
    found = {system.preset for name in NAMES for table in load_paper(name).tables for system in table.systems}
    assert found - {""} == PRESETS


def test_files_and_evaluation_agree_on_their_words():
    assert published.STAGES == ("thresholded", "postprocessed", HALF)
    assert papers.BASELINE_STAGE == BASELINE
    models = {baseline.model for baseline in load_paper("isbi2012").tables[0].baselines}
    assert models == {CONSTANT, GREY}


def test_remarks_hold_no_figure_that_is_printed_otherwise():
    # 0.06 and .06 are the same number, but a text search does not find one for the other.
    for name in NAMES:
        text = (PAPERS_DIR / f"{name}.yaml").read_text(encoding="utf-8")
        assert not re.search(r"(?<![\d\w])\.\d", text), name


# ---- the loader --------------------------------------------------------------------------------------------------

SMALL = {
    "title": "T", "citation": "C", "remarks": ["R"],
    "tables": [{
        "name": "results", "caption": "Cap",
        "measures": {"a": {"label": "A", "metric": "dice", "aggregation": "pooled", "remark": "said of A"}},
        "systems": [{"label": "S", "preset": "p", "values": {"a": 0.5}}],
    }],
}  # fmt: skip


def changed(path, value):
    """Return SMALL with another value at a path; None removes the key."""
    content = yaml.safe_load(yaml.safe_dump(SMALL))
    place = content
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return content


def load_changed(folder, content):
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (folder / "x.yaml").write_text(text)
    return load_paper("x", papers_dir=folder)


TABLE = ("tables", 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", r"x\.yaml: expected YAML, found invalid syntax"),
        ("- 1", r"x\.yaml: expected title, citation, remarks, tables, found \[1\]"),
        (changed(("titel",), "T"), r"x\.yaml: expected one of title, .*, found 'titel'"),
        (changed(("title",), None), r"x\.yaml: expected the key title, found \['citation'"),
        (changed(("title",), 5), r"x\.yaml\.title: expected text, found 5"),
        (changed(("remarks",), "R"), r"x\.yaml\.remarks: expected a list, found 'R'"),
        (changed((*TABLE, "measures", "a", "digits"), "two"), r"tables\[0\]\.measures\.a\.digits: expected a whole number"),
        (changed((*TABLE, "measures", "a", "aggregation"), None), r"measures\.a: expected metric and aggregation together"),
        (changed((*TABLE, "measures", "a", "stage"), "end"), r"measures\.a\.stage: expected one of thresholded, .*found 'end'"),
        (changed((*TABLE, "systems", 0, "values", "b"), 0.1), r"systems\[0\]\.values: expected one of a, found 'b'"),
        (changed((*TABLE, "systems", 0, "values", "a"), "high"), r"values\.a\.published: expected a number, found 'high'"),
        (changed((*TABLE, "systems", 0, "values", "a"), True), r"values\.a\.published: expected a number, found True"),
        (changed((*TABLE, "systems", 0, "values", "a"), {"read_as": 1}), r"values\.a: expected the key published"),
        (changed((*TABLE, "systems", 0, "how"), "by hand"), r"systems\[0\]\.how: expected one of any, trained"),
        (changed((*TABLE, "systems"), [{"label": "S"}, {"label": "S"}]), r"expected one entry per system, found 'S' twice"),
    ],
)  # fmt: skip
def test_mistakes_of_a_file_are_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        load_changed(tmp_path, content)


def test_missing_file_is_named_with_those_that_are_there():
    with pytest.raises(
        ValueError, match=r"nobody\.yaml: expected the published scores of a paper, found no file\. .*isbi2012"
    ):
        load_paper("nobody")


# ---- the arithmetic of the remarks -------------------------------------------------------------------------------


def prevalences(f1, tpr, fpr):
    """Return the range of foreground shares that pooled F1, TPR and FPR imply, over all numbers printed the same."""
    found = []
    for f, t, p in itertools.product(within(2)(f1), within(2)(tpr), within(6)(fpr)):
        # F1 = 2 t x / (t x + p (1 - x) + x), x the share of foreground
        odds = p * f / (2 * t - f * t - f)
        found.append(odds / (1 + odds))
    return min(found), max(found)


def test_columns_of_stemnet_cannot_be_of_the_same_pixels():
    one, five = (prevalences(row["f1_pooled"], row["tpr"], row["fpr"]) for row in values_of("stemnet").values())
    assert [round(100 * share, 3) for share in (*one, *five)] == [0.083, 0.104, 0.047, 0.056]
    assert five[1] < one[0]


def test_dice_of_sartorius_is_impossible_and_what_it_can_mean():
    off = {}
    for label, row in values_of("sartorius").items():
        assert row["dice"] < row["iou"]
        [value] = [s.values["dice"] for s in load_paper("sartorius").tables[0].systems if s.label == label]
        assert value.read_as == pytest.approx(2 * row["iou"] / (1 + row["iou"]), abs=5e-3)
        # If |A n B| / N is printed, |A u B| / N is that divided by the IoU, and the accuracy is 1 - (union - common).
        off[label] = abs(1 - row["dice"] * (1 / row["iou"] - 1) - row["accuracy"])
    assert max(off["U-Net"], off["Hot U-Net"]) < 0.0015
    assert max(off["Hot U-Net Weighted"], off["Hot-Drop U-Net"]) < 0.0085
    assert off["Hot-Flow U-Net"] == pytest.approx(0.03, abs=1e-3)


def test_dice_of_the_one_image_of_sartorius_is_read_the_same_way():
    for system in load_paper("sartorius").tables[1].systems:
        iou = system.values["iou"].published
        assert system.values["dice"].read_as == pytest.approx(2 * iou / (1 + iou), abs=5e-3)


def test_class_means_do_not_explain_the_iou_of_sartorius():
    # The IoU of the background is at most the accuracy, so that the mean of both IoUs is at most (Dice + accuracy) / 2.
    row = values_of("sartorius")["U-Net"]
    assert (row["dice"] + row["accuracy"]) / 2 < row["iou"]


@pytest.mark.parametrize("label", ["Before fine-tuning", "After fine-tuning"])
def test_rows_of_simcep_agree_with_themselves_at_a_tenth_of_foreground(label):
    row = values_of("simcep")[label]
    share = 0.1
    tp, fn = share * row["recall"], share * (1 - row["recall"])
    fp = (1 - share) * (1 - row["specificity"])
    tn = (1 - share) * row["specificity"]
    mcc = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert tp + tn == pytest.approx(row["accuracy"], abs=0.0065)
    assert tp / (tp + fp) == pytest.approx(row["precision"], abs=0.015)
    assert 2 * tp / (2 * tp + fp + fn) == pytest.approx(row["f_score"], abs=0.007)
    assert mcc == pytest.approx(row["mcc"], abs=0.01)


def test_baselines_of_isbi_say_which_rows_have_learnt_nothing():
    rows = {label: row["accuracy_train"] for label, row in values_of("isbi2012").items()}
    segnet = [value for label, value in rows.items() if label.startswith("SegNet")]
    assert max(segnet) < 0.829
    assert min(segnet) == rows["SegNet, SGD 0.0001"] == pytest.approx(0.7804, abs=0.002)
    assert max(rows, key=rows.get) == "U-Net, Adam 0.0001"


# ---- the chapter -------------------------------------------------------------------------------------------------


def run(model, preset, *, seed=7, how="trained", settings=None, overrides=None):
    made_from = {"preset": preset, "settings": settings or {}, "overrides": overrides or {}, "how": how}
    return make_run(model, model=model, seed=seed, made_from=made_from)


def metrics_of(tmp_path, *rows):
    """Write metrics.csv from rows of model, seed, split, stage, geometry, metric, aggregation, value, low, high, n."""
    with (tmp_path / "metrics.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([METRIC_COLUMNS, *((*row, 0) for row in rows)])
    return pd.read_csv(tmp_path / "metrics.csv", dtype={"model": str})


def dice(model, value, *, seed=7, stage="thresholded", geometry="raw", ends=("", "")):
    return (model, seed, "test", stage, geometry, "dice", "pooled", value, *ends, 4)


def rows_of(chapter, table=0):
    return [
        {column.label: cell for column, cell in zip(papers.COLUMNS, row, strict=True)}
        for row in chapter["tables"][table].rows
    ]


def small(tmp_path, **changes):
    content = yaml.safe_load(yaml.safe_dump(SMALL))
    content["tables"][0]["systems"][0] |= changes
    return load_changed(tmp_path, content)


def test_run_stands_beside_the_system_of_its_preset_whatever_its_name(tmp_path):
    metrics = metrics_of(tmp_path, dice("mine", 0.75, ends=(0.7, 0.8)))
    chapter = papers.compare_with_paper(small(tmp_path), runs=[run("mine", "p"), run("p", "q")], metrics=metrics)
    first, second = rows_of(chapter)
    assert (first["Paper"].text, first["Here"].text, first["Here"].note) == ("0.500", "0.750", "0.700–0.800")
    assert (first["Difference"].text, first["Images"].value) == ("+0.250", 4)
    assert first["System"].note == "mine"
    assert (second["System"].text, second["Paper"].text, second["Remark"].text) == ("p", "–", "not in the paper")
    assert second["Here"].text == "not measured"
    assert second["System"].note == "preset q"


def test_system_without_a_run_is_shown_as_not_run(tmp_path):
    chapter = papers.compare_with_paper(small(tmp_path), runs=[], metrics=metrics_of(tmp_path))
    [row] = rows_of(chapter)
    assert (row["Paper"].text, row["Here"].text, row["Difference"].text) == ("0.500", "not run", "–")
    assert chapter["sentence"] == "0 of the 1 system of the paper are measured here."


def test_system_that_nobody_published_and_nobody_ran_has_a_row(tmp_path):
    chapter = papers.compare_with_paper(small(tmp_path, values={}), runs=[], metrics=metrics_of(tmp_path))
    assert [row["Here"].text for row in rows_of(chapter)] == ["not run"]


def test_several_seeds_are_a_mean_between_the_lowest_and_the_highest(tmp_path):
    metrics = metrics_of(tmp_path, *(dice("mine", value, seed=seed) for seed, value in ((1, 0.6), (2, 0.9), (3, 0.75))))
    runs = [run("mine", "p", seed=seed) for seed in (1, 2, 3)]
    [row] = rows_of(papers.compare_with_paper(small(tmp_path), runs=runs, metrics=metrics))
    assert row["Here"].value == pytest.approx(np.mean([0.6, 0.9, 0.75]))
    assert row["Here"].note == "0.600–0.900, 3 seeds"
    assert row["Difference"].value == pytest.approx(0.25)


def test_folds_of_one_seed_are_counted_once(tmp_path):
    metrics = metrics_of(tmp_path, dice("mine", 0.75, ends=(0.7, 0.8)))
    runs = [replace(run("mine", "p"), name=f"mine.fold{fold}") for fold in range(3)]
    [row] = rows_of(papers.compare_with_paper(small(tmp_path), runs=runs, metrics=metrics))
    assert row["Here"].note == "0.700–0.800"


def test_changes_of_the_preset_are_said(tmp_path):
    system = small(tmp_path, settings={"train.optimiser.name": "sgd"})
    made = run(
        "mine", "p", settings={"train": {"optimiser": {"name": "sgd"}}, "width": 0.25},
        overrides={"width": 0.25, "train": {"epochs": 2, "optimiser": {"name": "sgd"}}},
    )  # fmt: skip
    [row] = rows_of(papers.compare_with_paper(system, runs=[made], metrics=metrics_of(tmp_path)))
    assert row["System"].note == "mine: width 0.25, train.epochs 2"


def test_a_narrower_network_is_called_a_small_variant(tmp_path):
    for width, said in ((0.25, True), (1.0, False)):
        made = run("mine", "p", settings={"width": width})
        chapter = papers.compare_with_paper(small(tmp_path), runs=[made], metrics=metrics_of(tmp_path))
        assert ("small variants" in chapter["sentence"]) is said
        assert ("not reproductions" in chapter["sentence"]) is said


def test_changes_are_said_in_the_first_row_of_a_run_and_no_other():
    made = run("mine", "stemnet1", overrides={"train": {"epochs": 2}})
    chapter = papers.compare_with_paper(load_paper("stemnet"), runs=[made], metrics=pd.DataFrame())
    notes = [row["System"].note for row in rows_of(chapter) if row["System"].note]
    assert notes == ["mine: train.epochs 2", *["mine"] * 4]


@pytest.mark.parametrize(
    ("settings", "is_found"), [({"name": "sgd", "rate": 0.01}, True), ({"name": "adam", "rate": 0.01}, False), ({}, False)]
)  # fmt: skip
def test_settings_tell_systems_of_one_preset_apart(tmp_path, settings, is_found):
    system = small(tmp_path, settings={"train.optimiser.name": "sgd", "train.optimiser.rate": 0.01})
    made = run("mine", "p", settings={"train": {"optimiser": settings}})
    first = rows_of(papers.compare_with_paper(system, runs=[made], metrics=metrics_of(tmp_path)))[0]
    assert (first["Here"].text == "not measured") == is_found


@pytest.mark.parametrize("how", [way for way in WAYS if way != "any"])
def test_applied_and_fine_tuned_models_are_told_apart(tmp_path, how):
    metrics = metrics_of(tmp_path, dice("mine", 0.75))
    chapter = papers.compare_with_paper(
        small(tmp_path, how="applied"), runs=[run("mine", "p", how=how)], metrics=metrics
    )
    assert (rows_of(chapter)[0]["Here"].text == "0.750") == (how == "applied")


def test_run_of_an_unknown_origin_belongs_to_no_system(tmp_path):
    unknown = make_run("old", model="old", seed=7, made_from=None)
    for runs in ([unknown], [run("old", "", how="applied")]):
        first, second = rows_of(papers.compare_with_paper(small(tmp_path), runs=runs, metrics=metrics_of(tmp_path)))
        assert (first["Here"].text, second["Remark"].text) == ("not run", "not in the paper")


def test_difference_is_to_what_an_impossible_figure_can_mean(tmp_path):
    paper = small(tmp_path, values={"a": {"published": 0.068, "read_as": 0.69, "remark": "impossible"}})
    [row] = rows_of(
        papers.compare_with_paper(paper, runs=[run("m", "p")], metrics=metrics_of(tmp_path, dice("m", 0.6)))
    )
    assert (row["Paper"].text, row["Paper"].note) == ("0.068", "read as 0.690")
    assert (row["Difference"].text, row["Remark"].text) == ("−0.090", "impossible")


def test_fitted_geometry_is_taken_where_there_is_one(tmp_path):
    raw, fitted = dice("m", 0.6), dice("m", 0.7, geometry="fitted")
    for rows, value in (((raw,), 0.6), ((raw, fitted), 0.7)):
        metrics = metrics_of(tmp_path, *rows)
        [row] = rows_of(papers.compare_with_paper(small(tmp_path), runs=[run("m", "p")], metrics=metrics))
        assert row["Here"].value == value


def test_stage_of_a_system_comes_before_that_of_the_score(tmp_path):
    metrics = metrics_of(tmp_path, dice("m", 0.6), dice("m", 0.8, stage="postprocessed"))
    paper = small(tmp_path, stage="postprocessed")
    [row] = rows_of(papers.compare_with_paper(paper, runs=[run("m", "p")], metrics=metrics))
    assert row["Here"].value == 0.8


def test_undefined_score_is_not_measured(tmp_path):
    metrics = metrics_of(tmp_path, dice("m", ""))
    [row] = rows_of(papers.compare_with_paper(small(tmp_path), runs=[run("m", "p")], metrics=metrics))
    assert row["Here"].text == "not measured"


def test_small_rates_keep_their_digits(tmp_path):
    rows = [(*dice("m", 0)[:5], "fpr", "pooled", 0.000215, 0.0002, 0.00023, 4)]
    chapter = papers.compare_with_paper(
        load_paper("stemnet"), runs=[run("m", "stemnet1")], metrics=metrics_of(tmp_path, *rows)
    )
    row = next(row for row in rows_of(chapter) if row["Score"].text.startswith("Background") and row["Here"].value)
    assert (row["Paper"].text, row["Here"].text, row["Difference"].text) == ("0.000157", "0.000215", "+0.000058")


def test_baselines_stand_below_the_systems(tmp_path):
    rows = [(CONSTANT, 0, "test", BASELINE, "raw", "accuracy", "pooled", 0.78, 0.7, 0.8, 6),
            (CONSTANT, 0, "test", BASELINE, "raw", "v_rand", "best_per_stack", 0.077, 0.07, 0.08, 6)]  # fmt: skip
    chapter = papers.compare_with_paper(load_paper("isbi2012"), runs=[], metrics=metrics_of(tmp_path, *rows))
    assert [(row["System"].text, row["Here"].text) for row in rows_of(chapter)[-2:]] == [
        ("All foreground", "0.780"), ("All foreground", "0.077"),
    ]  # fmt: skip


def test_what_is_said_of_a_score_is_said_below_the_table(tmp_path):
    chapter = papers.compare_with_paper(small(tmp_path), runs=[], metrics=metrics_of(tmp_path))
    assert chapter["remarks"] == ["R", "A: said of A."]


# ---- description of the runs for the report ----------------------------------------------------------------------


def plan_of(tmp_path, **report):
    sections = {
        "made": {
            "simulate": {"images": 8, "size": [64, 64]}, "report": report,
            "models": [{"preset": "sartorius_unet", "name": "small", "width": 0.25}, "classical"],
        },
        "other": {
            "simulate": {"images": 8, "size": [64, 64]}, "report": report,
            "models": [
                {"apply": "made/small", "name": "before"},
                {"preset": "sartorius_unet", "name": "after", "init_from": "made/small", "width": 0.25},
            ],
        },
    }  # fmt: skip
    return make_plan({"datasets": sections}, presets_dir=ROOT / "resources/models", cache_dir=tmp_path)


def test_report_is_told_what_its_runs_were_made_from(tmp_path):
    plan = plan_of(tmp_path, paper="sartorius")
    settings = job_settings(plan, "report", dataset="other")
    assert settings["paper"] == "sartorius"
    made = {one["run"]: one["made_from"] for one in settings["runs"]}
    assert {name: (one["preset"], one["how"]) for name, one in made.items()} == {
        "before": ("sartorius_unet", "applied"), "after": ("sartorius_unet", "fine_tuned"),
    }  # fmt: skip
    assert made["before"]["overrides"] == {"width": 0.25}
    assert made["before"]["settings"]["train"]["optimiser"]["learning_rate"] == 0.01
    small_run, _ = job_settings(plan, "report", dataset="made")["runs"]
    assert small_run["made_from"]["how"] == "trained"


def test_settings_of_a_run_are_those_that_the_report_reads(tmp_path):
    plan = plan_of(tmp_path, paper="sartorius")
    runs = [run for name in ("made", "other") for run in job_settings(plan, "report", dataset=name)["runs"]]
    # Only a run with a shipped model, or of masks made elsewhere, has these.
    others = {"shipped", "masks", "role"}
    assert set().union(*runs) == (RunFiles.__required_keys__ | RunFiles.__optional_keys__) - others
    assert set.intersection(*map(set, runs)) >= RunFiles.__required_keys__
    assert all(run["made_from"].keys() == Origin.__annotations__.keys() for run in runs)


def test_report_without_a_paper_is_told_nothing_of_the_presets(tmp_path):
    settings = job_settings(plan_of(tmp_path), "report", dataset="made")
    assert settings["paper"] is None
    assert "made_from" not in settings["runs"][0]
    assert settings["gallery"].keys().isdisjoint({"paper", "title"})
    assert settings["runs"][0]["objects"] == f"{RESULTS}/made/small/objects.csv"
