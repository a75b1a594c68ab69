"""The config: closed; all mistakes at once, each with its place, the expected value and the nearest known key."""

import pytest
import yaml
from pydantic import BaseModel

from cellmill.config.dataset import Config, ModelEntry
from cellmill.config.errors import ConfigError
from cellmill.planning.make import make_plan
from cellmill.planning.results import list_settings
from cellmill.planning.runs import resolve_preset
from generate.reference import COMMAND, environment_packages, generated_files, requirement_groups
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


def test_the_shipped_config_is_valid(data):
    assert plan(yaml.safe_load((ROOT / "config.yaml").read_text())).samples


@pytest.mark.parametrize("preset", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_preset_is_valid(preset):
    found, mistakes = resolve_preset(ModelEntry(preset=preset.stem), presets_dir=PRESETS, where=())
    assert mistakes == []
    assert found["network"]["architecture"]


def test_a_dataset_needs_three_lines(data):
    made = plan({"datasets": {"d": dataset()}})
    assert [run.name for run in made.runs["d"]] == ["classical", "default"]
    assert {row.split for row in made.samples["d"]} == {"train", "validation", "test"}


def test_every_mistake_is_reported_at_once(data):
    found = mistakes(
        {
            "sede": 3,
            "datasets": {
                "d": dataset(modles=["default"], preprocess={"background": {"method": "gausian"}}),
                "e": dataset(images="data/imgs/{sample}.tif"),
                "f": dataset(models=[{"preset": "sartorius_unet", "train": {"epochs": -1}}]),
                "g": dataset(models=["unett"]),
            },
        }
    )
    text = "\n".join(found)
    assert "sede: unknown key. Did you mean seed?" in text
    assert "datasets.d.modles: unknown key. Did you mean models?" in text
    assert "datasets.d.preprocess.background.method: expected" in text
    assert "Did you mean gaussian?" in text
    assert "datasets.e.images: expected a folder data/imgs, found none" in text
    assert "datasets.f.models[0].train.epochs: expected greater than or equal to 1, found -1" in text
    assert "datasets.g.models[0].preset: unknown preset 'unett'" in text
    assert len(found) == 6


def test_a_wrong_key_hides_neither_files_nor_models(data):
    section = dataset(
        images="nope/{sample}.png",
        class_colum="x",
        annotations={"format": "rle", "table": "no.csv", "order": "row"},
        models=[{"preset": "default", "widht": 1}, "sartorious_unet", {"preset": "default", "train": {"epoch": 3}}],
    )
    text = "\n".join(mistakes({"datasets": {"d": section}}))
    for part in ("class_colum", "widht", "'sartorious_unet'", "models[2].train.epoch", "folder nope", "no file no.csv"):
        assert part in text, part


def test_an_unknown_key_hides_no_rule_between_its_neighbours():
    text = "\n".join(mistakes({"datasets": {"d": dataset(split={"train": 0.5, "gaap": 4, "by": "blocks"})}}))
    assert "datasets.d.split.gaap: unknown key. Did you mean gap?" in text
    assert "datasets.d.split: expected train + validation + test to be 1, found 0.9" in text


def test_a_misspelt_key_is_one_mistake_and_not_two():
    [mistake] = mistakes({"datasets": {"d": dataset(split={"trian": 0.4, "validation": 0.3, "test": 0.3})}})
    assert "datasets.d.split.trian: unknown key. Did you mean train?" in mistake


def test_starting_weights_of_another_network_are_refused(data):
    models = [
        {"preset": "default", "name": "a", "width": 0.25},
        {"preset": "default", "name": "b", "width": 0.5, "init_from": "d/a"},
    ]
    [mistake] = mistakes({"datasets": {"d": dataset(models=models)}})
    assert "found width 0.25 instead of 0.5" in mistake


def test_a_length_has_its_unit_and_meaning_in_the_message():
    message = one_mistake(preprocess={"background": {"method": "rolling_ball", "radius_px": -3}})
    assert "datasets.d.preprocess.background.radius_px: expected greater than 0 [px], found -3." in message


def test_a_split_without_test_images_is_refused():
    message = one_mistake(split={"train": 0.8, "validation": 0.2, "test": 0})
    assert "expected a test share above 0, found 0" in message


def test_shares_must_make_a_whole():
    assert "expected train + validation + test to be 1, found 0.9" in one_mistake(split={"train": 0.5})


def test_training_without_annotations_is_refused():
    [message] = mistakes({"datasets": {"d": {"images": "data/images/{sample}.tif", "models": ["default"]}}})
    assert "expected annotations to train default on, found none" in message


def test_two_runs_of_one_name_are_refused():
    message = one_mistake(models=["default", "default"])
    assert "expected a different name for each model, found two models called default" in message


def test_the_name_of_a_folder_is_refused_as_a_run(data):
    message = one_mistake(models=[{"preset": "default", "name": "labels"}])
    assert "found 'labels', which is the name of a folder of the dataset" in message


def test_seeds_and_folds_make_runs_of_their_own(data):
    models = [{"preset": "default", "name": "short", "seeds": [1, 2]}]
    runs = plan({"datasets": {"d": dataset(models=models)}}).runs["d"]
    assert [(run.name, run.seed) for run in runs] == [("short.seed1", 1), ("short.seed2", 2)]
    runs = plan({"datasets": {"d": dataset(models=models, split={"folds": 3})}}).runs["d"]
    assert runs[1].name == "short.seed1.fold1"
    assert runs[1].parts == {"train": ("fold0",), "validation": ("fold2",), "test": ("fold1",)}


def test_an_applied_run_must_be_there(data):
    config = {"datasets": {"d": dataset(), "e": dataset(models=[{"apply": "d/defalt"}])}}
    assert "Did you mean d/default?" in mistakes(config)[0]


def test_an_applied_run_brings_its_preprocessing(data):
    background = {"background": {"method": "gaussian", "sigma_px": 20}}
    config = {
        "datasets": {
            "d": dataset(preprocess=background),
            "e": {"images": "data/images/{sample}.tif", "models": [{"apply": "d/default", "name": "old"}]},
        }
    }
    made = plan(config)
    assert made.preprocess["e"] == made.preprocess["d"]
    config["datasets"]["e"]["preprocess"] = {"background": {"method": "none"}}
    [message] = mistakes(config)
    assert (
        "background.method: expected gaussian, as in the training of d/default, found none. Remove the key" in message
    )


def test_starting_weights_must_not_go_in_a_circle(data):
    models = [
        {"preset": "default", "name": "a", "init_from": "d/b"},
        {"preset": "default", "name": "b", "init_from": "d/a"},
    ]
    assert any(
        "found the cycle d/a -> d/b -> d/a" in text for text in mistakes({"datasets": {"d": dataset(models=models)}})
    )


def test_with_folds_each_run_starts_from_its_own_fold(data):
    models = [{"preset": "default", "name": "x"}, {"preset": "default", "name": "y", "init_from": "d/x"}]
    runs = plan({"datasets": {"d": dataset(models=models, split={"folds": 3})}}).runs["d"]
    assert [run.init_from for run in runs[3:]] == ["d/x.fold0", "d/x.fold1", "d/x.fold2"]
    models[1]["init_from"] = "d/x.fold0"
    found = mistakes({"datasets": {"d": dataset(models=models, split={"folds": 3})}})
    assert any("which was trained on images that other folds are tested on" in text for text in found)


def test_a_few_images_without_a_training_are_all_test_images(data):
    section = dataset(models=[{"apply": "d/default"}], images="data/images/n[0]*.tif")
    section["images"] = "data/few/{sample}.tif"
    (data / "data/few").mkdir()
    for name in ("n0", "n1"):
        (data / f"data/few/{name}.tif").write_bytes((data / f"data/images/{name}.tif").read_bytes())
    rows = plan({"datasets": {"d": dataset(), "e": section}}).samples["e"]
    assert {row.split for row in rows} == {"test"}


def test_a_column_called_class_is_read(data):
    table = ["id,annotation,class", *(f"n{number},1 3,{'ab'[number % 2]}" for number in range(6))]
    (data / "t.csv").write_text("\n".join(table) + "\n")
    annotations = {"format": "rle", "table": "t.csv", "order": "row"}
    rows = plan({"datasets": {"d": dataset(annotations=annotations, class_column="class")}}).samples["d"]
    assert {row.class_name for row in rows} == {"a", "b"}


def movie(root, frames, labelled):
    for room in ("movie", "movie_labels"):
        (root / room).mkdir()
    for sequence in ("a", "b", "c"):
        for frame in range(frames):
            (root / f"movie/{sequence}_{frame}.tif").touch()
            if frame in labelled:
                (root / f"movie_labels/{sequence}_{frame}.tif").touch()
    return {
        "images": "movie/{sequence}_{frame}.tif",
        "annotations": {
            "format": "label_image",
            "path": "movie_labels/{sequence}_{frame}.tif",
            "missing": "unlabelled",
        },
        "preprocess": {"background": {"method": "temporal_median"}},
    }


def test_unlabelled_frames_are_the_temporal_context_of_labelled_ones(data):
    made = plan({"datasets": {"d": movie(data, 10, labelled=(3, 7))}})
    for shard in made.shards("d"):
        own = made.rows("d", shard)
        around = made.context("d", shard)
        for sequence in {row.sequence for row in own}:
            frames = sorted(row.frame for row in (*own, *around) if row.sequence == sequence)
            assert frames == list(range(10))


def test_a_held_out_block_is_no_context_of_a_training_block(data):
    section = movie(data, 30, labelled=range(30))
    made = plan({"datasets": {"d": {**section, "split": {"by": "blocks", "gap": 2}}}})
    for shard in made.shards("d", parts=("train", "validation", "test")):
        assert {row.split for row in made.context("d", shard)} == {"unlabelled"}


def test_too_few_frames_for_a_temporal_background_are_named_before_any_job(data):
    section = movie(data, 8, labelled=range(8))
    found = mistakes({"datasets": {"d": {**section, "split": {"by": "blocks"}}}})
    assert any("expected at least 3 frames for temporal_median, found 2 in sequence 'a' (test)" in m for m in found)


def test_a_temporal_background_needs_sequences(data):
    assert "expected frames of sequences for temporal_median" in one_mistake(
        preprocess={"background": {"method": "temporal_median"}}
    )


def test_missing_annotations_are_named(data):
    (data / "data/labels/n3.tif").unlink()
    message = one_mistake()
    assert "expected annotations of every image, found none for n3 (1 of 6)" in message
    section = dataset()
    section["annotations"]["missing"] = "unlabelled"
    rows = plan({"datasets": {"d": section}}).samples["d"]
    assert {row.sample for row in rows if row.split == "unlabelled"} == {"n3"}


def test_annotations_that_tie_to_no_image_are_named(data):
    section = dataset()
    section["annotations"]["path"] = "data/labels/{sample}.png"
    [message] = mistakes({"datasets": {"d": section}})
    assert "expected annotations of the images (such as n0" in message


def _closed(model, seen):
    if model in seen:
        return
    seen.add(model)
    assert model.model_config.get("extra") == "forbid", model
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name} has no description"
        for found in _sections(field.annotation):
            _closed(found, seen)


def _sections(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _sections(part)]


def test_every_section_is_closed_and_every_key_described():
    from cellmill.config.preset import ModelPreset

    seen = set()
    for model in (Config, ModelPreset):
        _closed(model, seen)
    assert len(seen) > 10


def test_generated_files_are_up_to_date():
    for path, text in generated_files().items():
        file = ROOT / path
        assert file.exists(), f"{path} is missing; run: {COMMAND}"
        assert file.read_text() == text, f"{path} is out of date; run: {COMMAND}"


def test_environments_hold_the_versions_of_the_requirements():
    groups = requirement_groups()
    for name in ("image", "torch", "report", "export", "anndata"):
        content = yaml.safe_load((ROOT / f"envs/{name}.yaml").read_text())
        pins = content["dependencies"][-1]["pip"]
        assert set(groups["image"]) <= set(pins)
        assert pins == environment_packages(name)
    torch = yaml.safe_load((ROOT / "envs/torch.yaml").read_text())["dependencies"][-1]["pip"]
    assert groups["torch"][0] in torch
    assert not any(pin.startswith(("torch", "snakemake")) for pin in environment_packages("image"))


def test_a_key_that_only_looks_like_another_is_not_judged_as_it(data):
    mistake = one_mistake(models=[{"preset": "unet_isbi", "output": "flow"}])
    assert mistake.startswith("datasets.d.models[0].output: unknown key. Did you mean input?")


@pytest.mark.parametrize(
    ("key", "expected"),
    [("seeds", "expected a list such as [1, 2], found 2."), ("train", "expected a section of keys, found 2.")],
)
def test_what_is_expected_is_said_in_the_words_of_a_config(data, key, expected):
    mistake = one_mistake(models=[{"preset": "unet_isbi", key: 2}])
    assert mistake.startswith(f"datasets.d.models[0].{key}: {expected}")


def test_the_settings_of_a_dataset_hold_those_that_it_comes_from(data):
    short = {"preset": "default", "name": "short", "seeds": [1, 2], "average_seeds": True, "train": {"epochs": 2}}
    config = {
        "seed": 5,
        "datasets": {
            "a": {
                "simulate": {"images": 4, "like": "b"},
                "models": [{"preset": "default", "name": "first"}, "unet_isbi"],
            },
            "b": dataset(models=[short | {"init_from": "a/first"}, "unet_isbi"], export=["coco"]),
            "c": dataset(models=[{"apply": "b/short.mean"}, {"preset": "default", "init_from": "a/first"}]),
            "d": dataset(models=["default"], report={"ro_crate": True}),
        },
    }
    made = plan(config)
    of_c = list_settings(made, "c")
    assert of_c["seed"] == 5
    assert list(of_c["datasets"]) == ["c", "a", "b"]
    # A config with these settings plans the same runs, made the same way.
    again = plan(of_c)
    for name, needed in (("c", made.runs["c"]), ("a", made.runs["a"][:1]), ("b", made.runs["b"][:3])):
        assert again.runs[name] == needed
    assert "export" not in of_c["datasets"]["b"]
    assert of_c["datasets"]["b"]["models"] == [short | {"init_from": "a/first"}]
    assert list(list_settings(made, "d")["datasets"]) == ["d"]
    assert list_settings(made, "d")["datasets"]["d"]["models"] == [{"preset": "default"}]
    assert "report" not in list_settings(made, "d")["datasets"]["d"]
    assert list(list_settings(made, "a")["datasets"]) == ["a", "b"]
    assert list_settings(made, "a")["datasets"]["b"]["models"] == []
