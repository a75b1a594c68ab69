"""Shipped models: their files and cards, how `nuclei` is trained, and its use by name in the real workflow.

The model that is used here is a tiny one, trained by the config and the script of `make pretrain` on drawn images.
"""

import csv
import importlib.util
import json
import re
import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml

from cellmill.exports.model_file import check_contents, read_description
from cellmill.planning.model_cards import FRONT_MATTER, read_card
from left_out import without_data
from model_files import put_model
from project import ROOT, TINY, copy_project, draw_cells, planned_jobs, snakemake, write_config, write_label_dataset

# Whole runs
pytestmark = pytest.mark.long

WEIGHTS = ROOT / "resources/weights"
SHIPPED = sorted(WEIGHTS.glob("*.cellmill"))
SECTIONS = ("Data", "Scores", "Limits")
INTERVAL = re.compile(r"\d\.\d+ \(\d\.\d+ to \d\.\d+\)")

spec = importlib.util.spec_from_file_location("pretrain", ROOT / "tests/experiments/pretrain.py")
pretrain = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pretrain)


# ---- the files that are shipped --------------------------------------------------------------------------


@pytest.fixture(params=SHIPPED or [None], ids=lambda path: path.stem if path else "none")
def shipped(request):
    if request.param is None:
        without_data(f"no model is shipped yet in {WEIGHTS.relative_to(ROOT)}; make pretrain trains one")
    return request.param


def test_a_shipped_model_opens_and_is_small(shipped):
    check_contents(shipped)
    assert shipped.stat().st_size <= pretrain.MAX_BYTES


def test_a_shipped_model_lists_its_training_images(shipped):
    assert read_description(shipped).training_images


def test_the_card_of_a_shipped_model_states_data_licence_scores_with_intervals_and_limits(shipped):
    check_card(shipped.with_suffix(".md"))


def test_there_is_no_card_without_a_model():
    cards = {path.stem for path in WEIGHTS.glob("*.md")} - {"README"}
    assert cards == {path.stem for path in SHIPPED}


def check_card(path: Path) -> None:
    """Check that a card has its facts and sections, and an interval for each row of scores."""
    assert read_card(path)
    text = FRONT_MATTER.sub("", path.read_text(encoding="utf-8"), count=1)
    parts = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    for section in SECTIONS:
        assert parts.get(section, "").strip(), f"{path}: expected text below ## {section}"
    assert INTERVAL.search(parts["Scores"]), f"{path}: expected scores such as 0.81 (0.79 to 0.83)"


@pytest.mark.parametrize("left", [None, *SECTIONS, "interval"])
def test_a_card_that_lacks_something_is_found(left, tmp_path):
    said = {"Data": "Drawn discs.", "Scores": "| Dice | 0.81 (0.79 to 0.83) |", "Limits": "Squares."}
    said |= {"Scores": "Dice 0.81"} if left == "interval" else {}
    front = yaml.safe_dump({"title": "T", "version": 1, "data": "d", "licence": "l", "cite": "c"})
    body = "".join(f"## {name}\n\n{text}\n\n" for name, text in said.items() if name != left)
    (tmp_path / "m.md").write_text(f"---\n{front}---\n\n# m\n\n{body}")
    if left is None:
        check_card(tmp_path / "m.md")
    else:
        with pytest.raises(AssertionError, match="expected"):
            check_card(tmp_path / "m.md")


# ---- how the model is trained ----------------------------------------------------------------------------


def the_training() -> dict:
    return yaml.safe_load((WEIGHTS / "nuclei.yaml").read_text())


def excluded() -> list[str]:
    return [name.removesuffix(".png") for name in the_training()["datasets"]["nuclei"]["exclude"]]


def test_both_trainings_have_the_same_network():
    entries = [section["models"][0] for section in the_training()["datasets"].values()]
    assert {entry["preset"] for entry in entries} == {"default"}
    assert len({str({key: entry.get(key) for key in ("network", "width", "input")}) for entry in entries}) == 1


def test_parts_have_their_share_of_each_kind_and_do_not_depend_on_other_kinds():
    kinds = {f"a{number}": "grey" for number in range(100)} | {f"b{number}": "colour" for number in range(11)}
    parts = pretrain.split_by_kind(kinds)
    counts = pd.crosstab(pd.Series(parts), pd.Series(kinds))
    assert counts["grey"].to_dict() == {"test": 10, "train": 80, "validation": 10}
    assert counts["colour"].to_dict() == {"test": 1, "train": 9, "validation": 1}
    alone = pretrain.split_by_kind({name: kind for name, kind in kinds.items() if kind == "grey"})
    assert alone == {name: part for name, part in parts.items() if kinds[name] == "grey"}


def test_a_model_that_is_too_large_or_damaged_is_not_installed(tmp_path, monkeypatch):
    path = put_model(tmp_path / "model.cellmill")
    monkeypatch.setattr(pretrain, "MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(SystemExit, match=r"expected at most .* MB, found .* Lower width"):
        pretrain.install(path, weights_dir=tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(SystemExit, match="found a damaged or different file"):
        pretrain.install(path, weights_dir=tmp_path)
    assert not (tmp_path / "nuclei.cellmill").exists()


def write_dsb(data: Path) -> None:
    """Write drawn images and labels in the layout of dsb2018_more: RGBA, two kinds, three fields to be left out."""
    folder = data / "dsb2018_more"
    for room in ("images", "labels"):
        (folder / "stage1_train" / room).mkdir(parents=True)
    rows = [(f"{number:02x}", "grey_dark_bg" if number < 10 else "colour_bright_bg", "") for number in range(16)]
    rows += [(name, "grey_dark_bg", "elsewhere") for name in excluded()]
    for name, _, _ in rows:
        image_yx, labels_yx = draw_cells(np.random.default_rng([*name.encode()]), (64, 64), 4)
        rgba_yxs = np.dstack([image_yx, image_yx, image_yx, np.full_like(image_yx, 255)])
        (folder / f"stage1_train/images/{name}.png").write_bytes(imagecodecs.png_encode(rgba_yxs))
        (folder / f"stage1_train/labels/{name}.png").write_bytes(imagecodecs.png_encode(labels_yx))
    with (folder / "index.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("id", "kind", "same_field_as_shared"))
        writer.writerows(rows)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Working folder of a pre-training that takes seconds: the shipped config with other lengths and sizes."""
    root = tmp_path_factory.mktemp("trained")
    write_dsb(root / "data")
    project, folder = copy_project(root / "project"), root / "work"
    pretrain.prepare(root / "data", folder)
    config = the_training()
    config["datasets"]["simulated"]["simulate"] |= {"images": 6, "size": [64, 64]}
    for section in config["datasets"].values():
        section["models"] = [{**entry, "preset": "sartorius_unet", **TINY} for entry in section["models"]]
        section["evaluate"] = {"bootstrap": 20}
    name = write_config(folder, config)
    # All that is asserted below; without reports it takes half the time
    targets = [
        "results/nuclei/nuclei/model.cellmill",
        "results/nuclei/metrics.csv",
        "results/simulated/check/images.csv",
    ]
    place = ["--configfile", str(folder / name), "--directory", str(folder), "--cores", "2"]
    snakemake(project, *targets, *place)
    return folder


def test_the_fields_of_other_test_images_are_left_out(trained):
    samples = pd.read_csv(trained / "results/nuclei/samples.csv", dtype=str)
    assert set(samples["sample"]) == {f"{number:02x}" for number in range(16)}
    assert dict(samples[["sample", "split"]].values) == dict(
        pd.read_csv(trained / "split.csv", dtype=str)[["sample", "split"]].values
    )


def test_the_model_lists_the_pixels_of_its_images_and_of_the_simulated_ones_before(trained):
    listed = set(read_description(trained / "results/nuclei/nuclei/model.cellmill").training_images)
    expected = set()
    for dataset in ("simulated", "nuclei"):
        images = pd.read_csv(trained / f"results/{dataset}/check/images.csv", dtype=str)
        expected |= set(images.loc[images["split"] != "test", "sha256"])
    assert listed == expected


def test_the_scores_for_the_card_have_intervals(trained):
    lines = list(pretrain.tabulate(trained / "results/nuclei/metrics.csv", model="nuclei"))
    assert len(lines) == len(pretrain.METRICS)
    assert all(INTERVAL.search(line) for line in lines)


# ---- the model in use ------------------------------------------------------------------------------------


def write_new_card(folder: Path) -> None:
    facts = {"title": "Drawn discs", "version": 7, "data": "16 drawings", "licence": "CC0 1.0", "cite": "Nobody 2026"}
    (folder / "resources/weights/nuclei.md").write_text(f"---\n{yaml.safe_dump(facts)}---\n\n# nuclei\n")


@pytest.fixture(scope="module")
def applied(trained, tmp_path_factory):
    """Checkout with the tiny model, and a lab's folder in which it was applied to images without annotations."""
    root = tmp_path_factory.mktemp("applied")
    clone, lab = copy_project(root / "clone"), root / "lab"
    pretrain.install(trained / "results/nuclei/nuclei/model.cellmill", weights_dir=clone / "resources/weights")
    write_new_card(clone)
    write_label_dataset(lab / "new", ["a", "b", "c"], seed=5)
    section = {"images": "new/images/{sample}.tif", "models": [{"apply": "nuclei"}], "report": {"ro_crate": True}}
    write_config(lab, {"datasets": {"plate": section}})
    snakemake(clone, *of_lab(lab))
    return clone, lab


def of_lab(lab: Path) -> list[str]:
    return ["--configfile", str(lab / "mine.yaml"), "--directory", str(lab), "--cores", "2"]


@pytest.fixture
def copied(applied, tmp_path):
    """Return copies of the checkout and of the finished folder, with their time stamps."""
    places = []
    for source in applied:
        shutil.copytree(source, tmp_path / source.name, symlinks=True)
        places.append(tmp_path / source.name)
    return places


def test_a_name_alone_gives_masks_of_images_without_annotations(applied):
    _, lab = applied
    masks = sorted((lab / "results/plate/nuclei/segmentation").glob("*/*.tif"))
    assert [path.stem for path in masks] == ["a", "b", "c"]
    assert all(tifffile.imread(path).shape == (64, 64) for path in masks)
    assert not (lab / "results/plate/nuclei/weights.pt").exists()


def test_the_report_and_the_crate_state_model_version_data_and_licence(applied):
    _, lab = applied
    page = (lab / "results/plate/report.html").read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    assert "Applied unchanged: the shipped model nuclei, version 7: Drawn discs. It was trained on 16 drawings." in text
    assert "Licence: CC0 1.0. Cite Nobody 2026. Scores and limits: model card resources/weights/nuclei.md." in text
    crate = json.loads((lab / "results/plate/ro-crate-metadata.json").read_text())
    [model] = [entity for entity in crate["@graph"] if entity["@id"].startswith("#model/")]
    assert (model["name"], model["version"], model["license"]) == ("nuclei", "7", "CC0 1.0")
    assert len(model["sha256"]) == 64


def test_a_moved_and_touched_checkout_reruns_nothing(copied, tmp_path):
    clone, lab = copied
    moved = clone.rename(tmp_path / "moved")
    for path in (moved / "resources/weights").iterdir():
        path.touch()
    assert planned_jobs(moved, *of_lab(lab)) == set()


def test_a_changed_model_reruns_what_depends_on_it(copied, trained):
    clone, lab = copied
    pretrain.install(trained / "results/simulated/start/model.cellmill", weights_dir=clone / "resources/weights")
    jobs = {job.split(" ")[0] for job in planned_jobs(clone, *of_lab(lab))}
    assert jobs == {"predict", "postprocess", "postprocess_tables", "worklist", "report", "crate"}


def test_a_changed_card_rewrites_the_pages_only(copied):
    clone, lab = copied
    card = clone / "resources/weights/nuclei.md"
    card.write_text(card.read_text().replace("Drawn discs", "Discs"))
    assert {job.split(" ")[0] for job in planned_jobs(clone, *of_lab(lab))} == {"report", "crate"}


def test_known_test_images_are_reported_and_a_training_starts_by_name(applied, trained, tmp_path):
    """The images of the pre-training again, in other files: training and validation images are known, test images not."""
    clone, _ = applied
    lab = tmp_path / "lab"
    shutil.copytree(trained / "dsb2018_more/stage1_train", lab / "data")
    section = {
        "images": "data/images/{sample}.png",
        "annotations": {"format": "label_image", "path": "data/labels/{sample}.png"},
        "exclude": [f"{name}.png" for name in excluded()],
        "evaluate": {"bootstrap": 20},
    }
    tuned = {"preset": "sartorius_unet", "name": "tuned", "init_from": "nuclei", **TINY}
    datasets = {"scored": {**section, "models": [{"apply": "nuclei"}]}, "tuned": {**section, "models": [tuned]}}
    write_config(lab, {"datasets": datasets})
    snakemake(clone, *of_lab(lab), "results/scored/check/summary.csv", "results/tuned/tuned/model.cellmill")
    parts = pd.read_csv(trained / "split.csv", dtype=str)["split"]
    findings = pd.read_csv(lab / "results/scored/check/summary.csv")
    [found] = [text for text in findings["finding"] if "used to train" in text]
    assert found.startswith(f"{(parts != 'test').sum()} of 16 test images were used to train nuclei (")
    assert ".snakemake/cellmill/weights/nuclei.cellmill" in (lab / "logs/tuned/train/tuned.log").read_text()
    before = set(read_description(clone / "resources/weights/nuclei.cellmill").training_images)
    assert before < set(read_description(lab / "results/tuned/tuned/model.cellmill").training_images)
