"""Presets: closed, complete, contradictions refused; the shipped ones state the source of each number."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from cellmill.config.preset import ModelPreset
from cellmill.planning.runs import load_preset, merge_preset
from training_shards import tiny_preset

PRESETS = Path(__file__).resolve().parents[3] / "resources" / "models"


def load(name):
    return load_preset(name, presets_dir=PRESETS, where="")


def test_the_preset_of_paper_4_is_what_the_paper_says():
    preset = ModelPreset.model_validate(load("sartorius_unet"))
    assert (preset.train.epochs, preset.train.batch, preset.train.patch) == (50, 2, (512, 512))
    assert (preset.train.optimiser.learning_rate, preset.train.schedule.factor) == (0.01, 0.5)
    assert (preset.train.schedule.name, preset.train.schedule.every_epochs) == ("step", 10)
    assert (preset.train.loss.name, preset.train.loss.positive_weight) == ("bce", 1)
    assert not preset.train.augmentation.flip


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_each_number_of_a_preset_has_its_source(path):
    lines = path.read_text().splitlines()
    # A SOURCE at the head of a section also covers the zeros below it.
    is_said = False
    for line in lines:
        key, _, rest = line.strip().partition(":")
        value, _, comment = rest.partition("#")
        if not value.strip() and not line.startswith("   "):
            is_said = comment.strip().startswith("SOURCE")
        if value.strip()[:1].isdigit() or value.strip().startswith("["):
            is_zero = is_said and value.strip() in ("0.0", "0")
            assert comment.strip().startswith(("SOURCE", "our default")) or is_zero, line


def test_the_default_separates_objects_in_minutes_and_chooses_its_input():
    preset = ModelPreset.model_validate(load("default"))
    assert preset.network.output == "flow"
    assert preset.train.minutes == 15
    assert (preset.input.polarity, preset.input.scale) == ("auto", "auto")
    # A patch shows whole objects, and the network receives more than one of them around each pixel.
    assert min(preset.train.patch) >= 4 * preset.input.diameter_px


def test_what_a_preset_leaves_out_has_its_default():
    assert ModelPreset.model_validate({"title": "x"}).train.epochs == 50


def test_an_unknown_key_is_a_mistake():
    with pytest.raises(ValidationError, match=r"train\.epoch\n.*Extra inputs"):
        tiny_preset(train={"epoch": 3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"patch": [40, 40]}, "network": {"levels": 4}}, r"multiples of 16 px.*Set it to \[32, 32\]"),
        ({"train": {"patch": [16, 64]}, "network": {"levels": 4}}, r"at least 32.*Set it to \[32, 64\]"),
        ({"train": {"patch": [32, 64], "augmentation": {"rotate_90": True}}}, "expected a square patch"),
        ({"train": {"schedule": {"warmup_epochs": 3}}}, "expected at most 2 epochs, found 3"),
        ({"train": {"augmentation": {"zoom": [1.2, 0.8]}}}, r"found \[1\.2, 0\.8\]. Swap the two numbers"),
        ({"train": {"minutes": 5, "steps": 300}}, r"at most one of them, found steps 300 and minutes 5\. Remove one"),
        ({"train": {"minutes": 0}}, r"train\.minutes\n.*greater than 0"),
        ({"train": {"steps": 0}}, r"train\.steps\n.*greater than or equal to 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        tiny_preset(**changes)


def test_a_length_in_a_config_replaces_that_of_a_preset():
    lengths = [{"minutes": 15}, {"steps": 3000}, {"epochs": 4}, {"epochs": 4, "minutes": 2}]
    for base in lengths:
        for changes in lengths:
            train = merge_preset({"train": {"epochs": 9, **base}}, {"train": changes})["train"]
            assert train == {"epochs": base.get("epochs", 9), "steps": None, "minutes": None, **changes}
    kept = merge_preset({"train": {"minutes": 15}}, {"train": {"batch": 9}})
    assert kept == {"train": {"minutes": 15, "batch": 9}}
    both = merge_preset({"train": {}}, {"train": {"minutes": 15, "steps": 3000}})
    assert both == {"train": {"minutes": 15, "steps": 3000}}


def test_every_field_is_described():
    def fields(model):
        for name, field in model.model_fields.items():
            yield f"{model.__name__}.{name}", field
            if hasattr(field.annotation, "model_fields"):
                yield from fields(field.annotation)

    assert [name for name, field in fields(ModelPreset) if not field.description] == []
