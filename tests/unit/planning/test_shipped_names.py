"""Models that are shipped with cellmill: by name, from any folder, damaged, and in the settings of jobs."""

import json
import os
import shutil
import zipfile

import pytest
import yaml

from cellmill.config.errors import ConfigError
from cellmill.exports.model_file import FIT, MODEL_FORMAT
from cellmill.planning.make import freeze, make_plan, thaw
from cellmill.planning.model_cards import read_card
from cellmill.planning.results import list_inputs
from cellmill.planning.runs import load_preset
from cellmill.planning.settings import job_settings
from cellmill.planning.shipped_models import is_shipped_name
from model_files import PRESETS, put_model
from project import write_label_dataset

COPY = ".snakemake/cellmill/weights/nuclei.cellmill"
IMAGES = {"images": "data/images/{sample}.tif"}
ANNOTATED = {**IMAGES, "annotations": {"format": "label_image", "path": "data/labels/{sample}.tif"}}
CARD = {"title": "Nuclei", "version": 3, "data": "40 discs", "licence": "CC0", "cite": "Nobody 2026"}
TO_REPAIR = "Restore it with `git checkout -- resources/weights`, or get cellmill again."


def write_card(path, **changes):
    path.write_text(f"---\n{yaml.safe_dump({**CARD, **changes})}---\n\n# Nuclei\n")


def write_checkout(folder):
    """Write the presets and a shipped model with its card where a clone has them, and return the folder of presets."""
    shutil.copytree(PRESETS, folder / "resources/models")
    put_model(folder / "resources/weights/nuclei.cellmill", training_images=["a", "b"])
    write_card(folder / "resources/weights/nuclei.md")
    return folder / "resources/models"


@pytest.fixture
def checkout(tmp_path):
    return write_checkout(tmp_path / "cellmill")


@pytest.fixture
def weights(checkout):
    return checkout.parent / "weights"


@pytest.fixture(autouse=True)
def lab(tmp_path, monkeypatch):
    """Folder with images, apart from the checkout, in which the plan is made."""
    write_label_dataset(tmp_path / "lab/data", [f"n{number}" for number in range(6)], seed=1)
    monkeypatch.chdir(tmp_path / "lab")
    return tmp_path / "lab"


def config(*models, section=IMAGES):
    return {"datasets": {"d": {**section, "models": list(models)}}}


def mistakes(checkout, *models, section=IMAGES):
    with pytest.raises(ConfigError) as caught:
        make_plan(config(*models, section=section), presets_dir=checkout)
    return caught.value.mistakes


APPLIED = {"apply": "nuclei"}
TUNED = {"preset": "default", "name": "tuned", "init_from": "nuclei", "init_weights": "matching"}


# ---- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "is_name"),
    [("nuclei", True), ("train/unet", False), ("nuclei.cellmill", False), ("./nuclei.cellmill", False), (None, False)],
)
def test_a_word_without_slash_and_suffix_is_the_name_of_a_shipped_model(reference, is_name):
    assert is_shipped_name(reference) == is_name


def test_a_shipped_model_is_applied_by_its_name(checkout, weights, lab):
    plan = make_plan(config(APPLIED), presets_dir=checkout)
    [run] = plan.runs["d"]
    assert (run.name, run.apply, plan.source_of(run)) == ("nuclei", COPY, None)
    assert (lab / COPY).read_bytes() == (weights / "nuclei.cellmill").read_bytes()


def test_a_training_starts_from_a_shipped_model(checkout):
    plan = make_plan(config(TUNED, section=ANNOTATED), presets_dir=checkout)
    assert plan.run("d", "tuned").init_from == COPY
    assert plan.start_files("d", "tuned") == [COPY]


def with_start(checkout, weights, **changes):
    """Let `default` start from nuclei, and make both networks the same."""
    default = load_preset("default", presets_dir=checkout, where="")
    put_model(weights / "nuclei.cellmill", preset=default)
    own = {"preset": "default", "start": "nuclei"}
    return make_plan(config({**own, **changes}, section=ANNOTATED), presets_dir=checkout).run("d", "default")


def test_a_training_may_start_from_the_model_of_its_preset(checkout, weights, lab):
    run = with_start(checkout, weights)
    assert (run.init_from, run.init_weights) == (COPY, "alike")
    assert (lab / COPY).is_file()


def test_a_start_of_the_config_replaces_that_of_the_preset(checkout, weights):
    assert with_start(checkout, weights, init_from="nuclei").init_weights == "all"
    assert with_start(checkout, weights, start=None).init_from is None


def test_another_network_has_no_start(checkout, weights, lab):
    run = with_start(checkout, weights, width=0.3)
    assert (run.init_from, run.init_weights) == (None, "all")
    assert not (lab / COPY).exists()


def test_an_unknown_start_is_answered_with_similar_names(checkout):
    [message] = mistakes(checkout, {"preset": "default", "start": "nuclej"}, section=ANNOTATED)
    assert message.startswith("datasets.d.models[0].start: expected the name of a shipped model, found 'nuclej'.")


def test_a_start_that_is_no_shipped_model_is_answered_with_init_from(checkout):
    [message] = mistakes(checkout, {"preset": "default", "start": "d/first"}, section=ANNOTATED)
    assert message.endswith("For a run of this config or a file, set init_from in place of start.")


def test_a_recurrent_start_is_refused(checkout, weights):
    put_model(weights / "frames.cellmill", preset=load_preset("clstm_unet_code", presets_dir=checkout, where=""))
    [message] = mistakes(checkout, {"preset": "default", "start": "frames"}, section=ANNOTATED)
    assert "start: expected a network of single images, found clstm_unet_code in frames." in message


def test_an_average_is_no_start(checkout):
    seeds = {"preset": "default", "name": "first", "seeds": [1, 2], "average_seeds": True}
    second = {"preset": "default", "name": "second", "init_from": "d/first.mean"}
    [message] = mistakes(checkout, seeds, second, section=ANNOTATED)
    assert message == (
        "datasets.d.models[1].init_from: expected a run with a network of its own, found d/first.mean, the average of "
        "2 runs. Use one of them, such as d/first.seed1."
    )


def test_an_average_of_seeds_knows_the_start_of_its_members(checkout):
    entry = {**TUNED, "seeds": [1, 2], "average_seeds": True}
    assert make_plan(config(entry, section=ANNOTATED), presets_dir=checkout).start_files("d", "tuned.mean") == [COPY]


def test_a_run_of_this_config_is_a_start_as_its_exported_model(checkout):
    models = [{"preset": "default", "name": "first"}, {"preset": "default", "name": "second", "init_from": "d/first"}]
    plan = make_plan(config(*models, section=ANNOTATED), presets_dir=checkout)
    assert plan.start_files("d", "second") == ["results/d/first/model.cellmill"]
    assert plan.start_files("d", "first") == []


@pytest.mark.parametrize("key", ["apply", "init_from"])
def test_an_unknown_name_is_answered_with_similar_names_and_the_other_forms(key, checkout, weights):
    entry = {"apply": "nuclej"} if key == "apply" else {**TUNED, "init_from": "nuclej"}
    [message] = mistakes(checkout, entry, section=ANNOTATED)
    assert message.startswith(
        f"datasets.d.models[0].{key}: expected the name of a shipped model, found 'nuclej'. Did you mean nuclei? Known: "
        f"nuclei (in {weights}). For a run of this config set dataset/run"
    )
    assert message.endswith("For a file set its path, ending in .cellmill.")


def test_the_name_of_a_run_without_its_dataset_is_answered_with_that_run(checkout):
    models = [{"preset": "default", "name": "unet"}, {"apply": "unet", "name": "applied"}]
    [message] = mistakes(checkout, *models, section=ANNOTATED)
    assert "For a run of this config set dataset/run, such as d/unet." in message


def test_nothing_shipped_is_said(checkout, weights):
    (weights / "nuclei.cellmill").unlink()
    [message] = mistakes(checkout, APPLIED)
    assert f"found 'nuclei'. There are none in {weights}. For a run" in message


def test_a_missing_folder_is_said(checkout, weights):
    shutil.rmtree(weights)
    assert mistakes(checkout, APPLIED) == [
        f"datasets.d.models[0].apply: expected a shipped model in {weights}, found no such folder, so no model 'nuclei'. "
        f"{TO_REPAIR}"
    ]


# ---- the copy --------------------------------------------------------------------------------------------


def test_a_read_only_checkout_is_enough(checkout, weights, lab):
    for path in (weights / "nuclei.cellmill", weights / "nuclei.md"):
        path.chmod(0o444)
    weights.chmod(0o555)
    make_plan(config(APPLIED), presets_dir=checkout)
    make_plan(config(APPLIED), presets_dir=checkout)
    assert os.access(lab / COPY, os.W_OK)
    weights.chmod(0o755)


def test_only_models_that_the_config_uses_are_copied(checkout, weights, lab):
    put_model(weights / "cells.cellmill")
    make_plan(config(APPLIED), presets_dir=checkout)
    assert sorted(path.name for path in (lab / COPY).parent.iterdir()) == ["nuclei.cellmill", "nuclei.md"]


def test_a_copy_that_is_up_to_date_keeps_its_time_and_one_that_is_not_is_newer(checkout, weights, lab):
    source = weights / "nuclei.cellmill"
    os.utime(source, (1_000_000_000, 1_000_000_000))
    make_plan(config(APPLIED), presets_dir=checkout)
    assert (lab / COPY).stat().st_mtime == 1_000_000_000
    os.utime(source)
    make_plan(config(APPLIED), presets_dir=checkout)
    assert (lab / COPY).stat().st_mtime == 1_000_000_000
    put_model(source, training_images=["c"])
    os.utime(source, (900_000_000, 900_000_000))
    make_plan(config(APPLIED), presets_dir=checkout)
    assert (lab / COPY).stat().st_mtime > 1_000_000_000
    assert (lab / COPY).read_bytes() == source.read_bytes()


def test_a_moved_checkout_changes_no_settings(checkout, tmp_path):
    raw = config(APPLIED, TUNED, section=ANNOTATED)
    jobs = [("report", {}), ("crate", {}), ("check_dataset", {}), ("predict", {"run": "nuclei", "shard": "test-0000"})]
    plan = make_plan(raw, presets_dir=checkout)
    before = [job_settings(plan, stage, dataset="d", **words) for stage, words in jobs]
    (tmp_path / "cellmill").rename(tmp_path / "moved")
    plan = make_plan(raw, presets_dir=tmp_path / "moved/resources/models")
    assert [job_settings(plan, stage, dataset="d", **words) for stage, words in jobs] == before
    assert str(tmp_path) not in json.dumps(before)


def test_jobs_read_the_copy_even_where_the_checkout_has_changed(checkout, weights):
    raw = config(APPLIED)
    plan = make_plan(raw, presets_dir=checkout)
    freeze(plan, raw)
    shutil.rmtree(weights)
    assert thaw(raw, presets_dir=checkout).runs == plan.runs
    assert job_settings(thaw(raw, presets_dir=checkout), "predict", dataset="d", run="nuclei", shard="unlabelled-0000")


# ---- damaged files ---------------------------------------------------------------------------------------


def damage(path, kind):
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    elif kind == "checksum":
        path.write_bytes(content.replace(b"weights", b"wEights", 1))
    else:
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        changed = {"model.json": {**json.loads(parts["model.json"]), "format": 99}} if kind == "later" else {}
        parts |= {name: json.dumps(text).encode() for name, text in changed.items()}
        parts |= {FIT: b'{"format": 99}'} if kind == "later fit" else {}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data)


DAMAGES = {
    "truncated": "expected an exported model, found a damaged or different file (File is not a zip file).",
    "text": "expected an exported model, found a damaged or different file (File is not a zip file).",
    "checksum": "expected an undamaged exported model, found a wrong checksum of weights.pt.",
    "later": f"expected an exported model of format {MODEL_FORMAT}, which this cellmill reads, found format 99. A later "
    "version of cellmill wrote this file.",
    "later fit": "expected a fit of format 2, found 99. A later version of cellmill wrote this file.",
}
ADVICE = {
    "truncated": "Use the model.cellmill from the folder of a run.",
    "text": "Use the model.cellmill from the folder of a run.",
    "checksum": "Copy the file again from where it was made, or export the model again.",
    "later": "Update cellmill, or export the model again with this version.",
    "later fit": "Update cellmill, or run postprocess_fit again, or export the model again with this version.",
}


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize(("key", "model"), [("apply", APPLIED), ("init_from", TUNED), ("start", "default")])
def test_a_damaged_shipped_file_is_one_message_with_how_to_restore_it(key, model, kind, checkout, weights):
    if key == "start":  # which is offered to trainings of the same network alone
        put_model(weights / "nuclei.cellmill", preset=load_preset("default", presets_dir=checkout, where=""))
    damage(weights / "nuclei.cellmill", kind)
    found = mistakes(checkout, model, section=ANNOTATED)
    assert found == [f"datasets.d.models[0].{key}: {weights}/nuclei.cellmill: {DAMAGES[kind]} {TO_REPAIR}"]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_of_a_user_is_one_message_with_what_to_do(kind, checkout, lab):
    damage(put_model(lab / "m.cellmill"), kind)
    found = mistakes(checkout, {"apply": "m.cellmill"})
    assert found == [f"datasets.d.models[0].apply: m.cellmill: {DAMAGES[kind]} {ADVICE[kind]}"]


def test_a_model_restored_after_damage_is_used(checkout, weights):
    sound = (weights / "nuclei.cellmill").read_bytes()
    damage(weights / "nuclei.cellmill", "truncated")
    mistakes(checkout, APPLIED)
    (weights / "nuclei.cellmill").write_bytes(sound)
    assert make_plan(config(APPLIED), presets_dir=checkout)


# ---- another network -------------------------------------------------------------------------------------


def test_the_network_of_a_preset_is_named_by_the_preset(checkout, weights):
    content = load_preset("default", presets_dir=PRESETS, where="")
    put_model(weights / "nuclei.cellmill", preset=content)
    entry = {"preset": "default", "name": "tuned", "init_from": "nuclei"}
    assert make_plan(config(entry, section=ANNOTATED), presets_dir=checkout)
    [message] = mistakes(checkout, {**entry, "width": 0.5}, section=ANNOTATED)
    assert message == (
        "d/tuned: expected weights of the same network in init_from nuclei, found width 1.0 instead of 0.5. Set preset: "
        "default, without network and width, or set init_weights: matching."
    )


def test_a_network_that_no_preset_has_is_named_by_its_settings(checkout, weights):
    put_model(weights / "nuclei.cellmill", preset={"width": 0.3, "network": {"levels": 2}})
    [message] = mistakes(checkout, {"preset": "default", "name": "tuned", "init_from": "nuclei"}, section=ANNOTATED)
    assert "levels 2 instead of 4" in message
    assert "Set the network and width of the shipped model (architecture unet, " in message
    assert message.endswith("width 0.3), or set init_weights: matching.")


# ---- what jobs and pages know ----------------------------------------------------------------------------


def test_the_report_and_the_crate_know_the_card(checkout):
    plan = make_plan(config(APPLIED), presets_dir=checkout)
    facts = {"name": "nuclei", "card": "resources/weights/nuclei.md", **CARD}
    [run] = job_settings(plan, "report", dataset="d")["runs"]
    assert (run["apply"], run["shipped"]) == (COPY, facts)
    assert job_settings(plan, "crate", dataset="d")["shipped"] == {COPY: facts}
    assert list_inputs(plan, "d")["models"] == [COPY]


def test_a_model_that_a_lab_adds_needs_no_card(checkout, weights):
    (weights / "nuclei.md").unlink()
    [run] = job_settings(make_plan(config(APPLIED), presets_dir=checkout), "report", dataset="d")["runs"]
    assert run["shipped"] == {"name": "nuclei"}


def test_a_card_that_is_removed_is_forgotten(checkout, weights):
    make_plan(config(APPLIED), presets_dir=checkout)
    test_a_model_that_a_lab_adds_needs_no_card(checkout, weights)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# Nuclei\n", "expected YAML with title, version, data, licence, cite between two lines ---, found none at"),
        ("---\n- a\n---\n", "expected YAML with title, version"),
        ("---\ntitle: [\n---\n", "expected YAML with title, version"),
    ],
)
def test_a_card_without_front_matter_is_refused(text, said, checkout, weights):
    (weights / "nuclei.md").write_text(text)
    [message] = mistakes(checkout, APPLIED)
    assert message.startswith(f"{weights}/nuclei.md: {said}")


def test_a_misspelt_key_of_a_card_is_refused(checkout, weights):
    write_card(weights / "nuclei.md", license="CC0")
    [message] = mistakes(checkout, APPLIED)
    assert message.startswith(f"{weights}/nuclei.md: license: unknown key. Did you mean licence?")


def test_a_card_is_read(weights):
    assert read_card(weights / "nuclei.md") == CARD


def test_models_are_compared_with_test_images_only_where_there_are_some(checkout):
    unlabelled = make_plan(config(APPLIED), presets_dir=checkout)
    assert job_settings(unlabelled, "check_dataset", dataset="d")["models"] == {}
    scored = make_plan(config(APPLIED, TUNED, section=ANNOTATED), presets_dir=checkout)
    assert job_settings(scored, "check_dataset", dataset="d")["models"] == {COPY: "nuclei"}


def test_with_annotations_an_applied_shipped_model_is_scored_on_all_images(checkout):
    plan = make_plan(config(APPLIED, section=ANNOTATED), presets_dir=checkout)
    assert {row.split for row in plan.samples["d"]} == {"test"}
