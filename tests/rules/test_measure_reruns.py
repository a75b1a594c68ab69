"""Exact reruns of features and of the exports of measurements, on a finished project of colour images."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
import zarr

from project import copy_project, draw_cells, planned_jobs, snakemake, write_config

pytestmark = pytest.mark.long

CELLS = [f"c {number},é" for number in range(6)]
RUN = "results/cells/classical"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("measured") / "project")
    for room in ("images", "labels"):
        (project / "data" / room).mkdir(parents=True)
    for number, name in enumerate(CELLS):
        rng = np.random.default_rng(number)
        image_yx, labels_yx = draw_cells(rng, (64, 64), 4)
        image = np.dstack((image_yx, rng.integers(0, 255, (64, 64)), 255 - image_yx)).astype(np.uint8)
        tifffile.imwrite(project / f"data/images/{name}.tif", image, photometric="rgb")
        tifffile.imwrite(project / f"data/labels/{name}.tif", labels_yx)
    section = {
        "images": "data/images/{sample}.tif",
        "annotations": {"format": "label_image", "path": "data/labels/{sample}.tif"},
        "preprocess": {"channel": 0},
        "pixel_size_um": 0.5,
        "models": ["classical"],
        "measure": {"features": ["shape", "intensity", "texture", "colocalisation"]},
        "evaluate": {"bootstrap": 20},
        "export": ["table", "anndata"],
    }
    write_config(project, {"images_per_job": 6, "datasets": {"cells": section}}, "config.yaml")
    snakemake(project, "--cores", "2")
    return project


def edit_config(project, change):
    path = project / "config.yaml"
    config = yaml.safe_load(path.read_text())
    change(config["datasets"]["cells"])
    path.write_text(yaml.safe_dump(config))


def shards_of(project):
    return sorted(set(pd.read_csv(project / "results/cells/samples.csv")["shard"]))


OF_TABLES = {
    "postprocess_tables cells/classical", "export_table cells/classical", "export_anndata cells/classical",
    "report cells",
}  # fmt: skip


def test_nothing_changed_runs_nothing(project):
    assert planned_jobs(project) == set()


def test_another_feature_measures_again_and_neither_segments_nor_scores(project):
    edit_config(project, lambda section: section["measure"].update(features=["intensity_mean"]))
    measured = {f"postprocess_features cells/classical/{shard}" for shard in shards_of(project)}
    assert planned_jobs(project) == measured | OF_TABLES
    snakemake(project, "--cores", "2")
    assert planned_jobs(project) == set()
    assert [name for name in pd.read_csv(project / RUN / "objects.csv") if name.endswith(("_c0", "_c1", "_c2"))] == [
        f"raw_intensity_mean_c{channel}" for channel in range(3)
    ]


def test_without_features_the_table_is_joined_again(project):
    edit_config(project, lambda section: section.pop("measure"))
    assert planned_jobs(project) == OF_TABLES


def test_an_export_that_is_added_later_reruns_nothing_else(project):
    edit_config(project, lambda section: section["export"].append("ome_zarr"))
    assert planned_jobs(project) == {"export_ome_zarr cells/classical", "report cells"}
    snakemake(project, "--cores", "2")
    assert planned_jobs(project) == set()
    for name in CELLS:
        store = project / RUN / f"ome_zarr/{name}.ome.zarr"
        assert json.loads((store / "labels/.zattrs").read_text()) == {"labels": ["classical"]}
        [path] = (project / RUN / "segmentation").glob(f"*/{name}.tif")
        assert np.array_equal(zarr.open_array(store / "labels/classical/0", mode="r")[:], tifffile.imread(path))
        image = tifffile.imread(project / f"data/images/{name}.tif")
        assert np.array_equal(zarr.open_array(store / "0", mode="r")[:], np.moveaxis(image, 2, 0))


def test_tables_and_exports_agree(finished):
    objects = pd.read_csv(finished / RUN / "objects.csv")
    assert len(objects) > 10
    assert objects["raw_intensity_mean_c0"].to_numpy() == pytest.approx(objects["raw_intensity_mean"].to_numpy())
    assert objects["perimeter_um"].to_numpy() == pytest.approx(objects["perimeter_px"].to_numpy() / 2)
    # the third channel is the negative of the first
    assert objects["channel_correlation_c0_c2"].to_numpy() == pytest.approx(-1)
    data = anndata.read_h5ad(finished / RUN / "objects.h5ad")
    assert np.array_equal(np.asarray(data.X), objects[list(data.var_names)].to_numpy(float), equal_nan=True)
    assert set(data.obs["part"]) == {"train", "validation", "test"}
    tidy = pd.read_csv(finished / RUN / "objects.tidy.csv.gz")
    assert len(tidy) == int(objects.drop(columns=["sample", "object"]).notna().to_numpy().sum())
