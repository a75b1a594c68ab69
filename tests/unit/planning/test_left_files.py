"""Files beside the images: excluded, counted, named where they are annotations or differ in the spelling of a suffix."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellmill.config.errors import ConfigError
from cellmill.planning.file_counts import remark_on_companions, remark_on_spelling
from cellmill.planning.make import make_plan
from cellmill.planning.patterns import find_files, is_matched
from cellmill.planning.samples import SampleError, scan_images
from cellmill.planning.settings import job_settings
from cellmill.planning.ties import attach_annotations
from project import ROOT

PIXELS = np.zeros((16, 16), dtype=np.uint8)


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def write(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower().startswith(".tif"):
            tifffile.imwrite(path, PIXELS)
        else:
            Image.fromarray(PIXELS).save(path)


def plan(root, **section):
    trained = {"simulate": {"images": 6, "size": [64, 64]}, "models": [{"preset": "sartorius_unet"}]}
    applied = {"models": [{"apply": "trained/sartorius_unet"}], **section}
    raw = {"datasets": {"trained": trained, "d": applied}}
    return make_plan(raw, presets_dir=ROOT / "resources/models", cache_dir=root / "cache")


def label_images(path):
    return {"format": "label_image", "path": str(path)}


# ---- exclude ---------------------------------------------------------------------------------------------


def test_excluded_files_are_no_images(tmp_path):
    touch(tmp_path, "a.png", "b.png", "a_thumb.png", "b_cp_masks.png", "c_thumbs.png")

    def names(*exclude):
        return [s.sample for s, _ in scan_images(f"{tmp_path}/{{sample}}.png", where="x", exclude=exclude)]

    assert names("*_thumb.png", f"{tmp_path}/*_cp_masks.png") == ["a", "b", "c_thumbs"]
    assert names(f"{tmp_path}/{{any}}_thumb*.png") == ["a", "b", "b_cp_masks"]
    assert names("other/*_thumb.png") == names()
    with pytest.raises(SampleError, match=r"found 5 files that match .*, all of which match exclude \(\*\)\. Narrow"):
        names("*")


def test_a_pattern_without_a_folder_is_compared_with_the_name():
    assert is_matched("a/b/x_thumb.png", ["*_thumb.png"])
    assert is_matched("a/b/x.png", ["a/**/x.png"])
    assert is_matched("a/x.png", ["a/**/x.png"])
    assert not is_matched("a/b/x.png", ["a/*.png"])
    assert not is_matched("a/x.png", [])


def test_hidden_files_are_no_images(tmp_path):
    touch(tmp_path, "a.tif", "._a.tif", ".DS_Store", ".hidden/b.tif")
    for pattern in ("{sample}.tif", "**/{sample}.tif"):
        assert [path for path, _ in find_files(f"{tmp_path}/{pattern}")] == [f"{tmp_path}/a.tif"]


# ---- ** --------------------------------------------------------------------------------------------------


def test_two_stars_stand_for_folders_of_any_depth(tmp_path):
    names = ("x.tif", "a/y.tif", "a/b/c/z.tif")
    touch(tmp_path, *names, "a/b/no.png")
    found = list(find_files(f"{tmp_path}/**/{{sample}}.tif"))
    assert sorted(path.removeprefix(f"{tmp_path}/") for path, _ in found) == sorted(names)
    assert {values["sample"] for _, values in found} == {"x", "y", "z"}
    assert [values for _, values in find_files(f"{tmp_path}/{{well}}/**/{{sample}}.tif")] == [
        {"well": "a", "sample": "z"}, {"well": "a", "sample": "y"},
    ]  # fmt: skip


@pytest.mark.parametrize("pattern", ["?{sample}.tif", "img[0-9]{sample}.tif", "plate[1]/{sample}.tif"])
def test_signs_of_glob_that_match_nothing_are_explained(tmp_path, pattern):
    touch(tmp_path, "img1.tif")
    with pytest.raises(SampleError, match=r"In patterns, \? and \[\.\.\.\] stand for themselves: write \* or"):
        scan_images(f"{tmp_path}/{pattern}", where="x")


def test_a_folder_with_brackets_is_found(tmp_path):
    touch(tmp_path, "plate[1]/a.tif", "plate[1]/m/a_1.png")
    [(sample, _)] = scan_images(f"{tmp_path}/plate[1]/{{sample}}.tif", where="x")
    assert sample.sample == "a"
    assert [path for path, _ in find_files(f"{tmp_path}/plate[1]/m/{{sample}}_*.png")] == [
        f"{tmp_path}/plate[1]/m/a_1.png"
    ]


# ---- spelling --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "read", "odd", "wider"),
    [
        ("{sample}.tif", ["a.tif"], ["b.TIF", "c.tiff", "d.Tiff"], "{sample}.*"),
        ("{sample}.jpg", ["a.jpg"], ["b.JPG", "c.jpeg"], "{sample}.*"),
        ("img_{sample}.png", ["img_a.png"], ["IMG_b.png", "img_c.PNG"], "img_{sample}.*"),
    ],
)
def test_other_spellings_of_a_suffix_are_named(tmp_path, pattern, read, odd, wider):
    touch(tmp_path, *read, *odd, "notes.txt", "other.lsm")
    [remark] = remark_on_spelling(f"{tmp_path}/{pattern}", exclude=[], where="x.images")
    assert remark.startswith(f"x.images: {len(odd)} files differ from the pattern in upper and lower case or in the")
    assert all(name in remark for name in odd)
    assert f"Write {tmp_path}/{wider} to read them as well" in remark
    assert remark_on_spelling(f"{tmp_path}/{pattern}", exclude=["*"], where="x.images") == []
    assert remark_on_spelling(f"{tmp_path}/{{sample}}.*", exclude=[], where="x.images") == []


def test_annotation_files_in_another_spelling_are_named_too(tmp_path):
    write(tmp_path, "i/a.tif", "i/b.tif", "m/a.tif", "m/b.TIF")
    section = label_images(tmp_path / "m/{sample}.tif") | {"missing": "unlabelled"}
    remarks = plan(tmp_path, images=f"{tmp_path}/i/{{sample}}.tif", annotations=section).remarks
    assert any("d.annotations.path: 1 files differ from the pattern" in remark for remark in remarks)


# ---- images that are annotations -------------------------------------------------------------------------


def cellpose_folder(root):
    write(root, *(f"data/e{n}{end}.png" for n in range(4) for end in ("", "_cp_masks")))
    touch(root, *(f"data/e{n}_seg.npy" for n in range(4)), "data/Thumbs.db", "data/.DS_Store")
    return {
        "images": f"{root}/data/{{sample}}.png",
        "annotations": label_images(root / "data/{sample}_cp_masks.png"),
    }


def test_masks_beside_the_images_are_named_with_the_key_that_leaves_them_out(tmp_path):
    section = cellpose_folder(tmp_path)
    with pytest.raises(ConfigError) as caught:
        plan(tmp_path, **section)
    [mistake] = caught.value.mistakes
    assert "found 4 files among them that are annotations of other images" in mistake
    assert f'Set exclude: "{tmp_path}/data/*_cp_masks.png"' in mistake
    found = plan(tmp_path, **section, exclude=f"{tmp_path}/data/*_cp_masks.png")
    assert [row.sample for row in found.samples["d"]] == ["e0", "e1", "e2", "e3"]


def test_masks_of_ignored_pixels_beside_the_images_are_named(tmp_path):
    write(tmp_path, "i/a.png", "i/b.png", "i/a_ignore.png", "m/a.png", "m/b.png", "m/a_ignore.png")
    section = {"images": f"{tmp_path}/i/{{sample}}.png", "annotations": label_images(tmp_path / "m/{sample}.png")}
    section["annotations"]["ignore"] = f"{tmp_path}/i/{{sample}}_ignore.png"
    with pytest.raises(
        ConfigError, match=r"found 1 files among them that are annotations .*Set exclude to a pattern of"
    ):
        plan(tmp_path, **section)


def test_no_pattern_is_advised_that_would_leave_out_images(tmp_path):
    write(tmp_path, "i/a.png", "i/mask_a.png", "i/mask_b_0.png", "i/b_0.png")
    section = {"images": f"{tmp_path}/i/{{sample}}.png", "annotations": label_images(tmp_path / "i/mask_{sample}.png")}
    section["annotations"]["missing"] = "unlabelled"
    write(tmp_path, "i/mask_made.png")
    with pytest.raises(ConfigError, match=r"found 2 files among them .*Set exclude to a pattern of these files"):
        plan(tmp_path, **section)


def test_images_that_look_like_masks_of_others_are_named(tmp_path):
    touch(tmp_path, "a.tif", "b.tif", "a_cp_masks.tif", "b_cp_masks.tif", "a_flows.tif", "c_mask.tif", "a_2.tif")
    found = scan_images(f"{tmp_path}/{{sample}}.tif", where="x")
    [remark] = remark_on_companions(found, where="x.images")
    assert remark.startswith("x.images: 3 images have the name of another image and an ending, such as a_cp_masks.tif.")
    assert remark.endswith('leave them out with exclude: "*_cp_masks.tif"')
    kept = scan_images(f"{tmp_path}/{{sample}}.tif", where="x", exclude=["*_cp_masks.tif", "*_flows.tif"])
    assert remark_on_companions(kept, where="x.images") == []


def test_flows_beside_the_images_are_named_where_their_annotation_is_missing(tmp_path):
    section = cellpose_folder(tmp_path)
    write(tmp_path, "data/e0_flows.png", "data/e1_flows.png")
    with pytest.raises(
        ConfigError, match=r"found none for e0_flows, e1_flows .*leave them out with exclude: \"\*_flows"
    ):
        plan(tmp_path, **section, exclude="*_cp_masks.png")
    found = plan(tmp_path, **section, exclude=["*_cp_masks.png", "*_flows.png"])
    assert [row.sample for row in found.samples["d"]] == ["e0", "e1", "e2", "e3"]


def test_files_of_the_operating_system_are_neither_images_nor_masks(tmp_path):
    touch(tmp_path, "i/a.tif", "i/Thumbs.db", "i/desktop.ini", "i/.DS_Store", "m/a/1.png", "m/a/Thumbs.db")
    found = scan_images(f"{tmp_path}/i/*", where="x")
    assert [sample.sample for sample, _ in found] == ["a"]
    attached = attach_annotations(found, path=f"{tmp_path}/m/{{sample}}/*", many=True, where="x")
    assert attached.samples[0].annotations == [f"{tmp_path}/m/a/1.png"]


# ---- counts ----------------------------------------------------------------------------------------------


def test_files_read_and_left_out_are_counted(tmp_path):
    section = cellpose_folder(tmp_path)
    write(tmp_path, "data/old_cp_masks.png")
    found = plan(tmp_path, **section, exclude="*_cp_masks.png")
    assert found.files["d"] == {
        "images": 4, "annotations": 4, "excluded": 5, "orphans": 1, "others": 4,
        "examples": ["e0_seg.npy", "e1_seg.npy", "e2_seg.npy"],
    }  # fmt: skip
    assert found.files["trained"] == {}
    assert job_settings(found, "check_dataset", dataset="d")["files"] == found.files["d"]


def test_the_table_and_annotations_beside_the_images_are_no_other_files(tmp_path):
    write(tmp_path, "a.png", "b.png")
    (tmp_path / "runs.csv").write_text("id,annotation\na,1 3\nb,1 3\n")
    section = {"format": "rle", "table": f"{tmp_path}/runs.csv", "order": "row"}
    counts = plan(tmp_path, images=f"{tmp_path}/{{sample}}.png", annotations=section).files["d"]
    assert counts == {"images": 2, "annotations": 1, "excluded": 0, "orphans": 0, "others": 0, "examples": []}


def test_an_exclude_without_effect_is_remarked(tmp_path):
    write(tmp_path, "a.png")
    remarks = plan(tmp_path, images=f"{tmp_path}/{{sample}}.png", exclude="*_mask.png").remarks
    assert any(remark.startswith("datasets.d.exclude: *_mask.png matches none of the files") for remark in remarks)


def test_an_offset_reaches_the_reader_only_as_the_number_of_the_frame(tmp_path):
    write(tmp_path, *(f"i/t{n}.tif" for n in (1, 2, 3)), *(f"m/m{n}.tif" for n in (0, 1, 2)))
    section = {"format": "ctc", "path": f"{tmp_path}/m/m{{frame}}.tif", "frame_offset": -1}
    found = plan(tmp_path, images=f"{tmp_path}/i/t{{frame}}.tif", annotations=section)
    settings = job_settings(found, "rasterize", dataset="d", shard=found.samples["d"][0].shard)
    assert "frame_offset" not in settings["annotations"]
    for row in settings["samples"]:
        assert row["annotations"] == [f"{tmp_path}/m/m{row['frame']}.tif"]
    assert [row.frame for row in found.samples["d"]] == [1, 2, 3]
