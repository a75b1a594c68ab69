"""From objects to replicates, features with their units, and the tables as files."""

import math

import numpy as np
import pandas as pd
import pytest

from cellmill.experiment.features import Feature, list_features, resolve_feature
from cellmill.experiment.replicates import compare_conditions, measure_replicates
from cellmill.experiment.tables import ConditionRow, ReplicateRow, only, read_rows, write_rows

COUNT, AREA = Feature("objects_per_image", "", "objects"), Feature("area_px", "area_px", "px")
COLUMNS = ["sample", "object", "area_px", "axis_major_px", "intensity_mean", "neighbours", "area_um2", "axis_major_um"]


def image(sample, condition, replicate):
    return {"sample": sample, "condition": condition, "replicate": replicate, "plate": "", "well": replicate}


IMAGES = [
    image("a", "DMSO", "A01"), image("b", "DMSO", "A01"), image("c", "DMSO", "A02"), image("d", "drug", "B01"),
    image("e", "drug", "B02"),
]  # fmt: skip
OBJECTS = pd.DataFrame(
    {"sample": ["a", "a", "a", "b", "c", "c", "d", "z"], "area_px": [10.0, 20, 30, 100, 5, 7, 50, 999]}
)


def measured(feature, objects=OBJECTS):
    return {row.replicate: row.value for row in measure_replicates(objects, IMAGES, features=[feature], run="unet")}


def test_objects_are_counted_per_image_of_a_replicate_also_where_there_are_none():
    assert measured(COUNT) == {"A01": 2.0, "A02": 2.0, "B01": 1.0, "B02": 0.0}


def test_a_feature_is_the_mean_over_the_objects_of_a_replicate_and_not_over_its_images():
    found = measured(AREA)
    assert found["A01"] == pytest.approx((10 + 20 + 30 + 100) / 4)
    assert found["A02"] == pytest.approx(6)
    assert math.isnan(found["B02"])


def test_objects_of_other_images_and_values_that_are_missing_are_left_out():
    objects = OBJECTS.assign(area_px=[np.nan, 20, 30, np.inf, 5, 7, 50, 999])
    assert measured(AREA, objects)["A01"] == pytest.approx(25)


def test_a_replicate_has_its_numbers_and_its_place():
    first = measure_replicates(OBJECTS, IMAGES, features=[COUNT], run="unet")[0]
    assert (first.n_images, first.n_objects, first.well, first.condition, first.run) == (2, 4, "A01", "DMSO", "unet")


def test_conditions_are_compared_over_replicates():
    replicates = measure_replicates(OBJECTS, IMAGES, features=[COUNT, AREA], run="unet")
    rows = compare_conditions(replicates, conditions=["DMSO", "drug"], control="DMSO")
    assert [(row.feature, row.condition) for row in rows] == [
        ("objects_per_image", "DMSO"), ("objects_per_image", "drug"), ("area_px", "DMSO"), ("area_px", "drug"),
    ]  # fmt: skip
    control, drug = only(rows, feature="objects_per_image")
    assert (control.mean, control.n_replicates, control.n_images, control.n_objects) == (2.0, 2, 3, 6)
    assert math.isnan(control.difference)
    assert (drug.mean, drug.difference, drug.percent) == (0.5, -1.5, -75.0)
    # a well without objects has no area, so one replicate is left
    area = only(rows, feature="area_px", condition="drug")[0]
    assert (area.n_replicates, area.n_images, area.mean) == (1, 2, 50.0)
    assert math.isnan(area.p)
    assert area.difference == pytest.approx(50 - (40 + 6) / 2)


def test_the_p_values_of_all_features_are_corrected_together():
    rng = np.random.default_rng(2)
    images = [image(f"{well}{n}", "x" if well < 4 else "y", f"w{well}") for well in range(8) for n in range(2)]
    objects = pd.DataFrame(
        {"sample": [one["sample"] for one in images for _ in range(3)], "area_px": rng.normal(9, 1, 48)}
    )
    objects["wide"] = objects["area_px"] + 5 * objects["sample"].str[0].astype(int).ge(4)
    features = [AREA, Feature("wide", "wide", "")]
    replicates = measure_replicates(objects, images, features=features, run="unet")
    rows = [row for row in compare_conditions(replicates, conditions=["x", "y"], control="x") if row.p == row.p]
    low, high = sorted(rows, key=lambda row: row.p)
    assert low.feature == "wide"
    assert low.p_corrected == pytest.approx(min(2 * low.p, high.p))
    assert high.p_corrected == pytest.approx(high.p)


def test_without_a_control_nothing_is_compared():
    replicates = measure_replicates(OBJECTS, IMAGES, features=[COUNT], run="unet")
    rows = compare_conditions(replicates, conditions=["DMSO", "drug"], control=None)
    assert all(math.isnan(row.difference) for row in rows)
    assert [row.mean for row in rows] == [2.0, 0.5]


# ---- features -------------------------------------------------------------------------------------------------


def test_every_column_and_every_name_without_its_unit_is_a_feature():
    assert list_features(COLUMNS) == [
        "objects_per_image", "area", "axis_major", "area_px", "axis_major_px", "intensity_mean", "neighbours", "area_um2",
        "axis_major_um",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "is_known", "expected"),
    [
        ("area", True, ("area_um2", "um2")),
        ("area", False, ("area_px", "px2")),
        ("axis_major", True, ("axis_major_um", "um")),
        ("axis_major", False, ("axis_major_px", "px")),
        ("area_um2", False, ("area_um2", "um2")),
        ("intensity_mean", True, ("intensity_mean", "counts")),
        ("neighbours", True, ("neighbours", "")),
    ],
)
def test_a_name_without_unit_is_in_um_where_the_pixel_size_is_known(name, is_known, expected):
    found = resolve_feature(name, COLUMNS, is_known=lambda column: is_known)
    assert (found.column, found.unit) == expected
    assert found.name == found.column


def test_an_unknown_feature_is_refused_with_the_columns():
    with pytest.raises(ValueError, match=r"colour: expected a column of objects\.csv, found sample, object, area_px"):
        resolve_feature("colour", COLUMNS, is_known=lambda column: True)


def test_the_number_of_an_object_is_no_feature():
    with pytest.raises(ValueError, match="object: expected"):
        resolve_feature("object", COLUMNS, is_known=lambda column: True)


# ---- files ----------------------------------------------------------------------------------------------------


def test_tables_come_back_with_conditions_as_text_and_undefined_numbers_as_nan(tmp_path):
    images = [image("a", "010", "1"), image("b", "NA", "2")]
    replicates = measure_replicates(OBJECTS, images, features=[COUNT], run="unet")
    rows = compare_conditions(replicates, conditions=["010", "NA"], control=None)
    write_rows(tmp_path / "r.csv", replicates, ReplicateRow)
    write_rows(tmp_path / "c.csv", rows, ConditionRow)
    assert read_rows(tmp_path / "r.csv", ReplicateRow) == replicates
    again = read_rows(tmp_path / "c.csv", ConditionRow)
    assert [row.condition for row in again] == ["010", "NA"]
    assert [row.mean for row in again] == [3.0, 1.0]
    assert all(math.isnan(row.p) for row in again)
