"""The full pipeline on images of the 2018 Data Science Bowl, with results compared with the ground truth.

The data are not part of the project; without them these tests are skipped with a message.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from skimage.filters import threshold_otsu

from cellmill.images.files import read_plane
from project import README_DSB_MODEL, copy_project, snakemake, write_config

pytestmark = pytest.mark.long


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return the Dice of two masks, reimplemented here to be independent of the metric modules."""
    return float(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()))


@pytest.fixture(scope="module")
def dsb(real_data, tmp_path_factory) -> Path:
    """All 60 images of stage1_train: fluorescence, histology and bright field, many sizes, one mask file per object."""
    project = copy_project(tmp_path_factory.mktemp("dsb") / "project")
    (project / "stage1_train").symlink_to((real_data / "dsb2018/stage1_train").resolve())
    config = {
        "seed": 1,
        "datasets": {
            "dsb2018": {
                "images": "stage1_train/{sample}/images/*.png",
                "annotations": {"format": "mask_folder", "path": "stage1_train/{sample}/masks/*.png"},
                "models": [README_DSB_MODEL],
            }
        },
    }
    write_config(project, config, "config.yaml")
    snakemake(project, "--cores", "2")
    return project


@pytest.fixture(scope="module")
def dsb_scores(dsb, real_data) -> pd.DataFrame:
    """Dice of each test image's final segmentation and of two Otsu masks, against the union of its mask files."""
    table = pd.read_csv(dsb / "results/dsb2018/samples.csv")
    rows = []
    for row in table[table["split"] == "test"].itertuples():
        folder = real_data / "dsb2018/stage1_train" / row.sample
        masks = [read_plane(path, channel="luminance") > 0 for path in sorted((folder / "masks").glob("*.png"))]
        truth = np.logical_or.reduce(masks)
        [path] = (dsb / "results/dsb2018").glob(f"*/segmentation/*/{row.sample}.tif")
        grey = read_plane(folder / f"images/{row.sample}.png", channel="luminance").astype(float)
        bright = grey > threshold_otsu(grey)
        rows.append(
            {
                "sample": row.sample,
                "ours": dice(tifffile.imread(path) > 0, truth),
                "otsu": dice(bright, truth),
                "otsu_rarer_side": dice(bright if bright.mean() < 0.5 else ~bright, truth),
                "objects": len(masks),
                "found": len(np.unique(tifffile.imread(path))) - 1,
            }
        )
    return pd.DataFrame(rows)


def test_a_short_training_on_the_cpu_beats_otsu_on_all_kinds_of_nuclei(dsb_scores):
    means = dsb_scores[["ours", "otsu", "otsu_rarer_side"]].mean()
    print(means.to_string())
    assert len(dsb_scores) >= 7
    # Measured: 0.89 against 0.55. With a hint that users would have to give for each image (nuclei are the rarer side
    # of the threshold), Otsu reaches 0.86 on this split, so that value is printed and not asserted.
    assert means["ours"] > means["otsu"] + 0.1


def test_the_reported_dice_is_the_dice_against_the_mask_files(dsb, dsb_scores):
    metrics = pd.read_csv(dsb / "results/dsb2018/metrics.csv")
    chosen = metrics.query(
        "split == 'test' and stage == 'postprocessed' and geometry == 'raw' and metric == 'dice'"
        " and aggregation == 'image_mean'"
    )
    # The pipeline writes the labels itself and fills holes of single masks (70 px in the whole set).
    assert chosen["value"].item() == pytest.approx(dsb_scores["ours"].mean(), abs=1e-3)
    assert chosen["n"].item() == len(dsb_scores)
    assert chosen["ci_low"].item() < chosen["value"].item() < chosen["ci_high"].item()


def test_objects_come_out_one_by_one(dsb_scores):
    ratio = dsb_scores["found"].sum() / dsb_scores["objects"].sum()
    assert 0.5 < ratio < 1.5


def test_images_of_all_sizes_and_colours_went_through(dsb):
    table = pd.read_csv(dsb / "results/dsb2018/samples.csv")
    assert len(table) == 60
    shapes = set()
    for path in (dsb / "results/dsb2018/images").glob("*/*.tif"):
        image = tifffile.imread(path)
        assert image.dtype == np.float32
        shapes.add(image.shape)
    assert len(shapes) >= 6
    # 2,985 mask files; each one becomes an object of the labels unless another object covers it entirely.
    objects = sum(len(np.unique(tifffile.imread(p))) - 1 for p in (dsb / "results/dsb2018/labels").glob("*/*.tif"))
    assert 2970 <= objects <= 2985
