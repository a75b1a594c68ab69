"""Write the files that are generated from a single source: the config's schema, reference pages, conda environments.

``make reference`` runs it; a test compares the files and reports that command.
"""

import json
import re
import typing
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cellmill.config.dataset import Config, Dataset
from cellmill.config.errors import UNITS, models_in
from cellmill.config.preset import ModelPreset
from cellmill.metrics.glossary import metrics_page
from generate.architecture import architecture_page
from generate.features import objects_page
from generate.inputs import inputs_page
from generate.systems import systems_page

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "make reference"
REQUIREMENTS = ("requirements.txt", "requirements-vendor.txt")
# Environment -> groups of these files, by rate of change: a plotting upgrade must not retrain a network.
# Readers of microscope files are in the environments of the stages that read raw images.
ENVIRONMENTS = {
    "image": ("image", "vendor"),
    "torch": ("image", "torch"),
    "report": ("image", "report", "vendor"),
    "export": ("image", "torch", "export"),
    "anndata": ("image", "anndata"),
}
PYTHON = "3.11"


def generated_files() -> dict[str, str]:
    """Return every generated file: path below the root -> text."""
    files = {
        "resources/config.schema.json": json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n",
        "docs/config.md": reference_page(),
        "docs/systems.md": systems_page(),
        "docs/metrics.md": metrics_page(),
        "docs/inputs.md": inputs_page(),
        "docs/architecture.md": architecture_page(),
        "docs/objects.md": objects_page(),
    }
    for name in ENVIRONMENTS:
        files[f"envs/{name}.yaml"] = environment_file(name)
    return files


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of a config file, for editors; a preset's fields stand beside `preset`."""
    schema = Config.model_json_schema()
    presets = ModelPreset.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "cellmill config"
    definitions = schema["$defs"]
    definitions.update(presets.pop("$defs", {}))
    entry = definitions["ModelEntry"]
    entry["properties"].pop("overrides")
    entry["properties"].update(presets["properties"])
    definitions["ModelEntry"] = {
        "anyOf": [{"type": "string"}, entry],
        "description": entry.pop("description"),
    }
    return schema


def reference_page() -> str:
    """Return a page with type, range, default, unit and meaning of every key of the config."""
    lines = [
        "# Config reference",
        "",
        f"Made from the config model by `{COMMAND}`; do not edit. Keys that are not listed here are rejected.",
        "Presets (`resources/models/*.yaml`) contain the keys of the last section. Each key can be overridden beside",
        "`preset`.",
        "",
    ]
    for title, model, prefix in (
        ("The file", Config, ""),
        ("A dataset", Dataset, "datasets.{name}."),
        ("A preset", ModelPreset, "datasets.{name}.models[i]."),
    ):
        lines += [f"## {title}", "", "| key | type | default | meaning |", "|---|---|---|---|"]
        lines += [_row(key, field) for key, field in _fields(model, prefix) if "overrides" not in key]
        lines.append("")
    return "\n".join(lines)


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        yield prefix + name, field
        if model is Config and name == "datasets":
            continue
        is_list = "list" in str(typing.get_origin(field.annotation))
        for section in models_in(field.annotation):
            yield from _fields(section, f"{prefix}{name}{'[i]' if is_list else ''}.")


def _row(key: str, field: FieldInfo) -> str:
    unit = next((f" [{unit}]" for end, unit in UNITS.items() if key.endswith(end)), "")
    if field.default_factory is not None or (models_in(field.annotation) and field.default is not None):
        default = "see below"
    elif field.default is PydanticUndefined:
        default = "required"
    else:
        default = f"`{json.dumps(field.default)}`"
    limits = [f"{_LIMITS[type(m).__name__]} {_limit(m)}" for m in field.metadata if type(m).__name__ in _LIMITS]
    kind = _type_name(field.annotation) + unit + (f", {', '.join(limits)}" if limits else "")
    return f"| `{key}` | {kind} | {default} | {(field.description or '').replace('|', '/')} |"


_LIMITS = {"Ge": ">=", "Gt": ">", "Le": "<=", "Lt": "<", "MinLen": "length >=", "MaxLen": "length <="}


def _limit(constraint: Any) -> Any:
    return next(getattr(constraint, name) for name in constraint.__slots__)


def _type_name(annotation: Any) -> str:
    if annotation is type(None):
        return "none"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " ".join(f"`{choice}`" for choice in arguments)
    if origin is typing.Annotated:
        return _type_name(arguments[0])
    if origin in (list, tuple):
        inner = [_type_name(argument) for argument in arguments if argument is not Ellipsis]
        return f"list of {inner[0]}" if len(set(inner)) == 1 else f"[{', '.join(inner)}]"
    if origin is dict:
        return "section"
    if arguments:
        return " or ".join(_type_name(argument) for argument in arguments)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    names = {"float": "number", "int": "whole number", "str": "text", "bool": "true or false"}
    return names.get(getattr(annotation, "__name__", ""), str(annotation))


def requirement_groups() -> dict[str, list[str]]:
    """Read the requirements: group -> pinned packages. A comment `# word: …` opens a group."""
    groups: dict[str, list[str]] = {}
    current = ""
    for line in (line for name in REQUIREMENTS for line in (ROOT / name).read_text().splitlines()):
        if opened := re.match(r"# (\w+): ", line):
            current = opened.group(1)
            groups[current] = []
        elif "==" in line:
            groups[current].append(line.strip())
    return groups


def environment_packages(name: str) -> list[str]:
    """List the pins of an environment: its groups and all their dependencies, at the versions of the constraints."""
    pins: dict[str, str] = {}
    for line in (ROOT / "requirements-constraints.txt").read_text().splitlines():
        if "==" in line and not line.startswith("#"):
            package, version = line.split("==")
            pins[canonicalize_name(package)] = f"{package}=={version}"
    wanted = [pin for group in ENVIRONMENTS[name] for pin in requirement_groups()[group]]
    todo: list[str] = [canonicalize_name(pin.split("==")[0]) for pin in wanted]
    seen: set[str] = set()
    while todo:
        package = todo.pop()
        if package in seen or package not in pins:
            continue
        seen.add(package)
        for text in metadata.requires(package) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(canonicalize_name(requirement.name))
    direct = {canonicalize_name(pin.split("==")[0]) for pin in wanted}
    return [*wanted, *sorted(pins[package] for package in seen - direct)]


def environment_file(name: str) -> str:
    """Return the text of a conda environment: Python and pip from conda-forge, the rest as in the requirements."""
    lines = [
        f"# Made from {' and '.join(REQUIREMENTS)} by `{COMMAND}`; do not edit.",
        f"# Groups: {', '.join(ENVIRONMENTS[name])}.",
        "channels:",
        "  - conda-forge",
        "  - nodefaults",
        "dependencies:",
        f"  - python={PYTHON}",
        "  - pip",
        "  - pip:",
        *(f"      - {pin}" for pin in environment_packages(name)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write every generated file that differs."""
    for path, text in generated_files().items():
        file = ROOT / path
        if not file.exists() or file.read_text() != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)


if __name__ == "__main__":
    main()
