"""Exports of measurements and images: read back by other readers, and by ours, they contain the same values."""

import gzip
import json

import anndata
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from cellmill.images.files import read_array
from cellmill.images.ome_zarr_writer import count_levels
from cellmill.images.rasters import open_raster
from cellmill.images.stored import write_labels
from cellmill.objects.tables import facts_of_images
from cellmill.objects.units import unit_of_column
from cellmill.shards import shard_folder
from cellmill.stages.export_anndata import export_anndata
from cellmill.stages.export_ome_zarr import export_ome_zarr
from cellmill.stages.export_table import export_table
from cellmill.stages.postprocess_features import measure_features
from cellmill.stages.postprocess_tables import gather_tables
from object_shards import write_object_shard
from shapes import scattered_objects

SHAPE = (40, 60)
ODD = "NA, a b #1 é%"
SHARDS = ("test-0000", "train-0000")


def noise(*channels, seed=1, dtype=np.uint16):
    return np.random.default_rng(seed).integers(50, 250, (*SHAPE, *channels)).astype(dtype)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two shards with features, an odd name, an image without objects, and frames of a sequence."""
    root = tmp_path_factory.mktemp("run")
    labels = {name: scattered_objects(SHAPE, objects=7, seed=seed) for seed, name in enumerate(("NA", ODD, "t1"))}
    labels["t2"] = np.zeros(SHAPE, dtype=np.int64)
    raw = {name: noise(2, seed=seed) for seed, name in enumerate(labels)}
    rows = []
    for shard, names in zip(SHARDS, (("NA", ODD), ("t1", "t2")), strict=True):
        images = {name: (labels[name], raw[name]) for name in names}
        rows += write_object_shard(root, shard, images, pixel_size_um=0.325)
        measure_features(
            output_path=root / f"features/{shard}.csv", segmentation_dir=root / "segmentation" / shard,
            images_dir=root / "images" / shard, samples=rows[-2:], features=["perimeter", "form_factor", "intensity_std"],
            channels="all", texture_range_counts=None, pixel_size_um=None, hot_pixels="keep",
        )  # fmt: skip
        (root / f"segmentation/{shard}/flags.csv").write_text("severity,sample,where,finding,advice\n")
    gather_tables(
        **{f"{name}_path": root / f"{name}.csv" for name in ("objects", "rle", "counts", "flags")},
        segmentation_dirs=[root / "segmentation" / shard for shard in SHARDS],
        features_paths=[root / f"features/{shard}.csv" for shard in SHARDS],
    )  # fmt: skip
    facts = [
        {"sample": name, "sequence": "s" if name.startswith("t") else "", "frame": number, "class": "wild, type",
         "group": "B02", "part": "test"}
        for number, name in enumerate(labels)
    ]  # fmt: skip
    return root, labels, raw, rows, facts


def objects_of(root):
    return pd.read_csv(root / "objects.csv", dtype={"sample": str}, keep_default_na=False)


# ---- table ---------------------------------------------------------------------------------------------------------


def test_a_tidy_table_has_the_cells_of_objects_csv(run, tmp_path):
    root, labels, _, _, facts = run
    path = tmp_path / "objects.tidy.csv.gz"
    export_table(output_path=path, objects_path=root / "objects.csv", samples=facts)
    tidy = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert list(tidy) == ["sample", "sequence", "frame", "class", "group", "part", "object", "feature", "unit", "value"]
    assert set(tidy["sample"]) == {"NA", ODD, "t1"}  # t2 has no object
    wide = tidy.pivot_table(index=["sample", "object"], columns="feature", values="value", aggfunc="first")
    objects = pd.read_csv(root / "objects.csv", dtype=str, keep_default_na=False).set_index(["sample", "object"])
    assert set(objects.columns) - set(wide.columns) == {"confidence"}  # empty without predicted maps
    objects = objects[wide.columns]
    assert (wide.loc[objects.index, objects.columns].fillna("") == objects).all(axis=None)
    assert not (tidy["value"] == "").any()
    assert set(tidy.loc[tidy["feature"] == "perimeter_um", "unit"]) == {"um"}
    assert set(tidy.loc[tidy["sample"] == "t1", ["sequence", "frame"]].itertuples(index=False, name=None)) == {
        ("s", "2")
    }


def test_equal_tables_give_equal_bytes(run, tmp_path):
    root, _, _, _, facts = run
    for name in ("a.csv.gz", "b.csv.gz"):
        export_table(output_path=tmp_path / name, objects_path=root / "objects.csv", samples=facts)
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()


def write_empty_table(run, tmp_path):
    """Write objects.csv with its header only."""
    path = tmp_path / "objects.csv"
    path.write_text((run[0] / "objects.csv").read_text().splitlines()[0] + "\n")
    return path


def test_a_run_without_objects_has_a_table_with_a_header_only(run, tmp_path):
    export_table(output_path=tmp_path / "a.csv.gz", objects_path=write_empty_table(run, tmp_path), samples=run[4])
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()).decode().count("\n") == 1


def test_further_columns_of_the_sample_table_follow():
    names, facts = facts_of_images([{"sample": "a", "well": "B2", "frame": 3, "dose_um": 1.5, "class": "x"}])
    assert names == ["frame", "class", "dose_um", "well"]
    assert facts == {"a": [3, "x", 1.5, "B2"]}


# ---- AnnData -------------------------------------------------------------------------------------------------------


def export_h5ad(run, tmp_path, objects_path=None):
    path = tmp_path / "objects.h5ad"
    export_anndata(
        output_path=path, objects_path=objects_path or run[0] / "objects.csv", samples=run[4], dataset="d", run="r.seed1",
        provenance={"commit": "abc"},
    )  # fmt: skip
    return path


def test_anndata_has_the_values_of_objects_csv(run, tmp_path):
    data = anndata.read_h5ad(export_h5ad(run, tmp_path))
    objects = objects_of(run[0])
    assert list(data.obs_names) == [f"{s}/{n}" for s, n in zip(objects["sample"], objects["object"], strict=True)]
    assert data.obs_names.is_unique
    assert list(data.var_names) == [name for name in objects if name not in ("sample", "object")]
    assert list(data.var["unit"]) == [unit_of_column(name) for name in data.var_names]
    expected = objects[list(data.var_names)].apply(pd.to_numeric)
    assert np.array_equal(np.asarray(data.X), expected.to_numpy(float), equal_nan=True)
    assert np.array_equal(data.obsm["spatial"], objects[["centroid_column_px", "centroid_row_px"]].to_numpy(float))
    assert dict(data.uns) == {"dataset": "d", "run": "r.seed1", "cellmill_commit": "abc"}


def test_anndata_knows_the_image_of_each_object(run, tmp_path):
    obs = anndata.read_h5ad(export_h5ad(run, tmp_path)).obs
    assert list(obs) == ["sample", "object", "run", "sequence", "frame", "class", "group", "part", "pixel_size_um"]
    assert set(obs["sample"]) == {"NA", ODD, "t1"}
    assert obs["sample"].dtype == "category"
    assert obs["frame"].dtype.kind == "i"
    assert set(obs.loc[obs["sample"] == "t1", "sequence"]) == {"s"}
    assert set(obs["pixel_size_um"]) == {0.325}


def test_without_a_pixel_size_anndata_states_none(run, tmp_path):
    objects = objects_of(run[0])
    for name in [name for name in objects if name.endswith(("_um", "_um2"))]:
        objects[name] = ""
    objects.to_csv(tmp_path / "objects.csv", index=False)
    data = anndata.read_h5ad(export_h5ad(run, tmp_path, tmp_path / "objects.csv"))
    assert "pixel_size_um" not in data.obs
    assert np.isnan(np.asarray(data.X)[:, list(data.var_names).index("area_um2")]).all()


def test_a_run_without_objects_is_an_empty_anndata(run, tmp_path):
    data = anndata.read_h5ad(export_h5ad(run, tmp_path, write_empty_table(run, tmp_path)))
    assert data.shape == (0, len(objects_of(run[0]).columns) - 2)
    assert list(data.obs)[:3] == ["sample", "object", "run"]
    assert data.obsm["spatial"].shape == (0, 2)


# ---- OME-Zarr ------------------------------------------------------------------------------------------------------


def attributes(store):
    return json.loads((store / ".zattrs").read_text())


def check_multiscales(store, *, axes, scale, unit):
    """Check the keys that NGFF 0.4 requires of `multiscales`, and that the arrays are as they say."""
    [entry] = attributes(store)["multiscales"]
    assert entry["version"] == "0.4"
    assert [axis["name"] for axis in entry["axes"]] == axes
    assert [axis["type"] for axis in entry["axes"]] == ["channel"] * (len(axes) - 2) + ["space"] * 2
    assert [axis.get("unit") for axis in entry["axes"]] == [None] * (len(axes) - 2) + [unit] * 2
    assert [dataset["path"] for dataset in entry["datasets"]] == [str(n) for n in range(len(entry["datasets"]))]
    for level, dataset in enumerate(entry["datasets"]):
        [transform] = dataset["coordinateTransformations"]
        assert transform["type"] == "scale"
        assert transform["scale"] == pytest.approx([1] * (len(axes) - 2) + [edge * 2**level for edge in scale])
        array = zarr.open_array(store / dataset["path"], mode="r")
        assert array.ndim == len(axes)
        settings = json.loads((store / dataset["path"] / ".zarray").read_text())
        assert (settings["zarr_format"], settings["dimension_separator"]) == (2, "/")
    assert not (store / str(len(entry["datasets"]))).exists()
    return entry


def export_stores(root, rows, tmp_path, **settings):
    given = {"run": "unet.seed1", "pixel_size_um": None} | settings
    folders = sorted((root / "segmentation").glob("*-0000"))
    export_ome_zarr(output_dir=tmp_path / "ome_zarr", segmentation_dirs=folders, samples=rows, **given)
    return tmp_path / "ome_zarr"


def test_a_store_has_the_image_and_the_labels_of_the_run(run, tmp_path):
    root, labels, raw, rows, _ = run
    folder = export_stores(root, rows, tmp_path, pixel_size_um=0.325)
    assert sorted(path.name for path in folder.glob("*.zarr")) == sorted(f"{name}.ome.zarr" for name in labels)
    for name, labels_yx in labels.items():
        store = folder / f"{name}.ome.zarr"
        check_multiscales(store, axes=["c", "y", "x"], scale=(0.325, 0.325), unit="micrometer")
        assert np.array_equal(zarr.open_array(store / "0", mode="r")[:], np.moveaxis(raw[name], 2, 0))
        assert attributes(store / "labels") == {"labels": ["unet.seed1"]}
        found = store / "labels/unet.seed1"
        check_multiscales(found, axes=["y", "x"], scale=(0.325, 0.325), unit="micrometer")
        assert attributes(found)["image-label"] == {"version": "0.4", "source": {"image": "../../"}}
        assert (found / attributes(found)["image-label"]["source"]["image"]).resolve() == store.resolve()
        stored = zarr.open_array(found / "0", mode="r")
        assert stored.dtype == np.uint16
        assert np.array_equal(stored[:], labels_yx)
        [shard] = [shard for shard in SHARDS if (root / f"segmentation/{shard}/{name}.tif").exists()]
        assert np.array_equal(stored[:], tifffile.imread(root / f"segmentation/{shard}/{name}.tif"))


def test_our_reader_reads_images_and_labels_of_a_store(run, tmp_path):
    root, labels, raw, rows, _ = run
    store = export_stores(root, rows, tmp_path, pixel_size_um=0.325) / f"{ODD}.ome.zarr"
    array, axes = read_array(store, palette="colours")
    assert axes == "YXC"
    assert np.array_equal(array, raw[ODD])
    assert open_raster(store, palette="colours", plane=()).pixel_size_um == pytest.approx((0.325, 0.325))
    found, axes = read_array(store / "labels/unet.seed1", palette="indices")
    assert axes == "YX"
    assert np.array_equal(found, labels[ODD])


def test_viewers_are_told_the_channels_and_their_range(run, tmp_path):
    root, _, raw, rows, _ = run
    omero = attributes(export_stores(root, rows, tmp_path) / "NA.ome.zarr")["omero"]
    assert [channel["label"] for channel in omero["channels"]] == ["c0", "c1"]
    for place, channel in enumerate(omero["channels"]):
        assert len(channel["color"]) == 6
        assert set(channel["window"]) == {"start", "end", "min", "max"}
        values = raw["NA"][:, :, place]
        assert values.min() <= channel["window"]["start"] < channel["window"]["end"] <= values.max()
        assert (channel["window"]["min"], channel["window"]["max"]) == (0, 65535)


def test_the_pixel_size_of_the_metadata_is_used_and_an_unknown_one_has_no_unit(tmp_path):
    labels_yx = scattered_objects(SHAPE, objects=5, seed=1)
    rows = write_object_shard(tmp_path, "test-0000", {name: (labels_yx, noise()) for name in "ab"})
    tifffile.imwrite(rows[1]["image"], noise(), imagej=True, resolution=(4, 2), metadata={"unit": "um"})
    folder = export_stores(tmp_path, rows, tmp_path)
    check_multiscales(folder / "a.ome.zarr", axes=["c", "y", "x"], scale=(1, 1), unit=None)
    check_multiscales(folder / "b.ome.zarr", axes=["c", "y", "x"], scale=(0.5, 0.25), unit="micrometer")
    check_multiscales(folder / "b.ome.zarr/labels/unet.seed1", axes=["y", "x"], scale=(0.5, 0.25), unit="micrometer")


def test_colours_have_their_colours(tmp_path):
    raw = noise(3, dtype=np.uint8)
    rows = write_object_shard(tmp_path, "test-0000", {"a": (np.zeros(SHAPE, dtype=np.int64), raw)})
    store = export_stores(tmp_path, rows, tmp_path) / "a.ome.zarr"
    channels = attributes(store)["omero"]["channels"]
    assert [channel["color"] for channel in channels] == ["FF0000", "00FF00", "0000FF"]
    assert [(channel["window"]["start"], channel["window"]["end"]) for channel in channels] == [(0, 255)] * 3
    assert not zarr.open_array(store / "labels/unet.seed1/0", mode="r")[:].any()
    assert np.array_equal(read_array(store, palette="colours")[0], raw)


def test_large_numbers_and_large_images_keep_every_pixel(tmp_path, monkeypatch):
    """Several bands, levels and chunks, sizes that are not multiples of two, and labels beyond 16 bits."""
    monkeypatch.setattr("cellmill.images.ome_zarr_writer.CHUNK_PX", 16)
    monkeypatch.setattr("cellmill.images.ome_zarr_writer.SMALLEST_LEVEL_PX", 8)
    labels_yx = scattered_objects((71, 45), objects=9, seed=3)
    labels_yx[labels_yx == 3] = 70_000
    raw_yx = np.random.default_rng(1).normal(size=(71, 45)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", raw_yx)
    with shard_folder(tmp_path / "segmentation/test-0000") as folder:
        write_labels(folder / "a.tif", labels_yx)
        (folder / "counts.csv").write_text("sample,objects\na,3\n")
    rows = [{"sample": "a", "image": str(tmp_path / "a.tif")}]
    store = export_stores(tmp_path, rows, tmp_path) / "a.ome.zarr"
    assert count_levels((71, 45)) == 5  # 71, 36, 18, 9 and 5 rows
    entry = check_multiscales(store, axes=["c", "y", "x"], scale=(1, 1), unit=None)
    of_labels = check_multiscales(store / "labels/unet.seed1", axes=["y", "x"], scale=(1, 1), unit=None)
    assert len(entry["datasets"]) == len(of_labels["datasets"]) == 5
    for level in range(5):
        every = np.s_[:: 2**level, :: 2**level]
        assert np.array_equal(zarr.open_array(store / str(level), mode="r")[0], raw_yx[every])
        stored = zarr.open_array(store / f"labels/unet.seed1/{level}", mode="r")
        assert stored.dtype == np.uint32
        assert np.array_equal(stored[:], labels_yx[every])
