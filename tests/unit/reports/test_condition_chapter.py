"""What the report says about an experiment, with one, two and three replicates, and its maps of plates."""

import re
from html import unescape

import pytest

from cellmill.experiment.replicates import compare_conditions
from cellmill.experiment.tables import ConditionRow, ReplicateRow, write_rows
from cellmill.reports.conditions import describe_conditions, name_feature
from cellmill.reports.plates import draw_plate
from cellmill.stages.report import write_report
from report_example import build_example

STYLES = {"wide": "s0", "narrow": "s1"}


def replicate(value, condition="DMSO", name="A01", *, feature="objects_per_image", unit="objects", plate="", well=None):
    return ReplicateRow(
        "wide", feature, unit, condition, f"{plate}/{name}" if plate else name, plate, name if well is None else well, 2, 30,
        value,
    )  # fmt: skip


def rows_of(values, **facts):
    """Return a replicate for each value: condition -> values, in the rows A, B, … of a plate."""
    return [
        replicate(value, condition, f"{'ABCDEFGH'[row]}{column:02d}", **facts)
        for row, (condition, of_condition) in enumerate(values.items())
        for column, value in enumerate(of_condition, start=1)
    ]


def experiment_of(folder, replicates, *, control="DMSO", **changes):
    conditions = list(dict.fromkeys(row.condition for row in replicates))
    write_rows(folder / "replicates.csv", replicates, ReplicateRow)
    write_rows(
        folder / "conditions.csv", compare_conditions(replicates, conditions=conditions, control=control), ConditionRow
    )
    return {
        "conditions_path": folder / "conditions.csv", "replicates_path": folder / "replicates.csv", "column": "treatment",
        "replicate": ["well"], "control": control, "learned": 0, "left_out": 0, **changes,
    }  # fmt: skip


def describe(folder, values, **changes):
    replicates = values if isinstance(values, list) else rows_of(values)
    return describe_conditions(experiment_of(folder, replicates, **changes), styles=STYLES)


def plain(markup):
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", str(markup)))).replace("\N{NO-BREAK SPACE}", " ")


# ---- the first sentence ---------------------------------------------------------------------------------------


def test_a_sure_effect_is_described_with_its_interval_and_its_replicates(tmp_path):
    found = describe(tmp_path, {"DMSO": [40, 42, 44], "drug": [20, 22, 24], "mild": [41, 40, 45]})
    # difference -20, standard error sqrt(4/3 + 4/3), t(0.975, 4) = 2.776: ± 4.534; p = 2 P(T4 > 12.25) = 0.00026
    assert plain(found["sentence"]) == (
        "1 of 2 comparisons with the control DMSO has a corrected p below 0.05. The clearest is objects per image: 22 where "
        "treatment is drug, 42 where it is DMSO; difference −20 (−47.6 %; 95 % confidence interval −24.53 to −15.47; corrected "
        "p 0.00051), from 3 replicates each."
    )
    assert found["notes"] == []


def test_what_is_not_sure_is_no_proof_of_no_effect(tmp_path):
    said = plain(describe(tmp_path, {"DMSO": [40, 42, 44], "drug": [38, 43, 47]})["sentence"])
    assert said.startswith(
        "The comparison with the control DMSO has a corrected p of 0.05 or more. It is objects per image:"
    )
    assert said.endswith(
        "This does not show that there is no effect: the intervals contain the differences that remain possible."
    )
    many = plain(describe(tmp_path, {"DMSO": [40, 42, 44], "a": [38, 43, 47], "b": [38, 42, 47]})["sentence"])
    assert many.startswith("None of 2 comparisons with the control DMSO has a corrected p below 0.05. The clearest is")


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (
            {"DMSO": [40, 42, 44], "drug": [20]},
            "drug has 1 replicate only, which gives no interval and no p value: its difference from another one may be "
            "that of any two replicates.",
        ),
        (
            {"DMSO": [40], "drug": [20]},
            "DMSO, drug have 1 replicate only, which gives no interval and no p value: its difference from another one may "
            "be that of any two replicates.",
        ),
        (
            {"DMSO": [40, 42, 44], "drug": [20, 23]},
            "drug has 2 replicates only, which give very wide intervals; a third one would narrow them most.",
        ),
    ],
)
def test_few_replicates_are_named_with_what_follows(tmp_path, values, note):
    assert describe(tmp_path, values)["notes"] == [note]


def test_one_replicate_has_a_difference_and_no_p(tmp_path):
    said = plain(describe(tmp_path, {"DMSO": [40, 42, 44], "drug": [21]})["sentence"])
    assert said == (
        "No comparison with the control DMSO has a p value. The first is objects per image: 21 where treatment is drug, 42 "
        "where it is DMSO; difference −21 (−50.0 %), from 1 and 3 replicates."
    )


def test_equal_replicates_are_said_to_have_no_interval(tmp_path):
    found = describe(tmp_path, {"DMSO": [40, 40], "drug": [40, 40, 40]})
    assert "Where all replicates of a condition are equal, it has no interval: objects per image." in found["notes"]


def test_without_a_control_the_extremes_are_named(tmp_path):
    found = describe(tmp_path, {"DMSO": [40, 42], "drug": [20, 22, 24], "mild": [30, 31, 32]}, control=None)
    assert plain(found["sentence"]) == (
        "3 conditions, from 2 to 3 replicates each. Objects per image: lowest in drug (22) and highest in DMSO (41). No "
        "control is set, so nothing is compared."
    )
    assert len(found["table"].columns) == 6
    assert found["compared"] == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"a": [5], "b": [4]},
            "2 conditions, from 1 replicate each. Objects per image: lowest in b (4) and highest in a (5).",
        ),
        ({"a": [5], "b": [5]}, "2 conditions, from 1 replicate each. Objects per image: 5 in all. No control is set"),
        ({"a": [float("nan")], "b": [float("nan")]}, "There are no objects."),
    ],
)
def test_values_without_a_control_are_said_for_few_replicates_and_none(tmp_path, values, said):
    assert plain(describe(tmp_path, values, control=None)["sentence"]).startswith(said)


def test_one_replicate_on_both_sides_is_said_once(tmp_path):
    assert plain(describe(tmp_path, {"a": [5], "b": [4]}, control="a")["sentence"]).endswith("from 1 replicate each.")


def test_an_experiment_without_objects_has_a_sentence(tmp_path):
    values = rows_of({"DMSO": [float("nan")], "drug": [float("nan")]}, feature="area_px", unit="px")
    found = describe(tmp_path, values)
    assert "Nothing can be compared with the control DMSO: there are no objects." in plain(found["sentence"])
    assert "No object has a value of area_px." in found["notes"]
    assert found["figures"] == found["maps"] == []


def test_images_that_are_left_out_or_learned_from_are_counted(tmp_path):
    found = describe(tmp_path, {"DMSO": [4, 5, 6], "drug": [2, 3, 4]}, learned=1, left_out=2)
    assert found["notes"] == [
        "2 images have no row in the sample sheet and are left out.",
        "1 image of the experiment was used to train or tune the model, whose objects may be better there.",
    ]


# ---- figures and table ----------------------------------------------------------------------------------------


def test_every_replicate_is_a_point_of_its_condition(tmp_path):
    [figure] = describe(tmp_path, {"DMSO": [40, 42, 44], "drug": [20, 22]})["figures"]
    assert figure.title == "Objects per image"
    assert len(re.findall('class="open', figure.svg)) == 5
    assert len(re.findall('class="whisker', figure.svg)) == 2
    assert "B02: 22</title>" in figure.svg


def test_the_feature_of_the_first_sentence_is_drawn_first(tmp_path):
    values = [*rows_of({"DMSO": [4, 5, 6], "drug": [4, 5, 7]}), *rows_of(
        {"DMSO": [1, 2, 3], "drug": [51, 52, 53]}, feature="area_um2", unit="um2"
    )]  # fmt: skip
    found = describe(tmp_path, values)
    assert [figure.title for figure in found["figures"]] == ["Area, µm²", "Objects per image"]
    assert [figure.title for figure in found["maps"]] == ["Area, µm²", "Objects per image"]


def test_the_table_has_a_row_for_each_feature_and_condition(tmp_path):
    table = describe(tmp_path, {"DMSO": [40, 42, 44], "drug": [20, 22, 24]})["table"]
    control, drug = ([cell.text for cell in row] for row in table.rows)
    assert control == ["objects per image", "DMSO", "42", "–", "–", "–", "–", "–", "3", "6", "90"]
    assert drug[2:5] == ["22", "−20", "−47.6\N{NO-BREAK SPACE}%"]
    assert drug[5] == drug[6] == "0.00026"


@pytest.mark.parametrize(
    ("feature", "unit", "name"),
    [
        ("objects_per_image", "objects", "objects per image"),
        ("area_um2", "um2", "area, µm²"),
        ("axis_major_px", "px", "axis major, px"),
        ("intensity_mean", "counts", "intensity mean, counts"),
        ("eccentricity", "", "eccentricity"),
    ],
)
def test_features_have_names_for_readers(feature, unit, name):
    assert name_feature(replicate(1.0, feature=feature, unit=unit)) == name


# ---- maps of plates -------------------------------------------------------------------------------------------


def draw(rows, **changes):
    settings = {"conditions": ["DMSO", "drug"], "style": "s0", "title": "Objects", "control": "DMSO", **changes}
    return draw_plate(rows, **settings)


def test_wells_are_shaded_by_their_value_and_marked_by_their_condition():
    figure = draw(rows_of({"DMSO": [10, 20], "drug": [30, float("nan")]}))
    assert re.findall(r'fill-opacity="([\d.]+)"', figure.svg) == ["0.08", "0.50", "0.92"]
    assert re.findall(r"<title>([^<]+)", figure.svg) == [
        "A01, DMSO: 10", "A02, DMSO: 20", "B01, drug: 30", "B02, drug: no objects",
    ]  # fmt: skip
    assert re.findall(r'well-letter"[^>]*>(\w)', figure.svg) == ["a", "a", "b", "b"]
    assert figure.svg.count('class="well control"') == 2
    assert figure.svg.count('class="well"') == 6 - 4
    assert figure.caption == "4 wells, 10 to 30: the stronger the colour, the higher. a: DMSO, b: drug. Outlined: DMSO."


def test_equal_wells_and_a_plate_without_control_are_drawn():
    figure = draw(rows_of({"drug": [5.0, 5.0]}, feature="area_um2", unit="um2"))
    assert re.findall(r'fill-opacity="([\d.]+)"', figure.svg) == ["0.50", "0.50"]
    assert figure.caption == "2 wells, 5 µm²: the stronger the colour, the higher. b: drug."


def test_the_largest_plate_has_all_its_wells_within_the_picture():
    figure = draw([replicate(1.0, "drug", "P24"), replicate(2.0, "DMSO", "A01")])
    assert figure.svg.count("<rect") == 16 * 24 + 2
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) ([\d.]+)"', figure.svg).groups())
    for x, y, side in re.findall(r'x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="\3"', figure.svg):
        assert float(x) + float(side) <= width
        assert float(y) + float(side) <= height


def test_names_of_conditions_are_escaped():
    svg = draw([replicate(1.0, "<b>", "A01")], conditions=["<b>"]).svg
    assert "A01, &lt;b&gt;: 1" in svg


def test_each_plate_has_a_map(tmp_path):
    values = [*rows_of({"DMSO": [4, 5], "drug": [4, 7]}, plate="p1"), *rows_of({"DMSO": [4], "drug": [6]}, plate="p2")]
    assert [figure.title for figure in describe(tmp_path, values)["maps"]] == [
        "Plate p1: objects per image", "Plate p2: objects per image",
    ]  # fmt: skip


def test_replicates_in_no_well_have_no_map(tmp_path):
    assert describe(tmp_path, rows_of({"DMSO": [4, 5], "drug": [4, 7]}, well=""))["maps"] == []


# ---- the page -------------------------------------------------------------------------------------------------


def test_the_page_has_a_chapter_that_says_why_replicates_count(tmp_path):
    experiment = experiment_of(tmp_path, rows_of({"DMSO": [40, 42, 44], "drug": [20, 22, 24]}))
    write_report(output_path=tmp_path / "report.html", **build_example(tmp_path / "x", experiment=experiment))
    page = plain((tmp_path / "report.html").read_text().replace("&nbsp;", " "))
    assert "What do the objects say about the conditions?" in page
    assert (
        "Intervals and p values are over replicates and not over cells, because cells of one replicate are not independent"
        in page
    )
    assert "The p values are corrected for 1 comparison by Benjamini and Hochberg" in page
    assert (
        "conditions.csv , replicates.csv and samples.csv" in page
        or "conditions.csv, replicates.csv and samples.csv" in page
    )


def test_a_page_without_an_experiment_has_no_chapter(tmp_path):
    write_report(output_path=tmp_path / "report.html", **build_example(tmp_path / "x"))
    assert 'id="conditions"' not in (tmp_path / "report.html").read_text()
