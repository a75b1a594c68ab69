"""A tiny end-to-end run of the pipeline, and properties that its results must have."""

import csv
import hashlib
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml

from crate_check import check_crate
from project import ROOT, TINY, copy_project, planned_jobs, snakemake, write_config, write_label_dataset

IN_SNAKEMAKE_REPORT = ("check/summary.csv", "comparisons.csv", "metrics.csv", "report.html")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Project of three datasets: simulated; real, trained with two seeds; unannotated images with applied models."""
    project = copy_project(tmp_path_factory.mktemp("pipeline") / "project")
    write_label_dataset(project / "data", [f"n{number:02d}" for number in range(8)], seed=4, shape=(70, 90))
    write_label_dataset(project / "new", [f"p{number}" for number in range(3)], seed=5, shape=(33, 100))
    config = {
        "seed": 2,
        "images_per_job": 5,
        "datasets": {
            "synthetic": {
                "simulate": {"images": 8, "size": [64, 96], "cells": [3, 6]},
                "preprocess": {"background": {"method": "gaussian", "sigma_px": 20}},
                "models": [{"preset": "sartorius_unet", **TINY}],
            },
            "real": {
                "images": "data/images/{sample}.tif",
                "annotations": {"format": "label_image", "path": "data/labels/{sample}.tif"},
                "pixel_size_um": 0.5,
                "preprocess": {
                    "background": {"method": "gaussian", "sigma_px": 20},
                    "fit": {"mode": "resize", "size": [64, 64]},
                },
                "models": [
                    {"preset": "sartorius_unet", "name": "small", "seeds": [1, 2], "average_seeds": True, **TINY},
                    {"preset": "sartorius_unet", "name": "tuned", "init_from": "synthetic/sartorius_unet", **TINY},
                ],
                "report": {"ro_crate": True},
            },
            "plate": {
                "images": "new/images/{sample}.tif",
                "models": [{"apply": "real/small.seed1", "name": "small"}, {"apply": "real/small.mean"}, "classical"],
                "export": ["coco", "geojson", "imagej_roi"],
                "report": {"ro_crate": True},
            },
        },
    }
    write_config(project, config, "config.yaml")
    finished = snakemake(project, "--cores", "2")
    (project / "terminal.txt").write_text(finished.stderr)
    return project


def test_the_terminal_shows_the_stages_and_not_each_job(project):
    lines = (project / "terminal.txt").read_text().splitlines()
    [jobs] = [int(found.group(1)) for line in lines if (found := re.match(r"(\d+) jobs: ", line))]
    logs = list((project / "logs").rglob("*.log"))
    assert jobs == len(logs) + 1  # and the rule all
    of_workflow = [line for line in lines if not line.startswith("[")]
    assert len(of_workflow) <= 60 < jobs
    assert f"{jobs} of {jobs} jobs done" in lines
    for rule in ("check_shard", "preprocess", "rasterize", "train", "predict", "evaluate_shard", "report"):
        assert any(f"jobs done; running: {rule} " in line for line in lines), rule
    assert not any(word in line for line in lines for word in ("jobid", "localrule", "reason:", "Error"))
    # Epochs are shown; what a job reports of each shard is in its log only.
    assert any(line.startswith("[real/train/small.seed1] epoch 1/1: ") for line in lines)
    assert not any("images counted" in line for line in lines)
    assert any("images counted" in log.read_text() for log in logs)


def test_the_status_of_a_finished_run_counts_its_jobs(project):
    jobs = len(list((project / "logs").rglob("*.log"))) + 1
    first, second, *_ = snakemake(project, "status").stdout.splitlines()
    assert first == f"{jobs} of {jobs} jobs done, 0 running, 0 failed, 0 waiting."
    assert re.fullmatch(r"Begun [\d :-]+, ended [\d :-]+\.", second)


def test_every_promised_file_is_there(project):
    results = project / "results"
    for path in ("index.html", "real/report.html", "real/metrics.csv", "real/scores.csv", "real/samples.csv"):
        assert (results / path).is_file(), path
    for run in ("small.seed1", "small.seed2", "tuned"):
        for name in (
            "weights.pt",
            "history.csv",
            "train.json",
            "choices.json",
            "model.cellmill",
            "postprocess.json",
            "objects.csv",
            "rle.csv",
        ):
            assert (results / "real" / run / name).is_file(), f"{run}/{name}"
    assert not list(results.rglob("*checkpoint*"))
    assert not list(results.rglob("*partial*"))


def test_the_mean_of_the_seeds_is_a_run_like_others_but_for_its_training(project):
    folders = {run: project / "results/real" / run for run in ("small.seed1", "small.seed2", "small.mean")}
    names = {run: {path.name for path in folder.iterdir()} for run, folder in folders.items()}
    assert names["small.seed1"] - names["small.mean"] == {"choices.json", "history.csv", "train.json"}
    for path in (folders["small.mean"] / "probabilities").glob("*/*.tif"):
        place = Path(*path.parts[-3:])
        one, two, mean = (tifffile.imread(folder / place).astype(float) for folder in folders.values())
        assert np.abs(mean - (one + two) / 2).max() < 2e-3
        assert np.abs(one - two).max() > 0.01


def test_objects_are_exported_for_other_programs(project):
    for run in ("small", "small_mean"):
        folder = project / "results/plate" / run
        assert len(json.loads((folder / "objects.coco.json").read_text())["images"]) == 3
        assert {path.name for path in (folder / "geojson").glob("*.geojson")} == {f"p{n}.geojson" for n in range(3)}
        assert {path.name for path in (folder / "rois").glob("*.zip")} == {f"p{n}.zip" for n in range(3)}


@pytest.mark.parametrize(("dataset", "inputs"), [("real", 8 + 8 + 1), ("plate", 3 + 2 * 2)])
def test_a_crate_tells_what_was_made_from_what(project, dataset, inputs):
    path = project / f"results/{dataset}/ro-crate-metadata.json"
    entities = check_crate(path)
    sources = [entity for name, entity in entities.items() if name.startswith(("#image/", "#annotation/", "#model/"))]
    assert len(sources) == inputs
    for entity in sources:
        assert entity["sha256"] == hashlib.sha256((project / entity["name"]).read_bytes()).hexdigest()
    assert str(project) not in path.read_text()
    assert not (project / "results/synthetic/ro-crate-metadata.json").exists()


def test_the_report_of_snakemake_holds_our_pages_with_captions_by_dataset(project, tmp_path):
    snakemake(project, "--report", str(tmp_path / "all.zip"))
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        page = archive.read("all/report.html").decode()
        pages = {archive.read(name) for name in archive.namelist() if name.endswith("/report.html")}
    for dataset in ("synthetic", "real", "plate"):
        assert (project / f"results/{dataset}/report.html").read_bytes() in pages
    categories, results = (
        json.JSONDecoder().raw_decode(page.split(f"var {name} = ")[-1])[0] for name in ("categories", "results")
    )
    assert {name: sorted(*within.values()) for name, within in categories.items()} == {
        dataset: sorted(f"results/{dataset}/{file}" for file in IN_SNAKEMAKE_REPORT)
        for dataset in ("synthetic", "real", "plate")
    }
    for path, result in results.items():
        dataset, file = path.removeprefix("results/").split("/", 1)
        assert result["labels"]["file"] == file
        assert f"<strong>{dataset}</strong>" in result["caption"]
    assert "on its 3 images" in " ".join(results["results/plate/report.html"]["caption"].split())
    assert "Masks and scores computed from microscope images" in page


def test_a_second_run_has_nothing_to_do(project):
    assert planned_jobs(project) == set()


def test_segmentations_have_the_geometry_of_the_raw_images(project):
    found = list((project / "results/real/tuned/segmentation").glob("*/*.tif"))
    assert len(found) == 8
    for path in found:
        assert tifffile.imread(path).shape == (70, 90)
        assert tifffile.imread(path).dtype == np.uint16


def test_probabilities_are_float16_maps_of_the_preprocessed_images(project):
    for path in (project / "results/real/tuned/probabilities").glob("*/*.tif"):
        probability = tifffile.imread(path)
        assert probability.dtype == np.float16
        assert probability.shape[-2:] == (64, 64)
        assert 0 <= probability.min() <= probability.max() <= 1


def test_labels_are_those_of_the_annotations(project):
    for path in (project / "results/real/labels").glob("*/*.tif"):
        truth = tifffile.imread(project / f"data/labels/{path.name}")
        found = tifffile.imread(path)
        assert np.array_equal(found > 0, truth > 0)
        assert len(np.unique(found)) == len(np.unique(truth))


def test_each_folder_has_a_manifest_of_what_is_in_it(project):
    for manifest in (project / "results").rglob("manifest.json"):
        listed = set(json.loads(manifest.read_text()))
        there = {path.relative_to(manifest.parent).as_posix() for path in manifest.parent.rglob("*") if path.is_file()}
        # The last file is Snakemake's marker of a folder written by a job.
        assert listed == there - {"manifest.json", "sizes.json", "versions.json", ".snakemake_timestamp"}


def test_metrics_are_tidy(project):
    with (project / "results/real/metrics.csv").open() as stream:
        header = next(csv.reader(stream))
    assert header == [
        "model", "seed", "split", "stage", "geometry", "metric", "aggregation", "value", "ci_low", "ci_high", "n", "n_undefined",
    ]  # fmt: skip
    table = pd.read_csv(project / "results/real/metrics.csv")
    assert set(table["geometry"]) == {"raw", "fitted"}
    assert {("small", 1), ("small", 2), ("small.mean", 1), ("tuned", 2)} == set(
        zip(table["model"], table["seed"], strict=True)
    )
    assert set(table["split"]) == {"train", "validation", "test"}


def test_the_submission_decodes_to_the_segmentation(project):
    from whole_images import decode_rle

    run = project / "results/real/tuned"
    table = pd.read_csv(run / "rle.csv", dtype=str, keep_default_na=False)
    for path in (run / "segmentation").glob("*/*.tif"):
        labels = tifffile.imread(path)
        rows = table[(table["id"] == path.stem) & (table["annotation"] != "")]
        union = np.zeros(labels.shape, bool)
        for text in rows["annotation"]:
            union |= decode_rle(text, shape=labels.shape, order="row", where="rle.csv")
        assert np.array_equal(union, labels > 0)


def test_objects_are_measured_in_px_and_um(project):
    table = pd.read_csv(project / "results/real/tuned/objects.csv")
    assert np.allclose(table["area_um2"], table["area_px"] * 0.25)


def test_an_applied_model_predicts_images_without_annotations(project):
    plate = project / "results/plate"
    assert len(list((plate / "small/segmentation").glob("*/*.tif"))) == 3
    assert len(list((plate / "classical/segmentation").glob("*/*.tif"))) == 3
    assert not (plate / "small/weights.pt").exists()
    assert len(pd.read_csv(plate / "metrics.csv")) == 0
    assert (plate / "report.html").stat().st_size > 5_000


def test_an_exported_model_gives_the_same_on_another_machine(project, tmp_path):
    other = copy_project(tmp_path / "other")
    (other / "new").symlink_to(project / "new")
    (other / "m.cellmill").write_bytes((project / "results/real/small.seed1/model.cellmill").read_bytes())
    config = {"datasets": {"plate": {"images": "new/images/{sample}.tif", "models": [{"apply": "m.cellmill"}]}}}
    write_config(other, config, "config.yaml")
    snakemake(other, "--cores", "2")
    for path in (other / "results/plate/m/segmentation").glob("*/*.tif"):
        [same] = (project / "results/plate/small/segmentation").glob(f"*/{path.name}")
        assert np.array_equal(tifffile.imread(path), tifffile.imread(same))


def test_fine_tuning_started_from_the_other_run(project):
    assert "synthetic/sartorius_unet" in (project / "logs/real/train/tuned.log").read_text()


def test_logs_open_with_rule_settings_code_and_versions(project):
    for log in (project / "logs").rglob("*.log"):
        head = log.read_text().splitlines()[:4]
        for word, line in zip(("rule", "settings", "code", "versions"), head, strict=True):
            assert re.search(rf"cellmill\.runlog: {word} ", line), log


def test_logs_and_benchmarks_mirror_the_rules(project):
    logs = {path.relative_to(project / "logs").with_suffix("") for path in (project / "logs").rglob("*.log")}
    benchmarks = {
        path.relative_to(project / "benchmarks").with_suffix("") for path in (project / "benchmarks").rglob("*.tsv")
    }
    assert logs == benchmarks


def test_simulated_images_are_the_same_in_another_run(project, tmp_path):
    other = copy_project(tmp_path / "again")
    config = yaml.safe_load((project / "config.yaml").read_text())
    config["datasets"] = {"synthetic": config["datasets"]["synthetic"]}
    config["images_per_job"] = 3
    write_config(other, config, "config.yaml")
    snakemake(other, "--cores", "1", "--until", "simulate")
    first = {path.name: path.read_bytes() for path in (project / "results/synthetic/raw").rglob("*.tif")}
    second = {path.name: path.read_bytes() for path in (other / "results/synthetic/raw").rglob("*.tif")}
    assert first == second
    assert len(first) == 8


def test_a_config_file_replaces_the_demo(project):
    name = write_config(project, {"datasets": {"only": {"simulate": {"images": 4}}}}, "study.yaml")
    text = "\n".join(planned_jobs(project, "--configfile", name))
    assert "only" in text
    assert "demo" not in text
    assert "synthetic" not in text


def test_code_is_complete_for_every_stage(project):
    """Every module that a job loads is among those whose digests it carries."""
    from cellmill.provenance import EXEMPT_MODULES

    for log in sorted((project / "logs").rglob("*.log")):
        text = log.read_text()
        carried = json.loads(re.search(r"cellmill\.runlog: code (.*)", text).group(1))
        loaded = json.loads(re.search(r"cellmill\.runlog: loaded (.*)", text).group(1))
        assert set(loaded) - EXEMPT_MODULES <= set(carried), log


def test_the_shipped_demo_is_the_config_at_the_top():
    assert list(yaml.safe_load((ROOT / "config.yaml").read_text())["datasets"]) == ["demo"]
