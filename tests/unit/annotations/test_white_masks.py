"""Masks with MinIsWhite or an orientation: what viewers show, what was stored, and what has to be decided by the user."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellmill.annotations.reading import read_instances
from cellmill.checks.pictures import remark_on_masks
from cellmill.config.annotations import Annotations

SHAPE = (20, 32)
PHOTOMETRIC = 262


def objects():
    """Return a label image of two objects that cover less than half of the image."""
    labels_yx = np.zeros(SHAPE, np.uint8)
    labels_yx[3:9, 4:12] = 1
    labels_yx[11:18, 15:30] = 2
    return labels_yx


def settings(file_format="binary", **section):
    section = {"format": file_format, "path": "x", **section}
    return Annotations.model_validate(section).model_dump(mode="json", exclude={"missing"})


def read(path, *, shape=SHAPE, **section):
    row = {"sample": "a", "image": "a.tif", "annotations": [str(path)]}
    instances = read_instances(row, shape=shape, annotations=settings(**section), table=None)
    drawn_yx = np.zeros(shape, np.uint8)
    for number, each in enumerate(instances, start=1):
        height, width = each.mask_yx.shape
        drawn_yx[each.row : each.row + height, each.column : each.column + width][each.mask_yx] = number
    return drawn_yx, [remark for _, remark in remark_on_masks(row, annotations=settings(**section))]


def write_white(path, stored):
    tifffile.imwrite(path, stored, photometric="miniswhite", metadata=None, software=False)
    return path


def write_fax(path, shown, compression="group4"):
    """Write one bit per pixel; true is shown white and stored as 0."""
    Image.fromarray(shown).save(path, compression=compression, tiffinfo={PHOTOMETRIC: 0})
    return path


@pytest.mark.parametrize("compression", ["group4", "tiff_ccitt", "group3", "raw"])
def test_objects_of_a_one_bit_min_is_white_mask_are_shown_white(tmp_path, compression):
    path = write_fax(tmp_path / "m.tif", objects() > 0, compression)
    assert np.array_equal(np.array(Image.open(path)), objects() > 0)
    drawn_yx, remarks = read(path)
    assert np.array_equal(drawn_yx, objects())
    assert [(severity, "viewers show white" in text) for severity, text, _ in remarks] == [("note", True)]


def test_a_boolean_array_of_tifffile_keeps_its_meaning(tmp_path):
    for name, mask in (("few", objects() > 0), ("most", objects() == 0)):
        tifffile.imwrite(tmp_path / f"{name}.tif", mask)
        drawn_yx, remarks = read(tmp_path / f"{name}.tif")
        assert np.array_equal(drawn_yx > 0, mask)
        assert remarks == []


def test_an_inverted_look_up_table_of_imagej_keeps_the_stored_objects_and_is_a_warning(tmp_path):
    drawn_yx, remarks = read(write_white(tmp_path / "m.tif", np.where(objects() > 0, 255, 0).astype(np.uint8)))
    assert np.array_equal(drawn_yx, objects())
    [(severity, text, advice)] = remarks
    assert severity == "warning"
    assert "nonzero stored numbers" in text
    assert "Set annotations.foreground to nonzero" in advice


@pytest.mark.parametrize("top", [1, 255])
def test_a_mask_whose_stored_objects_may_be_the_background_is_refused_until_the_config_decides(tmp_path, top):
    path = write_white(tmp_path / "m.tif", np.where(objects() > 0, 0, top).astype(np.uint8))
    with pytest.raises(
        ValueError, match=r"sample a, .*found MinIsWhite .* with 76% of the pixels as objects.*foreground"
    ):
        read(path)
    drawn_yx, remarks = read(path, foreground="zero")
    assert np.array_equal(drawn_yx, objects())
    assert remarks == []
    drawn_yx, remarks = read(path, foreground="nonzero")
    assert np.array_equal(drawn_yx > 0, objects() == 0)
    assert remarks == []


def test_an_explicit_foreground_is_about_stored_numbers_also_with_one_bit(tmp_path):
    path = write_fax(tmp_path / "m.tif", objects() > 0)
    assert np.array_equal(read(path, foreground="zero")[0], objects())
    assert np.array_equal(read(path, foreground="nonzero")[0] > 0, objects() == 0)


def test_a_min_is_black_mask_is_read_by_its_numbers_with_and_without_the_key(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", np.where(objects() > 0, 0, 255).astype(np.uint8), photometric="minisblack")
    for section, expected in (({}, objects() == 0), ({"foreground": "zero"}, objects() > 0)):
        drawn_yx, remarks = read(tmp_path / "m.tif", **section)
        assert np.array_equal(drawn_yx > 0, expected)
        assert remarks == []


def test_labels_with_min_is_white_keep_their_numbers_unless_the_background_has_the_largest(tmp_path):
    path = write_white(tmp_path / "m.tif", objects())
    drawn_yx, remarks = read(path, file_format="label_image")
    assert np.array_equal(drawn_yx, objects())
    assert [severity for severity, _, _ in remarks] == ["warning"]
    with pytest.raises(ValueError, match="MinIsWhite"):
        read(write_white(tmp_path / "m.tif", 255 - objects()), file_format="label_image")


@pytest.mark.parametrize("file_format", ["mask_folder", "color_components"])
def test_formats_without_the_key_read_what_was_stored_or_refuse(tmp_path, file_format):
    is_object = objects() == 1
    drawn_yx, _ = read(
        write_white(tmp_path / "m.tif", np.where(is_object, 255, 0).astype(np.uint8)), file_format=file_format
    )
    assert np.array_equal(drawn_yx, is_object)
    assert np.array_equal(read(write_fax(tmp_path / "f.tif", is_object), file_format=file_format)[0], is_object)
    with pytest.raises(ValueError, match="save the mask with MinIsBlack"):
        read(write_white(tmp_path / "m.tif", np.where(is_object, 0, 255).astype(np.uint8)), file_format=file_format)


@pytest.mark.parametrize(("orientation", "undo"), [(3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, 1))])
def test_labels_with_an_orientation_are_turned_like_images(tmp_path, orientation, undo):
    stored = np.ascontiguousarray(undo(objects()))
    tifffile.imwrite(tmp_path / "m.tif", stored, extratags=[(274, 3, 1, orientation, True)], metadata=None)
    drawn_yx, remarks = read(tmp_path / "m.tif", file_format="label_image")
    assert np.array_equal(drawn_yx, objects())
    assert "degrees" in remarks[0][1]


def test_a_mask_of_the_unturned_picture_is_refused_with_the_reason(tmp_path):
    tifffile.imwrite(tmp_path / "m.tif", objects())
    with pytest.raises(ValueError, match="Rows and columns are exchanged: if the image has an orientation"):
        read(tmp_path / "m.tif", shape=SHAPE[::-1], file_format="label_image")
