"""The studies: every file is a valid plan of its paper, the small ones run, and one reaches its promised score.

Where real images are not available, stand-ins with the same file layout are used; they suffice for planning.
"""

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from PIL import Image

from cellmill.planning.make import make_plan
from cellmill.reports.published import load_paper
from left_out import without_data
from project import ROOT, copy_project, draw_cells, snakemake, write_config
from whole_images import encode_rle

FOLDER = ROOT / "resources" / "studies"
STUDIES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml")) if path.stem != "scores"}
PAPERS = ("clstm_unet", "isbi2012", "sartorius", "simcep", "stemnet")
SHAPE = (48, 48)
LONG_EPOCHS, LONG_BOUND = 4, 0.85
SARTORIUS_TYPES = ("cort", "astro", "shsy5y")


# ---- stand-ins ---------------------------------------------------------------------------------------------------


def write_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels)


def write_sections(data: Path) -> None:
    """Write stand-ins for ISBI 2012: 30 sections, white cells between black membranes."""
    folder = data / "isbi2012_em/data/membrane/train"
    for number in range(30):
        image, labels = draw_cells(np.random.default_rng(number), SHAPE, 4)
        write_image(folder / f"image/{number}.png", image)
        write_image(folder / f"label/{number}.png", np.where(labels > 0, 255, 0).astype(np.uint8))


def write_neurons(data: Path) -> None:
    """Write stand-ins for Sartorius: one table of row-major runs, three cell types."""
    rows = []
    for number in range(18):
        image, labels = draw_cells(np.random.default_rng(number), SHAPE, 3)
        write_image(data / f"sartorius_cell_instance/train/{number:04x}.png", image)
        rows += [
            {
                "id": f"{number:04x}", "annotation": encode_rle(labels == cell, order="row"), "width": SHAPE[1],
                "height": SHAPE[0], "cell_type": SARTORIUS_TYPES[number % 3],
            }
            for cell in np.unique(labels)[1:]
        ]  # fmt: skip
    pd.DataFrame(rows).to_csv(data / "sartorius_cell_instance/train.csv", index=False)


def write_nuclei(data: Path) -> None:
    """Write stand-ins for BBBC039: 16-bit images, and masks in whose first channel touching nuclei differ in colour."""
    for number in range(20):
        image, labels = draw_cells(np.random.default_rng(number), SHAPE, 3)
        codes = np.zeros((*SHAPE, 4), np.uint8)
        codes[..., 0], codes[..., 3] = labels, 255
        write_image(data / f"bbbc039/images/{number:02d}.tif", image.astype(np.uint16))
        write_image(data / f"bbbc039/masks/{number:02d}.png", codes)


def write_sequence(data: Path, images: str, masks: str, *, frames: int, shape: tuple[int, int] = SHAPE) -> None:
    """Write one sequence in Cell Tracking Challenge layout; `images` and `masks` are patterns with {frame}."""
    for frame in range(frames):
        image, labels = draw_cells(np.random.default_rng(frame), shape, 4)
        write_image(data / images.format(frame=frame), image)
        write_image(data / masks.format(frame=frame), labels)


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Path:
    """Working directory with stand-ins for all data that the studies use."""
    folder = tmp_path_factory.mktemp("lab")
    data = folder / "data"
    write_sections(data)
    write_neurons(data)
    write_nuclei(data)
    for number in ("01", "02"):
        write_sequence(
            data, f"BF-C2DL-MuSC/{number}/t{{frame:04d}}.tif", f"BF-C2DL-MuSC/{number}_ST/SEG/man_seg{{frame:04d}}.tif",
            frames=60,
        )  # fmt: skip
        write_sequence(
            data, f"Fluo-N2DH-SIM+/{number}/t{{frame:03d}}.tif",
            f"Fluo-N2DH-SIM+/{number}_GT/SEG/man_seg{{frame:03d}}.tif", frames=60,
        )  # fmt: skip
    hela = "ctc_fluo_n2dl_hela/Fluo-N2DL-HeLa"
    write_sequence(
        data, f"{hela}/01/t{{frame:03d}}.tif", f"{hela}/01_RES/mask{{frame:03d}}.tif", frames=35, shape=(70, 110)
    )
    return folder


def read_study(name: str) -> dict:
    return yaml.safe_load(STUDIES[name].read_text(encoding="utf-8"))


def plan_of(config: dict, lab: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(lab)
        return make_plan(config, presets_dir=ROOT / "resources/models", cache_dir=lab / "cache")


# ---- the files ---------------------------------------------------------------------------------------------------


def test_each_paper_has_a_study_and_a_small_one():
    assert sorted(STUDIES) == sorted([*PAPERS, *(f"{paper}_small" for paper in PAPERS)])


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_is_a_sound_plan(name, lab):
    plan = plan_of(read_study(name), lab)
    for dataset, samples in plan.samples.items():
        assert {"train", "validation", "test"} <= {sample.split for sample in samples}, dataset


def is_of(system, run, *, trained) -> bool:
    """Return whether a run belongs to a system of a paper: by preset, distinguishing settings, and how it was made."""
    source = trained.get(run.apply, run)
    way = "applied" if run.apply else "fine_tuned" if run.init_from else "trained"
    settings = source.preset
    for key, value in system.settings.items():
        part = settings
        for word in key.split("."):
            part = part[word]
        if part != value:
            return False
    return source.preset_name == system.preset and system.how in ("any", way)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_runs_the_systems_of_its_paper_and_sets_them_beside_its_figures(name, lab):
    plan = plan_of(read_study(name), lab)
    trained = {f"{dataset}/{run.name}": run for dataset, runs in plan.runs.items() for run in runs}
    paper = load_paper(name.removesuffix("_small"))
    [dataset] = [key for key, section in plan.config.datasets.items() if section.report.paper is not None]
    assert plan.config.datasets[dataset].report.paper == paper.name
    systems = [system for table in paper.tables for system in table.systems if system.preset]
    found = [system for system in systems if any(is_of(system, run, trained=trained) for run in plan.runs[dataset])]
    if name == "isbi2012_small":
        assert {system.preset for system in found} == {"unet_isbi", "segnet_vgg16"}
    else:
        assert found == systems


@pytest.mark.parametrize("paper", PAPERS)
def test_a_full_study_changes_no_network_and_a_small_one_says_that_it_is_small(paper, lab):
    full, small = plan_of(read_study(paper), lab), plan_of(read_study(f"{paper}_small"), lab)
    for runs in full.runs.values():
        assert all(run.preset["width"] == 1 for run in runs if run.preset)
    for section in small.config.datasets.values():
        assert section.report.title.startswith("Small variant of paper ")
        assert "not a reproduction" in section.report.title
    # Results of the two never mix because their folders have different names.
    assert not set(full.runs) & set(small.runs)


def test_the_grid_of_paper_3_is_whole():
    entries = read_study("isbi2012")["datasets"]["isbi2012"]["models"]
    grid = {
        (entry["preset"], entry["train"]["optimiser"]["name"], entry["train"]["optimiser"]["learning_rate"])
        for entry in entries
    }
    systems = load_paper("isbi2012").tables[0].systems
    keys = ("train.optimiser.name", "train.optimiser.learning_rate")
    assert grid == {(system.preset, *(system.settings[key] for key in keys)) for system in systems}
    assert len(entries) == 9


def test_an_epoch_of_paper_3_has_its_2000_steps(lab):
    plan = plan_of(read_study("isbi2012"), lab)
    sections = sum(sample.split == "train" for sample in plan.samples["isbi2012"])
    for run in plan.runs["isbi2012"]:
        assert sections * run.preset["train"]["patches_per_image"] / run.preset["train"]["batch"] == 2000


def test_fine_tuning_turns_and_mirrors_and_pre_training_does_not(lab):
    for name in ("simcep", "simcep_small"):
        plan = plan_of(read_study(name), lab)
        runs = {run.name: run for of_dataset in plan.runs.values() for run in of_dataset}
        augmentations = {name: run.preset["train"]["augmentation"] for name, run in runs.items() if run.preset}
        assert not augmentations["pretrained"]["flip"]
        assert not augmentations["pretrained"]["rotate_90"]
        assert augmentations["after"]["flip"]
        assert augmentations["after"]["rotate_90"]
        assert runs["before"].apply == runs["after"].init_from
        [simulated] = [section for section in plan.config.datasets.values() if section.simulate]
        assert simulated.simulate.background_noise.fraction == 0.5


def test_the_readme_of_the_studies_names_each_of_them():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in STUDIES:
        assert f"resources/studies/{name}.yaml" in text
    data = {
        section["images"].split("/")[1]
        for name in STUDIES
        for section in read_study(name)["datasets"].values()
        if "images" in section
    }
    for folder in data:
        assert f"data/{folder}" in text


# ---- end to end --------------------------------------------------------------------------------------------------


def smallest(name: str, preset: str) -> dict:
    """Shorten the small study of a paper with one dataset to seconds, keeping a single model."""
    config = copy.deepcopy(read_study(name))
    [section] = config["datasets"].values()
    section["models"] = [entry for entry in section["models"] if entry["preset"] == preset][:1]
    for entry in section["models"]:
        entry["width"] = 0.0625
        entry["train"] = {**entry["train"], "epochs": 1, "patch": [64, 64], "patches_per_image": 1}
    section["evaluate"] = {"bootstrap": 50}
    return config["datasets"]


@pytest.fixture(scope="module")
def films(lab, tmp_path_factory) -> Path:
    """Project run with a five-frame network on simulated films and a recurrent network on stand-in frames."""
    project = copy_project(tmp_path_factory.mktemp("films") / "project")
    (project / "data").symlink_to(lab / "data")
    datasets = smallest("stemnet_small", "stemnet5") | smallest("clstm_unet_small", "clstm_unet_code")
    datasets["muscle_small"]["simulate"] |= {
        "images": 3,
        "size": [64, 64],
        "cells": [1, 2],
        "time_lapse": {"frames": 5},
    }
    datasets["hela_small"]["preprocess"]["fit"]["size"] = [64, 96]
    snakemake(project, "--cores", "2", "--configfile", write_config(project, {"seed": 7, "datasets": datasets}))
    return project


@pytest.mark.long
@pytest.mark.parametrize(
    ("dataset", "number", "said"),
    [
        ("muscle_small", 1, "1 of the 2 systems of the paper is measured here."),
        ("hela_small", 2, "1 of the 3 systems of the paper is measured here."),
    ],
)
def test_the_page_of_a_small_study_says_that_it_is_small(films, dataset, number, said):
    page = (films / f"results/{dataset}/report.html").read_text(encoding="utf-8")
    assert f"Small variant of paper {number}, not a reproduction" in page
    assert f"{said} Networks narrower than those of the paper are small variants" in page
    assert "width 0.0625" in page


@pytest.mark.long
@pytest.mark.parametrize(
    ("dataset", "model", "metric"),
    [("muscle_small", "stemnet5", "f1_macro"), ("hela_small", "clstm_unet_code", "dice")],
)
def test_networks_that_see_time_are_scored_on_every_frame_of_the_test_part(films, dataset, model, metric):
    samples = pd.read_csv(films / f"results/{dataset}/samples.csv")
    rows = pd.read_csv(films / f"results/{dataset}/metrics.csv").query("model == @model and metric == @metric")
    tested = rows.query("split == 'test' and geometry == 'raw' and aggregation == 'pooled'")
    assert len(tested) > 0
    assert tested["value"].between(0, 1).all()
    assert set(tested["n"] + tested["n_undefined"]) == {(samples["split"] == "test").sum()}


@pytest.mark.long
def test_a_short_u_net_beats_one_grey_threshold_on_sections_that_it_has_not_seen(real_data, tmp_path):
    if not (real_data / "isbi2012_em").is_dir():
        without_data(f"the sections of ISBI 2012 are not at {real_data}/isbi2012_em; see resources/studies/README.md")
    project = copy_project(tmp_path / "project")
    (project / "data").symlink_to(real_data.resolve())
    config = read_study("isbi2012_small")
    section = config["datasets"]["isbi2012_small"]
    section["models"] = [entry for entry in section["models"] if entry["preset"] == "unet_isbi"][:1]
    section["models"][0]["train"]["epochs"] = LONG_EPOCHS
    snakemake(project, "--cores", "2", "--configfile", write_config(project, config))
    metrics = pd.read_csv(project / "results/isbi2012_small/metrics.csv")
    scores = metrics.query("split == 'test' and geometry == 'raw' and metric == 'accuracy' and aggregation == 'pooled'")
    ours = scores.query("stage == 'thresholded'")["value"].iloc[0]
    grey = metrics.query("model == '(grey)' and split == 'test' and metric == 'accuracy' and aggregation == 'pooled'")
    print(scores.to_string(), grey.to_string())
    assert ours > LONG_BOUND
    assert ours > grey["value"].max()
