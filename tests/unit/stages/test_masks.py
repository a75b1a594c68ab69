"""Masks of other programs and annotators: read, measured and scored like the objects of a model."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage

from cellmill.config.annotations import Masks
from cellmill.images.stored import IGNORE_LABEL, read_labels, write_labels
from cellmill.planning.layout import EVALUATED
from cellmill.preprocessing.geometry import plan_fit, write_geometry
from cellmill.shards import shard_folder
from cellmill.stages.evaluate import summarize_evaluation
from cellmill.stages.evaluate_shard import evaluate_shard
from cellmill.stages.masks import read_masks_of_shard
from cellmill.stages.postprocess_tables import gather_tables
from oracles import write_cellpose_masks, write_stardist_rois
from whole_images import fit_image, write_image, write_probabilities

SHAPE = (40, 56)
ROWS, COLUMNS = np.indices(SHAPE)
SETTINGS = {"pixel_size_um": None, "rle_order": "row", "channel": "luminance", "hot_pixels": "keep"}


def draw(*discs):
    """Return labels with a disc for each (row, column, radius, number)."""
    labels_yx = np.zeros(SHAPE, dtype=np.uint16)
    for row, column, radius, number in discs:
        labels_yx[(ROWS - row) ** 2 + (COLUMNS - column) ** 2 <= radius**2] = number
    return labels_yx


CELLS = draw((10, 12, 6, 1), (12, 40, 7, 2), (30, 26, 5, 7))


@pytest.fixture
def shard(tmp_path):
    """Write raw and preprocessed images of two samples; return a function that reads masks given by sample."""
    (tmp_path / "raw").mkdir()
    with shard_folder(tmp_path / "images/test-0000") as folder:
        for name in ("a", "b"):
            image_yx = 100 + 200 * (CELLS > 0) + COLUMNS
            tifffile.imwrite(tmp_path / f"raw/{name}.tif", image_yx.astype(np.uint16))
            write_image(folder / f"{name}.tif", image_yx.astype(np.float32))
        write_geometry(folder / "geometry.csv", dict.fromkeys("ab", plan_fit(SHAPE, mode="none", size=None)))

    def read(files, *, missing="error", **section):
        masks = Masks(path="x", **section).model_dump(mode="json", exclude={"frame_offset", "missing", "implausible"})
        read_masks_of_shard(
            output_dir=tmp_path / "found/test-0000", images_dir=tmp_path / "images/test-0000",
            samples=[
                {"sample": name, "image": str(tmp_path / f"raw/{name}.tif"), "frame": 0,
                 "annotations": [str(file) for file in files.get(name, [])]}
                for name in ("a", "b")
            ],
            annotations=masks, missing=missing, **SETTINGS,
        )  # fmt: skip
        return tmp_path / "found/test-0000"

    return read


def read_flags(folder):
    return list(csv.DictReader((folder / "flags.csv").read_text().splitlines()))


def write_tiff(path, labels_yx):
    tifffile.imwrite(path, labels_yx)
    return [path]


def test_objects_keep_their_numbers_and_are_measured(shard, tmp_path):
    folder = shard({name: write_tiff(tmp_path / f"{name}.tif", CELLS) for name in "ab"})
    assert np.array_equal(read_labels(folder / "a.tif"), CELLS)
    table = pd.read_csv(folder / "objects.csv")
    assert table["object"].tolist() == [1, 2, 7] * 2
    assert table["area_px"].tolist()[:3] == [int((number == CELLS).sum()) for number in (1, 2, 7)]
    inside = [300 + COLUMNS[number == CELLS].mean() for number in (1, 2, 7)]
    assert table["raw_intensity_mean"].to_numpy()[:3] == pytest.approx(inside, abs=1e-4)
    assert read_flags(folder) == []
    outputs = {f"{name}_path": tmp_path / f"{name}.csv" for name in ("objects", "rle", "counts", "flags")}
    gather_tables(**outputs, segmentation_dirs=[folder], features_paths=[])
    assert len(pd.read_csv(tmp_path / "rle.csv")) == 6


def test_ignored_pixels_of_masks_are_background(shard, tmp_path):
    marked_yx = np.where(CELLS == 7, 255, CELLS).astype(np.uint16)
    files = {name: write_tiff(tmp_path / f"{name}.tif", marked_yx) for name in "ab"}
    found_yx = read_labels(shard(files, ignore_value=255) / "a.tif")
    assert np.array_equal(found_yx, np.where(CELLS == 7, 0, CELLS))


def test_an_image_without_masks_is_empty_only_if_allowed(shard, tmp_path):
    files = {"a": write_tiff(tmp_path / "a.tif", CELLS)}
    folder = shard(files, missing="empty")
    assert not read_labels(folder / "b.tif").any()
    [flag] = read_flags(folder)
    assert (flag["sample"], flag["finding"]) == ("b", "no object was found")
    assert "check its masks" in flag["advice"]
    with pytest.raises(ValueError, match="found none for 1 of 2: b"):
        shard(files)


def test_all_unusable_masks_are_reported_and_nothing_is_written(shard, tmp_path):
    files = {
        "a": write_tiff(tmp_path / "a.tif", CELLS.astype(np.float32) / 2),
        "b": write_tiff(tmp_path / "b.tif", CELLS[:20]),
    }
    with pytest.raises(ValueError, match="whole object numbers") as caught:
        shard(files)
    assert "found 20 rows and 56 columns" in str(caught.value)
    assert not (tmp_path / "found/test-0000").exists()


# ---- scores ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "size"), [("none", None), ("resize", (32, 48))])
def test_masks_score_like_the_same_objects_of_a_model_and_have_no_other_stage(tmp_path, mode, size):
    truth_yx = np.where(ROWS < 2, IGNORE_LABEL, draw((10, 13, 6, 1), (12, 40, 7, 2), (30, 44, 5, 3)))
    geometry = plan_fit(SHAPE, mode=mode, size=size)
    folders = {room: tmp_path / room / "test-0000" for room in ("images", "labels", "probabilities", "segmentation")}
    soft_yx = ndimage.gaussian_filter((CELLS > 0).astype(float), 1)
    with shard_folder(folders["images"]) as folder:
        write_image(folder / "a.tif", fit_image(soft_yx, geometry, pad_value=0))
        write_geometry(folder / "geometry.csv", {"a": geometry})
    for room, labels_yx in (("labels", truth_yx), ("segmentation", CELLS)):
        with shard_folder(folders[room]) as folder:
            write_labels(folder / "a.tif", labels_yx)
            (folder / "objects.csv").write_text("sample,object,confidence\na,1,0.9\na,2,0.8\na,7,0.1\n")
            (folder / "counts.csv").write_text("sample,objects\na,3\n")
    with shard_folder(folders["probabilities"]) as folder:
        write_probabilities(folder / "a.tif", fit_image(soft_yx, geometry, pad_value=0)[None])
    fit = {"format": 2, "threshold": {"value": 0.4}, "instances": {"exclude_border": False}}
    (tmp_path / "fit.json").write_text(json.dumps(fit))
    paths = []
    for model, has_maps in (("unet", True), ("cellpose", False)):
        paths.append(tmp_path / model / "test-0000.json")
        evaluate_shard(
            output_path=paths[-1], images_dir=folders["images"], labels_dir=folders["labels"],
            segmentation_dir=folders["segmentation"],
            probabilities_dir=folders["probabilities"] if has_maps else None,
            fit_path=tmp_path / "fit.json" if has_maps else None,
            split="test", model=model, seed=1, isbi2012=True, border_tolerance_px=2, groups={}, exclude_border=False,
        )  # fmt: skip
    tables = {f"{name}_path": tmp_path / f"{name}.csv" for name in EVALUATED}
    summarize_evaluation(**tables, shard_paths=paths, bootstrap=20, seed=1)
    metrics = pd.read_csv(tmp_path / "metrics.csv")
    own, other = (metrics[metrics["model"] == model] for model in ("unet", "cellpose"))
    assert set(other["stage"]) == {"postprocessed"}
    assert set(own["stage"]) > {"postprocessed"}
    final = own[(own["stage"] == "postprocessed") & (own["metric"] != "confidence_auroc")]
    places = ["geometry", "metric", "aggregation"]
    assert final[places].values.tolist() == other[places].values.tolist()
    assert final["value"].tolist() == pytest.approx(other["value"].tolist(), nan_ok=True, abs=0)
    assert other["value"].notna().any()
    assert set(pd.read_csv(tmp_path / "curves.csv")["model"]) == {"unet"}
    assert set(pd.read_csv(tmp_path / "confidence.csv")["model"]) == {"unet"}
    assert set(pd.read_csv(tmp_path / "sizes.csv")["model"]) == {"unet", "cellpose"}


def test_images_that_an_annotator_left_out_are_not_scored(shard, tmp_path):
    folder = shard({"b": write_tiff(tmp_path / "b.tif", CELLS)}, missing="unlabelled")
    rows = list(csv.DictReader((folder / "counts.csv").read_text().splitlines()))
    assert [(row["sample"], row["objects"]) for row in rows] == [("a", ""), ("b", "3")]
    assert read_labels(folder / "a.tif").shape == SHAPE
    assert read_labels(folder / "a.tif").max() == 0
    assert read_flags(folder) == []
    labels_dir = tmp_path / "labels/test-0000"
    with shard_folder(labels_dir) as labels:
        for name in "ab":
            write_labels(labels / f"{name}.tif", CELLS)
    evaluate_shard(
        output_path=tmp_path / "a.json", images_dir=tmp_path / "images/test-0000", labels_dir=labels_dir,
        probabilities_dir=None, segmentation_dir=folder, fit_path=None, split="test", model="second", seed=0,
        isbi2012=False, border_tolerance_px=2, groups={}, exclude_border=False,
    )  # fmt: skip
    assert [image["sample"] for image in json.loads((tmp_path / "a.json").read_text())["images"]] == ["b"]


# ---- files as the programs themselves write them ------------------------------------------------------------------


def test_masks_written_by_cellpose(shard, tmp_path):
    for name in "ab":
        assert write_cellpose_masks(tmp_path / f"{name}.tif", CELLS) == tmp_path / f"{name}_cp_masks.png"
    folder = shard({name: [tmp_path / f"{name}_cp_masks.png"] for name in "ab"})
    assert np.array_equal(read_labels(folder / "b.tif"), CELLS)


def test_rois_written_by_stardist(shard, tmp_path):
    for name in "ab":
        write_stardist_rois(tmp_path / f"{name}.zip", CELLS)
    folder = shard({name: [tmp_path / f"{name}.zip"] for name in "ab"}, format="imagej_roi")
    found_yx = read_labels(folder / "a.tif")
    assert found_yx.max() == 3
    for found, number in enumerate((1, 2, 7), start=1):
        one, other = found_yx == found, number == CELLS
        assert (one & other).sum() / (one | other).sum() > 0.9
