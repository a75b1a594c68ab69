"""Datasets that only apply trained models: every annotated image is a test image, unless the config sets parts."""

import numpy as np
import pytest
import tifffile

from cellmill.config.errors import ConfigError
from cellmill.planning.make import make_plan
from project import ROOT

PRESETS = ROOT / "resources/models"


def write(root, count, *, annotated=None):
    for folder in ("images", "labels"):
        (root / folder).mkdir(exist_ok=True)
    for number in range(count):
        pixels = np.full((16, 16), number, dtype=np.uint8)
        tifffile.imwrite(root / f"images/x{number}.tif", pixels)
        if number < (count if annotated is None else annotated):
            tifffile.imwrite(root / f"labels/x{number}.tif", pixels)


def plan(root, **section):
    source = {
        "images": f"{root}/images/{{sample}}.tif",
        "annotations": {"format": "label_image", "path": f"{root}/labels/{{sample}}.tif", "missing": "unlabelled"},
    }
    trained = {"simulate": {"images": 6, "size": [64, 64]}, "models": [{"preset": "sartorius_unet"}]}
    applied = {**source, "models": [{"apply": "trained/sartorius_unet"}], **section}
    raw = {"datasets": {"trained": trained, "outside": applied}}
    return make_plan(raw, presets_dir=PRESETS, cache_dir=root / "cache")


def parts(root, **section):
    return {row.sample: row.split for row in plan(root, **section).samples["outside"]}


@pytest.mark.parametrize("count", [1, 2, 12])
def test_each_annotated_image_is_a_test_image_where_nothing_is_trained(tmp_path, count):
    write(tmp_path, count)
    assert set(parts(tmp_path).values()) == {"test"}


def test_images_without_annotation_are_only_predicted(tmp_path):
    write(tmp_path, 8, annotated=5)
    found = parts(tmp_path, split={"seed": 3})
    assert found == {f"x{number}": "test" if number < 5 else "unlabelled" for number in range(8)}


def test_a_test_share_of_one_is_accepted_where_nothing_is_trained(tmp_path):
    write(tmp_path, 12)
    assert set(parts(tmp_path, split={"train": 0, "validation": 0, "test": 1}).values()) == {"test"}


def test_shares_that_are_set_are_kept(tmp_path):
    write(tmp_path, 10)
    found = list(parts(tmp_path, split={"train": 0.5, "validation": 0, "test": 0.5}).values())
    assert (found.count("train"), found.count("test")) == (5, 5)


@pytest.mark.parametrize(
    "rows", [["test"] * 4, ["train", "validation", "test", "test"], ["test", "", "test", "train"]], ids=str
)
def test_a_split_table_is_obeyed(tmp_path, rows):
    write(tmp_path, 4)
    table = tmp_path / "split.csv"
    table.write_text("sample,split\n" + "".join(f"x{number},{part}\n" for number, part in enumerate(rows)))
    found = parts(tmp_path, split={"table": str(table)})
    assert list(found.values()) == [part or "unlabelled" for part in rows]


def test_the_groups_of_test_images_are_kept_for_the_intervals(tmp_path):
    write(tmp_path, 4)
    section = {"images": f"{tmp_path}/images/{{kind}}{{number}}.tif", "split": {"group_by": "kind"}}
    section["annotations"] = {"format": "label_image", "path": f"{tmp_path}/labels/{{kind}}{{number}}.tif"}
    rows = plan(tmp_path, **section).samples["outside"]
    assert {row.group for row in rows} == {"x"}
    assert {row.split for row in rows} == {"test"}


def test_a_dataset_that_trains_needs_training_images(tmp_path):
    write(tmp_path, 12)
    section = {"models": [{"preset": "sartorius_unet"}], "split": {"train": 0, "validation": 0, "test": 1}}
    with pytest.raises(
        ConfigError, match=r"expected a train share above 0, found 0\. Raise split.train, because train"
    ):
        plan(tmp_path, **section)


def test_a_test_share_of_zero_is_refused_even_where_nothing_is_trained(tmp_path):
    write(tmp_path, 12)
    with pytest.raises(ConfigError, match="expected a test share above 0, found 0"):
        plan(tmp_path, split={"train": 0.5, "validation": 0.5, "test": 0})


def test_images_that_the_model_was_trained_on_are_not_test_images(tmp_path):
    write(tmp_path, 12)
    source = {
        "images": f"{tmp_path}/images/{{sample}}.tif",
        "annotations": {"format": "label_image", "path": f"{tmp_path}/labels/{{sample}}.tif"},
    }
    new = tmp_path / "new"
    new.mkdir()
    write(new, 5)
    other = {
        "images": f"{new}/images/{{sample}}.tif",
        "annotations": {"format": "label_image", "path": f"{new}/labels/{{sample}}.tif"},
    }
    applied = {"models": [{"apply": "a/sartorius_unet"}]}
    raw = {"datasets": {"a": {**source, "models": ["sartorius_unet"]}, "b": source | applied, "c": other | applied}}
    found = make_plan(raw, presets_dir=PRESETS, cache_dir=tmp_path / "cache")
    assert [row.split for row in found.samples["a"]] == [row.split for row in found.samples["b"]]
    assert all(row.shard.startswith(f"{row.split}-") for row in found.samples["b"])
    assert {row.split for row in found.samples["c"]} == {"test"}
    [remark] = found.remarks
    assert remark.startswith("datasets.b.split: 10 images are training or validation images of the applied model")
