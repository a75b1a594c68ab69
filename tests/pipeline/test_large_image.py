"""A slide of 8,192 x 8,192 px in the memory that 4 GB for 30,000 x 30,000 px imply (`make full-size` shows those)."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

sys.path.insert(0, str(Path(__file__).resolve().parent))

import large

SIDE = 8192


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slide")
    large.write_slide(folder / "slide.tif", side=SIDE, kind="image")
    return folder


@pytest.mark.parametrize(("form", "kind"), [("label_image", "labels"), ("binary", "mask")])
def test_check_preprocess_and_rasterize_take_the_memory_of_a_band(slide, form, kind):
    objects = large.write_slide(slide / f"{form}.tif", side=SIDE, kind=kind)
    limit_mb = large.BYTES_PER_PIXEL * SIDE**2 / 1e6
    for stage, peak_mb, _ in large.measure(SIDE, slide, form):
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
