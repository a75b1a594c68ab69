"""Features of the objects of a shard: every channel of the raw images, any window, and their way into objects.csv."""

import numpy as np
import pandas as pd
import pytest
import tifffile
from skimage import measure

from cellmill.objects.features import FEATURES
from cellmill.stages.postprocess_features import measure_features
from cellmill.stages.postprocess_tables import gather_tables
from object_shards import write_object_shard
from shapes import scattered_objects

SHAPE = (60, 80)
SETTINGS = {"channels": "all", "texture_range_counts": None, "pixel_size_um": None, "hot_pixels": "replace"}
EMPTY = np.zeros(SHAPE, dtype=np.int64)


def noise(*channels, seed=1, dtype=np.uint16):
    return np.random.default_rng(seed).integers(50, 250, (*SHAPE, *channels)).astype(dtype)


def scattered(seed):
    return scattered_objects(SHAPE, objects=9, seed=seed)


def run_shard(tmp_path, images, features, *, shard="test-0000", pixel_size_um=None, **settings):
    """Write a shard and measure features in it; return their table."""
    rows = write_object_shard(tmp_path, shard, images, pixel_size_um=pixel_size_um)
    return measure_shard(tmp_path, rows, features, shard=shard, **settings)


def measure_shard(tmp_path, rows, features, *, shard="test-0000", **settings):
    output_path = tmp_path / f"features/{shard}.csv"
    measure_features(
        output_path=output_path, segmentation_dir=tmp_path / "segmentation" / shard,
        images_dir=tmp_path / "images" / shard, samples=rows, features=features, **(SETTINGS | settings),
    )  # fmt: skip
    return pd.read_csv(output_path, dtype={"sample": str}, keep_default_na=False, na_values={"object": []})


def objects_of(tmp_path, shard="test-0000"):
    return pd.read_csv(tmp_path / "segmentation" / shard / "objects.csv", dtype={"sample": str}, keep_default_na=False)


def test_each_object_has_a_row_in_the_order_of_objects_csv(tmp_path):
    images = {"b,1": (scattered(1), noise()), "a": (EMPTY, noise()), "NA": (scattered(2), noise())}
    found = run_shard(tmp_path, images, ["perimeter", "intensity_mean"])
    listed = objects_of(tmp_path)
    assert found[["sample", "object"]].values.tolist() == listed[["sample", "object"]].values.tolist()
    assert list(found) == ["sample", "object", "perimeter_px", "perimeter_um", "raw_intensity_mean_c0"]
    # the channel of a grey image is the one that objects.csv measures
    assert found["raw_intensity_mean_c0"].astype(float).tolist() == pytest.approx(listed["raw_intensity_mean"].tolist())
    assert set(found["perimeter_um"]) == {""}


def test_features_are_those_of_scikit_image_on_the_whole_image(tmp_path):
    labels_yx, raw = scattered(3), noise(3)
    found = run_shard(tmp_path, {"a": (labels_yx, raw)}, list(FEATURES), pixel_size_um=0.5, hot_pixels="keep")
    properties = ("label", "perimeter", "feret_diameter_max", "area_convex", "extent", "intensity_max", "intensity_std")
    expected = pd.DataFrame(measure.regionprops_table(labels_yx, intensity_image=raw, properties=properties))
    found = found.set_index("object").loc[expected["label"]].drop(columns="sample").apply(pd.to_numeric)
    assert found["perimeter_px"].to_numpy() == pytest.approx(expected["perimeter"])
    assert found["perimeter_um"].to_numpy() == pytest.approx(expected["perimeter"] / 2)
    assert found["feret_diameter_max_px"].to_numpy() == pytest.approx(expected["feret_diameter_max"])
    assert found["area_convex_um2"].to_numpy() == pytest.approx(expected["area_convex"] / 4)
    assert found["extent"].to_numpy() == pytest.approx(expected["extent"])
    for channel in range(3):
        for name in ("max", "std"):
            measured = found[f"raw_intensity_{name}_c{channel}"].to_numpy()
            assert measured == pytest.approx(expected[f"intensity_{name}-{channel}"])


def test_colours_are_channels_and_alpha_is_none(tmp_path):
    labels_yx = scattered(1)
    found = run_shard(tmp_path, {"a": (labels_yx, noise(3, dtype=np.uint8))}, ["intensity_min"])
    assert list(found)[2:] == ["raw_intensity_min_c0", "raw_intensity_min_c1", "raw_intensity_min_c2"]
    rows = write_object_shard(tmp_path, "test-0001", {"b": (labels_yx, noise(3, dtype=np.uint8))})
    with_alpha = np.dstack((noise(3, dtype=np.uint8), np.full(SHAPE, 255, np.uint8)))
    tifffile.imwrite(rows[0]["image"], with_alpha, photometric="rgb", extrasamples=["unassalpha"])
    again = measure_shard(tmp_path, rows, ["intensity_min"], shard="test-0001")
    assert again.drop(columns="sample").equals(found.drop(columns="sample"))


def test_channels_are_chosen_by_number_and_by_name(tmp_path):
    images = {"a": (scattered(1), noise(4))}
    whole = run_shard(tmp_path, images, ["intensity_mean", "channel_correlation"])
    rows = [{"sample": "a", "image": str(tmp_path / "raw/a.tif")}]
    chosen = measure_shard(tmp_path, rows, ["intensity_mean", "channel_correlation"], channels=[("c1", 1), ("dapi", 3)])
    assert list(chosen)[2:] == ["raw_intensity_mean_c1", "raw_intensity_mean_dapi", "channel_correlation_c1_dapi"]
    assert chosen["raw_intensity_mean_dapi"].equals(whole["raw_intensity_mean_c3"])
    assert chosen["channel_correlation_c1_dapi"].equals(whole["channel_correlation_c1_c3"])


@pytest.mark.parametrize("kind", ["tiled", "strips"])
def test_windows_measure_what_the_whole_image_measures(tmp_path, monkeypatch, kind):
    """Also an object longer than a window."""
    labels_yx = scattered(5)
    labels_yx[:, 40:43] = labels_yx.max() + 1
    raw = noise(2)
    rows = write_object_shard(tmp_path, "test-0000", {"a": (labels_yx, raw)})
    layout = {"tile": (16, 16)} if kind == "tiled" else {"rowsperstrip": 5}
    tifffile.imwrite(
        rows[0]["image"], np.moveaxis(raw, 2, 0), photometric="minisblack", metadata={"axes": "CYX"}, **layout
    )
    whole = measure_shard(tmp_path, rows, list(FEATURES))
    monkeypatch.setattr("cellmill.images.windows.WHOLE_PIXELS", 100)
    monkeypatch.setattr("cellmill.images.windows.CORE_PX", 16)
    monkeypatch.setattr("cellmill.images.windows.CORE_HALOS", 0)
    monkeypatch.setattr("cellmill.stages.postprocess_features.HALO_PX", 4)
    assert measure_shard(tmp_path, rows, list(FEATURES)).equals(whole)
    assert len(whole) == len(np.setdiff1d(labels_yx, [0]))


def test_defective_pixels_are_replaced_in_every_channel(tmp_path):
    labels_yx = np.zeros(SHAPE, dtype=np.int64)
    labels_yx[10:20, 10:20] = 1
    raw = noise(2)
    raw[15, 15, 1] = 60000
    kept = run_shard(tmp_path, {"a": (labels_yx, raw)}, ["intensity_max", "texture_contrast"], hot_pixels="keep")
    rows = [{"sample": "a", "image": str(tmp_path / "raw/a.tif")}]
    found = measure_shard(tmp_path, rows, ["intensity_max", "texture_contrast"])
    assert kept["raw_intensity_max_c1"].tolist() == [60000]
    assert found["raw_intensity_max_c1"].astype(int).item() < 250
    assert found["raw_intensity_max_c0"].equals(kept["raw_intensity_max_c0"])


def test_brightness_and_contrast_of_an_image_leave_its_textures_unless_a_range_is_set(tmp_path):
    labels_yx, raw_yx = scattered(1), noise()
    images = {"a": (labels_yx, raw_yx), "b": (labels_yx, 1000 + 4 * raw_yx)}
    features = [name for name, facts in FEATURES.items() if facts["group"] == "texture"]
    found = run_shard(tmp_path, images, features)
    of_image = [found[found["sample"] == name].drop(columns="sample").reset_index(drop=True) for name in "ab"]
    assert of_image[0].equals(of_image[1])
    rows = [{"sample": name, "image": str(tmp_path / f"raw/{name}.tif")} for name in "ab"]
    fixed = measure_shard(tmp_path, rows, features, texture_range_counts=[0, 4000])
    assert not fixed[fixed["sample"] == "a"]["texture_contrast_1px_c0"].equals(of_image[0]["texture_contrast_1px_c0"])


def test_shapes_read_no_pixel_of_a_raw_image(tmp_path, monkeypatch):
    rows = write_object_shard(tmp_path, "test-0000", {"a": (scattered(1), noise())})
    monkeypatch.setattr("cellmill.objects.raw_channels.RawChannels.read", None)
    assert len(measure_shard(tmp_path, rows, ["perimeter"])) > 0


def test_a_shard_without_objects_has_a_header_only(tmp_path):
    found = run_shard(tmp_path, {"a": (EMPTY, noise(2))}, ["holes", "intensity_std"])
    assert list(found) == ["sample", "object", "holes", "raw_intensity_std_c0", "raw_intensity_std_c1"]
    assert found.empty


def test_all_images_that_lack_a_channel_are_listed(tmp_path):
    images = {name: (scattered(1), noise()) for name in "ab"}
    with pytest.raises(ValueError, match=r"2 problems with the images:\n.*a\.tif: expected several channels for "
                       r"channel_correlation, found one\. Remove .*\n.*b\.tif: expected several"):  # fmt: skip
        run_shard(tmp_path, images, ["channel_correlation"])
    rows = [{"sample": name, "image": str(tmp_path / f"raw/{name}.tif")} for name in "ab"]
    with pytest.raises(
        ValueError, match=r"a\.tif: expected at least 3 channels, found one\. Set measure\.channels to all"
    ):
        measure_shard(tmp_path, rows, ["intensity_mean"], channels=[("dapi", 2)])


# ---- into objects.csv ----------------------------------------------------------------------------------------------


def gather(tmp_path, shards, *, features=True):
    outputs = {f"{name}_path": tmp_path / "run" / f"{name}.csv" for name in ("objects", "rle", "counts", "flags")}
    for shard in shards:
        (tmp_path / f"segmentation/{shard}/flags.csv").write_text("severity,sample,where,finding,advice\n")
    gather_tables(
        **outputs, segmentation_dirs=[tmp_path / "segmentation" / shard for shard in shards],
        features_paths=[tmp_path / f"features/{shard}.csv" for shard in shards] if features else [],
    )  # fmt: skip
    names = ["counts.csv", "flags.csv", "objects.csv", "rle.csv"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == names
    return (tmp_path / "run/objects.csv").read_bytes()


def test_features_follow_the_columns_of_objects_csv(tmp_path):
    run_shard(tmp_path, {"b,1": (scattered(1), noise())}, ["intensity_mean"])
    run_shard(tmp_path, {"c": (scattered(2), noise(2))}, ["intensity_mean"], shard="train-0000")
    shards = ("test-0000", "train-0000")
    plain = gather(tmp_path, shards, features=False).decode().splitlines()
    joined = gather(tmp_path, shards).decode().splitlines()
    assert [line.startswith(f"{without},") for line, without in zip(joined, plain, strict=True)] == [True] * len(plain)
    table = pd.read_csv(tmp_path / "run/objects.csv")
    assert list(table)[-2:] == ["raw_intensity_mean_c0", "raw_intensity_mean_c1"]
    assert table["raw_intensity_mean_c0"].notna().all()
    assert table["raw_intensity_mean_c1"].isna().tolist() == (table["sample"] == "b,1").tolist()


def test_without_features_the_tables_are_those_of_the_shards(tmp_path):
    write_object_shard(tmp_path, "test-0000", {"a": (scattered(1), noise())})
    assert (
        gather(tmp_path, ["test-0000"], features=False)
        == (tmp_path / "segmentation/test-0000/objects.csv").read_bytes()
    )


@pytest.mark.parametrize("change", [lambda lines: lines[:-1], lambda lines: [lines[0], *lines[:0:-1]]])
def test_features_of_other_objects_are_refused(tmp_path, change):
    run_shard(tmp_path, {"a": (scattered(1), noise())}, ["holes"])
    path = tmp_path / "features/test-0000.csv"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    with pytest.raises(
        ValueError, match=r"test-0000\.csv: expected the objects of .*objects\.csv, found others\. .*--forcerun"
    ):
        gather(tmp_path, ["test-0000"])
