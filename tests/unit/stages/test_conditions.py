"""Stage conditions: the tables of a plate with a known effect, against pandas and scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cellmill.objects.measurements import empty_table
from cellmill.stages.conditions import summarize_conditions

FEATURES = ["objects_per_image", "area", "intensity_mean"]
CONDITIONS = ("DMSO", "low", "high")
# Mean area of an object, px
AREAS = {"DMSO": 100.0, "low": 100.0, "high": 130.0}
WELLS, FIELDS, CELLS = 4, 3, 40


def make_plate(*, pixel_size_um=None):
    """Return the images and the objects of a plate whose wells differ; `high` has larger objects, and fewer."""
    rng = np.random.default_rng(4)
    images, tables = [], []
    for row, condition in enumerate(CONDITIONS):
        for column in range(WELLS):
            well = f"{'ABC'[row]}{column + 1:02d}"
            shift = rng.normal(0, 5)
            for field in range(FIELDS):
                sample = f"{well}_{field}"
                images.append({"sample": sample, "condition": condition, "replicate": well, "plate": "", "well": well})
                number = rng.poisson(CELLS if condition != "high" else CELLS / 2)
                areas = np.maximum(1, np.round(rng.normal(AREAS[condition] + shift, 20, number)))
                tables.append(pd.DataFrame({"sample": sample, "object": range(1, number + 1), "area_px": areas}))
    objects = pd.concat(tables)
    objects["intensity_mean"] = 50.0
    objects["area_um2"] = np.nan if pixel_size_um is None else objects["area_px"] * pixel_size_um**2
    return images, objects


def summarize(folder, images, objects, **changes):
    objects.to_csv(folder / "objects.csv", index=False)
    arguments = {"conditions": CONDITIONS, "control": "DMSO", "features": FEATURES, "run": "unet", "images": images}
    summarize_conditions(
        conditions_path=folder / "conditions.csv", replicates_path=folder / "replicates.csv",
        objects_path=folder / "objects.csv", **{**arguments, **changes},
    )  # fmt: skip
    texts = {"condition": str, "replicate": str, "well": str, "plate": str}
    return [
        pd.read_csv(folder / f"{name}.csv", dtype=texts, keep_default_na=True) for name in ("conditions", "replicates")
    ]


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    images, objects = make_plate()
    return images, objects, *summarize(tmp_path_factory.mktemp("plate"), images, objects)


def of(table, feature, condition):
    [row] = table[(table["feature"] == feature) & (table["condition"] == condition)].to_dict("records")
    return row


def test_replicates_are_the_means_that_pandas_computes(plate):
    images, objects, _, replicates = plate
    wells = objects["sample"].str[:3]
    own = replicates.set_index(["feature", "replicate"])["value"]
    assert own["area_px"].to_dict() == pytest.approx(objects.groupby(wells)["area_px"].mean().to_dict())
    assert own["objects_per_image"].to_dict() == pytest.approx((wells.value_counts() / FIELDS).to_dict())
    assert (replicates["n_images"] == FIELDS).all()
    assert set(replicates["well"]) == {image["well"] for image in images}


@pytest.mark.parametrize("condition", ["low", "high"])
def test_effects_are_those_of_welchs_test_of_the_wells(plate, condition):
    _, objects, conditions, _ = plate
    means = objects.groupby(objects["sample"].str[:3])["area_px"].mean()
    letter = {"DMSO": "A", "low": "B", "high": "C"}
    own, control = (means[means.index.str[0] == letter[name]] for name in (condition, "DMSO"))
    test = stats.ttest_ind(own, control, equal_var=False)
    expected = test.confidence_interval(0.95)
    row = of(conditions, "area_px", condition)
    assert row["p"] == pytest.approx(test.pvalue)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx((expected.low, expected.high))
    assert (row["n_replicates"], row["n_images"]) == (WELLS, WELLS * FIELDS)
    assert row["n_objects"] == objects["sample"].str[0].eq(letter[condition]).sum()


def test_the_known_effect_is_found_and_the_other_is_not(plate):
    _, _, conditions, _ = plate
    high, low = of(conditions, "area_px", "high"), of(conditions, "area_px", "low")
    assert high["difference_low"] < 30 < high["difference_high"]
    assert high["p_corrected"] < 0.05 < low["p_corrected"]
    assert of(conditions, "objects_per_image", "high")["percent"] == pytest.approx(-50, abs=10)


def test_an_interval_over_single_objects_misses_the_known_effect(plate):
    """Cells of a well share its shift, which an interval over cells takes for an effect."""
    _, objects, conditions, _ = plate
    of_high, of_control = (objects["area_px"][objects["sample"].str[0] == letter] for letter in "CA")
    cells = stats.ttest_ind(of_high, of_control, equal_var=False).confidence_interval()
    assert not cells.low <= 30 <= cells.high
    wells = of(conditions, "area_px", "high")
    assert cells.high - cells.low < 0.7 * (wells["difference_high"] - wells["difference_low"])


def test_p_values_are_corrected_for_all_features_and_conditions(plate):
    _, _, conditions, _ = plate
    known = conditions["p"].notna()
    assert known.sum() == 4  # two features of two conditions; the intensity has no spread
    expected = stats.false_discovery_control(conditions["p"][known])
    assert conditions["p_corrected"][known].tolist() == pytest.approx(expected.tolist())
    assert conditions["p_corrected"][~known].isna().all()


def test_the_area_is_in_um_where_the_pixel_size_is_known(tmp_path):
    conditions, _ = summarize(tmp_path, *make_plate(pixel_size_um=0.5))
    row = of(conditions, "area_um2", "DMSO")
    assert row["unit"] == "um2"
    assert row["mean"] == pytest.approx(25, abs=3)


def test_an_unknown_pixel_size_of_one_image_makes_all_areas_px(tmp_path):
    images, objects = make_plate(pixel_size_um=0.5)
    objects.loc[objects["sample"] == "A01_0", "area_um2"] = np.nan
    conditions, _ = summarize(tmp_path, images, objects)
    assert "area_px" in set(conditions["feature"])


def test_a_feature_asked_for_twice_is_one(tmp_path):
    conditions, _ = summarize(tmp_path, *make_plate(), features=["area", "area_px"])
    assert list(conditions["condition"]) == list(CONDITIONS)


def test_every_numeric_column_of_the_table_of_objects_is_a_feature(tmp_path):
    images, objects = make_plate()
    table = pd.concat([empty_table(), objects.assign(object=1)]).fillna(0.5).assign(confidence=0.25)
    names = [name for name in table.columns if name not in ("sample", "object")]
    conditions, _ = summarize(tmp_path, images, table, features=names)
    assert set(conditions["feature"]) == set(names)
    assert of(conditions, "confidence", "low")["mean"] == 0.25


def test_objects_of_images_without_a_condition_do_not_count(tmp_path):
    images, objects = make_plate()
    _, replicates = summarize(tmp_path, [image for image in images if image["replicate"] != "A01"], objects)
    assert "A01" not in set(replicates["replicate"])


def test_a_run_without_objects_has_counts_of_zero_and_no_areas(tmp_path):
    images, objects = make_plate()
    conditions, replicates = summarize(tmp_path, images, objects[:0])
    assert of(conditions, "objects_per_image", "high")["mean"] == 0
    assert replicates[replicates["feature"] != "objects_per_image"]["value"].isna().all()
    assert conditions["p"].isna().all()


def test_samples_and_conditions_keep_names_that_look_like_numbers(tmp_path):
    images = [
        {"sample": f"00{number}", "condition": name, "replicate": f"0{number}", "plate": "", "well": ""}
        for number, name in enumerate(["0", "010", "NA", "0"])
    ]
    objects = pd.DataFrame({"sample": ["000", "001", "001"], "object": 1, "area_px": 5, "intensity_mean": 1.0})
    summarize(tmp_path, images, objects, conditions=["0", "010", "NA"], control="0")
    lines = [line.split(",") for line in (tmp_path / "conditions.csv").read_text().splitlines()[1:4]]
    assert [line[3] for line in lines] == ["0", "010", "NA"]
    assert [float(line[7]) for line in lines] == [0.5, 2, 0]


def test_a_missing_column_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"colour: expected a column of objects\.csv"):
        summarize(tmp_path, *make_plate(), features=["colour"])
    assert not (tmp_path / "conditions.csv").exists()
