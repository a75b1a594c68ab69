"""Stage check: its measurements, its findings and the errors that stop a run."""

import hashlib
import json

import imagecodecs
import numpy as np
import pytest
import tifffile

from cellmill.annotations.instance import Instance
from cellmill.config.annotations import Annotations
from cellmill.images.rasters import Raster
from cellmill.stages.check_shard import check_shard, describe_objects
from whole_images import encode_rle

SHAPE = (40, 61)


def sample_row(folder, sample, image_yx, *, annotations=(), suffix=".tif"):
    path = folder / f"{sample}{suffix}"
    if suffix == ".tif":
        tifffile.imwrite(path, image_yx)
    else:
        path.write_bytes(imagecodecs.png_encode(image_yx))
    return {"sample": sample, "image": str(path), "annotations": [str(path) for path in annotations]}


def ramp(dtype=np.uint16, *, top=1000, shape=SHAPE):
    return np.linspace(0, top, shape[0] * shape[1]).reshape(shape).astype(dtype)


def disc(row, column, radius, *, shape=SHAPE):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def write_table(path, masks, *, order):
    lines = ["id,annotation", *(f"{sample},{encode_rle(mask, order=order)}" for sample, mask in masks)]
    path.write_text("\n".join(lines) + "\n")
    return path


def check(folder, rows, *, missing="error", channel="luminance", pixel_size_um=None, further=(), **section):
    annotations = Annotations.model_validate(section).model_dump(mode="json") if section else None
    path = folder / "check.json"
    check_shard(
        output_path=path, samples=rows, channel=channel, pixel_size_um=pixel_size_um, annotations=annotations,
        missing=missing, further_channels=further,
    )  # fmt: skip
    return json.loads(path.read_text())


def test_an_image_is_measured(tmp_path):
    image_yx = ramp()
    content = check(tmp_path, [{**sample_row(tmp_path, "a", image_yx), "sequence": "s1"}])
    assert content["findings"] == []
    assert content["annotations"] == []
    [image] = content["images"]
    expected = {
        "sample": "a", "sequence": "s1", "rows": 40, "columns": 61, "dtype": "uint16", "channels": 1, "is_min_is_white": False,
        "pixel_size_um": None, "minimum": 0, "maximum": 1000, "mean": pytest.approx(image_yx.mean()),
        "contrast": pytest.approx(image_yx.std()), "saturated_fraction": 0, "significant_bits": 10,
        "sha256": hashlib.sha256(image_yx.astype("<u2").tobytes() + b"uint16 40 61").hexdigest(),
    }  # fmt: skip
    assert {key: image[key] for key in expected} == expected
    assert set(image) - set(expected) == {"focus", "thumbnail"}


def test_the_same_picture_as_png_and_as_tiff_has_one_digest(tmp_path):
    grey = ramp(np.uint8, top=200)
    colour = np.stack([grey, grey // 2, grey // 3], axis=2)
    rows = [sample_row(tmp_path, f"{name}{suffix[1:]}", array, suffix=suffix)
            for name, array in (("g", grey), ("r", np.stack([grey] * 3, axis=2)), ("c", colour))
            for suffix in (".tif", ".png")]  # fmt: skip
    digests = {image["sample"]: image["sha256"] for image in check(tmp_path, rows)["images"]}
    assert digests["gtif"] == digests["gpng"] == digests["rpng"] == digests["rtif"]
    assert digests["ctif"] == digests["cpng"] != digests["gtif"]


def test_a_plane_of_a_stack_is_measured(tmp_path):
    stack = np.stack([ramp(top=100), ramp(top=300), ramp(top=200)])
    tifffile.imwrite(tmp_path / "z.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    row = {"sample": "z", "image": str(tmp_path / "z.tif"), "annotations": []}
    for place, top in ((2, 200), ("maximum", 300)):
        [image] = check(tmp_path, [{**row, "plane": [["Z", place, 3]]}])["images"]
        assert image["maximum"] == top


@pytest.mark.parametrize(
    ("row_um", "column_um", "given_um", "texts"),
    [
        (0.5, 0.5, None, []),
        (0.5, 0.5, 0.504, []),
        (0.5, 0.5, 0.65, ["the pixel size is 0.5 um in the metadata, but 0.65 um in the config"]),
        (0.5, 0.25, 0.5, ["pixels of 0.5 um along rows and 0.25 um along columns are not square"]),
    ],
)
def test_pixel_sizes_that_contradict_are_warnings(tmp_path, monkeypatch, row_um, column_um, given_um, texts):
    monkeypatch.setattr(Raster, "pixel_size_um", property(lambda raster: (row_um, column_um)))
    content = check(tmp_path, [sample_row(tmp_path, "a", ramp())], pixel_size_um=given_um)
    assert content["images"][0]["pixel_size_um"] == [row_um, column_um]
    assert [finding["finding"] for finding in content["findings"]] == texts
    assert all(finding["severity"] == "warning" for finding in content["findings"])


def test_the_top_of_a_12_bit_camera_is_named(tmp_path):
    image_yx = ramp()
    image_yx[:4] = 4095
    [finding] = check(tmp_path, [sample_row(tmp_path, "a", image_yx)])["findings"]
    assert finding["finding"] == "10.0% of the pixels are at 4095, the maximum of the camera"


def test_saturation_is_the_fraction_at_the_top_of_the_type(tmp_path):
    image_yx = ramp(np.uint8, top=200)
    image_yx[:4] = 255
    content = check(tmp_path, [sample_row(tmp_path, "a", image_yx)])
    assert content["images"][0]["saturated_fraction"] == pytest.approx(0.1)
    assert [(f["severity"], f["sample"]) for f in content["findings"]] == [("warning", "a")]
    assert "10.0% of the pixels are at the maximum of uint8" in content["findings"][0]["finding"]


def test_a_constant_image_is_a_warning(tmp_path):
    content = check(tmp_path, [sample_row(tmp_path, "a", np.full(SHAPE, 7, np.uint8))])
    assert [(f["severity"], f["finding"]) for f in content["findings"]] == [("warning", "every pixel has the value 7")]


def test_colours_are_noted_and_grey_in_rgba_is_not(tmp_path):
    grey = ramp(np.uint8, top=200)
    rgba = np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=2)
    colour = np.stack([grey, grey // 2, grey // 3], axis=2)
    rows = [sample_row(tmp_path, "g", rgba, suffix=".png"), sample_row(tmp_path, "c", colour, suffix=".png")]
    content = check(tmp_path, rows)
    assert [image["channels"] for image in content["images"]] == [4, 3]
    assert [(f["severity"], f["sample"], f["finding"]) for f in content["findings"]] == [
        ("note", "c", "colours are converted to luminance")
    ]
    assert check(tmp_path, rows, channel=1)["findings"] == []


def test_an_image_that_lacks_one_of_several_channels_is_refused(tmp_path):
    rows = [
        sample_row(tmp_path, "c", np.stack([ramp(np.uint8, top=200) // n for n in (1, 2, 3)], axis=2), suffix=".png")
    ]
    check(tmp_path, rows, channel=0, further=[1, 2])
    with pytest.raises(ValueError, match=r"c\.png: expected at least 8 channels, found 3"):
        check(tmp_path, rows, channel=0, further=[2, 7])


def test_objects_are_counted(tmp_path):
    masks = [("a", disc(20, 20, 5)), ("a", disc(0, 50, 6)), ("a", disc(33, 40, 3)), ("a", np.zeros(SHAPE, bool))]
    table = write_table(tmp_path / "t.csv", masks, order="row")
    content = check(tmp_path, [sample_row(tmp_path, "a", ramp())], format="rle", order="row", table=str(table))
    [truth] = content["annotations"]
    expected = {"sample": "a", "objects": 3, "touching_border": 1, "empty": 1, "broken": 0, "overlapping": 0}
    assert {key: truth[key] for key in expected} == expected
    assert truth["areas_px"] == sorted(int(mask.sum()) for _, mask in masks[:3])
    assert content["findings"][0]["finding"] == "1 of 4 annotations contain no pixels"


@pytest.mark.parametrize("order", ["row", "column"])
def test_runs_counted_the_other_way_stop_the_run(tmp_path, order):
    table = write_table(tmp_path / "t.csv", [("a", disc(20, 20, 6)), ("a", disc(30, 40, 5))], order=order)
    rows = [sample_row(tmp_path, "a", ramp())]
    other = {"row": "column", "column": "row"}[order]
    with pytest.raises(
        ValueError, match=rf"1 image \(a\) that become compact when .* by {order}\. Set annotations\.order"
    ):
        check(tmp_path, rows, format="rle", order=other, table=str(table))
    assert not (tmp_path / "check.json").exists()
    assert check(tmp_path, rows, format="rle", order=order, table=str(table))["annotations"][0]["objects"] == 2


def test_thin_objects_are_not_taken_for_the_wrong_order(tmp_path):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    diagonal = np.abs(y - x) <= 1
    table = write_table(tmp_path / "t.csv", [("a", diagonal), ("a", diagonal[::-1])], order="row")
    assert check(tmp_path, [sample_row(tmp_path, "a", ramp())], format="rle", order="row", table=str(table))


def test_a_binary_image_of_mostly_objects_is_noted_with_its_key(tmp_path):
    path = tmp_path / "m.png"
    path.write_bytes(imagecodecs.png_encode(np.where(disc(20, 20, 5), 0, 255).astype(np.uint8)))
    row = sample_row(tmp_path, "a", ramp(), annotations=[path])
    findings = check(tmp_path, [row], format="binary", path="m.png")["findings"]
    assert [(f["severity"], f["finding"]) for f in findings] == [("note", "objects cover 97% of the image")]
    assert "annotations.foreground to zero" in findings[0]["advice"]


def test_broken_outlines_and_a_full_image_are_remarked(tmp_path):
    row = sample_row(tmp_path, "a", ramp())
    broken = Instance(2, 2, np.ones((3, 3), bool), "1", broken="outline extends beyond the image")
    section = Annotations.model_validate({"format": "coco", "table": "t.json"}).model_dump(mode="json")
    truth, [finding] = describe_objects(row, [broken], shape=SHAPE, annotations=section)
    assert truth["broken"] == 1
    assert finding["finding"] == "1 of 1 annotations are broken (outline extends beyond the image)"
    full = Instance(0, 0, np.ones(SHAPE, bool), "1")
    _, [finding] = describe_objects(row, [full], shape=SHAPE, annotations=section)
    assert (finding["severity"], finding["finding"]) == ("note", "objects cover 100% of the image")
    assert "background was annotated" in finding["advice"]


def test_transposed_masks_of_square_images_stop_the_run(tmp_path):
    rng = np.random.default_rng(0)
    shape = (150, 150)
    masks = [disc(*rng.uniform(6, 144, 2), 4, shape=shape) for _ in range(40)]
    image_yx = (rng.normal(100, 5, shape) + 50 * np.any(masks, axis=0)).astype(np.uint16)
    table = write_table(tmp_path / "t.csv", [("a", mask) for mask in masks], order="row")
    rows = [sample_row(tmp_path, "a", image_yx)]
    assert check(tmp_path, rows, format="rle", order="row", table=str(table))["annotations"][0]["objects"] == 40
    with pytest.raises(
        ValueError, match=r"found this in 1 image \(a\) .* counted by row\. Set annotations\.order to row"
    ):
        check(tmp_path, rows, format="rle", order="column", table=str(table))


def test_everything_that_spoils_a_result_is_listed_at_once(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("id,annotation,width,height\na,2441 1,61,40\nb,1 3,40,61\n")
    broken = tmp_path / "c.tif"
    broken.write_text("no image")
    rows = [sample_row(tmp_path, name, ramp()) for name in "abd"]
    rows.append({"sample": "c", "image": str(broken), "annotations": []})
    with pytest.raises(ValueError, match="4 problems with the data") as caught:
        check(tmp_path, rows, format="rle", order="row", table=str(table))
    text = str(caught.value)
    for part in ("none for 2 of 4: d, c", "ends at pixel 2441", "height 61 and width 40", "c.tif: expected TIFF"):
        assert part in text
    assert "Traceback" not in text


def test_images_without_annotation_may_be_unlabelled_or_empty(tmp_path):
    rows = [sample_row(tmp_path, "a", ramp())]
    section = {"format": "mask_folder", "path": "masks/*"}
    assert check(tmp_path, rows, missing="unlabelled", **section)["annotations"] == []
    empty = check(tmp_path, rows, missing="empty", **section)["annotations"]
    assert [(truth["sample"], truth["objects"], truth["median_area_px"]) for truth in empty] == [("a", 0, None)]
    with pytest.raises(ValueError, match="expected an annotation for every image"):
        check(tmp_path, rows, **section)


def test_real_tables_read_the_wrong_way_are_found(tmp_path, real_data):
    folder = real_data / "sartorius_cell_instance"
    rows = [
        {"sample": path.stem, "image": str(path), "annotations": []}
        for path in sorted((folder / "train").glob("*.png"))
    ]
    with pytest.raises(ValueError, match=r"streaks across 5 images .* Set annotations\.order to row"):
        check(tmp_path, rows, format="rle", order="column", table=str(folder / "train.csv"))
