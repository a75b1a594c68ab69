"""Trained models that lie in results/: runs of this config, and files of other configs."""

import pytest

from cellmill.config.errors import ConfigError
from cellmill.planning.make import make_plan
from cellmill.planning.model_paths import name_run, path_to_read
from model_files import PRESETS, put_model
from project import write_label_dataset

FILE = "results/train/u/model.cellmill"
SECTION = {
    "images": "data/images/{sample}.tif",
    "annotations": {"format": "label_image", "path": "data/labels/{sample}.tif"},
}
TRAINED = {**SECTION, "models": [{"preset": "default", "name": "u"}]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    write_label_dataset(tmp_path / "data", [f"n{number}" for number in range(6)], seed=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(**datasets):
    return make_plan({"datasets": datasets}, presets_dir=PRESETS)


def applied(reference, **changes):
    return {"images": SECTION["images"], "models": [{"apply": reference}], **changes}


def mistakes(**datasets):
    with pytest.raises(ConfigError) as caught:
        plan(**datasets)
    return caught.value.mistakes


@pytest.mark.parametrize("written", [FILE, f"./{FILE}", "results/../results/train/u/model.cellmill", "absolute"])
def test_the_file_of_another_config_is_read_where_it_lies(written, folder):
    put_model(folder / FILE)
    reference = str(folder / FILE) if written == "absolute" else written
    [run] = plan(new=applied(reference)).runs["new"]
    assert run.apply == reference
    # no output of a rule starts with a slash
    assert path_to_read(run.apply) == str(folder / FILE)


@pytest.mark.parametrize("written", [FILE, f"./{FILE}", "absolute", "latest.cellmill"])
@pytest.mark.parametrize("is_there", [True, False])
def test_the_file_of_a_run_of_this_config_is_that_run(written, is_there, folder):
    if is_there:
        put_model(folder / FILE)
    (folder / "latest.cellmill").symlink_to(FILE)
    reference = str(folder / FILE) if written == "absolute" else written
    made = plan(train=TRAINED, new=applied(reference))
    [run] = made.runs["new"]
    assert made.source_of(run) == made.run("train", "u")


def test_a_training_starts_from_a_file_in_results_or_from_the_run_that_writes_it(folder):
    put_model(folder / FILE)
    tuned = {"preset": "default", "name": "v", "init_from": FILE, "init_weights": "matching"}
    [alone] = plan(new={**SECTION, "models": [tuned]}).runs["new"]
    assert alone.init_from == FILE
    [with_run] = plan(train=TRAINED, new={**SECTION, "models": [tuned]}).runs["new"]
    assert with_run.init_from == "train/u"


def test_the_dataset_of_the_file_may_be_here_without_its_run(folder):
    put_model(folder / FILE)
    made = plan(train={**SECTION, "models": [{"preset": "default", "name": "w"}]}, new=applied(FILE))
    assert made.source_of(made.runs["new"][0]) is None


def test_a_run_that_starts_from_its_own_file_is_a_cycle(folder):
    put_model(folder / FILE)
    again = {"preset": "default", "name": "u", "init_from": FILE}
    [message] = mistakes(train={**SECTION, "models": [again]})
    assert "does not start from itself, found the cycle train/u -> train/u" in message


def test_a_missing_file_in_results_is_explained():
    [message] = mistakes(new=applied(FILE))
    assert message == (
        f"datasets.new.models[0].apply: {FILE}: expected an exported model, found no file. Check the path. Run the "
        "config that trains u on the dataset train first, in this folder; or copy that dataset's section here and set "
        "train/u."
    )


def test_a_run_of_an_earlier_config_is_offered_as_its_file(folder):
    put_model(folder / FILE)
    [message] = mistakes(new=applied("train/u"))
    assert message.endswith(f"found 'train/u'. To use the existing file, set {FILE}.")


def test_other_paths_stay_as_they_are(folder):
    put_model(folder / "model.cellmill")
    [run] = plan(new=applied("model.cellmill")).runs["new"]
    assert path_to_read(run.apply) == run.apply == "model.cellmill"
    assert path_to_read("../elsewhere/results/train/u/model.cellmill").startswith("..")
    assert name_run("results/train/u/weights.pt", {"train/u"}) == "results/train/u/weights.pt"
