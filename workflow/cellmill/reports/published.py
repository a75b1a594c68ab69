"""Read the published figures of the papers from resources/papers; unknown keys raise a clear error.

A file contains `title`, `citation`, `remarks` (on the whole paper) and `tables`. A table contains

- `measures`: key -> label, the corresponding row of metrics.csv (metric, aggregation, stage, geometry, split; without
  `metric` only the published figure is shown), digits, remark. Geometry `fitted` is `raw` if nothing was resized.
- `systems`: label, its preset here, `settings` of the preset that distinguish it from others of the same preset
  (dotted keys), `how` its run was made (any, trained, fine_tuned, applied), `stage` in place of the measures', remark,
  and `values`: key of a measure -> the figure, or published, read_as (the value to compare with) and remark.
- `baselines`: label, `model` in metrics.csv, remark.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DATA_FILES = (
    "../../../resources/papers/stemnet.yaml",
    "../../../resources/papers/clstm_unet.yaml",
    "../../../resources/papers/isbi2012.yaml",
    "../../../resources/papers/sartorius.yaml",
    "../../../resources/papers/simcep.yaml",
)
PAPERS_DIR = Path(__file__).resolve().parents[3] / "resources" / "papers"
STAGES = ("thresholded", "postprocessed", "at_0.50")
WAYS = ("any", "trained", "fine_tuned", "applied")


@dataclass(frozen=True)
class Measure:
    """One score of a table, and the row of metrics.csv with ours."""

    label: str
    metric: str = ""
    aggregation: str = ""
    stage: str = "thresholded"
    geometry: str = "fitted"
    split: str = "test"
    digits: int = 3
    remark: str = ""


@dataclass(frozen=True)
class Published:
    """One figure of a paper; `read_as` is the value to compare with if the printed one cannot be as labelled."""

    published: float
    read_as: float | None = None
    remark: str = ""


@dataclass(frozen=True)
class System:
    """One network of a paper: its figures, and which of our runs correspond to it."""

    label: str
    preset: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    how: str = "any"
    stage: str = ""
    remark: str = ""
    values: Mapping[str, Published] = field(default_factory=dict)


@dataclass(frozen=True)
class Baseline:
    """A predictor without a network; its scores are in metrics.csv under `model`."""

    label: str
    model: str
    remark: str = ""


@dataclass(frozen=True)
class PaperTable:
    """One table of a paper."""

    name: str
    caption: str
    measures: Mapping[str, Measure]
    systems: tuple[System, ...]
    baselines: tuple[Baseline, ...] = ()


@dataclass(frozen=True)
class Paper:
    """The published figures of one paper."""

    name: str
    title: str
    citation: str
    remarks: tuple[str, ...]
    tables: tuple[PaperTable, ...]


def load_paper(name: str, *, papers_dir: Path = PAPERS_DIR) -> Paper:
    """Read the published figures of a paper.

    Parameters
    ----------
    name : str
        File of `papers_dir`, without .yaml.
    papers_dir : Path
        Folder of the files.

    Raises
    ------
    ValueError
        If there is no such file, or a key is missing, unknown or of the wrong type.
    """
    path = papers_dir / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in papers_dir.glob("*.yaml"))) or "none"
        raise ValueError(f"{path}: expected the published scores of a paper, found no file. Use one of: {known}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"{path}: expected YAML, found invalid syntax ({problem}). Correct the file.") from None
    kinds = {"title": str, "citation": str, "remarks": list, "tables": list}
    part = _take(content, kinds, where=str(path))
    remarks = tuple(_text(remark, where=f"{path}: remarks[{k}]") for k, remark in enumerate(part["remarks"]))
    tables = tuple(_read_table(table, where=f"{path}: tables[{k}]") for k, table in enumerate(part["tables"]))
    return Paper(name, part["title"], part["citation"], remarks, tables)


def _read_table(content: Any, *, where: str) -> PaperTable:
    kinds = {"name": str, "caption": str, "measures": dict, "systems": list}
    part = _take(content, kinds, where=where, optional={"baselines": list})
    measures = {
        key: _read_measure(section, where=f"{where}.measures.{key}") for key, section in part["measures"].items()
    }
    systems = [
        _read_system(system, measures=measures, where=f"{where}.systems[{k}]")
        for k, system in enumerate(part["systems"])
    ]
    baselines = [
        Baseline(**_take(one, {"label": str, "model": str}, where=f"{where}.baselines[{k}]", optional={"remark": str}))
        for k, one in enumerate(part.get("baselines", ()))
    ]
    for twice in _repeated([system.label for system in systems]):
        raise ValueError(f"{where}.systems: expected one entry per system, found {twice!r} twice. Merge them.")
    return PaperTable(part["name"], part["caption"], measures, tuple(systems), tuple(baselines))


def _read_measure(content: Any, *, where: str) -> Measure:
    words = dict.fromkeys(("metric", "aggregation", "stage", "geometry", "split", "remark"), str)
    part = _take(content, {"label": str}, where=where, optional={**words, "digits": int})
    if ("metric" in part) != ("aggregation" in part):
        raise ValueError(f"{where}: expected metric and aggregation together, found only one. Set both or neither.")
    _check_word(part.get("stage", STAGES[0]), STAGES, where=f"{where}.stage")
    _check_word(part.get("geometry", "raw"), ("raw", "fitted"), where=f"{where}.geometry")
    _check_word(part.get("split", "test"), ("train", "validation", "test"), where=f"{where}.split")
    return Measure(**part)


def _read_system(content: Any, *, measures: Mapping[str, Measure], where: str) -> System:
    words = dict.fromkeys(("preset", "how", "stage", "remark"), str)
    part = _take(content, {"label": str}, where=where, optional={**words, "settings": dict, "values": dict})
    _check_word(part.get("how", "any"), WAYS, where=f"{where}.how")
    _check_word(part.get("stage", STAGES[0]), STAGES, where=f"{where}.stage")
    values = {}
    for key, value in part.pop("values", {}).items():
        _check_word(key, tuple(measures), where=f"{where}.values")
        values[key] = _read_value(value, where=f"{where}.values.{key}")
    return System(**part, values=values)


def _read_value(content: Any, *, where: str) -> Published:
    if not isinstance(content, dict):
        content = {"published": content}
    return Published(**_take(content, {"published": float}, where=where, optional={"read_as": float, "remark": str}))


def _take(
    content: Any, kinds: Mapping[str, type], *, where: str, optional: Mapping[str, type] | None = None
) -> dict[str, Any]:
    """Return the entries of a mapping after checking that all keys are known, complete and of the right type."""
    if not isinstance(content, dict):
        raise ValueError(f"{where}: expected {', '.join(kinds)}, found {_shown(content)}. Write one key per line.")
    every = {**kinds, **(optional or {})}
    for key in content:
        _check_word(key, tuple(every), where=where)
    for key in kinds:
        if key not in content:
            raise ValueError(f"{where}: expected the key {key}, found {_shown(sorted(content))}. Add it.")
    return {key: _check_kind(value, every[key], where=f"{where}.{key}") for key, value in content.items()}


def _check_kind(value: Any, kind: type, *, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is str:
        return _text(value, where=where)
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {float: "a number", int: "a whole number", list: "a list", dict: "a mapping"}
        raise ValueError(f"{where}: expected {names[kind]}, found {_shown(value)}. Correct the value.")
    return value


def _text(value: Any, *, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: expected text, found {_shown(value)}. Put the text in quotes.")
    return " ".join(value.split())


def _check_word(word: Any, known: tuple[str, ...], *, where: str) -> None:
    if word not in known:
        raise ValueError(f"{where}: expected one of {', '.join(known)}, found {_shown(word)}. Use one of these.")


def _repeated(words: list[str]) -> Iterator[str]:
    return (word for word in dict.fromkeys(words) if words.count(word) > 1)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
