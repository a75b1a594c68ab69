"""Tables of an experiment: conditions.csv and replicates.csv."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from cellmill.metrics.decimals import round_digits

DIGITS = 9


@dataclass(frozen=True)
class ConditionRow:
    """A feature of a condition: mean over its replicates, and difference from the control; nan where undefined."""

    run: str
    feature: str
    unit: str
    condition: str
    n_replicates: int
    n_images: int
    n_objects: int
    mean: float
    ci_low: float
    ci_high: float
    sd: float
    difference: float
    difference_low: float
    difference_high: float
    percent: float
    hedges_g: float
    p: float
    p_corrected: float


@dataclass(frozen=True)
class ReplicateRow:
    """A feature of a replicate, with its place if it is a well; nan if it has no objects."""

    run: str
    feature: str
    unit: str
    condition: str
    replicate: str
    plate: str
    well: str
    n_images: int
    n_objects: int
    value: float


Row = TypeVar("Row", ConditionRow, ReplicateRow)


def write_rows(path: str | Path, rows: Sequence[Row], kind: type[Row]) -> None:
    """Write a table with nine significant digits, and empty fields for undefined numbers."""
    with Path(path).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(kind)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _shown(value) for name, value in asdict(row).items()} for row in rows)


def read_rows(path: str | Path, kind: type[Row]) -> list[Row]:
    """Read a table; conditions and replicates stay text, so that 010 is not 10."""
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return [kind(**_typed(row, kind)) for row in csv.DictReader(stream)]


def _typed(row: Mapping[str, str], kind: type[Row]) -> dict[str, Any]:
    readers: dict[Any, Any] = {str: str, int: int, float: _number}
    return {field.name: readers[field.type](row[field.name]) for field in fields(kind)}


def _number(text: str) -> float:
    return float(text) if text else math.nan


def _shown(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else round_digits(value, DIGITS)


def only(rows: Iterable[Row], **values: str) -> list[Row]:
    """Return the rows with some values, such as those of a feature."""
    return [row for row in rows if all(getattr(row, name) == value for name, value in values.items())]
