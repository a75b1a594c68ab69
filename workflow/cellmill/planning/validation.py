"""Validation of a whole config, which reports all mistakes at once."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from datetime import date
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cellmill.config.dataset import Config, Dataset, ModelEntry
from cellmill.config.errors import describe_errors, meant_key, nearest
from cellmill.config.patterns import check_pattern
from cellmill.planning.annotation_tables import missing_table
from cellmill.planning.runs import resolve_preset
from cellmill.planning.samples import SampleError, scan_images

FOR_ANCHORS = "x-"
Model = TypeVar("Model", bound=BaseModel)


def validate_config(raw: Mapping[str, Any]) -> tuple[Config | None, list[str], set[str]]:
    """Validate each dataset separately, and again without its invalid keys, so that one mistake hides no other.

    Returns
    -------
    tuple
        The valid part of the config or None, the mistakes, and the datasets whose invalid keys were renamed or dropped.
    """
    mistakes: list[str] = []
    damaged: set[str] = set()
    # Sections for YAML anchors stand at the top level, as in Docker Compose files. They are no settings.
    top = {key: value for key, value in raw.items() if not str(key).startswith(FOR_ANCHORS)}
    datasets = raw.get("datasets")
    if isinstance(datasets, Mapping):
        sound = {}
        for key, section in datasets.items():
            name = str(key)
            if not isinstance(key, str):
                mistakes.append(
                    f"datasets.{name}: expected a name, found {key!r}, which is {_kind(key)} in YAML. Quote the name "
                    "of the dataset."
                )
            found = _validate_part(Dataset, section, mistakes, ("datasets", name))
            if found is not None:
                sound[name] = found[0]
                damaged |= {name} if found[1] else set()
        top["datasets"] = sound
        if datasets and not sound:
            del top["datasets"]
            _validate_part(Config, {**top, "datasets": {"x": _PLACEHOLDER}}, mistakes, ())
            return None, mistakes, damaged
    found_config = _validate_part(Config, top, mistakes, ())
    return (found_config[0] if found_config else None), mistakes, damaged


def _kind(key: Any) -> str:
    return {bool: "true or false", NoneType: "nothing", date: "a date"}.get(type(key), "a number")


_PLACEHOLDER = {"images": "x", "models": [{"apply": "x/x"}]}


def _validate_part(
    model: type[Model], raw: Any, mistakes: list[str], where: tuple[str, ...]
) -> tuple[Model, bool] | None:
    """Validate a section as it is, then with its unknown keys renamed or dropped, then without its invalid keys."""
    try:
        return model.model_validate(raw), False
    except ValidationError as error:
        mistakes += describe_errors(error, model=model, prefix=where)
        found = error
    if not isinstance(raw, Mapping):
        return None
    unknown = [details["loc"] for details in found.errors() if details["type"] == "extra_forbidden"]
    known = _as_meant(raw, unknown, model=model)
    try:
        return model.model_validate(known), True
    except ValidationError as error:
        # Rules that compare keys are checked only once the keys are valid.
        mistakes += describe_errors(error, model=model, prefix=where)
        wrong = {details["loc"][0] for details in error.errors() if details["loc"]}
    try:
        return model.model_validate({key: value for key, value in known.items() if key not in wrong}), True
    except ValidationError:
        return None


def _as_meant(
    raw: Mapping[str, Any], unknown: list[tuple[int | str, ...]], *, model: type[BaseModel]
) -> dict[str, Any]:
    """Copy a section with each unknown key renamed to a similar known key, or dropped if there is none.

    If all were dropped, `split: {trian: 0.5}` would also be reported for shares that do not add up to 1, although the
    misspelt key is the only mistake.
    """
    copied = deepcopy(dict(raw))
    for location in unknown:
        section: Any = copied
        for part in location[:-1]:
            # pydantic also puts the names of union members into its locations.
            is_there = isinstance(section, Mapping) and part in section
            is_there = is_there or (isinstance(section, list) and isinstance(part, int) and part < len(section))
            section = section[part] if is_there else section
        if isinstance(section, dict) and location[-1] in section:
            value, meant = section.pop(location[-1]), meant_key(location, model=model)
            if meant is not None:
                section.setdefault(meant, value)
    return copied


def wrong_likes(config: Config, *, names: Iterable[str]) -> list[str]:
    """Check that each `simulate.like` is another dataset of the config which has no `like` itself.

    Parameters
    ----------
    config : Config
        The valid part of the config.
    names : iterable of str
        Names of all datasets in the file, including those with mistakes.
    """
    mistakes = []
    known = {str(name) for name in names}
    likes = {
        name: dataset.simulate.like
        for name, dataset in config.datasets.items()
        if dataset.simulate is not None and dataset.simulate.like is not None
    }
    for name, like in likes.items():
        where = f"datasets.{name}.simulate.like"
        others = known - {name} - set(likes)
        if like == name:
            mistakes.append(
                f"{where}: expected another dataset, found {name} itself. Set like to the dataset of the "
                "images to imitate."
            )
        elif like not in known:
            advice = f"{nearest(like, others)}." if others else "Add the images to imitate as a dataset."
            mistakes.append(f"{where}: expected a dataset of this config, found {like!r}. {advice}")
        elif like in likes:
            advice = f"Set like to {likes[like]}" if likes[like] in others else "Remove like from one of the two"
            mistakes.append(
                f"{where}: expected microscope images, or a simulation without like, found {like}, which is itself "
                f"fitted to {likes[like]}. {advice}."
            )
    return mistakes


def _is_sound(pattern: str) -> bool:
    """Check whether files can be searched by a pattern; an unsound one is reported by the validation."""
    try:
        check_pattern(pattern)
    except ValueError:
        return False
    return True


def other_mistakes(name: str, section: Mapping[str, Any], *, presets_dir: Path) -> list[str]:
    """List further mistakes in a dataset that failed validation: its files and models, each checked separately."""
    mistakes: list[str] = []
    if isinstance(section.get("images"), str):
        try:
            if _is_sound(section["images"]):
                scan_images(section["images"], where=f"datasets.{name}.images")
        except SampleError as error:
            mistakes += error.mistakes
    annotations = section.get("annotations")
    table = annotations.get("table") if isinstance(annotations, Mapping) else None
    if isinstance(table, str) and not Path(table).is_file():
        mistakes.append(missing_table(table, where=f"datasets.{name}.annotations.table"))
    models = section.get("models")
    for index, entry in enumerate(models if isinstance(models, list) else ()):
        where = ("datasets", name, "models", index)
        try:
            found = ModelEntry.model_validate(entry)
        except ValidationError as error:
            mistakes += describe_errors(error, model=ModelEntry, prefix=where)
        else:
            if found.preset is not None:
                mistakes += resolve_preset(found, presets_dir=presets_dir, where=where)[1]
    return mistakes
