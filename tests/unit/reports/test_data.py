"""The data chapter: sizes of rescaled images beside those of raw images."""

from cellmill.preprocessing.geometry import plan_fit, plan_rescale
from cellmill.reports.data import describe_data

ENTRY = {
    "saturated_fraction": 0.0, "focus": None, "dtype": "uint8", "rows": 40, "columns": 60, "minimum": 0, "maximum": 9,
    "pixel_height_um": None, "pixel_width_um": None,
}  # fmt: skip
SAMPLES = [{"sample": name, "split": part} for name, part in (("a", "test"), ("b", "test"), ("c", "train"))]


def describe(geometries):
    [table] = describe_data(SAMPLES, images=dict.fromkeys("abc", ENTRY), annotations={}, geometries=geometries)
    heads = [column.label for column in table.columns]
    return {row[0].text: dict(zip(heads, (cell.text for cell in row), strict=True)) for row in table.rows}


def test_rescaled_images_show_their_size_and_scale():
    geometries = {
        name: plan_rescale((40, 60), factors=(factor, factor), mode="none", size=None)
        for name, factor in (("a", 0.5), ("b", 0.25))
    }
    rows = describe(geometries)
    assert rows["test"]["Size for the networks"] == "10 to 20 × 15 to 30"
    assert rows["test"]["Scale"] == "0.25 to 0.5"
    assert rows["test"]["Size"] == "40 × 60"
    # Only images in the gallery are known.
    assert rows["train"]["Scale"] not in ("0.5", "1")


def test_resized_images_show_it_too():
    rows = describe({"a": plan_fit((40, 60), mode="resize", size=[20, 30])})
    assert (rows["test"]["Size for the networks"], rows["test"]["Scale"]) == ("20 × 30", "0.5")


def test_images_of_their_own_size_need_no_further_columns():
    assert "Scale" not in describe({"a": plan_fit((40, 60), mode="none", size=None)})["test"]
