"""Format numbers, names and tables for a page."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cellmill.metrics.decimals import MINUS, round_decimals, round_digits

MISSING = "–"
SCORE_DECIMALS = 3
MAX_ROWS = 1000  # of a table on a page; its source file contains all rows
MAX_FACT_ITEMS = 6  # longer lists are left out of the facts
HEX_DIGEST = re.compile(r"[0-9a-f]{32,}")
# A folder name may contain spaces if quotes or a line of YAML show where the path ends.
ABSOLUTE_PATH = re.compile(
    r"(?<=['\"])/[^'\"\n]*/(?=[^'\"\n])"
    r"|(?<=: )/(?:(?:[^\s/'\":,;<>|]+|[^\s/'\":,;<>|.]+(?: [^\s/'\":,;<>|.]+)+)/)+(?=\S)"
    r"|(?<![\w./\\])(?:(?:file://)?/(?:[^\s/'\":,;<>|]+/)+|(?:[A-Za-z]:|\\)\\(?:[^\s\\'\":,;<>|]+\\)+)(?=\S)"
)


@dataclass(frozen=True)
class Cell:
    """One cell: its text, its value for sorting and for the CSV file, a smaller second line, a style, an interval."""

    text: str
    value: float | str | None = None
    note: str = ""
    style: str = ""
    ends: tuple[float, float] | None = None


@dataclass(frozen=True)
class Column:
    """One column: its heading, whether it holds numbers, and what it means."""

    label: str
    is_number: bool = False
    meaning: str = ""


@dataclass(frozen=True)
class Table:
    """A table that readers can sort and download; `omitted` rows are in its source file only."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    omitted: int = 0
    source: str = ""
    labels: frozenset[str] = field(default_factory=frozenset)


def word(text: Any, *, style: str = "") -> Cell:
    """Make a cell of text."""
    text = "" if text is None else str(text)
    return Cell(text or MISSING, text, style=style)


def count(number: float | None, *, note: str = "") -> Cell:
    """Make a cell of a whole number."""
    return Cell(say_count(number), None if number is None else float(number), note)


def score(value: float | None, *, low: float | None = None, high: float | None = None) -> Cell:
    """Make a cell of a score with three decimals, and its interval below."""
    known = None if value is None or not math.isfinite(value) else float(value) + 0.0  # no negative zero
    note = "" if known is None else say_interval(low, high)
    return Cell(say_score(known), known, note, ends=(float(low or 0), float(high or 0)) if note else None)


def difference(value: float | None, *, low: float | None = None, high: float | None = None) -> Cell:
    """Make a cell of a signed difference of two scores, and its interval below."""
    return replace(score(value, low=low, high=high), text=say_difference(value))


def say_count(number: float | None) -> str:
    """Write a whole number with thousands separators."""
    return MISSING if number is None or not math.isfinite(number) else round_decimals(number, 0)


def say_mean_count(number: float) -> str:
    """Write a number of objects, which has a decimal only as a small mean over seeds."""
    return say_count(number) if number >= 1000 or float(number).is_integer() else round_decimals(number, 1)


def say_score(value: float | None) -> str:
    """Write a score with three decimals."""
    return MISSING if value is None or not math.isfinite(value) else round_decimals(value, SCORE_DECIMALS)


def say_difference(value: float | None) -> str:
    """Write the difference of two scores with three decimals and its sign; a difference of 0.000 has no sign."""
    is_known = value is not None and math.isfinite(value)
    return round_decimals(value, SCORE_DECIMALS, is_signed=True) if value is not None and is_known else MISSING


def say_percent(share: float | None, *, decimals: int = 1, is_signed: bool = False) -> str:
    """Write a share in percent, by default with one decimal."""
    if share is None or not math.isfinite(share):
        return MISSING
    return round_decimals(share, decimals, is_signed=is_signed, unit="%")


def say_percent_interval(low: float | None, high: float | None) -> str:
    """Write an interval of signed percentages; empty if an end is unknown."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{say_percent(low, is_signed=True)} to {say_percent(high, is_signed=True)}"


def say_interval(low: float | None, high: float | None) -> str:
    """Write an interval with an en dash; empty if an end is unknown."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    ends = say_score(low), say_score(high)
    return (" – " if ends[0].startswith(MINUS) else "–").join(ends)


def say_range_of_scores(values: Sequence[float]) -> str:
    """Write the lowest and the highest of some scores, or a single score if they are equal."""
    low, high = say_score(min(values)), say_score(max(values))
    return low if low == high else f"{low}–{high}"


def say_value(value: Any) -> str:
    """Write a number or a word of a settings file."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return MISSING
    if isinstance(value, int):
        return round_decimals(value, 0)
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        text = round_digits(value, 4, separator=",") if abs(value) < 1e4 else round_decimals(value, 0)
        return MINUS + text[1:] if text.startswith("-") else text
    if isinstance(value, list | tuple):
        return ", ".join(say_value(item) for item in value) or MISSING
    return hide_folders(str(value))


def say_duration(seconds: float | None) -> str:
    """Write a time with two units at most: 41 s, 3 min 20 s, 5 h 12 min."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"


def say_range(values: Iterable[float]) -> str:
    """Write the smallest and the largest of some numbers, or a single number if they are equal."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return MISSING
    low, high = min(known), max(known)
    texts = [say_value(int(value) if float(value).is_integer() else float(value)) for value in (low, high)]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"


def say_list(words: Sequence[str], *, most: int) -> str:
    """Write the first words of a list and how many follow."""
    shown = ", ".join(words[:most])
    return shown if len(words) <= most else f"{shown} and {len(words) - most:,} more"


def say_number_of(number: int, singular: str, plural: str | None = None) -> str:
    """Write a number with its noun: 1 image, 24 images."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def end_sentence(text: str) -> str:
    """Add a full stop to a text without a final mark."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def hide_folders(text: str) -> str:
    """Replace the folders of absolute paths by …, because a page is for others and must not show a machine's folders.

    Returns
    -------
    str
        ``…/name`` in place of ``/folder/folder/name``. Relative paths and web addresses stay.
    """
    return ABSOLUTE_PATH.sub("…/", text)


def list_facts(settings: Mapping[str, Any], *, prefix: str = "") -> list[tuple[str, str]]:
    """Flatten nested settings to readable lines.

    Parameters
    ----------
    settings : mapping
        Contains numbers, words, lists and mappings.
    prefix : str
        Text before every name.

    Returns
    -------
    list of tuple
        Names in words ("threshold · method") and values. Long lists, nested lists and digests are left out.
    """
    facts: list[tuple[str, str]] = []
    for key, value in settings.items():
        name = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping):
            facts += list_facts(value, prefix=f"{name} · ")
        elif isinstance(value, list | tuple):
            if len(value) <= MAX_FACT_ITEMS and not any(isinstance(item, list | tuple | Mapping) for item in value):
                facts.append((name, say_value(list(value))))
        elif not (isinstance(value, str) and HEX_DIGEST.fullmatch(value)):
            facts.append((name, say_value(value)))
    return facts
