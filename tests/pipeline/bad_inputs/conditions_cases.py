"""Cases of bad input: conditions of an experiment and sample sheets."""

from pathlib import Path
from typing import Any

from pipeline.bad_inputs.cases import case, pixels, put, put_png

CHAPTER = "Conditions of an experiment"
TABLE = "datasets.{name}.conditions.table: {folder}/sheet.csv: "
WELLS = ("A01", "A02", "B01", "B02")
ROWS = ("A01,0", "A02,0", "B01,10", "B02,10")


def plate(folder: Path, sheet: bytes | str | None = None, **conditions: Any) -> dict[str, Any]:
    """Write four images and a sample sheet, and return their config section."""
    for well in WELLS:
        put_png(folder / f"images/{well}_1.png", pixels())
    if sheet is None:
        sheet = "\n".join(["well,dose", *ROWS])
    if sheet != "":
        put(folder / "sheet.csv", sheet)
    section = {"column": "dose", "replicate": "well", "table": f"{folder}/sheet.csv", **conditions}
    return {
        "images": f"{folder}/images/{{well}}_{{field}}.png",
        "conditions": {key: value for key, value in section.items() if value is not None},
    }


@case(
    CHAPTER, "plan",
    "datasets.{name}.conditions.column: expected a wildcard of images or a column of {folder}/sheet.csv, found 'doze'. Did "
    "you mean dose? Known: dose, field, sample, well.",
)  # fmt: skip
def a_condition_in_no_column(folder):
    return plate(folder, column="doze")


@case(
    CHAPTER, "plan",
    "datasets.{name}.conditions.replicate: expected a wildcard of images, found 'donor'. Known: field, sample, well.",
)  # fmt: skip
def a_replicate_in_no_wildcard(folder):
    return plate(folder, table=None, column="well", replicate="donor")


@case(
    CHAPTER, "plan",
    "datasets.{name}.conditions.control: expected a condition of dose, found 'DMSO'. Set it to one of '0', '10'; quote "
    "numbers to keep their zeros.",
)  # fmt: skip
def a_control_that_no_image_has(folder):
    return plate(folder, control="DMSO")


@case(
    CHAPTER, "plan",
    "datasets.{name}.conditions.column: expected a condition besides the control, found only '1' in field. Set column to "
    "another wildcard or column, or remove control.",
)  # fmt: skip
def an_experiment_of_controls(folder):
    return plate(folder, table=None, column="field", control=1)


@case(
    CHAPTER, "plan",
    "datasets.{name}.conditions.control: expected a valid string, found False. YAML reads on, yes, off and no as true or "
    "false. Quote the text.",
)  # fmt: skip
def a_control_called_no(folder):
    return plate(folder, control=False)


@case(
    CHAPTER, "plan",
    "datasets.{name}.conditions.replicate: expected one dose for each replicate, the unit that was treated as a whole, found "
    "0, 10 in '1'. Correct the names, or set replicate: [field, well].",
)  # fmt: skip
def a_replicate_with_two_conditions(folder):
    return plate(folder, replicate="field")


@case(
    CHAPTER, "plan",
    TABLE + "expected one dose for the images of a row, found 0, 1 in rows 2, 6, which fit the same images. Correct the "
    "rows, or add a column that tells the images apart.",
)  # fmt: skip
def rows_of_a_sheet_that_contradict_each_other(folder):
    return plate(folder, "\n".join(["well,dose", *ROWS, "A1,1"]))


@case(
    CHAPTER, "plan",
    "datasets.{name}.conditions.column: expected a dose for each image with a row in the sheet, found empty cells for 1 of 4 "
    "images (A02_1). Fill them in, or remove the rows to leave the images out.",
)  # fmt: skip
def an_empty_cell_of_a_sheet(folder):
    return plate(folder, "\n".join(["well,dose", "A01,0", "A02,", *ROWS[2:]]))


@case(
    CHAPTER, "plan",
    TABLE + "expected rows for the images, found none: the images have well A01, A02, B01, B02, the sheet has C01, C02. Write "
    "the names in the sheet as in the paths of the images; spreadsheets remove leading zeros.",
)  # fmt: skip
def a_sheet_of_other_wells(folder):
    return plate(folder, "well,dose\nC01,0\nC02,1\n")


@case(
    CHAPTER, "plan",
    TABLE + "expected a column with the name of a wildcard of the images (field, sample, well), found position, dose. Rename "
    "the column that ties rows to images.",
)  # fmt: skip
def a_sheet_without_a_common_column(folder):
    return plate(folder, "\n".join(["position,dose", *ROWS]))


@case(
    CHAPTER, "plan",
    "datasets.{name}.conditions.table: expected a CSV file, found no file {folder}/sheet.csv. Check the path.",
)  # fmt: skip
def a_missing_sheet(folder):
    return plate(folder, "")


@case(
    CHAPTER, "plan",
    TABLE + "expected a CSV table, found something else (<...>). Save the sheet as CSV with commas, in UTF-8.",
)  # fmt: skip
def a_spreadsheet_as_sheet(folder):
    return plate(folder, b"PK\x03\x04\x14\x00\x06\x00\xff\xfe\x00\x9c")


@case(
    CHAPTER, "plan",
    TABLE + "expected columns separated by commas, found semicolons in 'well;dose'. Save the sheet as CSV with commas, in "
    "UTF-8.",
)  # fmt: skip
def a_sheet_with_semicolons(folder):
    return plate(folder, "\n".join(["well,dose", *ROWS]).replace(",", ";"))


@case(CHAPTER, "plan", TABLE + "expected a header and rows, found only a header. Add a row for each image.")
def a_sheet_without_rows(folder):
    return plate(folder, "well,dose\n,\n")


@case(
    CHAPTER, "plan",
    TABLE + "expected different column names, found dose twice. Rename or remove one.",
)  # fmt: skip
def a_sheet_with_a_column_twice(folder):
    return plate(folder, "well,dose,dose\nA01,0,0\n")


@case(
    CHAPTER, "plan",
    "datasets.{name}.conditions.table: {folder}/sheet.csv, row 2: expected 2 cells as in the header, found 3. Quote cells "
    "that contain a comma.",
)  # fmt: skip
def a_sheet_with_a_comma_in_a_cell(folder):
    return plate(folder, "\n".join(["well,dose", "A01,0,5", *ROWS[1:]]))


@case(
    CHAPTER, "plan",
    "datasets.{name}: expected images with conditions, found simulate, whose images have no conditions. Remove conditions, or "
    "set images.",
)  # fmt: skip
def conditions_of_a_simulation(folder):
    return {"simulate": {"images": 3}, "conditions": {"column": "sample", "replicate": "sample"}}


@case(
    CHAPTER, "plan",
    "datasets.{name}.conditions.features: expected objects_per_image or a column of objects.csv, found 'colour'. Known: "
    "<...>.",
    is_judged_last=True,
)  # fmt: skip
def a_feature_that_is_no_column(folder):
    return plate(folder, features=["colour"])


@case(
    CHAPTER, "plan",
    "datasets.{name}.conditions.model: expected a model of this dataset, found 'unet'. Known: classical.",
    is_judged_last=True,
)  # fmt: skip
def conditions_of_a_model_that_is_not_there(folder):
    return plate(folder, model="unet")
