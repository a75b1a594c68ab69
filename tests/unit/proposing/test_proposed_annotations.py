"""Annotations are found by their names and content, in every format, and what the files leave open is asked."""

import json
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
import yaml
from roifile import ImagejRoi

from cellmill.config.yaml_slips import slips_of_file
from cellmill.planning.make import make_plan
from cellmill.planning.settings import job_settings
from cellmill.proposing.proposal import propose
from cellmill.proposing.writing import write_proposal
from cellmill.stages.check_shard import check_shard
from lab_folders import SHAPE, labels, picture, write, write_labels, write_movie, write_pictures
from project import ROOT
from whole_images import encode_rle

NAMES = ("ant", "bee", "cow", "dog", "eel", "fox")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Folder `lab` in the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "lab"
    folder.mkdir()
    return folder


def proposed(folder):
    """Propose a config for a folder of the working directory; return its datasets, open questions and text."""
    text, questions = write_proposal(propose(folder.name), path="mine.yaml")
    (folder.parent / "mine.yaml").write_text(text)
    assert slips_of_file(folder.parent / "mine.yaml") == []
    assert all(len(line) <= 120 or " path" in line or "images:" in line for line in text.splitlines())
    return yaml.safe_load(text)["datasets"], [question for question in questions if question.is_open], text


def checked(datasets, folder):
    """Plan and check the datasets; return for each sample its number of annotated objects (None without)."""
    plan = make_plan({"datasets": datasets}, presets_dir=ROOT / "resources/models", cache_dir=folder.parent / "cache")
    counts: dict[str, dict[str, int | None]] = {}
    for name in plan.samples:
        counts[name] = {row.sample: None for row in plan.samples[name]}
        for shard in plan.shards(name):
            path = folder.parent / f"{name}-{shard}.json"
            check_shard(output_path=path, **job_settings(plan, "check_shard", dataset=name, shard=shard))
            found = json.loads(path.read_text())["annotations"]
            counts[name] |= {truth["sample"]: truth["objects"] for truth in found}
    return counts


def section_of(folder):
    datasets, questions, text = proposed(folder)
    assert not questions, text
    assert list(datasets) == [folder.name]
    return datasets[folder.name], checked(datasets, folder)[folder.name], text


def test_cellpose_writes_masks_beside_the_images(lab):
    write_pictures(lab, [f"{name}.tif" for name in NAMES])
    write_labels(lab, [f"{name}_cp_masks.png" for name in NAMES])
    write_pictures(lab, [f"{name}_flows.tif" for name in NAMES])
    np.save(lab / "ant_seg.npy", np.zeros(3))
    section, counts, text = section_of(lab)
    assert section["images"] == "lab/{sample}.tif"
    assert section["exclude"] == ["*_flows.tif"]
    assert section["annotations"] == {"format": "label_image", "path": "lab/{sample}_cp_masks.png"}
    assert counts == dict.fromkeys(NAMES, 4)
    assert "(.npy), such as ant_seg.npy" in text


def test_cellpose_trains_on_pairs_of_one_suffix(lab):
    write_pictures(lab, [f"00{number}_img.png" for number in range(5)])
    write_labels(lab, [f"00{number}_masks.png" for number in range(5)])
    section, counts, _ = section_of(lab)
    assert section["images"] == "lab/{sample}_img.png"
    assert section["annotations"]["path"] == "lab/{sample}_masks.png"
    assert set(counts.values()) == {4}


def test_stardist_has_training_and_test_folders(lab):
    for part in ("train", "test"):
        write_pictures(lab / part / "images", [f"{name}.tif" for name in NAMES])
        write_labels(lab / part / "masks", [f"{name}.tif" for name in NAMES])
    datasets, questions, _ = proposed(lab)
    assert not questions
    assert list(datasets) == ["lab_train", "lab_test"]
    assert "models" not in datasets["lab_train"]
    assert datasets["lab_test"]["models"] == [{"apply": "lab_train/default"}]
    assert checked(datasets, lab) == {"lab_train": dict.fromkeys(NAMES, 4), "lab_test": dict.fromkeys(NAMES, 4)}


def test_images_without_annotations_are_a_second_dataset_with_the_trained_model(lab):
    write_pictures(lab / "annotated/images", [f"{name}.tif" for name in NAMES])
    write_labels(lab / "annotated/masks", [f"{name}.tif" for name in NAMES])
    write_pictures(lab / "new", ["x1.tif", "y2.tif"])
    datasets, _, _ = proposed(lab)
    assert datasets["lab_new"] == {"images": "lab/new/{sample}.tif", "models": [{"apply": "lab_annotated/default"}]}


def test_one_folder_of_masks_for_each_image(lab):
    for number, name in enumerate(("4f1ca", "77be2", "a0c31")):
        write(lab / name / "images" / f"{name}.png", picture(number))
        for value in range(1, 4):
            write(lab / name / "masks" / f"{name}{value}f.png", ((labels(number) == value) * 255).astype(np.uint8))
    section, counts, _ = section_of(lab)
    assert section["images"] == "lab/{sample}/images/*.png"
    assert section["annotations"] == {"format": "mask_folder", "path": "lab/{sample}/masks/*.png"}
    assert set(counts.values()) == {3}


def test_a_mask_for_each_object_beside_the_image(lab):
    write_pictures(lab, [f"{name}.png" for name in NAMES])
    for name in NAMES:
        for value in range(3):
            write(lab / f"{name}_mask_{value}.png", ((labels(0) == value + 1) * 255).astype(np.uint8))
    section, counts, _ = section_of(lab)
    assert section["annotations"] == {"format": "mask_folder", "path": "lab/{sample}_mask_*.png"}
    assert counts == dict.fromkeys(NAMES, 3)


def test_equal_names_in_a_folder_for_each_image(lab):
    for number, name in enumerate(NAMES):
        write(lab / name / "raw.tif", picture(number))
        write(lab / name / "mask.tif", labels(number))
    section, counts, _ = section_of(lab)
    assert section["images"] == "lab/{sample}/raw.tif"
    assert section["annotations"]["path"] == "lab/{sample}/mask.tif"
    assert counts == dict.fromkeys(NAMES, 4)


def test_a_start_of_the_name_may_tell_the_mask(lab):
    write_pictures(lab / "images", [f"{name}.tif" for name in NAMES])
    write_labels(lab / "labels", [f"label_{name}.tif" for name in NAMES])
    section, _, _ = section_of(lab)
    assert section["annotations"]["path"] == "lab/labels/label_{sample}.tif"


def test_masks_without_a_name_of_masks_are_known_by_their_content(lab):
    write_pictures(lab / "one", [f"{name}.tif" for name in NAMES])
    write_labels(lab / "two", [f"{name}.tif" for name in NAMES])
    section, counts, _ = section_of(lab)
    assert section["images"] == "lab/one/{sample}.tif"
    assert section["annotations"] == {"format": "label_image", "path": "lab/two/{sample}.tif"}
    assert counts == dict.fromkeys(NAMES, 4)


def test_the_cell_tracking_challenge_has_sparse_outlines_and_markers(lab):
    for sequence in ("01", "02"):
        write_movie(lab / sequence, [f"t{time:03}.tif" for time in range(8)])
        for time in (1, 4, 6):
            write(lab / f"{sequence}_GT/SEG/man_seg{time:03}.tif", labels(0, shape=(72, 72)))
        for time in range(8):
            write(lab / f"{sequence}_GT/TRA/man_track{time:03}.tif", labels(0, shape=(72, 72)))
        (lab / f"{sequence}_GT/TRA/man_track.txt").write_text("".join(f"{n} 0 7 0\n" for n in range(1, 5)))
    section, counts, text = section_of(lab)
    assert section["images"] == "lab/{sequence}/t{frame}.tif"
    assert section["annotations"] == {
        "format": "ctc", "path": "lab/{sequence}_GT/SEG/man_seg{frame}.tif",
        "markers": "lab/{sequence}_GT/TRA/man_track{frame}.tif",
    }  # fmt: skip
    assert section["split"] == {"by": "blocks"}
    assert sum(number is not None for number in counts.values()) == 6
    assert "man_track.txt" not in text


def test_images_that_lack_a_mask_are_not_annotated(lab):
    write_pictures(lab / "images", [f"{name}.tif" for name in NAMES])
    write_labels(lab / "masks", [f"{name}.tif" for name in NAMES[:4]])
    section, counts, text = section_of(lab)
    assert section["annotations"]["missing"] == "unlabelled"
    assert [name for name, number in counts.items() if number is None] == list(NAMES[4:])
    assert "# missing: empty" in text


@pytest.mark.parametrize("foreground", ["zero", "nonzero"])
def test_the_value_with_more_areas_is_the_foreground_of_binary_masks(lab, foreground):
    write_pictures(lab / "images", [f"{name}.tif" for name in NAMES])
    for name in NAMES:
        is_cell_yx = labels(0, count=10) > 0
        stored_yx = ~is_cell_yx if foreground == "zero" else is_cell_yx
        write(lab / f"masks/{name}.png", (stored_yx * 255).astype(np.uint8))
    section, counts, _ = section_of(lab)
    assert section["annotations"].get("foreground", "nonzero") == foreground
    assert counts == dict.fromkeys(NAMES, 10)


def test_classes_of_ilastik_are_an_open_question_with_the_share_of_each(lab):
    write_pictures(lab / "images", [f"{name}.tif" for name in NAMES])
    for name in NAMES:
        write(lab / f"{name}_Simple Segmentation.tif", (labels(0) > 0).astype(np.uint8) + 1)
    datasets, [question], text = proposed(lab)
    assert "Which number are the objects?" in question.text
    assert "# foreground: 1" in text
    with pytest.raises(ValueError, match=r"foreground to the number of the objects"):
        checked(datasets, lab)
    datasets["lab"]["annotations"]["foreground"] = 2
    assert checked(datasets, lab)["lab"] == dict.fromkeys(NAMES, 4)


def test_colours_are_components(lab):
    write_pictures(lab / "images", [f"{name}.png" for name in NAMES])
    for name in NAMES:
        colour_yxs = np.zeros((*SHAPE, 3), np.uint8)
        colour_yxs[labels(0) == 1, 0] = 200
        colour_yxs[labels(0) > 1, 1] = 200
        write(lab / f"masks/{name}.png", colour_yxs)
    section, counts, _ = section_of(lab)
    assert section["annotations"]["format"] == "color_components"
    assert counts == dict.fromkeys(NAMES, 4)


def test_a_highest_number_in_all_label_images_may_be_ignored_pixels(lab):
    write_pictures(lab / "images", [f"{name}.tif" for name in NAMES])
    for name in NAMES:
        label_yx = labels(0)
        label_yx[-2:] = 255
        write(lab / f"masks/{name}.tif", label_yx)
    _, _, text = section_of(lab)
    assert "# ignore_value: 255" in text


def test_smoothed_masks_are_not_used_and_named(lab):
    write_pictures(lab / "images", [f"{name}.png" for name in NAMES])
    for name in NAMES:
        write(lab / f"masks/{name}_mask.jpg", (labels(0) > 0).astype(np.uint8) * 255)
    section, _, text = section_of(lab)
    assert "annotations" not in section
    assert "masks/*_mask.jpg (6): named like masks, but they contain grey levels." in text


def roi_bytes(top, left):
    points = np.array([[left, top], [left + 4, top], [left + 4, top + 4], [left, top + 4]], dtype=np.int16)
    return ImagejRoi.frompoints(points).tobytes()


def test_rois_of_imagej_and_geojson_of_qupath(lab):
    write_pictures(lab / "images", [f"{name}.tif" for name in NAMES])
    for name in NAMES:
        (lab / "rois").mkdir(exist_ok=True)
        with zipfile.ZipFile(lab / f"rois/{name}.zip", "w") as archive:
            archive.writestr("one.roi", roi_bytes(3, 3))
            archive.writestr("two.roi", roi_bytes(12, 12))
    section, counts, _ = section_of(lab)
    assert section["annotations"] == {"format": "imagej_roi", "path": "lab/rois/{sample}.zip"}
    assert counts == dict.fromkeys(NAMES, 2)
    shutil.rmtree(lab / "rois")
    ring = [[3, 3], [9, 3], [9, 9], [3, 9], [3, 3]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
    for name in NAMES:
        text = json.dumps({"type": "FeatureCollection", "features": [feature]})
        (lab / f"images/{name}.geojson").write_text(text)
    section, counts, _ = section_of(lab)
    assert section["annotations"] == {"format": "geojson", "path": "lab/images/{sample}.geojson"}
    assert counts == dict.fromkeys(NAMES, 1)


def test_a_coco_file_is_tied_by_the_names_in_it(lab):
    write_pictures(lab / "images", [f"{name}.png" for name in NAMES])
    content = {
        "images": [
            {"id": i, "file_name": f"set/{name}.png", "height": SHAPE[0], "width": SHAPE[1]}
            for i, name in enumerate(NAMES)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "iscrowd": 0, "segmentation": [[3, 3, 9, 3, 9, 9, 3, 9]]}
            for i, _ in enumerate(NAMES)
        ],
        "categories": [{"id": 1, "name": "cell"}],
    }
    (lab / "annotations.json").write_text(json.dumps(content))
    (lab / "settings.json").write_text("{}")
    section, counts, _ = section_of(lab)
    assert section["annotations"] == {"format": "coco", "table": "lab/annotations.json"}
    assert counts == dict.fromkeys(NAMES, 1)


def write_runs(lab, *, order, columns=("id", "annotation"), shape=SHAPE, is_symmetric=False):
    """Write images and a table of runs; symmetric objects are the same in both orders."""
    rows = []
    for seed, name in enumerate(NAMES):
        label_yx = labels(seed, shape=shape)
        if is_symmetric:
            label_yx = np.zeros(shape, np.uint16)
            for number in range(1, 5):
                label_yx[6 * number - 4 : 6 * number, 6 * number - 4 : 6 * number] = number
        image_yx = picture(seed, shape=shape) // 20 + 3000 * (label_yx > 0)
        write(lab / f"images/{name}.png", image_yx.astype(np.uint16))
        rows += [
            {columns[0]: f"{name}.png", columns[1]: encode_rle(label_yx == number, order=order), "kind": name > "cow"}
            for number in range(1, label_yx.max() + 1)
        ]
    pd.DataFrame(rows).to_csv(lab / "train.csv", index=False)


@pytest.mark.parametrize("order", ["row", "column"])
def test_runs_are_decoded_both_ways_and_the_order_that_fits_is_taken(lab, order):
    write_runs(lab, order=order)
    section, counts, _ = section_of(lab)
    assert section["annotations"] == {"format": "rle", "table": "lab/train.csv", "order": order}
    assert section["class_column"] == "kind"
    assert counts == dict.fromkeys(NAMES, 4)


def test_columns_of_runs_are_found_by_their_content(lab):
    write_runs(lab, order="row", columns=("picture", "mask"))
    section, _, _ = section_of(lab)
    assert section["annotations"] == {
        "format": "rle", "table": "lab/train.csv", "order": "row", "sample_column": "picture", "rle_column": "mask",
    }  # fmt: skip


def test_runs_that_fit_both_ways_leave_the_order_open(lab):
    write_runs(lab, order="row", shape=(32, 32), is_symmetric=True)
    datasets, [question], text = proposed(lab)
    assert question.text.startswith("Are pixels counted along the rows or down the columns?")
    assert "# order: row" in text
    with pytest.raises(ValueError, match=r"mine|annotations: expected table and order for format rle, found no order"):
        checked(datasets, lab)
    datasets["lab"]["annotations"]["order"] = "row"
    assert checked(datasets, lab)["lab"] == dict.fromkeys(NAMES, 4)


def test_fewer_than_three_annotated_images_train_nothing(lab):
    write_pictures(lab / "images", ["a.tif", "b.tif"])
    write_labels(lab / "masks", ["a.tif", "b.tif"])
    section, counts, _ = section_of(lab)
    assert section["models"] == ["classical"]
    assert counts == {"a": 4, "b": 4}


def test_wells_stay_together_and_sequences_are_split_as_a_whole(lab):
    names = [f"x_{well}_s{site}.tif" for well in ("A01", "A02", "B01", "B02") for site in (1, 2, 3)]
    write_pictures(lab / "images", names)
    write_labels(lab / "masks", names)
    section, _, _ = section_of(lab)
    assert section["split"] == {"group_by": "well"}


def test_a_second_format_of_the_same_images_is_asked_for(lab):
    write_pictures(lab / "tiff", [f"{name}.tif" for name in NAMES])
    write_pictures(lab / "png", [f"{name}.png" for name in NAMES])
    datasets, questions, text = proposed(lab)
    assert list(datasets) == ["lab"]
    assert not questions
    assert datasets["lab"]["images"] == "lab/tiff/{sample}.tif"
    assert "png/*.png has files of the same names" in text


STACKS = {
    "pages": ((5, *SHAPE), {"photometric": "minisblack"}, "What are the planes?", {"stack": {"axis": "z"}}),
    "channels": ((2, *SHAPE), {"imagej": True, "metadata": {"axes": "CYX"}}, "Which one shows", {"preprocess": {"channel": 1}}),
}  # fmt: skip


@pytest.mark.parametrize("case", STACKS)
def test_planes_and_channels_that_the_metadata_leave_open_are_open_questions(lab, case):
    shape, options, asked, answer = STACKS[case]
    for number, name in enumerate(NAMES):
        write(lab / f"{name}.tif", np.stack([picture(10 * number + i) for i in range(shape[0])]), **options)
    datasets, questions, _ = proposed(lab)
    assert asked in questions[0].text
    with pytest.raises(ValueError, match=r"stack.axis|preprocess.channel"):
        checked(datasets, lab)
    datasets["lab"] |= answer
    assert checked(datasets, lab)


def test_frames_in_a_file_and_sizes_of_pixels_come_from_the_metadata(lab):
    for number, name in enumerate(NAMES[:2]):
        movie = np.stack([picture(10 * number + i) for i in range(4)])
        write(lab / f"{name}.tif", movie, imagej=True, resolution=(2, 2), metadata={"axes": "TYX", "unit": "um"})
    datasets, questions, text = proposed(lab)
    assert not questions
    assert "Each file has 4 time points, as its metadata say." in text
    assert "Pixel size: 0.5 um, from the metadata of the files." in text
    assert len(checked(datasets, lab)["lab"]) == 8


def test_sections_may_be_projected(lab):
    movie = np.stack([picture(i) for i in range(4)])
    write(lab / "a.tif", movie, imagej=True, metadata={"axes": "ZYX"})
    _, _, text = proposed(lab)
    assert "# stack: {z: maximum}" in text


def test_the_same_folder_gives_the_same_bytes(lab):
    write_runs(lab, order="row")
    assert proposed(lab)[2] == proposed(lab)[2]
