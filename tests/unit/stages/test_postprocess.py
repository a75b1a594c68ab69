import csv
import hashlib
import inspect
import json
import logging
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile
from pydantic import ValidationError
from scipy import ndimage

from cellmill.config.postprocess import Evaluate, Postprocess
from cellmill.exports.model_file import read_description, read_fit
from cellmill.images.stored import IGNORE_LABEL, read_labels, write_labels
from cellmill.images.windows import halo_for, plan_windows
from cellmill.models.choices import START, Choice, write_choices
from cellmill.objects.frames import cut_frames, list_frames
from cellmill.objects.instances import masks_reach_px
from cellmill.preprocessing.geometry import plan_fit, write_geometry
from cellmill.shards import shard_folder
from cellmill.stages.postprocess import postprocess_shard
from cellmill.stages.postprocess_fit import fit_postprocess
from cellmill.stages.postprocess_tables import gather_tables
from model_files import put_model
from whole_images import decode_rle, fit_image, write_image, write_probabilities

SHAPE = (48, 64)
ROWS, COLUMNS = np.indices(SHAPE)
CENTRES = [(12, 14), (12, 31), (34, 20), (34, 50)]
RADIUS = 8
ROOMS = ("images", "labels", "probabilities")


def draw_cells(seed):
    """Return image, labels and a soft, noisy probability of four cells, two of them touching."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, dtype=np.int64)
    for number, (row, column) in enumerate(CENTRES, start=1):
        labels[(ROWS - row) ** 2 + (COLUMNS - column) ** 2 <= RADIUS**2] = number
    soft = ndimage.gaussian_filter((labels > 0).astype(float), 1)
    probability = np.clip(soft + rng.normal(0, 0.05, SHAPE), 0, 1)
    image = np.where(labels > 0, 300.0, 100.0) + rng.normal(0, 20, SHAPE)
    return image.astype(np.float32), labels, probability.astype(np.float32)


def write_shard(root, shard, cells, *, mode="none", size=None):
    """Write images, labels and probabilities of one shard; `cells` maps sample to (image, labels, probability)."""
    folders = {room: root / room / shard for room in (*ROOMS, "raw")}
    folders["raw"].mkdir(parents=True, exist_ok=True)
    for sample, (image, _, _) in cells.items():
        tifffile.imwrite(folders["raw"] / f"{sample}.tif", np.round(image).astype(np.uint16))
    geometries = {sample: plan_fit(SHAPE, mode=mode, size=size) for sample in cells}
    with shard_folder(folders["images"]) as folder:
        for sample, (image, _, _) in cells.items():
            write_image(folder / f"{sample}.tif", fit_image(image, geometries[sample], pad_value=0.0))
        write_geometry(folder / "geometry.csv", geometries)
    with shard_folder(folders["labels"]) as folder:
        for sample, (_, labels, _) in cells.items():
            write_labels(folder / f"{sample}.tif", labels)
    with shard_folder(folders["probabilities"]) as folder:
        for sample, (_, _, probability) in cells.items():
            write_probabilities(
                folder / f"{sample}.tif", fit_image(probability, geometries[sample], pad_value=0.0)[None]
            )
    return folders


def settings(**changes):
    """Return default settings with changes given as section={"key": value}."""
    section = Postprocess().model_dump(mode="json")
    for name, value in changes.items():
        section[name] = section[name] | value if isinstance(value, dict) else value
    return section


def fit(
    tmp_path,
    training,
    validation,
    postprocess,
    *,
    seed=7,
    name="postprocess.json",
    starts=(),
    choices=(),
    is_trained=True,
):
    weights, checked = tmp_path / "weights.pt", tmp_path / "images.csv"
    samples = [f"{kind}{number}" for kind in "tvx" for number in range(6)]
    pd.DataFrame({"sample": samples, "sha256": [f"digest of {name}" for name in samples]}).to_csv(checked, index=False)
    weights.write_bytes(b"weights" * 1000)
    roles = {
        f"{role}_{room}": [folders[room] for folders in shards]
        for role, shards in (("train", training), ("validation", validation))
        for room in ROOMS
    }
    fit_postprocess(
        output_path=tmp_path / name, export_path=tmp_path / "model.cellmill", weights_path=weights,
        checked_path=checked, start_paths=starts, choices_paths=choices, postprocess=postprocess, preprocess={"channel": 0}, predict={"batch": 4},
        network={"architecture": "unet", "output": "foreground"}, input={"frames": 1, "normalise": "zscore"}, pixel_size_um=None, seed=seed,
        is_trained=is_trained, **roles,
    )  # fmt: skip
    return read_fit(tmp_path / name)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    return {
        "train": write_shard(root, "train-0000", {f"t{k}": draw_cells(k) for k in range(6)}),
        "validation": write_shard(root, "validation-0000", {f"v{k}": draw_cells(20 + k) for k in range(3)}),
        "test": write_shard(root, "test-0000", {f"x{k}": draw_cells(40 + k) for k in range(2)}),
    }


@pytest.fixture(scope="module")
def fitted(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    fit(folder, [shards["train"]], [shards["validation"]], settings())
    return folder / "postprocess.json"


def segment(tmp_path, folders, fit_path, *, postprocess=None, **changes):
    samples = [{"sample": path.stem, "image": str(path)} for path in sorted(folders["raw"].glob("*.tif"))]
    keywords = {
        "pixel_size_um": None,
        "rle_order": "row",
        "samples": samples,
        "channel": 0,
        "hot_pixels": "replace",
    } | changes
    postprocess_shard(
        output_dir=tmp_path / "segmentation", images_dir=folders["images"],
        probabilities_dir=folders["probabilities"], fit_path=fit_path,
        postprocess=settings() if postprocess is None else postprocess, **keywords,
    )  # fmt: skip
    return tmp_path / "segmentation"


# ---- applying ----------------------------------------------------------------------------------------------


def test_touching_cells_are_found_apart(shards, fitted, tmp_path):
    folder = segment(tmp_path, shards["test"], fitted)
    for sample in ("x0", "x1"):
        labels = read_labels(folder / f"{sample}.tif")
        assert np.array_equal(np.unique(labels), np.arange(len(CENTRES) + 1))
        assert len({labels[centre] for centre in CENTRES}) == len(CENTRES)


def test_postprocessing_has_no_way_to_see_the_truth():
    names = list(inspect.signature(postprocess_shard).parameters)
    assert not [name for name in names if "label" in name or "truth" in name]


def test_removing_the_truth_changes_nothing(shards, fitted, tmp_path):
    before = segment(tmp_path / "a", shards["test"], fitted)
    bare = write_shard(tmp_path, "test-0000", {f"x{k}": draw_cells(40 + k) for k in range(2)})
    for path in bare["labels"].iterdir():
        path.unlink()
    after = segment(tmp_path / "b", bare, fitted)
    assert (before / "manifest.json").read_text() == (after / "manifest.json").read_text()


def test_the_final_mask_is_its_own_result(shards, tmp_path):
    plain = settings(boundary={"classifier": "none"}, instances={"min_area_px": 0, "fill_holes_px": 20})
    fit(tmp_path, [], [shards["validation"]], plain)
    first = segment(tmp_path / "a", shards["test"], tmp_path / "postprocess.json", postprocess=plain)
    cells = {}
    for k in range(2):
        image, labels, _ = draw_cells(40 + k)
        cells[f"x{k}"] = image, labels, (read_labels(first / f"x{k}.tif") > 0).astype(np.float32)
    again = segment(
        tmp_path / "b", write_shard(tmp_path, "test-0000", cells), tmp_path / "postprocess.json", postprocess=plain
    )
    for sample in cells:
        assert np.array_equal(read_labels(again / f"{sample}.tif") > 0, cells[sample][2] > 0)


@pytest.mark.parametrize("order", ["row", "column"])
def test_runs_and_objects_are_those_of_the_label_image(shards, fitted, tmp_path, order):
    folder = segment(tmp_path, shards["test"], fitted, rle_order=order, pixel_size_um=0.5)
    labels = read_labels(folder / "x1.tif")
    with (folder / "rle.csv").open(newline="") as stream:
        runs = [row["annotation"] for row in csv.DictReader(stream) if row["id"] == "x1"]
    rebuilt = np.zeros_like(labels)
    for number, run in enumerate(runs, start=1):
        rebuilt[decode_rle(run, shape=SHAPE, order=order, where="rle.csv")] = number
    assert np.array_equal(rebuilt, labels)
    objects = pd.read_csv(folder / "objects.csv")
    areas = objects[objects["sample"] == "x1"].set_index("object")["area_px"]
    assert areas.to_dict() == {label: np.count_nonzero(labels == label) for label in np.unique(labels)[1:]}


@pytest.mark.parametrize(("mode", "size"), [("resize", (96, 96)), ("crop_pad", (40, 80))])
def test_objects_come_back_in_the_geometry_of_the_raw_image(fitted, tmp_path, mode, size):
    cells = {"x0": draw_cells(40)}
    folder = segment(tmp_path, write_shard(tmp_path, "test-0000", cells, mode=mode, size=size), fitted)
    labels, truth = read_labels(folder / "x0.tif"), cells["x0"][1]
    assert labels.shape == SHAPE
    covered = np.ones(SHAPE, dtype=bool)
    if mode == "crop_pad":
        covered[:4] = covered[-4:] = False
        assert not labels[~covered].any()
    overlap = np.count_nonzero((labels > 0) & (truth > 0) & covered)
    union = np.count_nonzero(((labels > 0) | (truth > 0)) & covered)
    assert overlap / union > 0.85
    objects = pd.read_csv(folder / "objects.csv")
    assert objects["intensity_mean"].between(250, 320).all()
    assert objects["raw_intensity_mean"].between(250, 320).all()
    assert objects["intensity_above_background"].between(150, 220).all()


@pytest.mark.parametrize(("mode", "size"), [("none", None), ("resize", (96, 96)), ("crop_pad", (40, 80))])
def test_windows_give_the_objects_of_the_whole_image(shards, fitted, tmp_path, monkeypatch, mode, size):
    cells = {f"x{k}": draw_cells(40 + k) for k in range(2)}
    folders = write_shard(tmp_path, "test-0000", cells, mode=mode, size=size)
    whole = segment(tmp_path / "whole", folders, fitted)
    monkeypatch.setattr("cellmill.images.windows.WHOLE_PIXELS", 100)
    monkeypatch.setattr("cellmill.images.windows.CORE_PX", 20)
    monkeypatch.setattr("cellmill.images.windows.CORE_HALOS", 0)
    monkeypatch.setattr("cellmill.objects.segmenting.halo_for", lambda median_area_px: 30)
    windows = segment(tmp_path / "windows", folders, fitted)
    for sample in cells:
        expected, found = (read_labels(folder / f"{sample}.tif") for folder in (whole, windows))
        pairs = np.unique(np.stack([expected.ravel(), found.ravel()]), axis=1)
        assert pairs.shape[1] == len(np.unique(expected)) == len(np.unique(found))  # one-to-one
    assert not list(windows.glob("tmp*"))


def test_a_window_has_room_for_objects_and_for_what_their_pixels_look_at(shards, fitted, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "cellmill.objects.segmenting.plan_windows",
        lambda shape, *, halo_px: asked.append(halo_px) or plan_windows(shape, halo_px=0),
    )
    segment(tmp_path, shards["test"], fitted)
    found = read_fit(fitted)
    assert asked == [halo_for(found["instances"]["median_area_px"]) + masks_reach_px(found)] * 2


def test_objects_wider_than_a_window_are_put_together_and_said(shards, tmp_path, monkeypatch, caplog):
    plain = settings(boundary={"classifier": "none"}, instances={"method": "components", "min_area_px": 0})
    fit(tmp_path, [], [shards["validation"]], plain)
    image, labels, _ = draw_cells(1)
    probability = np.zeros(SHAPE, dtype=np.float32)
    probability[20:24] = 1
    folders = write_shard(tmp_path, "test-0000", {"x0": (image, labels, probability)})
    monkeypatch.setattr("cellmill.images.windows.WHOLE_PIXELS", 100)
    monkeypatch.setattr("cellmill.images.windows.CORE_PX", 16)
    monkeypatch.setattr("cellmill.images.windows.CORE_HALOS", 0)
    monkeypatch.setattr("cellmill.objects.segmenting.halo_for", lambda median_area_px: 4)
    folder = segment(tmp_path, folders, tmp_path / "postprocess.json", postprocess=plain)
    found = read_labels(folder / "x0.tif")
    assert np.array_equal(found > 0, probability > 0)
    assert found.max() == 1
    assert "x0: 1 objects are wider than the windows" in caplog.text


def flags_of(folder):
    return pd.read_csv(folder / "flags.csv").groupby("sample")["finding"].agg(list).to_dict()


def test_images_unlike_the_training_images_are_flagged(shards, fitted, tmp_path, caplog):
    image, labels, probability = draw_cells(40)
    halved = [np.pad(array[::2, ::2], ((0, 24), (0, 32)), mode="symmetric") for array in (image, labels, probability)]
    cells = {
        "brighter": (image * 100 + 5000, labels, probability),
        "dark": (500 - image, labels, probability),
        "halved": tuple(halved),
        "same": draw_cells(41),
    }
    folder = segment(tmp_path, write_shard(tmp_path, "test-0000", cells), fitted)
    assert list(pd.read_csv(folder / "flags.csv")) == ["severity", "sample", "where", "finding", "advice"]
    flags = flags_of(folder)
    assert set(flags) == {"dark", "halved"}
    start = "unlike the images that the model was trained on: "
    assert all(text.startswith(start) for texts in flags.values() for text in texts)
    assert "darker than the ground" in flags["dark"][0]
    assert "its objects have a median diameter of " in flags["halved"][-1]
    assert "dark: unlike the images" in caplog.text
    assert len(pd.read_csv(segment(tmp_path / "same", shards["test"], fitted) / "flags.csv")) == 0


def test_the_training_images_are_described_in_the_fit_and_in_the_model(shards, tmp_path):
    fitted = fit(tmp_path, [shards["train"]], [shards["validation"]], settings())
    seen = fitted["training_images"]
    assert seen == read_fit(tmp_path / "model.cellmill")["training_images"]
    assert (seen["images"], seen["normalise"]) == (6, "zscore")
    low, high = seen["diameter_px"]
    assert 0.9 * 2 * RADIUS < low < high < 1.2 * 2 * RADIUS  # touching cells share a few pixels
    assert seen["covered"] == pytest.approx([4 * np.pi * RADIUS**2 / (SHAPE[0] * SHAPE[1])] * 2, rel=0.15)


def test_the_model_lists_the_digests_of_its_images_and_of_those_of_its_start(shards, tmp_path):
    fit(tmp_path, [shards["train"]], [shards["validation"]], settings())
    own = [f"digest of {name}" for name in ("t0", "t1", "t2", "t3", "t4", "t5", "v0", "v1", "v2")]
    assert list(read_description(tmp_path / "model.cellmill").training_images) == own
    start = put_model(tmp_path / "start.cellmill", training_images=["digest of t0", "another"])
    fit(tmp_path, [shards["train"]], [shards["validation"]], settings(), starts=[start])
    assert list(read_description(tmp_path / "model.cellmill").training_images) == sorted([*own, "another"])


@pytest.mark.parametrize(("taken", "is_listed"), [((None,), False), (("nuclei",), True), ((None, "nuclei"), True)])
def test_the_model_lists_the_digests_of_a_start_only_if_a_training_took_it(shards, tmp_path, taken, is_listed):
    choices = [tmp_path / f"choices{number}.json" for number in range(len(taken))]
    for path, value in zip(choices, taken, strict=True):
        write_choices(path, [Choice("input.scale", "image", "sizes differ"), Choice(START, value, "compared")])
    start = put_model(tmp_path / "start.cellmill", training_images=["another"])
    fit(tmp_path, [shards["train"]], [shards["validation"]], settings(), starts=[start], choices=choices)
    assert ("another" in read_description(tmp_path / "model.cellmill").training_images) == is_listed


@pytest.mark.parametrize("added", [{}, {"brightness": [1, 2], "contrast": [1, 2], "short_side_px": [500, 500]}])
def test_a_fit_of_an_earlier_version_flags_nothing_that_it_does_not_know(shards, fitted, tmp_path, added):
    old = json.loads(fitted.read_text())
    old["training_images"] = {"images": 6, "pixel_size_um": None, **added}
    (tmp_path / "postprocess.json").write_text(json.dumps(old))
    assert flags_of(segment(tmp_path, shards["test"], tmp_path / "postprocess.json")) == {}


def test_the_size_of_objects_is_compared_at_the_size_that_the_network_receives(tmp_path):
    def shard(name, cells):
        return write_shard(tmp_path, name, cells, mode="resize", size=(96, 128))

    training = [shard("train-0000", {f"t{k}": draw_cells(k) for k in range(6)})]
    validation = [shard("validation-0000", {f"v{k}": draw_cells(20 + k) for k in range(3)})]
    seen = fit(tmp_path, training, validation, settings())["training_images"]
    assert seen["diameter_px"] == pytest.approx([4 * RADIUS] * 2, rel=0.15)
    test = shard("test-0000", {"x0": draw_cells(40)})
    assert flags_of(segment(tmp_path / "out", test, tmp_path / "postprocess.json")) == {}


def test_an_image_without_foreground_gives_empty_tables(fitted, tmp_path):
    image, labels, probability = draw_cells(1)
    folders = write_shard(tmp_path, "test-0000", {"x0": (image, labels, probability * 0)})
    folder = segment(tmp_path, folders, fitted)
    assert not read_labels(folder / "x0.tif").any()
    assert (folder / "rle.csv").read_text() == "id,annotation\n"
    assert len(pd.read_csv(folder / "objects.csv")) == 0
    assert pd.read_csv(folder / "flags.csv")["finding"].tolist() == ["no object was found"]


@pytest.mark.parametrize("method", ["components", "watershed"])
@pytest.mark.parametrize("classifier", ["svm", "none"])
def test_an_image_of_foreground_alone_is_one_object_and_flagged(shards, tmp_path, method, classifier):
    """None of its pixels is a boundary, and no distance to a background exists."""
    chosen = settings(
        boundary={"classifier": classifier, "apply": "always"}, instances={"method": method, "min_area_px": 0}
    )
    fit(tmp_path, [shards["train"]], [shards["validation"]], chosen)
    image, labels, probability = draw_cells(1)
    folders = write_shard(tmp_path, "test-0000", {"x0": (image, labels, np.ones_like(probability))})
    folder = segment(tmp_path, folders, tmp_path / "postprocess.json", postprocess=chosen)
    assert np.array_equal(read_labels(folder / "x0.tif"), np.ones(SHAPE))
    assert pd.read_csv(folder / "flags.csv")["finding"].tolist() == ["objects cover 100% of the image"]


def test_an_object_of_one_pixel_is_measured_and_written(fitted, tmp_path):
    plain = settings(instances={"min_area_px": 0, "fill_holes_px": 0}, boundary={"classifier": "none"})
    image, labels, probability = draw_cells(1)
    fit(tmp_path, [], [write_shard(tmp_path, "validation-0000", {"v0": draw_cells(2)})], plain)
    dot = np.zeros_like(probability)
    dot[20, 30] = 1
    folder = segment(
        tmp_path, write_shard(tmp_path, "test-0000", {"x0": (image, labels, dot)}), tmp_path / "postprocess.json",
        postprocess=plain,
    )  # fmt: skip
    [row] = pd.read_csv(folder / "objects.csv").to_dict("records")
    assert (row["area_px"], row["centroid_row_px"], row["centroid_column_px"]) == (1, 20, 30)
    assert (folder / "rle.csv").read_text().splitlines()[1] == f"x0,{20 * SHAPE[1] + 31} 1"


def test_a_missing_prediction_is_named(shards, fitted, tmp_path):
    more = write_shard(tmp_path, "test-0000", {"x0": draw_cells(40), "x9": draw_cells(41)})
    with pytest.raises(
        ValueError,
        match=r"expected probabilities for the 2 samples in images, found differences \(missing x9; "
        r"extra x1\)\. Remove .*images.* and .*probabilities.* and run snakemake again",
    ):
        segment(tmp_path, more | {"probabilities": shards["test"]["probabilities"]}, fitted)


def test_probabilities_of_another_size_are_refused(shards, fitted, tmp_path):
    other = write_shard(tmp_path, "test-0000", {f"x{k}": draw_cells(k) for k in range(2)}, mode="resize", size=(32, 32))
    with pytest.raises(ValueError, match=r"x0\.tif: expected 48 x 64 px as in geometry.csv, found 32 x 32\..*forcerun"):
        segment(tmp_path, shards["test"] | {"probabilities": other["probabilities"]}, fitted)


def test_a_fit_with_other_settings_is_refused(shards, fitted, tmp_path):
    with pytest.raises(ValueError, match=r"postprocess.json: expected a fit made with this job's settings, found"):
        segment(tmp_path, shards["test"], fitted, postprocess=settings(closing={"radius_px": 3}))


def test_a_fit_of_another_format_is_refused(tmp_path):
    (tmp_path / "postprocess.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match=r"expected a fit of format 2, found 99\. .*export the model again"):
        read_fit(tmp_path / "postprocess.json")


def test_tables_of_all_shards_are_gathered(shards, fitted, tmp_path):
    folders = [segment(tmp_path / room, shards[room], fitted) for room in ("validation", "test")]
    paths = {f"{name}_path": tmp_path / f"{name}.csv" for name in ("objects", "rle", "counts", "flags")}
    gather_tables(**paths, segmentation_dirs=folders, features_paths=[])
    assert pd.read_csv(tmp_path / "objects.csv")["sample"].unique().tolist() == ["v0", "v1", "v2", "x0", "x1"]
    assert len(pd.read_csv(tmp_path / "rle.csv")) == 5 * len(CENTRES)


# ---- fitting -----------------------------------------------------------------------------------------------


def test_threshold_is_chosen_on_few_validation_images_and_the_training_images_and_carries_the_hashes(shards, fitted):
    found = read_fit(fitted)
    assert found["threshold"]["images"] == 3 + 6
    assert found["threshold"]["pixels"] == 9 * SHAPE[0] * SHAPE[1]
    assert "training and validation images, because fewer than 10" in found["threshold"]["reason"]
    assert found["threshold"]["mcc"] >= found["threshold"]["mcc_at_half"]
    for room in ROOMS:
        manifest = (shards["validation"][room] / "manifest.json").read_bytes()
        assert found["fold"]["validation"][room] == {"validation-0000": hashlib.sha256(manifest).hexdigest()}


def test_ten_validation_images_are_enough_to_choose_threshold_and_sizes(shards, tmp_path):
    cells = {f"v{k}": draw_cells(80 + k) for k in range(10)}
    found = fit(tmp_path, [shards["train"]], [write_shard(tmp_path, "validation-0000", cells)], settings())
    assert found["threshold"]["images"] == 10
    assert found["threshold"]["reason"] == "best Matthews correlation on the validation images"
    assert found["instances"]["reason"] == "best mean Kaggle AP on 10 validation images"
    assert len({tried["min_area_px"] for tried in found["instances"]["searched"]}) > 1


def test_without_a_network_all_is_chosen_on_both_parts_and_the_file_says_so(shards, tmp_path):
    """Nothing was trained on the training images, so they are as good as validation images."""
    cells = write_shard(tmp_path, "train-0000", {f"t{k}": draw_cells(80 + k) for k in range(9)})
    found = fit(tmp_path, [cells], [shards["validation"]], settings(), is_trained=False)
    assert found["threshold"]["images"] == 9 + 3
    assert found["instances"]["reason"] == "best mean Kaggle AP on 12 training and validation images"
    assert found["threshold"]["reason"] == "best Matthews correlation on the training and validation images"
    assert "the training and validation images" in found["boundary"]["reason"]


def test_with_few_images_objects_below_nearly_all_annotated_ones_are_dropped(shards, fitted):
    areas = [
        int(np.count_nonzero(labels == number))
        for _, labels, _ in (draw_cells(k) for k in (*range(6), *range(20, 23)))
        for number in range(1, labels.max() + 1)
    ]
    smallest = read_fit(fitted)["instances"]["min_area_px"]
    assert smallest == round(min(np.quantile(areas, 0.05), 0.2 * np.median(areas)))
    assert smallest < 0.25 * min(areas)  # predicted objects are often a little smaller than annotated ones


def test_threshold_follows_the_validation_images(shards, tmp_path):
    faint = {}
    for k in range(2):
        image, labels, probability = draw_cells(60 + k)
        faint[f"v{k}"] = image, labels, probability * 0.3
    found = fit(tmp_path, [shards["train"]], [write_shard(tmp_path, "validation-0000", faint)], settings())
    assert 0.05 < found["threshold"]["value"] < 0.25


def test_a_fixed_threshold_stays(shards, tmp_path):
    fixed = settings(threshold={"method": "fixed", "value": 0.7}, boundary={"classifier": "none"})
    assert fit(tmp_path, [], [shards["validation"]], fixed)["threshold"]["value"] == 0.7


def test_without_validation_the_threshold_is_that_of_the_training_images_and_the_file_says_so(shards, tmp_path):
    found = fit(tmp_path, [shards["train"]], [], settings())
    assert found["threshold"]["images"] == 6
    assert found["threshold"]["mcc"] >= found["threshold"]["mcc_at_half"]
    assert "training and validation images" in found["threshold"]["reason"]
    assert "no validation image" in found["instances"]["reason"]
    assert found["instances"]["method"] == "watershed"
    assert found["fold"]["validation"] == {room: {} for room in ROOMS}


def test_without_training_images_there_is_no_classifier_and_the_file_says_so(shards, tmp_path):
    boundary = fit(tmp_path, [], [shards["validation"]], settings())["boundary"]
    assert boundary["model"] is None
    assert boundary["applied"] is False
    assert boundary["reason"] == "no training images"


def test_boundary_pixels_of_one_class_give_no_classifier(shards, tmp_path):
    cells = {}
    for k in range(2):
        image, labels, probability = draw_cells(k)
        cells[f"t{k}"] = image, np.where(labels > 0, labels, IGNORE_LABEL), probability
    boundary = fit(tmp_path, [write_shard(tmp_path, "train-0000", cells)], [shards["validation"]], settings())[
        "boundary"
    ]
    assert boundary["model"] is None
    assert "do not include both classes" in boundary["reason"]


def test_held_out_accuracy_and_base_rate_are_reported(fitted):
    boundary = read_fit(fitted)["boundary"]
    assert (boundary["images"], boundary["pixels"]) == (6, 300)
    assert 0.5 <= boundary["majority_rate"] <= 1
    for by in ("by_pixel", "by_image"):
        assert boundary["held_out"][by]["repeats"] == 10
        assert boundary["held_out"][by]["mean"] > boundary["majority_rate"]
    assert set(boundary["validation_dice"]) == {"with", "without"}


def misleading_cells(seed):
    """Draw cells whose inverted grey values mislead about the borders in the validation images."""
    image, labels, probability = draw_cells(seed)
    return 400 - image, labels, probability


@pytest.mark.parametrize(("apply", "applied"), [("if_better", False), ("always", True)])
def test_a_classifier_that_harms_is_applied_only_when_told(shards, tmp_path, apply, applied):
    training = write_shard(tmp_path, "train-0000", {f"t{k}": misleading_cells(k) for k in range(4)})
    found = fit(tmp_path, [training], [shards["validation"]], settings(boundary={"apply": apply}))["boundary"]
    assert found["validation_dice"]["with"] < found["validation_dice"]["without"]
    assert found["applied"] is applied


def test_a_classifier_that_helps_is_applied(shards, tmp_path):
    def swollen(seed):
        image, labels, probability = draw_cells(seed)
        return image, labels, np.maximum(probability, ndimage.maximum_filter(probability, 3) * 0.99)

    training = write_shard(tmp_path, "train-0000", {f"t{k}": swollen(k) for k in range(4)})
    validation = write_shard(tmp_path, "validation-0000", {f"v{k}": swollen(20 + k) for k in range(2)})
    fixed = settings(threshold={"method": "fixed", "value": 0.5})
    found = fit(tmp_path, [training], [validation], fixed)["boundary"]
    assert found["applied"] is True
    assert found["validation_dice"]["with"] > found["validation_dice"]["without"] + 0.02


def test_without_validation_held_out_images_decide(shards, tmp_path):
    found = fit(tmp_path, [shards["train"]], [], settings())["boundary"]
    assert found["applied"] is (found["held_out"]["by_image"]["mean"] > found["kept_accuracy"])
    assert found["validation_dice"] == {"with": None, "without": None}


def test_validation_images_without_an_object_decide_nothing(shards, tmp_path):
    image, labels, probability = draw_cells(3)
    empty = write_shard(tmp_path, "validation-0000", {"v0": (image, np.zeros_like(labels), np.zeros_like(probability))})
    found = fit(tmp_path, [shards["train"]], [empty], settings())["boundary"]
    assert found["validation_dice"] == {"with": None, "without": None}
    assert found["applied"] is (found["held_out"]["by_image"]["mean"] > found["kept_accuracy"]) is True


def test_sizes_are_chosen_on_no_more_images_than_asked_for(shards, tmp_path):
    found = fit(tmp_path, [], [shards["validation"]], settings(search_images=2))
    assert "best mean Kaggle AP on 2 validation images" in found["instances"]["reason"]
    assert found["threshold"]["images"] == 3


def test_windows_stand_for_large_images_where_something_is_chosen(shards, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    whole = fit(tmp_path, [shards["train"]], [shards["validation"]], settings())
    monkeypatch.setattr("cellmill.images.windows.WHOLE_PIXELS", 100)
    monkeypatch.setattr("cellmill.images.windows.CORE_PX", 34)
    found = fit(tmp_path, [shards["train"]], [shards["validation"]], settings())
    assert "v0: large image, fitted on 4 of its 4 windows" in caplog.text
    for each in (whole, found):
        each["threshold"].pop("reason")
    assert found["threshold"] == whole["threshold"]  # the windows cover all pixels
    assert "best mean Kaggle AP on 12 windows of 3 validation images" in found["instances"]["reason"]
    assert found["boundary"]["images"] == 6
    assert found["boundary"]["pixels"] > 3 * whole["boundary"]["pixels"]
    assert found["boundary"]["held_out"]["by_image"]["mean"] == pytest.approx(
        whole["boundary"]["held_out"]["by_image"]["mean"], abs=0.1
    )


@pytest.mark.parametrize(("mode", "size"), [("none", None), ("resize", (96, 96)), ("crop_pad", (40, 80))])
def test_a_window_of_a_frame_is_a_part_of_it(tmp_path, mode, size):
    folders = write_shard(tmp_path, "test-0000", {"x0": draw_cells(3)}, mode=mode, size=size)
    [frame] = list_frames(folders["images"], folders["probabilities"], labels=folders["labels"])
    part = replace(frame, window=(slice(11, 37), slice(5, 60)))
    for read in ("read_image", "read_probability", "read_truth", "find_valid"):
        assert np.array_equal(getattr(part, read)(), getattr(frame, read)()[11:37, 5:60]), read
    assert part.measure_grey() == frame.measure_grey()
    assert part.box[0] == (frame.box[0][0] - 11, frame.box[0][1] - 11)
    assert (frame.name, part.name) == ("x0", "x0[11:37, 5:60]")


def test_windows_are_drawn_where_something_is_known_and_one_holds_an_object(tmp_path, monkeypatch):
    monkeypatch.setattr("cellmill.images.windows.WHOLE_PIXELS", 100)
    monkeypatch.setattr("cellmill.images.windows.CORE_PX", 8)
    monkeypatch.setattr("cellmill.objects.frames.WINDOWS_DRAWN", 3)
    image, _, probability = draw_cells(3)
    labels = np.zeros(SHAPE, dtype=np.int64)
    labels[:24] = IGNORE_LABEL
    labels[41:44, 60:62] = 7
    folders = write_shard(tmp_path, "test-0000", {"x0": (image, labels, probability)})
    frames = list_frames(folders["images"], folders["probabilities"], labels=folders["labels"])
    for seed in range(5):
        drawn = list(cut_frames(frames, seed=seed))
        assert len({part.name for part in drawn}) == len(drawn)
        assert 3 <= len(drawn) <= 4
        assert all(part.window[0].start >= 24 for part in drawn)
        assert sum(bool((part.read_truth() == 7).any()) for part in drawn) == 1
    assert [part.name for part in cut_frames(frames, seed=1)] == [part.name for part in cut_frames(frames, seed=1)]
    assert [part.name for part in cut_frames(frames, seed=1)] != [part.name for part in cut_frames(frames, seed=2)]


def test_each_step_is_scored_on_the_validation_images(shards, tmp_path):
    found = fit(tmp_path, [shards["train"]], [shards["validation"]], settings(boundary={"apply": "always"}))
    steps = {row["step"]: row for row in found["steps"]}
    assert list(steps) == ["threshold", "closing", "boundary", "holes", "objects", "filters"]
    assert steps["boundary"]["dice"] == pytest.approx(found["boundary"]["validation_dice"]["with"], abs=0.02)
    assert steps["objects"]["ap_kaggle"] > steps["holes"]["ap_kaggle"] + 0.1  # two cells touch
    best = max(row["ap_kaggle"] for row in found["instances"]["searched"])
    assert steps["filters"]["ap_kaggle"] == pytest.approx(best)
    plain = fit(tmp_path, [], [shards["validation"]], settings(boundary={"classifier": "none"}))
    assert [row["step"] for row in plain["steps"]] == ["threshold", "closing", "holes", "objects", "filters"]
    assert fit(tmp_path, [], [], settings())["steps"] == []


def test_equal_fits_are_equal_bytes(shards, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        fit(tmp_path / name, [shards["train"]], [shards["validation"]], settings())
    for file in ("postprocess.json", "model.cellmill"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_another_seed_draws_other_boundary_pixels(shards, tmp_path):
    fits = [
        fit(tmp_path, [shards["train"]], [shards["validation"]], settings(), seed=seed)["boundary"]["model"]
        for seed in (1, 2)
    ]
    assert fits[0]["coefficients"] != fits[1]["coefficients"]


def test_the_exported_model_carries_weights_fit_and_settings(shards, tmp_path):
    fit(tmp_path, [shards["train"]], [shards["validation"]], settings())
    with zipfile.ZipFile(tmp_path / "model.cellmill") as archive:
        assert archive.read("weights.pt") == (tmp_path / "weights.pt").read_bytes()
        assert archive.read("postprocess.json") == (tmp_path / "postprocess.json").read_bytes()
        description = json.loads(archive.read("model.json"))
    assert description == {
        "format": 2, "network": {"architecture": "unet", "output": "foreground"}, "input": {"frames": 1, "normalise": "zscore"}, "preprocess": {"channel": 0}, "predict": {"batch": 4},
        "postprocess": settings(),
        "training_images": [f"digest of {name}" for name in ("t0", "t1", "t2", "t3", "t4", "t5", "v0", "v1", "v2")],
    }  # fmt: skip


def test_the_fit_names_no_folder_of_this_machine(fitted, tmp_path):
    assert str(tmp_path.parents[1]) not in fitted.read_text()


# ---- config ------------------------------------------------------------------------------------------------


def test_every_field_is_described():
    def undescribed(model):
        for name, field in model.model_fields.items():
            if not field.description:
                yield name
            if hasattr(field.annotation, "model_fields"):
                yield from undescribed(field.annotation)

    assert not [*undescribed(Postprocess), *undescribed(Evaluate)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"treshold": {}},
        {"threshold": {"method": "fixed"}},
        {"threshold": {"value": 0.4}},
        {"threshold": {"method": "fixed", "value": 1.0}},
        {"closing": {"radius_px": -1}},
        {"boundary": {"pixels_per_image": 0}},
        {"instances": {"split_depth_px": 0}},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Postprocess.model_validate(wrong)


def test_a_hot_pixel_does_not_enter_the_measured_intensities(shards, fitted, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for path in shards["test"]["raw"].glob("*.tif"):
        image_yx = tifffile.imread(path).astype(np.float32)
        labels_yx = tifffile.imread(shards["test"]["labels"] / path.name)
        row, column = np.argwhere(labels_yx > 0)[40]
        image_yx[row, column] = 1e30
        tifffile.imwrite(raw / path.name, image_yx)
    clean = pd.read_csv(segment(tmp_path / "clean", shards["test"], fitted) / "objects.csv")
    for choice, is_equal in (("replace", True), ("keep", False)):
        folders = {**shards["test"], "raw": raw}
        hot = pd.read_csv(segment(tmp_path / choice, folders, fitted, hot_pixels=choice) / "objects.csv")
        assert np.allclose(hot["raw_intensity_mean"], clean["raw_intensity_mean"], rtol=0.05) == is_equal


# ---- confidence -----------------------------------------------------------------------------------------------


def test_objects_and_images_have_a_confidence(shards, fitted, tmp_path):
    folder = segment(tmp_path, shards["test"], fitted)
    objects, counts = (pd.read_csv(folder / f"{name}.csv") for name in ("objects", "counts"))
    assert objects["confidence"].between(0.5, 1).all()
    assert counts["objects"].tolist() == [len(CENTRES)] * 2
    assert counts["area_px"].tolist() == objects.groupby("sample")["area_px"].sum().tolist()
    means = objects.groupby("sample")["confidence"].mean().to_numpy()
    assert (counts["confidence"] < means).all()
    assert (counts["confidence"] > means - 0.3).all()
    section = read_fit(fitted)["confidence"]
    assert not section["calibrated"]  # all validation objects are right
    assert (section["right"], section["wrong"]) == (12, 0)


def test_padding_changes_no_confidence(shards, fitted, tmp_path):
    padded = write_shard(
        tmp_path / "padded",
        "test-0000",
        {f"x{k}": draw_cells(40 + k) for k in range(2)},
        mode="crop_pad",
        size=(80, 90),
    )
    with_it, without = (
        pd.read_csv(segment(tmp_path / name, folders, fitted) / "counts.csv")
        for name, folders in (("a", padded), ("b", shards["test"]))
    )
    assert with_it["objects"].tolist() == without["objects"].tolist()
    assert with_it["confidence"].tolist() == pytest.approx(without["confidence"].tolist(), abs=2e-4)


def test_a_model_of_an_earlier_version_has_an_uncalibrated_confidence(shards, fitted, tmp_path):
    old = json.loads(fitted.read_text())
    del old["confidence"]
    (tmp_path / "old.json").write_text(json.dumps(old))
    new, earlier = (
        pd.read_csv(segment(tmp_path / name, shards["test"], path) / "objects.csv")
        for name, path in (("new", fitted), ("old", tmp_path / "old.json"))
    )
    assert earlier["confidence"].tolist() == new["confidence"].tolist()
