"""Images and entries of a shared table: ties by name, by folder and in any Unicode form; classes of whole images."""

import json
import unicodedata

import numpy as np
import pytest
from PIL import Image

from cellmill.annotations.reading import open_table, read_instances
from cellmill.config.errors import ConfigError
from cellmill.planning.make import make_plan
from cellmill.planning.samples import Sample
from cellmill.planning.settings import job_settings
from cellmill.planning.table_ties import tie_entries
from project import ROOT

ROWS, COLUMNS = 12, 16


def tie(images, entries):
    """Return sample -> name of the entry; `images` maps samples to paths."""
    samples = [Sample(sample=name, image=path) for name, path in images.items()]
    return tie_entries(samples, entries, where="x.table").names


def own(*paths):
    return {path: path for path in paths}


# ---- ties ------------------------------------------------------------------------------------------------


def test_a_name_ties_whatever_the_folder():
    assert tie({"a": "img/a.png"}, {"a": "elsewhere/a.png"}) == {"a": "a"}


def test_equal_names_are_tied_by_their_folders():
    images = {"A_1": "img/A/1.png", "B_1": "img/B/1.png"}
    assert tie(images, own("A/1.png", "B/1.png")) == {"A_1": "A/1.png", "B_1": "B/1.png"}
    assert tie(images, own(r"set\A\1.png", r"set\B\1.png")) == {"A_1": r"set\A\1.png", "B_1": r"set\B\1.png"}
    assert tie({"1": "img/B/1.png"}, own("A/1.png", "B/1.png")) == {"1": "B/1.png"}


def test_an_entry_goes_to_the_image_with_more_equal_folders():
    images = {"A_1": "img/A/1.png", "B_1": "img/B/1.png"}
    assert tie(images, {"1": "A/1.png"}) == {"A_1": "1"}


def test_entries_that_fit_equally_are_named():
    with pytest.raises(
        ValueError, match=r"expected one entry for img/C/1\.png, found A/1\.png and B/1\.png, which fit"
    ):
        tie({"C_1": "img/C/1.png"}, own("A/1.png", "B/1.png"))
    with pytest.raises(ValueError, match=r"expected one image for 1\.png, found img/A/1\.png, img/B/1\.png, which fit"):
        tie({"A_1": "img/A/1.png", "B_1": "img/B/1.png"}, {"1": "1.png"})


@pytest.mark.parametrize(("first", "second"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_another_unicode_form_are_tied(first, second):
    image, entry = (unicodedata.normalize(form, "Zählung é") for form in (first, second))
    ties = tie_entries([Sample(sample=image, image=f"{image}.png")], {entry: f"{entry}.png"}, where="x")
    assert ties.names == {image: entry}
    assert ties.lookups == {image: f"{entry}.png"}
    assert ties.respelt == [image]


def test_planes_of_a_stack_are_not_tied_by_the_name_of_their_file():
    planes = [Sample(sample=f"a_t{n}", image="a.tif", plane=[["T", n, 2]]) for n in (0, 1)]
    assert tie_entries(planes, {"a": "a.tif"}, where="x").names == {}


def test_names_that_are_all_shifted_are_named_and_can_be_tied():
    samples = [Sample(sample=f"img_{n:02d}", image=f"img_{n:02d}.png") for n in range(1, 11)]
    entries = {f"img_{n:02d}": f"img_{n:02d}.png" for n in range(10)}
    with pytest.raises(
        ValueError, match=r"x: expected names .* found images 1 to 10 and names 0 to 9: equally many, but"
    ):
        tie_entries(samples, entries, where="x")
    ties = tie_entries(samples, entries, where="x", frame_offset=-1)
    assert ties.names == {f"img_{n:02d}": f"img_{n - 1:02d}" for n in range(1, 11)}
    assert ties.lookups == {f"img_{n:02d}": f"img_{n - 1:02d}.png" for n in range(1, 11)}
    assert ties.respelt == []
    assert len(tie_entries(samples, entries, where="x", frame_offset=0).names) == 9
    assert len(tie_entries(samples[:7], entries, where="x").names) == 7


# ---- from the config to the reader -----------------------------------------------------------------------


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((ROWS, COLUMNS), np.uint8)).save(path)


def plan(root, **section):
    models = [{"preset": "sartorius_unet"}]
    raw = {"datasets": {"d": {"models": models, **section}}}
    return make_plan(raw, presets_dir=ROOT / "resources/models", cache_dir=root / "cache")


def areas(found):
    """Return sample -> area of its only object, read as a job reads it."""
    areas = {}
    for shard in found.shards("d"):
        settings = job_settings(found, "rasterize", dataset="d", shard=shard)
        table = open_table(settings["annotations"], samples=settings["samples"])
        for row in settings["samples"]:
            [instance] = read_instances(row, shape=(ROWS, COLUMNS), annotations=settings["annotations"], table=table)
            areas[row["sample"]] = int(instance.mask_yx.sum())
    return areas


def coco(root, names):
    """Write a COCO file in which image k has one object of 2 rows and k + 2 columns."""
    images = [{"id": k, "file_name": name, "height": ROWS, "width": COLUMNS} for k, name in enumerate(names)]
    boxes = [[1, 1, 3 + k, 1, 3 + k, 3, 1, 3] for k in range(len(names))]
    objects = [
        {"id": k, "image_id": k, "category_id": 1, "iscrowd": 0, "segmentation": [box]} for k, box in enumerate(boxes)
    ]
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cell"}]}
    (root / "coco.json").write_text(json.dumps(content))
    return {"format": "coco", "table": f"{root}/coco.json"}


@pytest.mark.parametrize("pattern", ["img/{well}/{sample}.png", "img/{well}/{field}.png"])
def test_coco_images_in_folders_are_read_by_folder_and_name(tmp_path, pattern):
    names = [f"{well}/{number:03d}.png" for well in "AB" for number in range(3)]
    for name in names:
        write_image(tmp_path / "img" / name)
    found = plan(tmp_path, images=f"{tmp_path}/{pattern}", annotations=coco(tmp_path, names))
    assert areas(found) == {name[:-4].replace("/", "_"): 2 * (2 + k) for k, name in enumerate(names)}
    assert len({row.rows_digest for row in found.samples["d"]}) == 6
    assert any("samples are named by their folders as well, such as A_000" in remark for remark in found.remarks)


def test_rows_of_images_in_folders_are_read_by_folder_and_name(tmp_path):
    names = [f"{well}/{number}.png" for well in "AB" for number in range(3)]
    for name in names:
        write_image(tmp_path / "img" / name)
    rows = [f"img/{name},1 {k + 1},{name[0]}" for k, name in enumerate(names)]
    (tmp_path / "runs.csv").write_text("id,annotation,well\n" + "\n".join(rows) + "\n")
    section = {"format": "rle", "table": f"{tmp_path}/runs.csv", "order": "row"}
    found = plan(
        tmp_path, images=f"{tmp_path}/img/{{well}}/{{sample}}.png", annotations=section, split={"stratify": "well"}
    )
    assert areas(found) == {name[:-4].replace("/", "_"): k + 1 for k, name in enumerate(names)}


def test_one_folder_of_a_coco_file_is_read_without_the_others(tmp_path):
    names = [f"{well}/{number}.png" for well in "AB" for number in range(3)]
    for number in range(3):
        write_image(tmp_path / f"B/{number}.png")
    found = plan(tmp_path, images=f"{tmp_path}/B/{{sample}}.png", annotations=coco(tmp_path, names))
    assert areas(found) == {str(number): 2 * (2 + 3 + number) for number in range(3)}


def test_names_without_folders_are_looked_up_as_before(tmp_path):
    for number in range(3):
        write_image(tmp_path / f"{number}.png")
    annotations = coco(tmp_path, [f"train/{number}.png" for number in range(3)])
    found = plan(tmp_path, images=f"{tmp_path}/{{sample}}.png", annotations=annotations)
    assert {row.entry for row in found.samples["d"]} == {""}
    assert areas(found) == {"0": 4, "1": 6, "2": 8}


@pytest.mark.parametrize("kind", ["coco", "rle"])
def test_a_table_from_windows_is_read_for_images_from_macos(tmp_path, kind):
    names = [f"Zählung_{number}" for number in range(3)]
    for name in names:
        write_image(tmp_path / f"{unicodedata.normalize('NFD', name)}.png")
    composed = [f"{unicodedata.normalize('NFC', name)}.png" for name in names]
    if kind == "coco":
        annotations, expected = coco(tmp_path, composed), [4, 6, 8]
    else:
        rows = [f"{name},1 {k + 1}" for k, name in enumerate(composed)]
        (tmp_path / "runs.csv").write_text("id,annotation\n" + "\n".join(rows) + "\n", encoding="utf-8")
        annotations, expected = {"format": "rle", "table": f"{tmp_path}/runs.csv", "order": "row"}, [1, 2, 3]
    found = plan(tmp_path, images=f"{tmp_path}/{{sample}}.png", annotations=annotations)
    assert [area for _, area in sorted(areas(found).items())] == expected
    assert any("3 names of images and of entries agree in another Unicode form only" in text for text in found.remarks)


# ---- classes ---------------------------------------------------------------------------------------------


def rle(root, rows):
    for name in {row.split(",")[0] for row in rows}:
        write_image(root / f"{name}.png")
    (root / "runs.csv").write_text("id,annotation,kind,well\n" + "\n".join(rows) + "\n")
    return {
        "images": f"{root}/{{sample}}.png",
        "annotations": {"format": "rle", "table": f"{root}/runs.csv", "order": "row"},
    }


MIXED = ["a,1 3,x,w1", "a,9 3,y,w1", "b,1 3,x,w1", "c,1 3,x,w2", "d,1 3,y,w2", "d,9 3,x,w3", "d,14 2,x,w2"]


@pytest.mark.parametrize(
    ("key", "section", "column", "found"),
    [
        ("class_column", {"class_column": "kind"}, "kind", r"2 of 4 images, such as a \(x, y\); d \(y, x\)"),
        ("split.stratify", {"split": {"stratify": "kind"}}, "kind", r"2 of 4 images, such as a \(x, y\); d \(y, x\)"),
        ("split.group_by", {"split": {"group_by": "well"}}, "well", r"1 of 4 images, such as d \(w2, w3\)"),
    ],
)
def test_different_values_in_the_rows_of_an_image_are_refused(tmp_path, key, section, column, found):
    with pytest.raises(
        ConfigError,
        match=rf"datasets\.d\.{key}: expected one value of '{column}' for all rows of an image, found several in {found}",
    ):
        plan(tmp_path, **rle(tmp_path, MIXED), **section)


def test_a_value_in_one_row_of_an_image_is_that_of_the_image(tmp_path):
    rows = ["a,1 3,x,", "a,9 3,,", "b,1 3,,", "b,5 3,y,", "c,1 3,,", "d,1 3,x,"]
    found = plan(tmp_path, **rle(tmp_path, rows), class_column="kind")
    assert {row.sample: row.class_name for row in found.samples["d"]} == {"a": "x", "b": "y", "c": "", "d": "x"}


def test_rows_of_other_images_do_not_matter(tmp_path):
    section = rle(tmp_path, MIXED)
    for name in "ad":
        (tmp_path / f"{name}.png").unlink()
    for name in ("e", "f"):
        write_image(tmp_path / f"{name}.png")
    table = tmp_path / "runs.csv"
    table.write_text(table.read_text() + "e,1 2,x,w5\nf,1 2,y,w6\n")
    found = plan(tmp_path, **section, class_column="kind", split={"group_by": "well"})
    assert {row.sample: row.class_name for row in found.samples["d"]} == {"b": "x", "c": "x", "e": "x", "f": "y"}
