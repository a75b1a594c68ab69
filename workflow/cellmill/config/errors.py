"""Error messages for mistakes in a config file: one line each, with what to do."""

import difflib
import re
import types
import typing
from collections.abc import Iterable
from datetime import date
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cellmill.config.preset import ModelPreset

UNITS = {"_px": "px", "_um": "um", "_counts": "counts", "_s": "s", "_mb": "MB", "_deg": "degrees"}
# Similarity of two words by difflib: enough to suggest the key; enough to validate its value under that key as well
PERHAPS_MEANT, SURELY_MEANT = 0.5, 0.75


class ConfigError(ValueError):
    """All mistakes found in the config and in the data it refers to."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = list(dict.fromkeys(mistakes))
        many = len(self.mistakes) != 1
        head = f"The config has {len(self.mistakes)} mistake{'s' if many else ''}; nothing was started:"
        super().__init__("\n".join([head, *(f"  - {mistake}" for mistake in self.mistakes)]))


def key_path(location: Iterable[str | int]) -> str:
    """Format a location in the config as ``datasets.neurons.models[1].train.epochs``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint with the most similar known word, if any, and the list of known words."""
    known = sorted(known)
    close = _closest(word, known)
    hint = f"Did you mean {close}? " if close else ""
    return f"{hint}Known: {', '.join(known)}"


def meant_key(location: tuple[str | int, ...], *, model: type[BaseModel]) -> str | None:
    """Return the known key of a section that an unknown key most resembles, or None if none is similar enough."""
    owner = _model_at(model, location[:-1])
    return None if owner is None else _closest(str(location[-1]), sorted(_known_keys(owner)), likeness=SURELY_MEANT)


def _closest(word: str, known: list[str], *, likeness: float = PERHAPS_MEANT) -> str | None:
    with_underscores = re.sub(r"[\s-]+", "_", word.strip())
    if with_underscores in known:
        return with_underscores
    return next(iter(difflib.get_close_matches(word, known, n=1, cutoff=likeness)), None)


def describe_errors(error: ValidationError, *, model: type[BaseModel], prefix: tuple[str | int, ...] = ()) -> list[str]:
    """Convert pydantic errors to lines with the key path, what was expected, what was found, and what to do.

    Parameters
    ----------
    error : ValidationError
        Raised by ``model.model_validate``.
    model : type
        The model, to look up known keys and descriptions.
    prefix : tuple
        Location of the validated part in the config.
    """
    return [_describe(details, model=model, prefix=prefix) for details in error.errors(include_url=False)]


def _describe(details: ErrorDetails, *, model: type[BaseModel], prefix: tuple[str | int, ...]) -> str:
    # pydantic adds the names of union members to the location; they are not in the config file. An unknown key may
    # look like one, so it is kept as it is.
    *sections, last = details["loc"] or ("",)
    is_key = details["type"] == "extra_forbidden"
    location = tuple(part for part in sections if not re.search(r"[\[\]'() -]", str(part)))
    location += (last,) if details["loc"] and (is_key or not re.search(r"[\[\]'() -]", str(last))) else ()
    location = tuple(part for part in location if part not in ("constrained-int", "constrained-str", "int", "str"))
    path = key_path((*prefix, *_without_tags(model, location)))
    found = details.get("input")
    if details["type"] == "extra_forbidden":
        owner = _model_at(model, location[:-1])
        known = [] if owner is None else list(_known_keys(owner))
        return f"{path}: unknown key. {nearest(str(location[-1]), known)}."
    if details["type"] == "missing":
        return f"{path}: expected a value, found none. {_description(model, location)}"
    message = details["msg"].removeprefix("Value error, ")
    unit = next((f" [{unit}]" for end, unit in UNITS.items() if str(path).endswith(end)), "")
    if details["type"] == "string_pattern_mismatch":
        message = f"expected a name of letters, digits, _, + and -, found {_shown(found)}"
    elif message.startswith("Input should be "):
        expected = re.sub(r", unable to parse.*", "", message.removeprefix("Input should be "))
        expected = re.sub(r"a valid dictionary.*", "a section of keys", expected)
        message = f"expected {expected.replace('a valid list', 'a list such as [1, 2]')}{unit}, found {_shown(found)}"
    elif not message.startswith("expected"):
        message = f"{message}{unit}" + ("" if details["type"] == "value_error" else f", found {_shown(found)}")
    if details["type"] == "literal_error" and isinstance(found, str):
        choices = str(details["ctx"]["expected"]).replace(" or ", ", ").split(", ")
        message += f". {nearest(found, [choice.strip(chr(39)) for choice in choices])}"
    elif (advice := _as_text_or_number(details["type"], found)) is not None:
        message += f". {advice}"
    elif details["type"] != "value_error" and (description := _description(model, location)):
        message += f". {description.rstrip('.')}"
    return f"{path}: {message.rstrip('.')}."


def _as_text_or_number(kind: str, found: Any) -> str | None:
    """Return the advice for a text that YAML has read as something else, or for a number written as text."""
    if kind == "string_type" and isinstance(found, bool | int | float | date):
        read_as = {bool: "on, yes, off and no as true or false", date: "a date without quotes as a date"}
        return f"YAML reads {read_as.get(type(found), 'a number without quotes as a number')}. Quote the text"
    if kind not in ("int_parsing", "float_parsing") or not isinstance(found, str):
        return None
    if re.fullmatch(r"\s*[+-]?\d+,\d+(?:[eE][+-]?\d+)?\s*", found):
        return f"Write a decimal point: {found.strip().replace(',', '.')}"
    number = re.match(r"\s*([+-]?\d+(?:[.]\d+)?)\s*[a-zA-Zµμ%°]+\s*$", found)
    return f"Write the number without its unit: {number.group(1)}" if number else None


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, date) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _known_keys(model: type[BaseModel]) -> set[str]:
    keys = set(model.model_fields)
    if "overrides" in keys:
        keys = (keys - {"overrides"}) | set(ModelPreset.model_fields)
    return keys


def _description(model: type[BaseModel], location: tuple[str | int, ...]) -> str:
    owner = _model_at(model, location[:-1])
    field = owner.model_fields.get(str(location[-1])) if owner is not None and location else None
    return (field.description or "") if field is not None else ""


def _model_at(model: type[BaseModel], location: tuple[str | int, ...]) -> type[BaseModel] | None:
    """Return the model of the section at a location in the config, or None."""
    found = _candidates_at(model, location)
    return found[0] if found else None


def _candidates_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[type[BaseModel]]:
    current: Any = model
    for part in location:
        candidates = models_in(current)
        if (tagged := _tagged(candidates, part)) is not None:
            current = tagged
        elif candidates and isinstance(part, str):
            fields = [c.model_fields[part] for c in candidates if part in c.model_fields]
            if not fields:
                continue  # pydantic also puts the names of union members into its locations
            current = fields[0].annotation
        else:
            current = _element_of(current)
    return models_in(current)


def _tagged(candidates: list[type[BaseModel]], part: str | int) -> type[BaseModel] | None:
    """Find the member of a discriminated union whose discriminator has the value `part`."""
    if len(candidates) < 2:
        return None
    for candidate in candidates:
        annotations = [field.annotation for field in candidate.model_fields.values()]
        if any(typing.get_origin(a) is typing.Literal and typing.get_args(a) == (part,) for a in annotations):
            return candidate
    return None


def _without_tags(model: type[BaseModel], location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Remove the names of union members from a location, because they are not in the config file."""
    kept: list[str | int] = []
    for number, part in enumerate(location):
        candidates = _candidates_at(model, location[:number])
        if _tagged(candidates, part) is None:
            kept.append(part)
    return tuple(kept)


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """List the section models that a type annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return [model for member in typing.get_args(annotation) for model in models_in(member)]
    return []


def _element_of(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        for member in typing.get_args(annotation):
            if typing.get_origin(member) in (list, dict, tuple):
                return _element_of(member)
        return annotation
    arguments = typing.get_args(annotation)
    return arguments[-1] if arguments else annotation
