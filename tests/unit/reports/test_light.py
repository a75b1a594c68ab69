"""The illumination profile on the page: what was found, and a picture of it."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cellmill.preprocessing.flat_field import TERMS, FlatField, write_flat_fields
from cellmill.reports.light import SIDE, describe_light

# A ridge along the rows: brightest in the middle column
RIDGE = tuple({(0, 0): 1.0, (0, 2): -0.3}.get(term, 0.0) for term in TERMS)


def describe(tmp_path, **changes):
    write_flat_fields(tmp_path / "flat_field.json", [ridge(**changes)])
    [light] = describe_light(tmp_path / "flat_field.json")
    return light


def ridge(**changes):
    fields = {"rows": 100, "columns": 200, "dark": 0.0, "coefficients": RIDGE, "images": 40, **changes}
    return FlatField(**fields)


def test_the_page_says_what_the_division_changed(tmp_path):
    light = describe(tmp_path, dark=98.5, border_before=0.912, border_after=0.999, error=0.0031)
    text = " ".join(light["sentences"])
    # 1 - 0.3 at the corners, 1 + 0.15 at the centre
    assert "profile that 40 images share, after 98.5 counts were subtracted" in text
    assert f"corners have {70 / 1.15:.1f}" in text
    assert "had 91.2 % of the brightness" in text.replace("\N{NARROW NO-BREAK SPACE}", " ").replace(
        "\N{NO-BREAK SPACE}", " "
    )
    assert "99.9" in text


def test_too_few_images_have_no_error(tmp_path):
    assert describe(tmp_path, images=4)["sentences"][-1] == "There were too few images to measure how reliable it is."


def test_the_picture_is_the_profile(tmp_path):
    light = describe(tmp_path)
    assert (light["rows"], light["columns"]) == (SIDE // 2, SIDE)
    picture = Image.open(io.BytesIO(base64.b64decode(light["uri"].partition(",")[2])))
    row = np.asarray(picture.convert("L"))[light["rows"] // 2].astype(float)
    expected = 1 - 0.3 * (3 * np.linspace(-1, 1, SIDE) ** 2 - 1) / 2
    assert row / row.max() == pytest.approx(expected / expected.max(), abs=0.05)


def test_each_channel_with_a_profile_has_a_picture(tmp_path):
    write_flat_fields(tmp_path / "flat_field.json", [ridge(channel="DAPI"), None, ridge(channel=2)])
    first, second = describe_light(tmp_path / "flat_field.json")
    assert first["caption"].startswith("Illumination profile of channel DAPI, ")
    assert second["sentences"][0] == "Channel 2 was divided by the illumination profile that 40 images share."
