"""Runs without a network: when they are planned, what their jobs depend on, and what is refused."""

import re

import numpy as np
import pytest
import tifffile

from cellmill.config.errors import ConfigError
from cellmill.planning.exports import exported_files
from cellmill.planning.layout import pattern_of_runs
from cellmill.planning.make import make_plan
from cellmill.planning.results import list_inputs, list_results, list_settings
from cellmill.planning.settings import job_settings
from project import ROOT

PRESETS = ROOT / "resources/models"
UNET = {"preset": "sartorius_unet", "name": "unet"}


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for number in range(9):
            tifffile.imwrite(tmp_path / f"{folder}/x{number}.tif", np.full((16, 16), number, dtype=np.uint8))
    return tmp_path


ANNOTATED = {"images": "images/{sample}.tif", "annotations": {"format": "label_image", "path": "labels/{sample}.tif"}}
BARE = {"images": "images/{sample}.tif"}


def plan(**datasets):
    return make_plan({"datasets": datasets}, presets_dir=PRESETS)


def names(made, dataset):
    return [run.name for run in made.runs[dataset]]


def mistakes(**datasets):
    with pytest.raises(ConfigError) as caught:
        plan(**datasets)
    return caught.value.mistakes


def parts(made, dataset):
    return {row.split for row in made.samples[dataset]}


# ---- which models run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("section", [ANNOTATED, {"simulate": {"images": 9, "size": [64, 64]}}])
def test_a_dataset_that_names_no_models_has_the_floor_and_the_default(data, section):
    made = plan(d=section)
    assert names(made, "d") == ["classical", "default"]
    assert parts(made, "d") == {"train", "validation", "test"}
    assert not made.remarks


def test_without_annotations_only_the_floor_runs_and_this_is_said(data):
    made = plan(d=BARE)
    assert names(made, "d") == ["classical"]
    assert parts(made, "d") == {"unlabelled"}
    assert made.remarks == [
        "datasets.d.models: there are no annotations, so only classical runs, with fixed values. To use a trained model, "
        "set apply: for nuclei, models: [classical, {apply: nuclei}]"
    ]
    # not as if the config had named it
    assert "models" not in list_settings(made, "d")["datasets"]["d"]


def test_the_floor_may_be_named_without_annotations_and_nothing_is_said(data):
    made = plan(
        d={**BARE, "models": ["classical", {"preset": "classical", "name": "dark", "network": {"polarity": "dark"}}]}
    )
    assert names(made, "d") == ["classical", "dark"]
    assert not made.remarks


def test_a_trained_model_without_annotations_stays_a_mistake(data):
    [mistake] = mistakes(d={**BARE, "models": ["classical", "default"]})
    assert (
        "expected annotations to train default on, found none. Add annotations, or use only classical, masks and"
        in mistake
    )


def test_the_floor_alone_needs_no_more_than_one_annotated_image(data):
    for number in range(2, 9):
        for folder in ("images", "labels"):
            (data / folder / f"x{number}.tif").unlink()
    assert parts(plan(d={**ANNOTATED, "models": ["classical"]}), "d") == {"test"}


def test_each_fold_has_a_floor_of_its_own(data):
    made = plan(d={**ANNOTATED, "split": {"folds": 3}, "models": ["classical"]})
    assert names(made, "d") == ["classical.fold0", "classical.fold1", "classical.fold2"]


# ---- settings, files and rules --------------------------------------------------------------------------------


def test_its_jobs_depend_on_its_own_section_only(data):
    made = plan(d={**ANNOTATED, "models": [{"preset": "classical", "network": {"sigma_px": 3}}]})
    settings = job_settings(made, "contrast_fit", dataset="d", run="classical")
    assert set(settings) == {"network", "seed"}
    assert settings["network"] == {
        "architecture": "classical", "output": "foreground", "sigma_px": 3, "threshold": "auto", "window_px": None,
        "polarity": "auto",
    }  # fmt: skip
    assert job_settings(made, "contrast", dataset="d", run="classical", shard="test-0000") == {}
    assert job_settings(made, "postprocess_fit", dataset="d", run="classical")["predict"] == {}


def test_its_results_are_listed_and_no_weights_or_history(data):
    made = plan(d={**ANNOTATED, "export": ["onnx", "coco"], "models": ["classical", UNET]})
    files = list_results(made, "d")["files"]
    assert {"classical/classical.json", "classical/model.cellmill", "unet/history.csv"} <= set(files)
    assert not {"classical/history.csv", "classical/train.json", "unet/classical.json"} & set(files)
    assert [path for path in exported_files(made.config, made.runs) if "/classical/" in path] == [
        "results/d/classical/objects.coco.json"
    ]


def test_a_floor_can_be_applied_and_brings_its_numbers_along(data):
    made = plan(a={**ANNOTATED, "models": ["classical"]}, b={**BARE, "models": [{"apply": "a/classical"}]})
    [run] = made.runs["b"]
    assert made.is_classical(run)
    assert not run.is_classical
    assert list_inputs(made, "b")["models"] == [
        "results/a/classical/classical.json",
        "results/a/classical/postprocess.json",
    ]
    [files] = job_settings(made, "report", dataset="b")["runs"]
    assert files["recipe"] == "results/a/classical/classical.json"


def test_the_floor_takes_the_preprocessing_of_the_models_applied_beside_it(data):
    trained = {**ANNOTATED, "models": [UNET], "preprocess": {"background": {"method": "rolling_ball", "radius_px": 9}}}
    made = plan(a=trained, b={**BARE, "models": [{"apply": "a/unet"}, "classical"]})
    assert made.preprocess["b"]["background"]["method"] == "rolling_ball"


def test_runs_are_told_apart_by_their_dataset():
    """Two rules write probabilities; each path has exactly one of them."""
    runs = [("cells", "classical"), ("plate-1", "otsu.fold0")]
    for path, is_chosen in {
        "results/cells/classical/probabilities": True,
        "results/plate-1/otsu.fold0/probabilities": True,
        "results/plate-1/classical/probabilities": False,
        "results/cells/classical2/probabilities": False,
        "results/cells/otsu.fold0/probabilities": False,
        "results/plate-1/otsu.fold1/probabilities": False,
        "results/other/unet.seed3/probabilities": False,
    }.items():
        found = [
            re.fullmatch(rf"results/(?P<dataset>[\w+-]+)/(?P<run>{pattern_of_runs(runs, but=but)})/probabilities", path)
            for but in (False, True)
        ]
        assert [match is not None for match in found] == [is_chosen, not is_chosen], path
    assert re.fullmatch(pattern_of_runs([]), "classical") is None
    assert re.fullmatch(rf"(?:{pattern_of_runs([], but=True)})/x", "classical/x")


# ---- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"seeds": [1, 2]}, r"models\[0\]\.seeds: expected no seeds for classical, which has no network to train"),
        ({"train": {"epochs": 3}}, "expected only network for a model without a network, found train as well. Remove"),
        ({"width": 0.5}, "expected only network for a model without a network, found width as well"),
        ({"network": {"window_px": 40}}, "window_px: expected an odd number, .*found 40. Set it to 41"),
        (
            {"network": {"window_px": 41, "threshold": "global"}},
            "expected no window_px with threshold: global, found 41",
        ),
        ({"network": {"polarity": "light"}}, "polarity"),
    ],
)
def test_keys_that_a_run_without_a_network_does_not_use_are_refused(data, entry, message):
    [mistake] = mistakes(d={**ANNOTATED, "models": [{"preset": "classical", **entry}]})
    assert re.search(message, mistake), mistake


def test_there_are_no_weights_to_start_from(data):
    [found] = mistakes(d={**ANNOTATED, "models": ["classical", {**UNET, "init_from": "d/classical"}]})
    assert "expected a trained run, found d/classical, which has no network and so no weights" in found


def test_there_is_no_network_to_export(data):
    [mistake] = mistakes(d={**ANNOTATED, "export": ["onnx"], "models": ["classical"]})
    assert "expected a model that this dataset trains, found only models without a network" in mistake


def test_flows_are_no_output_of_a_run_without_a_network(data):
    section = {**ANNOTATED, "models": ["classical"], "postprocess": {"instances": {"method": "flow"}}}
    [mistake] = mistakes(d=section)
    assert "expected auto, components or watershed for classical" in mistake
