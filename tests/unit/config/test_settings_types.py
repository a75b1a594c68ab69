"""The types of settings in the library have the keys of the config sections that they describe.

Stages know no config model, so each section has a TypedDict in the package that uses it. These tests keep both equal.
"""

from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import pytest
from pydantic import BaseModel

from cellmill.annotations.instance import AnnotationSettings
from cellmill.config.annotations import Annotations
from cellmill.config.networks import NetworkSection, network_settings
from cellmill.config.postprocess import Postprocess
from cellmill.config.preset import ModelPreset
from cellmill.config.training import Input, Predict, Train
from cellmill.inference.ensemble import PredictSettings
from cellmill.inference.views import InputSection
from cellmill.models.registry import NetworkSettings
from cellmill.objects.instances import PostprocessSettings
from cellmill.training.batches import TrainSettings
from cellmill.training.optimisers import RateSettings

SECTIONS = {
    "annotations": (AnnotationSettings, Annotations),
    "input": (InputSection, Input),
    "postprocess": (PostprocessSettings, Postprocess),
    "predict": (PredictSettings, Predict),
    "train": (TrainSettings, Train),
}
# Passed to the stages beside the section
BESIDE = {"annotations.missing", "annotations.implausible", "annotations.frame_offset"}
# The config model replaces null by what follows from the format
FILLED_IN = {"annotations.repair"}


def members(hint):
    """Yield the alternatives of a type hint, without annotations of ranges."""
    if get_origin(hint) is Annotated:
        yield from members(get_args(hint)[0])
    elif get_origin(hint) in (Union, UnionType):
        for member in get_args(hint):
            yield from members(member)
    else:
        yield hint


def kinds_of(hint):
    """Return the kinds of JSON values that a type hint allows; a section is named "section"."""
    found = set()
    for member in members(hint):
        if member is NoneType:
            found.add("null")
        elif is_typeddict(member) or (isinstance(member, type) and issubclass(member, BaseModel)):
            found.add("section")
        elif get_origin(member) is Literal:
            found |= {type(value).__name__ for value in get_args(member)}
        elif get_origin(member) is not None:
            found.add("list")
        else:
            found.add(member.__name__)
    return found


def differences(typed, model, *, name):
    """List the keys in which a TypedDict and a config model differ, in all nested sections."""
    hints, fields = get_type_hints(typed), model.model_fields
    wrong = [f"{name}.{key}: only in {typed.__name__}" for key in hints.keys() - fields.keys()]
    wrong += [f"{name}.{key}: only in the config" for key in fields.keys() - hints.keys()]
    for key in hints.keys() & fields.keys():
        hint, annotation = hints[key], fields[key].annotation
        found, expected = kinds_of(hint), kinds_of(annotation)
        if f"{name}.{key}" in FILLED_IN:
            expected -= {"null"}
        if found != expected:
            wrong.append(f"{name}.{key}: {sorted(found)} in {typed.__name__}, {sorted(expected)} in the config")
        for inner, section in zip(
            (member for member in members(hint) if is_typeddict(member)),
            (member for member in members(annotation) if isinstance(member, type) and issubclass(member, BaseModel)),
            strict=True,
        ):
            wrong += differences(inner, section, name=f"{name}.{key}")
    return [line for line in wrong if line.split(":")[0] not in BESIDE]


@pytest.mark.parametrize("name", SECTIONS)
def test_a_type_of_settings_has_the_keys_of_its_config_section(name):
    typed, model = SECTIONS[name]
    assert differences(typed, model, name=name) == []


def test_settings_of_the_learning_rate_are_settings_of_the_training():
    ours, all_of_them = get_type_hints(RateSettings), get_type_hints(TrainSettings)
    assert ours == {key: all_of_them[key] for key in ours}


def test_every_network_has_the_common_settings():
    derived = {"in_channels", "width"}
    for section in get_args(NetworkSection):
        common = get_type_hints(NetworkSettings).keys() - derived
        assert common <= section.model_fields.keys(), section
        wrong = differences(NetworkSettings, section, name="network")
        assert [line for line in wrong if "only in" not in line] == [], section
    shared = set.intersection(*(set(section.model_fields) for section in get_args(NetworkSection)))
    assert shared == get_type_hints(NetworkSettings).keys() - derived


@pytest.mark.parametrize("architecture", ["unet", "segnet", "clstm_unet_text"])
def test_the_settings_of_a_network_contain_the_common_ones(architecture):
    preset = ModelPreset.model_validate(
        {"title": "t", "network": {"architecture": architecture}, "train": {"batch": 2}}
    )
    found = network_settings(preset.model_dump(mode="json"))
    assert get_type_hints(NetworkSettings).keys() <= found.keys()


def test_a_renamed_key_is_noticed():
    class Renamed(PredictSettings):
        tiles: int

    assert differences(Renamed, Predict, name="predict") == ["predict.tiles: only in Renamed"]


def test_a_value_of_another_kind_is_noticed():
    class Other(BaseModel):
        tile: list[int]
        batch: int | None
        average: str
        precision: str

    message = "predict.batch: ['int'] in PredictSettings, ['int', 'null'] in the config"
    assert differences(PredictSettings, Other, name="predict") == [message]
