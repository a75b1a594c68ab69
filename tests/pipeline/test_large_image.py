"""Stages on 8,192 x 8,192 px within the memory equivalent to 4 GB for 30,000 x 30,000 px (`make full-size`)."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

sys.path.insert(0, str(Path(__file__).resolve().parent))

import large

SIDE = 8192


pytestmark = pytest.mark.long  # the stages run on large images


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slide")
    large.write_slide(folder / "slide.tif", side=SIDE, kind="image")
    return folder


@pytest.mark.parametrize(("form", "kind"), [("label_image", "labels"), ("binary", "mask")])
def test_check_preprocess_and_rasterize_take_the_memory_of_a_band(slide, form, kind):
    objects = large.write_slide(slide / f"{form}.tif", side=SIDE, kind=kind)
    limit_mb = large.BYTES_PER_PIXEL * SIDE**2 / 1e6
    for stage, peak_mb, _ in large.measure(slide, form):
        assert peak_mb < limit_mb, stage
    labels_yx = tifffile.imread(slide / f"labels_{form}" / "slide.tif")
    drawn = np.unique(labels_yx)
    assert labels_yx.shape == (SIDE, SIDE)
    assert len(drawn[drawn > 0]) == objects
    truth_yx = tifffile.imread(slide / f"{form}.tif")
    assert np.array_equal(labels_yx > 0, truth_yx > 0)
    image_yx = tifffile.memmap(slide / f"images_{form}" / "slide.tif", mode="r")
    if form == "label_image":
        assert np.array_equal(image_yx, tifffile.imread(slide / "slide.tif"))
    else:
        assert abs(float(image_yx[:, ::61].mean())) < 20


def test_later_stages_take_the_memory_of_a_row_of_tiles_and_of_a_window(tmp_path):
    """Image, probabilities and labels of 4,096 x 4,096 px alone take 270 MB; the windows are smaller than the image."""
    side = 4096
    objects = large.write_slide(tmp_path / "slide.tif", side=side, kind="image")
    large.write_slide(tmp_path / "label_image.tif", side=side, kind="labels")
    stages = ("preprocess", "rasterize", *large.LAST_STAGES)
    peaks = {stage: peak_mb for stage, peak_mb, _ in large.measure(tmp_path, "label_image", stages=stages)}
    assert max(peaks.values()) < large.FLAT_MB
    with tifffile.TiffFile(tmp_path / "predicted" / "slide.tif") as tiff:
        assert [page.shape for page in tiff.pages] == [(side, side)] * 3
    labels_yx = tifffile.imread(tmp_path / "segmentation" / "slide.tif")
    assert len(np.unique(labels_yx)) - 1 == objects
    y, x = np.mgrid[:side, :side]
    half = large.STEP // 2
    is_object = ((y % large.STEP - half) ** 2 + (x % large.STEP - half) ** 2) <= large.RADIUS**2
    # Noise shifts pixels of the border by up to one pixel.
    assert np.mean((labels_yx > 0) == is_object) > 0.99
    table = pd.read_csv(tmp_path / "segmentation" / "objects.csv")
    assert len(table) == objects
    assert table["area_px"].sum() == np.count_nonzero(labels_yx)
    [counted] = json.loads((tmp_path / "counts.json").read_text())["images"]
    final = counted["geometry"]["raw"]["postprocessed"]
    assert final["matches"][0] == final["n_true"] == final["n_predicted"] == objects
    assert final["tp"] + final["fp"] == table["area_px"].sum()
    [errors], pictures = json.loads((tmp_path / "picture.json").read_text())
    assert errors == {"found": objects, "missed": 0, "false": 0, "split": 0, "merged": 0}
    assert len(pictures) == 6  # raw and preprocessed are the same picture
    exported = json.loads((tmp_path / "objects.coco.json").read_text())["annotations"]
    assert sum(entry["area"] for entry in exported) == table["area_px"].sum()
    assert len(zipfile.ZipFile(tmp_path / "rois" / "slide.zip").namelist()) == objects
    assert len(json.loads((tmp_path / "geojson" / "slide.geojson").read_text())["features"]) == objects
