"""Slips in the keys and values of a config: each is named by itself, all at once, with the key that was meant."""

from datetime import date

import pytest

from cellmill.config.errors import ConfigError
from cellmill.planning.make import freeze, make_plan, thaw
from cellmill.planning.settings import job_settings
from project import ROOT, write_label_dataset

PRESETS = ROOT / "resources/models"


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    write_label_dataset(tmp_path / "data", [f"n{number}" for number in range(6)], seed=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def dataset(**changes):
    section = {
        "images": "data/images/{sample}.tif",
        "annotations": {"format": "label_image", "path": "data/labels/{sample}.tif"},
        "models": [{"preset": "sartorius_unet", "name": "u"}],
    }
    return {**section, **changes}


def plan(config):
    return make_plan(config, presets_dir=PRESETS)


def mistakes(config):
    with pytest.raises(ConfigError) as caught:
        plan(config)
    return caught.value.mistakes


def one_mistake(**changes):
    [mistake] = mistakes({"datasets": {"d": dataset(**changes)}})
    return mistake


# ---- hyphens and blanks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["pixel-size-um", "pixel size um", "pixel_size-um", " pixel_size_um"])
def test_a_key_with_hyphens_or_blanks_is_named_with_the_key_that_was_meant(key):
    assert one_mistake(**{key: 0.5}).startswith(f"datasets.d.{key}: unknown key. Did you mean pixel_size_um? Known: ")


def test_a_key_with_a_hyphen_deep_in_a_model_is_named_by_itself():
    train = {"optimiser": {"learning-rate": 0.001}, "patches-per-image": 4}
    found = mistakes({"datasets": {"d": dataset(models=[{"preset": "sartorius_unet", "train": train}])}})
    where = "datasets.d.models[0].train"
    assert [mistake.split(" Known")[0] for mistake in found] == [
        f"{where}.optimiser.learning-rate: unknown key. Did you mean learning_rate?",
        f"{where}.patches-per-image: unknown key. Did you mean patches_per_image?",
    ]


def test_keys_with_hyphens_are_all_named_at_once():
    config = {
        "images-per-job": 5,
        "datasets": {"d": dataset(**{"class column": "x", "post-process": {"min-area-px": 3}}), "my-cells": dataset(modles=[])},
    }  # fmt: skip
    keys = [mistake.split(": ")[0] for mistake in mistakes(config)]
    # A section under a key that was meant is read as well.
    assert keys == [
        "datasets.d.class column", "datasets.d.post-process", "datasets.d.postprocess.min-area-px",
        "datasets.my-cells.modles", "images-per-job",
    ]  # fmt: skip


def test_a_key_with_a_hyphen_in_a_section_of_one_of_several_kinds_is_named():
    found = one_mistake(annotations={"format": "label_image", "path": "data/labels/{sample}.tif", "min-area": 3})
    assert found.startswith("datasets.d.annotations.min-area: unknown key.")


# ---- anchors ---------------------------------------------------------------------------------------------


def test_a_section_for_anchors_changes_no_plan_and_no_settings():
    bare = plan({"datasets": {"d": dataset()}})
    for key in ("x-train", "x-", "x-anything at all"):
        anchored = plan({key: {"epochs": 1}, "datasets": {"d": dataset()}})
        words = {"dataset": "d", "run": "u"}
        assert job_settings(anchored, "train", **words) == job_settings(bare, "train", **words)
        assert anchored.samples == bare.samples


def test_a_job_process_reads_the_plan_of_a_config_with_anchors():
    config = {"x-train": {"epochs": 1}, "datasets": {"d": dataset()}}
    made = plan(config)
    freeze(made, config)
    assert thaw(config, presets_dir=PRESETS).samples == made.samples


def test_sections_for_anchors_stand_at_the_top_level_only():
    assert one_mistake(**{"x-train": {}}).startswith("datasets.d.x-train: unknown key.")


# ---- names and numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [(2018, "a number"), (True, "true or false"),
                                            (None, "nothing"), (date(2018, 5, 1), "a date")])  # fmt: skip
def test_a_dataset_whose_name_is_no_text_is_refused_once(name, kind):
    [mistake] = mistakes({"datasets": {name: dataset()}})
    assert mistake.startswith(f"datasets.{name}: expected a name, found ")
    assert f"which is {kind} in YAML. Quote the name" in mistake


@pytest.mark.parametrize("name", ["2018", "on", "null", "1e3", "2018-05-01"])
def test_quoted_names_are_names(name):
    made = plan({"datasets": {name: dataset(models=[{"preset": "sartorius_unet", "name": name}])}})
    assert [run.name for run in made.runs[name]] == [name]


@pytest.mark.parametrize("name", [2018, False, 1.5, date(2018, 5, 1)])
def test_a_run_whose_name_is_no_text_is_to_be_quoted(name):
    mistake = one_mistake(models=[{"preset": "sartorius_unet", "name": name}])
    assert mistake.startswith("datasets.d.models[0].name: expected a valid string, found ")
    assert mistake.endswith("Quote the text.")


@pytest.mark.parametrize(
    ("value", "advice"),
    [("0,5", "Write a decimal point: 0.5."), ("-1,25", "Write a decimal point: -1.25."),
     ("0.5 um", "Write the number without its unit: 0.5."), ("0.5µm", "Write the number without its unit: 0.5.")],
)  # fmt: skip
def test_a_number_with_a_decimal_comma_or_a_unit_is_refused_with_the_number(value, advice):
    mistake = one_mistake(pixel_size_um=value)
    assert mistake.startswith("datasets.d.pixel_size_um: expected a valid number [um], found ")
    assert mistake.endswith(advice)
