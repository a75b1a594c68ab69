"""Containers and arrays that are not read are refused before anything is said about the split."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellmill.config.errors import ConfigError
from cellmill.planning.make import make_plan
from project import ROOT

MASKS = {"format": "label_image", "path": "ann/{sample}.png"}


def mistakes(folder, monkeypatch, **section):
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError) as caught:
        make_plan({"datasets": {"d": section}}, presets_dir=ROOT / "resources/models", cache_dir=Path("cache"))
    return caught.value.mistakes


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("suffix", "found"),
    [
        (".mat", "a file of MATLAB .*tifffile"),
        (".ilp", "a project of ilastik"),
        (".zip", "an archive .*Unpack it"),
    ],
)
def test_images_that_are_not_read_are_one_message(tmp_path, monkeypatch, suffix, found):
    touch(tmp_path, *(f"img/{i}{suffix}" for i in range(2)))
    [text] = mistakes(tmp_path, monkeypatch, images=f"img/{{sample}}{suffix}", annotations=MASKS)
    assert text.startswith("datasets.d.images: expected images in a format that is read, found ")
    assert re.search(found, text)
    assert "split" not in text


def test_a_pattern_with_any_suffix_is_judged_by_its_files(tmp_path, monkeypatch):
    touch(tmp_path, "img/a.mat", "img/b.mat")
    [text] = mistakes(tmp_path, monkeypatch, images="img/{sample}.*", annotations=MASKS)
    assert "found a file of MATLAB" in text


@pytest.mark.parametrize(
    ("name", "form", "found"),
    [
        ("ann/{sample}_seg.npy", "label_image", "a file of Cellpose"),
        ("ann/{sample}.h5", "binary", "HDF5"),
        ("ann/{sample}.zip", "mask_folder", "an archive"),
    ],
)
def test_annotations_that_are_not_read_are_one_message(tmp_path, monkeypatch, name, form, found):
    touch(tmp_path, *(name.format(sample=sample) for sample in "ab"))
    (tmp_path / "img").mkdir()
    for sample in "ab":
        tifffile.imwrite(tmp_path / f"img/{sample}.tif", np.zeros((8, 8), np.uint8))
    section = {"images": "img/{sample}.tif", "annotations": {"format": form, "path": name}}
    [text] = mistakes(tmp_path, monkeypatch, **section)
    assert text.startswith("datasets.d.annotations.path: expected annotations in a format that is read, found ")
    assert found in text


def test_archives_of_rois_are_read(tmp_path, monkeypatch):
    (tmp_path / "img").mkdir()
    for i in range(6):
        tifffile.imwrite(tmp_path / f"img/{i}.tif", np.zeros((8, 8), np.uint8))
    touch(tmp_path, *(f"roi/{i}.zip" for i in range(6)))
    monkeypatch.chdir(tmp_path)
    section = {"images": "img/{sample}.tif", "annotations": {"format": "imagej_roi", "path": "roi/{sample}.zip"}}
    plan = make_plan({"datasets": {"d": section}}, presets_dir=ROOT / "resources/models", cache_dir=Path("cache"))
    assert len(plan.samples["d"]) == 6


@pytest.mark.parametrize(
    ("suffix", "found"),
    [
        (".json", "outlines in JSON.* as labelme .* one COCO file"),
        (".xml", "outlines or boxes in XML.* format coco"),
        (".txt", "as YOLO writes them.* format coco"),
        (".csv", "a table .*format rle"),
        (".geojson", "GeoJSON .*Set format: geojson"),
    ],
)
def test_coordinates_in_place_of_masks_are_named(tmp_path, monkeypatch, suffix, found):
    touch(tmp_path, *(f"ann/{i}{suffix}" for i in range(4)))
    (tmp_path / "img").mkdir()
    for i in range(4):
        tifffile.imwrite(tmp_path / f"img/{i}.tif", np.zeros((8, 8), np.uint8))
    masks = {"format": "label_image", "path": f"ann/{{sample}}{suffix}"}
    [text] = mistakes(tmp_path, monkeypatch, images="img/{sample}.tif", annotations=masks)
    assert text.startswith("datasets.d.annotations.path: expected annotations in a format that is read, found ")
    assert re.search(found, text)


def test_a_spreadsheet_in_place_of_a_table_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "runs.xlsx")
    (tmp_path / "img").mkdir()
    for i in range(4):
        tifffile.imwrite(tmp_path / f"img/{i}.tif", np.zeros((8, 8), np.uint8))
    table = {"format": "rle", "table": "runs.xlsx", "order": "row"}
    [text] = mistakes(tmp_path, monkeypatch, images="img/{sample}.tif", annotations=table)
    assert "found a spreadsheet (runs.xlsx). Save it as CSV" in text
