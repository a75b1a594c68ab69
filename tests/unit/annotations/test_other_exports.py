"""Annotation files of other programs: read if they are COCO in another form, else recognised and refused."""

import json

import pytest

from cellmill.annotations.coco import index_coco, read_coco_table

IMAGES = [{"id": 4, "file_name": "a.png"}, {"id": 7, "file_name": "b.png"}]
SQUARE = [[1, 1, 5, 1, 5, 5, 1, 5]]
ENTRIES = [{"id": i, "image_id": i, "category_id": 1, "segmentation": SQUARE} for i in (4, 7)]


def write(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def refused(tmp_path, content, message):
    with pytest.raises(
        ValueError, match=rf"^where: .*a\.json: expected annotations as COCO instances, found {message}"
    ):
        index_coco(write(tmp_path, content), where="where")


@pytest.mark.parametrize(
    "content",
    [
        {"images": {str(one["id"]): one for one in IMAGES}, "annotations": ENTRIES},
        {"images": IMAGES, "annotations": {str(one["id"]): one for one in ENTRIES}},
        # keys in place of ids
        {
            "annotations": {"4": {"image_id": 4, "segmentation": SQUARE}, "x": {"image_id": 7, "segmentation": SQUARE}},
            "images": {"4": {"file_name": "a.png"}, "7": {"file_name": "b.png"}},
        },
    ],
)
def test_an_object_of_entries_is_read_as_the_list_of_its_values(tmp_path, content):
    table = read_coco_table({"table": str(write(tmp_path, content))}, samples=["a", "b"])
    assert {sample: len(entry.annotations) for sample, entry in table.items()} == {"a": 1, "b": 1}
    assert set(index_coco(write(tmp_path, content), where="x")[0]) == {"a", "b"}


def test_an_object_whose_values_are_no_entries_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a list images, found an object with the key 4"):
        index_coco(write(tmp_path, {"images": {"4": "a.png"}, "annotations": []}), where="where")


def test_a_list_of_annotations_is_refused_with_what_is_missing(tmp_path):
    refused(tmp_path, ENTRIES, r'a list of annotations without images.* write \{"images"')


def test_json_lines_are_refused(tmp_path):
    refused(tmp_path, "\n".join(map(json.dumps, [{"images": IMAGES}, {"annotations": ENTRIES}])), "JSON lines")
    refused(tmp_path, "\n".join(map(json.dumps, ENTRIES)), "JSON lines")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>', "an XML file of CVAT.* COCO 1.0"),
        (
            [{"id": 1, "annotations": [{"result": [{"value": {"format": "rle", "brushlabels": ["cell"]}}]}]}],
            "an export of Label Studio.*Brush labels to PNG",
        ),
        (
            [{"id": 1, "annotations": [{"result": [{"value": {"polygonlabels": ["cell"], "points": [[50, 50]]}}]}]}],
            "an export of Label Studio",
        ),
        ({"shapes": [], "imagePath": "a.png"}, "a file of labelme"),
        ({"_via_settings": {}, "_via_img_metadata": {}}, "a project of VIA"),
        ({"type": "FeatureCollection", "features": []}, "a GeoJSON file"),
    ],
)  # fmt: skip
def test_files_of_other_programs_are_refused_with_the_way_to_export_what_is_read(tmp_path, content, message):
    refused(tmp_path, content, message)
