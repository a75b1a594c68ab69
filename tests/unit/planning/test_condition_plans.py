"""Conditions of an experiment: from paths and sheets to images, the run that is compared, and what jobs depend on."""

import numpy as np
import pytest
import tifffile

from cellmill.config.errors import ConfigError
from cellmill.planning.conditions import sort_conditions
from cellmill.planning.make import freeze, make_plan, thaw, write_sample_tables
from cellmill.planning.results import list_inputs, list_results, list_settings
from cellmill.planning.settings import job_settings
from project import ROOT

PRESETS = ROOT / "resources/models"
WELLS = {"A01": "DMSO", "A02": "DMSO", "B01": "drug", "B02": "drug"}
BY_PATH = {"column": "treatment", "control": "DMSO", "replicate": "well"}
BY_SHEET = {**BY_PATH, "table": "sheet.csv"}
SHEET = "well,treatment\nA01,DMSO\nA02,DMSO\nB01,drug\nB02,drug\n"


def write_images(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / f"{name}.tif", np.zeros((16, 16), dtype=np.uint8))


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"{well}_{field}" for well in WELLS for field in (1, 2)]
    write_images(tmp_path / "flat", names)
    write_images(tmp_path / "by", [f"{WELLS[name[:3]]}/{name}" for name in names])
    (tmp_path / "sheet.csv").write_text(SHEET)
    return tmp_path


def plan(conditions, *, images="flat/{well}_{field}.tif", models=("classical",), **section):
    section = {"images": images, "models": list(models), "conditions": conditions, **section}
    return make_plan({"datasets": {"d": section}}, presets_dir=PRESETS)


def treated(made):
    return {row.sample: tuple(row.treated.values()) for row in made.samples["d"]}


def remarks(made):
    return [remark for remark in made.remarks if ".conditions" in remark]


def mistakes(*args, **section):
    with pytest.raises(ConfigError) as caught:
        plan(*args, **section)
    return caught.value.mistakes


def mistake(*args, **section):
    [said] = mistakes(*args, **section)
    return said


# ---- where the conditions are ---------------------------------------------------------------------------------


def test_condition_and_replicate_are_parts_of_the_path(data):
    made = plan(BY_PATH, images="by/{treatment}/{well}_{field}.tif")
    assert treated(made)["A01_2"] == ("DMSO", "A01", "", "A01")
    assert treated(made)["B02_1"] == ("drug", "B02", "", "B02")
    assert remarks(made) == []


def test_a_sheet_is_tied_by_a_wildcard(data):
    assert treated(plan(BY_SHEET)) == treated(plan(BY_PATH, images="by/{treatment}/{well}_{field}.tif"))


@pytest.mark.parametrize("suffix", ["", ".tif"])
def test_a_sheet_is_tied_by_the_names_of_samples(data, suffix):
    rows = [f"{well}_{field}{suffix},{well},{name}" for well, name in WELLS.items() for field in (1, 2)]
    (data / "sheet.csv").write_text("\n".join(["sample,place,treatment", *rows]))
    made = plan({**BY_SHEET, "replicate": "place"}, images="flat/{sample}.tif")
    assert treated(made)["B01_1"] == ("drug", "B01", "", "B01")


def test_a_sheet_is_tied_by_all_columns_that_are_wildcards(data):
    rows = [f"{well},{field},{WELLS[well]}{field}" for well in WELLS for field in (1, 2)]
    (data / "sheet.csv").write_text("\n".join(["well,field,treatment", *rows]))
    made = plan({**BY_SHEET, "replicate": "sample", "control": "DMSO1"})
    assert treated(made)["A02_2"][:2] == ("DMSO2", "A02_2")


def test_a_well_without_zero_in_the_sheet_is_the_same_well(data):
    (data / "sheet.csv").write_text(SHEET.replace("0", "").replace("A1", " a1 ") + ",planned\n")
    assert treated(plan(BY_SHEET))["A01_1"] == ("DMSO", "A01", "", "A01")


def test_spreadsheets_add_a_mark_of_order_and_empty_cells_at_the_end(data):
    (data / "sheet.csv").write_text("\ufeff" + SHEET.replace("\n", ",,\r\n") + ",,,\r\n")
    assert treated(plan(BY_SHEET))["B01_1"][0] == "drug"


def test_replicates_are_told_apart_by_several_columns(data):
    write_images(data / "two", [f"p{plate}/{well}_1" for plate in (1, 2) for well in WELLS])
    made = plan({**BY_SHEET, "replicate": ["plate", "well"]}, images="two/{plate}/{well}_{field}.tif")
    assert treated(made)["p2_A01_1"] == ("DMSO", "p2/A01", "p2", "A01")
    assert len({row[1] for row in treated(made).values()}) == 8


def test_wells_of_two_plates_with_one_name_are_remarked_on(data):
    write_images(data / "two", [f"p{plate}/{well}_1" for plate in (1, 2) for well in WELLS])
    made = plan(BY_SHEET, images="two/{plate}/{well}_{field}.tif")
    assert remarks(made) == [
        "datasets.d.conditions.replicate: 4 replicates have images of several plates, such as A01 of p1, p2. If these are "
        "different wells, set replicate: [plate, well]"
    ]


def test_images_of_a_well_as_replicates_are_remarked_on(data):
    assert remarks(plan({**BY_SHEET, "replicate": "sample"})) == [
        "datasets.d.conditions.replicate: 4 wells have several replicates, such as A01. What is in one well is not "
        "independent, so intervals are too narrow and p values too small if the well was treated as a whole. Then set "
        "replicate: well"
    ]
    write_images(data / "two", [f"p{plate}/{well}_{field}" for plate in (1, 2) for well in WELLS for field in (1, 2)])
    [remark] = remarks(plan({**BY_SHEET, "replicate": "sample"}, images="two/{plate}/{well}_{field}.tif"))
    assert "8 wells have several replicates, such as p1/A01." in remark
    assert remark.endswith("Then set replicate: [plate, well]")


def test_donors_in_several_wells_are_replicates(data):
    (data / "sheet.csv").write_text("well,donor,treatment\nA01,x,DMSO\nA02,y,DMSO\nB01,z,drug\nB02,z,drug\n")
    made = plan({**BY_SHEET, "replicate": "donor"})
    assert [remark for remark in remarks(made) if "wells" in remark] == []


@pytest.mark.parametrize(("replicate", "well"), [("well", "A01"), ("sample", "")])
def test_a_map_needs_one_well_for_each_replicate(data, replicate, well):
    assert treated(plan({**BY_SHEET, "replicate": replicate}))["A01_1"][3] == well


def test_numbers_are_conditions_as_they_are_written(data):
    (data / "sheet.csv").write_text("well,treatment\nA01,0\nA02,1\nB01,10\nB02,010\n")
    made = plan({**BY_SHEET, "control": 0})
    assert {row[0] for row in treated(made).values()} == {"0", "1", "10", "010"}
    settings = job_settings(made, "conditions", dataset="d")
    assert settings["control"] == "0"
    assert settings["conditions"][:2] == ["0", "1"]


def test_conditions_are_sorted_with_the_control_first_and_numbers_by_value():
    assert sort_conditions(["10", "0.05", "0", "1", "0.1"], control="1") == ["1", "0", "0.05", "0.1", "10"]
    assert sort_conditions(["drug10", "DMSO", "drug2"], control="DMSO") == ["DMSO", "drug2", "drug10"]


# ---- images and rows without each other -----------------------------------------------------------------------


def test_images_without_a_row_are_left_out_and_counted(data):
    (data / "sheet.csv").write_text(SHEET.replace("B02,drug\n", "C01,drug\nC02,other\n"))
    made = plan(BY_SHEET)
    assert treated(made)["B02_1"] == ()
    assert remarks(made) == [
        "datasets.d.conditions.table: sheet.csv has no row for 2 of 8 images (B02_1, B02_2), which are left out of the "
        "comparison of conditions",
        "datasets.d.conditions.table: sheet.csv has 2 rows without an image (rows 5, 6)",
        "datasets.d.conditions.table: no image has the treatment other of sheet.csv",
        "datasets.d.conditions.replicate: drug has one replicate only, so there is no interval and no p value: the "
        "difference of two replicates may be that of any two",
    ]
    assert [row["sample"] for row in job_settings(made, "conditions", dataset="d")["images"]] == [
        f"{well}_{field}" for well in ("A01", "A02", "B01") for field in (1, 2)
    ]
    assert job_settings(made, "report", dataset="d")["experiment"]["left_out"] == 2


def test_equal_rows_of_a_well_are_one(data):
    (data / "sheet.csv").write_text(SHEET + "A01,DMSO\n")
    assert treated(plan(BY_SHEET))["A01_1"][0] == "DMSO"


# ---- what is refused ------------------------------------------------------------------------------------------


def test_rows_of_a_well_that_contradict_each_other_are_refused(data):
    (data / "sheet.csv").write_text(SHEET + "A1,drug\n")
    assert mistake(BY_SHEET) == (
        "datasets.d.conditions.table: sheet.csv: expected one treatment for the images of a row, found DMSO, drug in rows "
        "2, 6, which fit the same images. Correct the rows, or add a column that tells the images apart."
    )


def test_a_replicate_with_several_conditions_is_refused_with_one_that_works(data):
    sheet = "well,donor,treatment\nA01,x,DMSO\nA02,y,DMSO\nB01,x,drug\nB02,y,drug\n"
    (data / "sheet.csv").write_text(sheet)
    assert mistake({**BY_SHEET, "replicate": "donor"}) == (
        "datasets.d.conditions.replicate: expected one treatment for each replicate, the unit that was treated as a whole, "
        "found DMSO, drug in 'x' (as for 1 more). Correct the names, or set replicate: [donor, well]."
    )
    made = plan({**BY_SHEET, "replicate": ["donor", "treatment"]})
    assert treated(made)["A01_1"][:2] == ("DMSO", "x/DMSO")


@pytest.mark.parametrize(("key", "value"), [("column", "treatmet"), ("replicate", "wel"), ("replicate", ["well", "x"])])
def test_a_column_that_is_nowhere_is_refused_with_all_that_are(data, key, value):
    said = mistake({**BY_SHEET, key: value})
    assert said.startswith(
        f"datasets.d.conditions.{key}: expected a wildcard of images or a column of sheet.csv, found "
    )
    assert "Known: field, sample, treatment, well." in said


@pytest.mark.parametrize("column", ["treatment", "place"])
def test_empty_cells_are_refused_and_counted(data, column):
    rows = ["well,place,treatment", "A01,A01,DMSO", "A02,A02,DMSO", "B01,B01,drug"]
    (data / "sheet.csv").write_text("\n".join([*rows, {"treatment": "B02,B02,", "place": "B02,,drug"}[column]]))
    key = "column" if column == "treatment" else "replicate"
    assert mistake({**BY_SHEET, "replicate": "place"}) == (
        f"datasets.d.conditions.{key}: expected a {column} for each image with a row in the sheet, found empty cells for 2 "
        "of 8 images (B02_1, B02_2). Fill them in, or remove the rows to leave the images out."
    )


def test_the_default_features_are_features(data):
    assert job_settings(plan(BY_SHEET), "conditions", dataset="d")["features"] == [
        "objects_per_image", "area", "eccentricity", "intensity_mean",
    ]  # fmt: skip


def test_measured_features_are_features(data):
    wanted = {"features": ["perimeter", "raw_intensity_std_c0", "raw_intensity_std_dapi"]}
    [said] = mistakes({**BY_SHEET, **wanted}, measure={"features": ["shape", "intensity"]})
    assert "found 'raw_intensity_std_dapi'" in said
    made = plan(
        {**BY_SHEET, "features": ["form_factor", "raw_intensity_std_dapi"]},
        measure={"features": ["shape", "intensity"], "channels": {"dapi": 0}},
    )
    assert job_settings(made, "conditions", dataset="d")["features"] == ["form_factor", "raw_intensity_std_dapi"]


def test_exports_state_condition_and_well(data):
    rows = job_settings(plan(BY_SHEET, export=["table"]), "export_table", dataset="d", run="classical")["samples"]
    assert {(row["condition"], row["replicate"], row["well"]) for row in rows} == {
        (condition, well, well) for well, condition in WELLS.items()
    }


@pytest.mark.parametrize("keys", [{"features": ["area", "area"]}, {"replicate": ["well", "well"]}])
def test_names_are_given_once(data, keys):
    assert "expected different names" in mistake({**BY_SHEET, **keys})


# ---- the run --------------------------------------------------------------------------------------------------


def run_of(conditions, models, **section):
    return plan(conditions, models=models, **section).run_of_conditions("d").name


def test_the_first_run_that_is_not_classical_is_compared(data):
    assert run_of(BY_SHEET, ["classical"]) == "classical"
    assert run_of(BY_SHEET, ["classical", {"apply": "nuclei"}]) == "nuclei"
    assert run_of({**BY_SHEET, "model": "classical"}, ["classical", {"apply": "nuclei"}]) == "classical"
    assert plan(None).run_of_conditions("d") is None


def test_an_annotator_is_no_default_and_the_mean_of_seeds_is(data):
    write_images(data / "drawn", [f"{well}_{field}" for well in WELLS for field in (1, 2)])
    drawn = {"masks": "drawn/{sample}.tif", "name": "anna", "role": "annotator"}
    unet = {"preset": "sartorius_unet", "name": "unet", "seeds": [1, 2], "average_seeds": True}
    labels = {"annotations": {"format": "label_image", "path": "drawn/{well}_{field}.tif"}}
    assert run_of(BY_SHEET, [drawn, "classical"]) == "anna"
    assert run_of(BY_SHEET, [drawn, unet], **labels) == "unet.mean"
    assert run_of({**BY_SHEET, "model": "unet"}, [unet], **labels) == "unet.mean"
    assert run_of({**BY_SHEET, "model": "unet"}, [{**unet, "average_seeds": False}], **labels) == "unet.seed1"
    assert run_of({**BY_SHEET, "model": "unet.seed2"}, [unet], **labels) == "unet.seed2"
    some = {**drawn, "masks": {"path": "drawn/{sample}.tif", "missing": "unlabelled"}}
    assert "'anna', with masks of some of them" in mistake({**BY_SHEET, "model": "anna"}, models=[some, "classical"])


def test_masks_of_test_images_are_no_default_beside_a_model_of_all_images(data):
    write_images(data / "drawn", [f"{well}_{field}" for well in WELLS for field in (1, 2)])
    other = {"masks": {"path": "drawn/{sample}.tif", "missing": "untested"}, "name": "other"}
    assert run_of(BY_SHEET, [other, {"apply": "nuclei"}]) == "nuclei"
    assert "'other', with masks of some of them" in mistake({**BY_SHEET, "model": "other"}, models=[other, "classical"])


# ---- what jobs depend on --------------------------------------------------------------------------------------


def all_settings(made):
    words = {"dataset": "d", "run": "classical", "shard": made.shards("d")[0]}
    needs = {
        "check_shard": "dataset shard", "check_dataset": "dataset", "preprocess": "dataset shard",
        "contrast_fit": "dataset run", "contrast": "dataset run shard", "postprocess": "dataset run shard",
        "postprocess_tables": "dataset run", "evaluate": "dataset", "conditions": "dataset", "report": "dataset",
    }  # fmt: skip
    return {
        stage: job_settings(made, stage, **{word: words[word] for word in names.split()})
        for stage, names in needs.items()
    }


@pytest.mark.parametrize(
    ("changes", "sheet"),
    [({}, SHEET.replace("A02,DMSO", "A02,drug")), ({"features": ["solidity"]}, SHEET), ({"control": "drug"}, SHEET)],
)
def test_another_sheet_or_section_changes_the_settings_of_conditions_and_report_only(data, changes, sheet):
    (data / "sheet.csv").write_text(SHEET + "C01,DMSO\n")  # so that no condition has one replicate
    before = all_settings(plan(BY_SHEET))
    (data / "sheet.csv").write_text(sheet + "C01,DMSO\n")
    after = all_settings(plan({**BY_SHEET, **changes}))
    changed = {stage for stage in before if before[stage] != after[stage]}
    assert changed - {"check_dataset"} <= {"conditions", "report"}
    assert "conditions" in changed


def test_columns_of_a_sheet_that_nothing_needs_change_nothing(data):
    before = all_settings(plan(BY_SHEET))
    (data / "sheet.csv").write_text(SHEET.replace("\n", ",note\n", 1).replace("drug\n", "drug,checked\n"))
    assert all_settings(plan(BY_SHEET)) == before


def test_a_job_finds_the_conditions_in_the_frozen_tables(data):
    made = plan(BY_SHEET)
    raw = {"datasets": {"d": {"images": "flat/{well}_{field}.tif", "models": ["classical"], "conditions": BY_SHEET}}}
    freeze(made, raw)
    (data / "sheet.csv").unlink()
    again = thaw(raw, presets_dir=PRESETS)
    assert job_settings(again, "conditions", dataset="d") == job_settings(made, "conditions", dataset="d")


def test_the_sheet_is_an_input_and_both_tables_are_results(data):
    made = plan(BY_SHEET)
    assert "sheet.csv" in list_inputs(made, "d")["annotations"]
    assert {"conditions.csv", "replicates.csv"} < set(list_results(made, "d")["files"])
    assert list_settings(made, "d")["datasets"]["d"]["conditions"]["replicate"] == ["well"]
    assert "conditions.csv" not in list_results(plan(None), "d")["files"]


def test_the_table_of_samples_shows_conditions_and_replicates(data):
    write_sample_tables(plan(BY_SHEET))
    header, first, *_ = (data / "results/d/samples.csv").read_text().splitlines()
    assert header.endswith(",shard,condition,replicate")
    assert first.endswith(",DMSO,A01")
    write_sample_tables(plan(None))
    assert "condition" not in (data / "results/d/samples.csv").read_text()
