"""The check of a whole dataset stops the run if there is nothing to learn from, and lets sound datasets pass."""

import json
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile
from roifile import ImagejRoi

from cellmill.annotations.coco_masks import encode_counts
from cellmill.planning.make import make_plan
from cellmill.planning.settings import job_settings
from cellmill.stages.check_dataset import summarize_check
from cellmill.stages.check_shard import check_shard
from project import ROOT
from whole_images import encode_rle

SHAPE = (60, 80)
SAMPLES = [f"s{number}" for number in range(8)]
CENTRES = [(12, 12), (12, 40), (12, 66), (40, 14), (44, 44), (40, 68)]
SQUARE = np.array([(-5, -5), (5, -5), (5, 5), (-5, 5)])


def labels(number=0):
    """Return a label image of six discs that do not touch."""
    labels_yx = np.zeros(SHAPE, np.uint8)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for i, (row, column) in enumerate(CENTRES, start=1):
        labels_yx[(y - row - number % 3) ** 2 + (x - column) ** 2 <= 36] = i
    return labels_yx


def write_images(folder, *, samples=SAMPLES):
    (folder / "img").mkdir(exist_ok=True)
    for number, sample in enumerate(samples):
        noise_yx = np.random.default_rng(number).integers(0, 20, SHAPE)
        tifffile.imwrite(folder / f"img/{sample}.tif", (60 + 100 * (labels(number) > 0) + noise_yx).astype(np.uint8))


def write_masks(folder, change, *, samples=SAMPLES):
    """Write the changed label image of each sample as PNG."""
    write_images(folder, samples=samples)
    (folder / "ann").mkdir(exist_ok=True)
    for number, sample in enumerate(samples):
        changed_yx = np.ascontiguousarray(change(labels(number))).astype(np.uint8)
        (folder / f"ann/{sample}.png").write_bytes(imagecodecs.png_encode(changed_yx))


def write_coco(folder, segmentation, *, samples=SAMPLES, **fields):
    """Write a COCO file whose objects have the segmentation of a centre (row, column)."""
    write_images(folder, samples=samples)
    images, annotations = [], []
    for number, sample in enumerate(samples):
        images.append({"id": number, "file_name": f"{sample}.tif", "height": SHAPE[0], "width": SHAPE[1]})
        for centre in CENTRES:
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, **fields}
            annotations.append({**entry, "segmentation": segmentation(*centre)})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    (folder / "coco.json").write_text(json.dumps(content))


def outline(row, column):
    return [(SQUARE + np.array([column, row])).ravel().tolist()]


def check(folder, monkeypatch, *, change=None, **annotations) -> pd.DataFrame:
    """Plan and check a dataset, and return its findings."""
    monkeypatch.chdir(folder)
    section = {"images": "img/{sample}.tif", "annotations": annotations, **(change or {})}
    plan = make_plan({"datasets": {"d": section}}, presets_dir=ROOT / "resources/models", cache_dir=Path("cache"))
    paths = []
    for shard in plan.shards("d"):
        paths.append(folder / f"{shard}.json")
        check_shard(output_path=paths[-1], **job_settings(plan, "check_shard", dataset="d", shard=shard))
    tables = {f"{name}_path": folder / f"{name}.csv" for name in ("summary", "images", "annotations")}
    summarize_check(**tables, findings_paths=paths, **job_settings(plan, "check_dataset", dataset="d"))
    return pd.read_csv(tables["summary_path"], keep_default_na=False)


MASKS = {"path": "ann/{sample}.png"}
COCO = {"format": "coco", "table": "coco.json"}


def stops(folder, monkeypatch, message, **annotations):
    """Check that the annotations stop the run, and are only a warning if the config says so."""
    with pytest.raises(ValueError, match=message):
        check(folder, monkeypatch, **annotations)
    assert not (folder / "summary.csv").exists()
    table = check(folder, monkeypatch, implausible="warn", **annotations)
    assert "error" not in set(table["severity"])
    return table[table["severity"] == "warning"]


# no object


def test_crowds_only_stop_the_run_and_name_cvat(tmp_path, monkeypatch):
    write_coco(tmp_path, outline, iscrowd=1)
    stops(tmp_path, monkeypatch, "48 of 48 annotations are crowds .* CVAT .* set iscrowd to 0", **COCO)


def test_a_coco_file_without_annotations_stops_the_run(tmp_path, monkeypatch):
    write_coco(tmp_path, outline)
    content = json.loads((tmp_path / "coco.json").read_text())
    (tmp_path / "coco.json").write_text(json.dumps({**content, "annotations": []}))
    stops(tmp_path, monkeypatch, "no object in 8 annotated images", **COCO)


def test_black_masks_stop_the_run(tmp_path, monkeypatch):
    write_masks(tmp_path, np.zeros_like)
    for name in ("binary", "label_image"):
        with pytest.raises(ValueError, match="no object in 8 annotated images"):
            check(tmp_path, monkeypatch, format=name, **MASKS)


def test_a_table_that_says_of_every_image_that_it_has_no_object_stops_the_run(tmp_path, monkeypatch):
    write_images(tmp_path)
    (tmp_path / "t.csv").write_text("id,annotation\n" + "".join(f"{sample},-1\n" for sample in SAMPLES))
    with pytest.raises(ValueError, match="no object in 8 annotated images"):
        check(tmp_path, monkeypatch, format="rle", table="t.csv", order="row")


def test_objects_that_are_all_below_the_smallest_size_stop_the_run(tmp_path, monkeypatch):
    write_masks(tmp_path, np.asarray)
    stops(
        tmp_path, monkeypatch, "48 of 48 objects have fewer than 9000 px", format="label_image", min_object_px=9000, **MASKS
    )  # fmt: skip


def test_a_training_part_without_objects_stops_the_run(tmp_path, monkeypatch):
    write_masks(tmp_path, np.asarray)
    for sample in SAMPLES[:6]:
        (tmp_path / f"ann/{sample}.png").write_bytes(imagecodecs.png_encode(np.zeros(SHAPE, np.uint8)))
    parts = [f"{s},{'train' if i < 6 else 'validation' if i < 7 else 'test'}\n" for i, s in enumerate(SAMPLES)]
    (tmp_path / "split.csv").write_text("sample,split\n" + "".join(parts))
    with pytest.raises(ValueError, match="no object in the training images"):
        check(tmp_path, monkeypatch, format="label_image", change={"split": {"table": "split.csv"}}, **MASKS)


# other units and places


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ((1 / SHAPE[0], 1 / SHAPE[1]), "48 are broken .*fractions of the image.* multiply|Multiply x by the width"),
        ((1.3 / SHAPE[0], 1.3 / SHAPE[1]), "annotations contain no pixels"),
        ((9, 9), "outside the image.* the annotated images had another size"),
    ],
)
def test_outlines_in_other_units_stop_the_run(tmp_path, monkeypatch, scale, message):
    def scaled(row, column):
        points = SQUARE + np.array([column, row])
        return [(points * np.array(scale[::-1])).ravel().tolist()]

    write_coco(tmp_path, scaled)
    stops(tmp_path, monkeypatch, message, **COCO)


def test_outlines_in_per_cent_of_large_images_stop_the_run(tmp_path, monkeypatch):
    (tmp_path / "img").mkdir()
    images, annotations = [], []
    rng = np.random.default_rng(4)
    for number, sample in enumerate(SAMPLES):
        tifffile.imwrite(tmp_path / f"img/{sample}.tif", rng.integers(0, 99, (300, 400)).astype(np.uint8))
        images.append({"id": number, "file_name": f"{sample}.tif"})
        for x, y in [(3, 4), (97, 96), (50, 20), (30, 90)]:
            entry = {"id": len(annotations), "image_id": number, "category_id": 1}
            annotations.append({**entry, "segmentation": [(SQUARE * 0.4 + np.array([x, y])).ravel().tolist()]})
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    stops(tmp_path, monkeypatch, "as if coordinates were percentages", **COCO)


def test_rois_drawn_in_a_larger_image_stop_the_run(tmp_path, monkeypatch):
    write_images(tmp_path)
    (tmp_path / "roi").mkdir()
    for sample in SAMPLES:
        for i, (row, column) in enumerate(CENTRES):
            points = 4 * (SQUARE + np.array([column, row]))
            (tmp_path / f"roi/{sample}-{i}.roi").write_bytes(ImagejRoi.frompoints(points).tobytes())
    stops(tmp_path, monkeypatch, "beyond the image.* another size", format="imagej_roi", path="roi/{sample}-*.roi")


# masks read as object numbers


def test_a_mask_given_as_a_label_image_stops_the_run(tmp_path, monkeypatch):
    write_masks(tmp_path, lambda labels_yx: 255 * (labels_yx > 0))
    message = r"8 objects \(number 255\) in 8 of 8 images consist of 48 separate parts .* annotations.format to binary"
    stops(tmp_path, monkeypatch, message, format="label_image", **MASKS)
    assert "error" not in set(check(tmp_path, monkeypatch, format="binary", **MASKS)["severity"])


def test_classes_given_as_a_label_image_stop_the_run(tmp_path, monkeypatch):
    write_masks(tmp_path, lambda labels_yx: np.where(labels_yx > 3, 2, labels_yx > 0))
    stops(tmp_path, monkeypatch, r"16 objects \(number 1, 2\) in 8 of 8 images", format="label_image", **MASKS)


def test_runs_of_all_cells_in_one_row_stop_the_run_unless_parts_are_split(tmp_path, monkeypatch):
    write_images(tmp_path)
    rows = [f"{s},{encode_rle(labels(i) > 0, order='row')}\n" for i, s in enumerate(SAMPLES)]
    (tmp_path / "t.csv").write_text("id,annotation\n" + "".join(rows))
    table = {"format": "rle", "table": "t.csv", "order": "row"}
    stops(tmp_path, monkeypatch, "48 separate parts .* annotations.fragments to split", **table)
    assert "error" not in set(check(tmp_path, monkeypatch, fragments="split", **table)["severity"])


def test_masks_of_two_cells_with_the_number_255_stop_the_run(tmp_path, monkeypatch):
    write_masks(tmp_path, lambda labels_yx: 255 * ((labels_yx == 1) | (labels_yx == 5)))
    stops(tmp_path, monkeypatch, "consist of 16 separate parts", format="label_image", **MASKS)


# the background as object


def test_an_inverted_mask_stops_the_run_and_a_stated_foreground_does_not(tmp_path, monkeypatch):
    write_masks(tmp_path, lambda labels_yx: 255 * (labels_yx == 0))
    message = "surrounds other regions in 8 of 8 images .* set annotations.foreground to zero"
    stops(tmp_path, monkeypatch, message, format="binary", **MASKS)
    table = check(tmp_path, monkeypatch, format="binary", foreground="nonzero", **MASKS)
    assert any("surrounds other regions" in text for text in table[table["severity"] == "warning"]["finding"])
    right = check(tmp_path, monkeypatch, format="binary", foreground="zero", **MASKS)
    assert not any("surrounds" in text for text in right["finding"])


def test_a_few_inverted_masks_are_a_warning_that_does_not_advise_to_invert_all(tmp_path, monkeypatch):
    write_masks(tmp_path, lambda labels_yx: 255 * (labels_yx > 0))
    for sample in SAMPLES[:3]:
        (tmp_path / f"ann/{sample}.png").write_bytes(imagecodecs.png_encode((255 * (labels() == 0)).astype(np.uint8)))
    table = check(tmp_path, monkeypatch, format="binary", **MASKS)
    [row] = table[table["finding"].str.contains("surrounds other regions in 3 of 8 images")].to_dict("records")
    assert row["severity"] == "warning"
    assert "invert these masks" in row["advice"]


def test_the_repair_of_a_background_fits_the_format(tmp_path, monkeypatch):
    def paint(labels_yx):
        return np.where(labels_yx == 0, 255, 20 * labels_yx)[..., None].repeat(3, axis=2)

    write_masks(tmp_path, paint)
    with pytest.raises(ValueError, match="paint it black"):
        check(tmp_path, monkeypatch, format="color_components", **MASKS)
    for sample in SAMPLES:
        for cell in range(1, 7):
            path = tmp_path / f"cells/{sample}/{cell}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(imagecodecs.png_encode((255 * (labels() != cell)).astype(np.uint8)))
    stops(tmp_path, monkeypatch, "If these masks are inverted", format="mask_folder", path="cells/{sample}/*.png")


def test_membranes_annotated_as_objects_stop_the_run(tmp_path, monkeypatch):
    def membranes(labels_yx):
        net_yx = np.zeros(SHAPE, bool)
        net_yx[::12], net_yx[:, ::15] = True, True
        return 255 * net_yx

    write_masks(tmp_path, membranes)
    stops(tmp_path, monkeypatch, "net of membranes", format="binary", **MASKS)
    assert "error" not in set(check(tmp_path, monkeypatch, format="binary", foreground="zero", **MASKS)["severity"])


def test_two_classes_without_zero_stop_the_run_in_both_formats(tmp_path, monkeypatch):
    write_masks(tmp_path, lambda labels_yx: np.where(labels_yx > 0, 1, 2))
    stops(
        tmp_path, monkeypatch, "If 2 is the background.* binary and annotations.foreground to 1", format="label_image", **MASKS
    )  # fmt: skip
    with pytest.raises(
        ValueError, match=r"found the numbers 1 and 2\. If these are classes, set annotations.foreground"
    ):
        check(tmp_path, monkeypatch, format="binary", **MASKS)
    check(tmp_path, monkeypatch, format="binary", foreground=1, **MASKS)
    truths = pd.read_csv(tmp_path / "annotations.csv")
    assert truths["objects"].tolist() == [6] * 8


def test_a_numbered_background_stops_the_run(tmp_path, monkeypatch):
    write_masks(tmp_path, lambda labels_yx: labels_yx + 1)
    stops(tmp_path, monkeypatch, "If 1 is the background, write it as 0", format="label_image", **MASKS)


def test_inverted_masks_of_large_single_cells_stop_the_run(tmp_path, monkeypatch):
    write_images(tmp_path)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for sample in SAMPLES:
        (tmp_path / f"ann/{sample}").mkdir(parents=True)
        for i, column in enumerate((20, 58)):
            mask_yx = np.where((y - 30) ** 2 + (x - column) ** 2 <= 256, 0, 255).astype(np.uint8)
            (tmp_path / f"ann/{sample}/{i}.png").write_bytes(imagecodecs.png_encode(mask_yx))
    stops(
        tmp_path, monkeypatch, "If these masks are inverted", format="mask_folder", path="ann/{sample}/*.png"
    )  # fmt: skip


def test_three_classes_without_zero_name_the_numbers_that_are_left(tmp_path, monkeypatch):
    write_masks(tmp_path, lambda labels_yx: np.where(labels_yx > 3, 2, np.where(labels_yx > 0, 1, 3)))
    stops(tmp_path, monkeypatch, "binary and annotations.foreground to 1 or 2", format="label_image", **MASKS)


def test_images_of_one_object_that_covers_everything_stop_the_run(tmp_path, monkeypatch):
    write_masks(tmp_path, np.ones_like)
    stops(tmp_path, monkeypatch, "one object covers every pixel in 8 of 8 images", format="binary", **MASKS)


# sound datasets


def test_some_images_without_objects_are_no_reason_to_stop(tmp_path, monkeypatch):
    write_masks(tmp_path, np.asarray)
    for sample in SAMPLES[::3]:
        (tmp_path / f"ann/{sample}.png").write_bytes(imagecodecs.png_encode(np.zeros(SHAPE, np.uint8)))
    table = check(tmp_path, monkeypatch, format="label_image", change={"split": {"seed": 2}}, **MASKS)
    assert "error" not in set(table["severity"])


def test_a_few_labelled_frames_are_enough(tmp_path, monkeypatch):
    write_masks(tmp_path, np.asarray)
    for sample in SAMPLES[4:]:
        (tmp_path / f"ann/{sample}.png").unlink()
    table = check(tmp_path, monkeypatch, format="label_image", missing="unlabelled", **MASKS)
    assert "error" not in set(table["severity"])


def test_a_confluent_tissue_without_background_passes(tmp_path, monkeypatch):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    write_masks(tmp_path, lambda labels_yx: 1 + y // 15 * 8 + x // 10)
    assert "error" not in set(check(tmp_path, monkeypatch, format="label_image", **MASKS)["severity"])


def test_one_cell_that_fills_a_crop_passes(tmp_path, monkeypatch):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    write_masks(tmp_path, lambda labels_yx: np.abs(y - 30) + 0.5 * np.abs(x - 40) < 38)
    assert "error" not in set(check(tmp_path, monkeypatch, format="label_image", **MASKS)["severity"])


def test_single_cells_in_two_parts_pass(tmp_path, monkeypatch):
    write_masks(tmp_path, lambda labels_yx: (labels_yx == 1) | (labels_yx == 2))
    assert "error" not in set(check(tmp_path, monkeypatch, format="label_image", **MASKS)["severity"])


def test_a_few_crowds_and_broken_outlines_pass(tmp_path, monkeypatch):
    write_coco(tmp_path, outline)
    content = json.loads((tmp_path / "coco.json").read_text())
    for entry in content["annotations"][::5]:
        entry["iscrowd"] = 1
    for entry in content["annotations"][1::5]:
        entry["segmentation"] = [[5, 5, 6, 6]]
    (tmp_path / "coco.json").write_text(json.dumps(content))
    assert "error" not in set(check(tmp_path, monkeypatch, **COCO)["severity"])


def test_cells_that_nobody_outlined_in_a_frame_of_markers_are_no_loss(tmp_path, monkeypatch):
    """Markers of cells without outlines are ignored pixels, not crowds."""
    write_masks(tmp_path, lambda labels_yx: labels_yx * (labels_yx == 1))
    (tmp_path / "tra").mkdir()
    for number, sample in enumerate(SAMPLES):
        (tmp_path / f"tra/{sample}.png").write_bytes(imagecodecs.png_encode(labels(number)))
    table = check(tmp_path, monkeypatch, format="ctc", markers="tra/{sample}.png", **MASKS)
    assert "error" not in set(table["severity"])


def test_mostly_empty_masks_stop_the_run_unless_the_config_expects_them(tmp_path, monkeypatch):
    write_masks(tmp_path, lambda labels_yx: labels_yx)
    split = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    (tmp_path / "split.csv").write_text(
        "sample,split\n" + "".join(f"{sample},{part}\n" for sample, part in zip(SAMPLES, split, strict=True))
    )
    change = {"split": {"table": "split.csv"}}
    for sample in ("s0", "s1", "s2", "s4", "s6"):
        (tmp_path / f"ann/{sample}.png").write_bytes(imagecodecs.png_encode(np.zeros(SHAPE, np.uint8)))
    message = "5 of 8 annotated images contain no objects .* annotations.missing to unlabelled"
    with pytest.raises(ValueError, match=message):
        check(tmp_path, monkeypatch, change=change, format="label_image", **MASKS)
    table = check(tmp_path, monkeypatch, change=change, format="label_image", implausible="warn", **MASKS)
    assert "error" not in set(table["severity"])
    table = check(tmp_path, monkeypatch, change=change, format="label_image", missing="empty", **MASKS)
    assert "error" not in set(table["severity"])
    write_masks(tmp_path, lambda labels_yx: labels_yx, samples=["s0"])  # half of the images are no majority
    table = check(tmp_path, monkeypatch, change=change, format="label_image", **MASKS)
    assert "error" not in set(table["severity"])


# rows of tables that state that there is no object


@pytest.mark.parametrize("nothing", ["-1", "", "NaN", " -1", "null", "-1.0"])
def test_a_row_that_states_that_there_is_no_object_is_an_image_without_objects(tmp_path, monkeypatch, nothing):
    write_images(tmp_path)
    lines = ["id,annotation"]
    for number, sample in enumerate(SAMPLES):
        masks = [labels(number) == i for i in range(1, 7)]
        lines += (
            [f"{sample},{encode_rle(mask, order='row')}" for mask in masks] if number % 2 else [f"{sample},{nothing}"]
        )
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    table = check(tmp_path, monkeypatch, format="rle", table="t.csv", order="row", change={"split": {"seed": 1}})
    truths = pd.read_csv(tmp_path / "annotations.csv")
    assert sorted(truths["objects"]) == [0] * 4 + [6] * 4
    assert truths["empty"].sum() == 0
    assert any("4 of 8 annotated images contain no objects" in text for text in table["finding"])


# runs of COCO


@pytest.mark.parametrize("is_compressed", [False, True])
def test_coco_runs_counted_by_rows_stop_the_run(tmp_path, monkeypatch, is_compressed):
    def runs(row, column, *, order):
        mask_yx = np.zeros(SHAPE, bool)
        mask_yx[row - 5 : row + 5, column - 4 : column + 4] = True
        edges = np.flatnonzero(np.diff(mask_yx.ravel(order=order))) + 1
        counts = np.diff([0, *edges, mask_yx.size])
        return {"size": list(SHAPE), "counts": encode_counts(counts) if is_compressed else counts.tolist()}

    write_coco(tmp_path, lambda row, column: runs(row, column, order="F"))
    assert "error" not in set(check(tmp_path, monkeypatch, **COCO)["severity"])
    write_coco(tmp_path, lambda row, column: runs(row, column, order="C"))
    with pytest.raises(ValueError, match=r"streaks across .* COCO counts down the columns: write the file again"):
        check(tmp_path, monkeypatch, **COCO)


def test_coco_outlines_of_thin_objects_are_not_judged_as_runs(tmp_path, monkeypatch):
    write_coco(
        tmp_path, lambda row, column: [[column - 6, row, column + 6, row + 1, column + 6, row + 2, column - 6, row + 1]]
    )
    assert "error" not in set(check(tmp_path, monkeypatch, **COCO)["severity"])
