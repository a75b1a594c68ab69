"""Stage check: what it says about turned, inverted and defective pictures and about resolutions of printers."""

import json

import numpy as np
import pandas as pd
import tifffile
from PIL import Image

from cellmill.config.annotations import Annotations
from cellmill.stages.check_dataset import summarize_check
from cellmill.stages.check_shard import check_shard

SHAPE = (40, 61)
ORIENTATION = 274


def field(seed=0):
    image_yx = np.random.default_rng(seed).normal(100, 20, SHAPE)
    image_yx[10:20, 15:30] += 700
    return np.clip(image_yx, 1, None).round().astype(np.uint16)


def grey(seed=0):
    return (field(seed) // 4).astype(np.uint8)


def row(path, annotations=()):
    return {"sample": path.stem, "image": str(path), "annotations": [str(each) for each in annotations]}


def check(folder, rows, *, pixel_size_um=None, **section):
    annotations = Annotations.model_validate(section).model_dump(mode="json", exclude={"missing"}) if section else None
    check_shard(
        output_path=folder / "test-0000.json", samples=rows, channel="luminance", pixel_size_um=pixel_size_um,
        annotations=annotations, missing="error",
    )  # fmt: skip
    return json.loads((folder / "test-0000.json").read_text())


def texts(content):
    return [(finding["severity"], finding["finding"]) for finding in content["findings"]]


def test_a_turned_image_is_measured_as_shown_and_noted(tmp_path):
    image = Image.fromarray(grey())
    image.getexif()[ORIENTATION] = 6
    image.save(tmp_path / "a.png", exif=image.getexif())
    content = check(tmp_path, [row(tmp_path / "a.png")])
    assert (content["images"][0]["rows"], content["images"][0]["columns"]) == SHAPE[::-1]
    assert texts(content) == [("note", "the picture was turned by 90 degrees clockwise, as its orientation (6) states")]


def test_a_turned_tiff_is_a_warning_because_imagej_does_not_turn_it(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", grey(), extratags=[(ORIENTATION, 3, 1, 4, True)], metadata=None)
    content = check(tmp_path, [row(tmp_path / "a.tif")])
    assert texts(content) == [("warning", "the picture was mirrored top to bottom, as its orientation (4) states")]
    assert "ImageJ" in content["findings"][0]["advice"]


def test_turned_images_and_their_upright_labels_fit(tmp_path):
    labels_yx = (field() > 400).astype(np.uint8)
    tifffile.imwrite(tmp_path / "l.tif", labels_yx)
    for orientation, undo in ((3, lambda a: a[::-1, ::-1]), (8, lambda a: np.rot90(a, -1)), (5, lambda a: a.T)):
        path = tmp_path / f"a{orientation}.tif"
        stored = np.ascontiguousarray(undo(field()))
        tifffile.imwrite(path, stored, extratags=[(ORIENTATION, 3, 1, orientation, True)], metadata=None)
        content = check(tmp_path, [row(path, [tmp_path / "l.tif"])], format="label_image", path="x")
        assert content["annotations"][0]["areas_px"] == [150]
        assert content["images"][0]["rows"] == SHAPE[0]


def test_a_folder_that_mixes_min_is_white_and_min_is_black_is_a_warning(tmp_path):
    rows = []
    for name, photometric in (("a", "miniswhite"), ("b", "minisblack"), ("c", "miniswhite")):
        shown = grey(seed=ord(name))
        stored = 255 - shown if photometric == "miniswhite" else shown
        tifffile.imwrite(tmp_path / f"{name}.tif", stored, photometric=photometric)
        rows.append(row(tmp_path / f"{name}.tif"))
    content = check(tmp_path, rows)
    assert [image["mean"] > 30 for image in content["images"]] == [True] * 3
    assert all(image["mean"] < 60 for image in content["images"])
    assert [text for _, text in texts(content)] == [
        "the image is MinIsWhite; it was inverted, as viewers show it: 255 minus the number"
    ] * 2
    summarize_check(
        summary_path=tmp_path / "summary.csv", images_path=tmp_path / "i.csv", annotations_path=tmp_path / "n.csv",
        findings_paths=[tmp_path / "test-0000.json"], dataset="d", parts={"test-0000": "test"}, remarks=[], files={}, annotations=None, models={},
    )  # fmt: skip
    found = pd.read_csv(tmp_path / "summary.csv")
    warnings = found[found["severity"] == "warning"]["finding"].tolist()
    assert warnings == ["images have different brightness scales: MinIsWhite (2 images), MinIsBlack (1 images)"]


def test_a_hot_pixel_is_named_with_its_place_and_value(tmp_path):
    for name, value, dtype in (("a", 65535, np.uint16), ("b", 1e30, np.float32)):
        image_yx = field().astype(dtype)
        image_yx[30, 7] = value
        tifffile.imwrite(tmp_path / f"{name}.tif", image_yx)
        [(severity, text)] = texts(check(tmp_path, [row(tmp_path / f"{name}.tif")]))
        highest = field().max()
        assert severity == "warning"
        assert f"row 30, column 7 has the value {value:g}" in text
        assert f"{value / highest:.3g} times brighter than any other" in text


def test_a_hot_column_is_named(tmp_path):
    image_yx = field()
    image_yx[:, 33] = 60000
    tifffile.imwrite(tmp_path / "a.tif", image_yx)
    [(severity, text)] = texts(check(tmp_path, [row(tmp_path / "a.tif")]))
    assert severity == "warning"
    assert text.startswith("defective lines of the camera: column 33;")


def test_the_resolution_of_a_printer_is_noted_unless_the_config_has_a_pixel_size(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", grey(), metadata=None, resolution=(118.11,) * 2, resolutionunit="CENTIMETER")
    content = check(tmp_path, [row(tmp_path / "a.tif")])
    assert content["images"][0]["pixel_size_um"] is None
    assert texts(content) == [
        ("note", "the resolution in the metadata, 300 dots per inch, is that of a printer or screen, and no pixel size")
    ]
    assert texts(check(tmp_path, [row(tmp_path / "a.tif")], pixel_size_um=0.5)) == []


def test_a_look_up_table_is_noted(tmp_path):
    step = np.arange(256, dtype=np.uint16) * 257
    table = np.stack([0 * step, step, 0 * step])
    tifffile.imwrite(tmp_path / "a.tif", grey(), photometric="palette", colormap=table, metadata=None)
    content = check(tmp_path, [row(tmp_path / "a.tif")])
    assert texts(content) == [("note", "the colour table only shades intensities; the stored numbers were read")]
    assert content["images"][0]["maximum"] == grey().max()


def test_many_isolated_pixels_are_a_warning_and_not_called_defects(tmp_path):
    image_yx = field()
    image_yx[30::3, 3::9] = 60000
    tifffile.imwrite(tmp_path / "a.tif", image_yx)
    [(severity, text)] = texts(check(tmp_path, [row(tmp_path / "a.tif")]))
    count = int((image_yx == 60000).sum())
    assert (severity, text.split(";")[0]) == ("warning", f"{count} pixels have extreme values")
