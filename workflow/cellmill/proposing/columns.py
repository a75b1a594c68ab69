"""Columns of file names: the parts in which the names of a folder differ, and their meaning.

A name is cut at its separators. Names with the same separators form a table: IXMtest_A06_s6_w1 has the columns
IXMtest, A06, s6 and w1. A column that is equal in all names is a fixed text; the others become wildcards.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cellmill.experiment.wells import find_well

# Letters before a number, as microscopes write them, by preference where two columns have the same meaning
# SOURCE MetaXpress (_s1_w1), Opera Phenix (r01c01f01p01-ch1sk1), CellVoyager (T0001F001L01A01Z01C01), Incucyte, NIS
# Elements (xy01t001c1), Leica LAS (_t00_z000_ch00), ImageJ (_t001_z001_c001), Cell Tracking Challenge (t000)
KEYS: dict[str, tuple[str, ...]] = {
    "frame": ("timepoint", "time", "frame", "tp", "sk", "t"),
    "z": ("zplane", "section", "slice", "plane", "z"),
    "channel": ("wavelength", "channel", "ch", "w", "c"),
    "field": ("field", "site", "fov", "position", "pos", "series", "xy", "s", "f"),
    "well": ("well",),
    "plate": ("plate",),
}
# Names of stains and of kinds of light, in lower case
STAINS = (
    "dapi", "hoechst", "gfp", "egfp", "rfp", "yfp", "cfp", "fitc", "tritc", "cy3", "cy5", "cy7", "mcherry", "texasred",
    "tdtomato", "draq5", "actin", "phalloidin", "tubulin", "er", "mito", "agp", "rna", "dna", "red", "green", "blue",
    "phase", "ph", "bf", "brightfield", "dic", "tl", "nuclei", "nucleus", "cyto", "cytoplasm", "membrane",
)  # fmt: skip
GUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
TIME = re.compile(r"(?:\d+d)?\d+h(?:\d+m)?(?:\d+s)?|\d+m\d+s")
SEPARATORS = re.compile(r"([\W_]+)")
PAIRS = re.compile(r"([^\W\d_]+)(\d+)")
# Opera: 001002-3-004005006 is row, column - field - plane, time, channel
OPERA = re.compile(r"\d{6}-\d+-\d{9}")


@dataclass(frozen=True)
class Column:
    """A part of the names: its text in each name, the fixed text before it, and its meaning ("" if unknown).

    `name` is the name of the wildcard; `is_fixed` is true for a text that is equal in all names.
    """

    values: tuple[str, ...]
    before: str = ""
    meaning: str = ""
    name: str = ""

    @property
    def is_fixed(self) -> bool:
        return len(set(self.values)) == 1


@dataclass(frozen=True)
class Table:
    """Files with names of equal structure: the names, their columns, and the fixed text after the last column."""

    names: tuple[str, ...]
    columns: tuple[Column, ...]
    after: str = ""

    @property
    def varying(self) -> list[int]:
        """Places of the columns that differ."""
        return [place for place, column in enumerate(self.columns) if not column.is_fixed]

    def find(self, meaning: str) -> int | None:
        """Return the place of the varying column with a meaning, or None."""
        return next((place for place in self.varying if self.columns[place].meaning == meaning), None)

    def keys(self, *, without: Sequence[int] = ()) -> list[tuple[str, ...]]:
        """Return for each name the texts of its varying columns, without some of them; numbers lose leading zeros."""
        chosen = [self.columns[place].values for place in self.varying if place not in without]
        return [tuple(plain_number(text) for text in row) for row in zip(*chosen, strict=True)] or [
            () for _ in self.names
        ]


def plain_number(text: str) -> str:
    """Return a number without leading zeros, any other text unchanged."""
    return str(int(text)) if text.isascii() and text.isdecimal() else text


def cut_names(names: Sequence[str]) -> list[Table]:
    """Sort names by their structure, and cut each structure into columns with a meaning.

    Parameters
    ----------
    names : sequence of str
        Names without folder and suffix.

    Returns
    -------
    list of Table
        The largest first. Names whose structures have nothing in common are one table with a single column.
    """
    shapes: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        shapes.setdefault(_shape_of(name), []).append(name)
    groups = sorted(shapes.values(), key=lambda group: (-len(group), group[0]))
    tables = [_table_of(group) for group in groups]
    # * alone would match the names of the other structures, too
    if len(groups) > 1 and (not _are_families(groups) or _is_free(tables[0])):
        return [Table(tuple(names), (Column(tuple(names), name="name"),))]
    return tables


def _is_free(table: Table) -> bool:
    """Check whether names consist of one word without a fixed text."""
    [first, *others] = table.columns
    return not others and not first.before and not first.meaning and not table.after and not first.is_fixed


def _are_families(groups: list[list[str]]) -> bool:
    """Check whether groups of names are families of a large one, or of equal sizes, rather than names chosen freely."""
    total = sum(map(len, groups))
    is_dominant = len(groups[0]) >= 0.8 * total and len(groups[0]) >= 3
    are_alike = len(groups) <= 4 and len(groups[-1]) >= max(2, len(groups[0]) // 2)
    return is_dominant or are_alike


def _shape_of(name: str) -> tuple[str, ...]:
    return tuple(SEPARATORS.findall(GUID.sub("GUID", name)))


def _table_of(names: list[str]) -> Table:
    if all(OPERA.fullmatch(name) for name in names):
        return _named(_opera_table(names))
    rows = [_runs_of(name) for name in names]
    columns: list[Column] = []
    text = ""
    for place in range(len(rows[0])):
        values = tuple(row[place] for row in rows)
        if place % 2:
            text += values[0]
            continue
        for column in _split_column(values):
            columns.append(replace(column, before=text + column.before))
            text = ""
    return _named(Table(tuple(names), tuple(columns), text))


def _runs_of(name: str) -> list[str]:
    """Cut a name at its separators, which are the odd entries; a GUID and what touches it stay together."""
    guids = GUID.findall(name)
    parts = SEPARATORS.split(GUID.sub("GUID", name))
    left = iter(guids)
    return [re.sub("GUID", lambda _: next(left), part) if guids and "GUID" in part else part for part in parts]


def _split_column(values: tuple[str, ...]) -> list[Column]:
    """Split the texts between two separators into letters and numbers, if all consist of the same letters."""
    if len(set(values)) == 1:
        return [Column(values)]
    if any(GUID.search(value) for value in values):
        return _cut_guid(values)
    if all(find_well(value) is not None for value in values):
        return [Column(values, meaning="well")]
    if all(TIME.fullmatch(value) for value in values):
        return [Column(values, meaning="frame")]
    found = [PAIRS.findall(value) for value in values]
    letters = {tuple(key for key, _ in pairs) for pairs in found}
    is_whole = all("".join(a + b for a, b in pairs) == value for pairs, value in zip(found, values, strict=True))
    if len(letters) == 1 and is_whole and letters != {()}:
        keys = next(iter(letters))
        columns = [
            Column(tuple(pairs[i][1] for pairs in found), before=key, meaning=meaning_of(key, among=keys))
            for i, key in enumerate(keys)
        ]
        return _join_rows_and_columns(columns, keys)
    return [Column(values, meaning="channel" if _are_stains(values) else "")]


def _cut_guid(values: tuple[str, ...]) -> list[Column]:
    """Split w1{GUID}, as MetaXpress writes it, into the channel and the random part."""
    heads = [GUID.split(value)[0] for value in values]
    rests = tuple(value[len(head) :] for head, value in zip(heads, values, strict=True))
    column = Column(rests, meaning="random")
    if not any(heads):
        return [column]
    return [*_split_column(tuple(heads)), column]


def _join_rows_and_columns(columns: list[Column], keys: tuple[str, ...]) -> list[Column]:
    """Join r01c02, as Opera Phenix writes it, to one column with the well."""
    lower = [key.lower() for key in keys]
    if lower[:2] != ["r", "c"] or len(keys) < 3:
        return columns
    row, column = columns[:2]
    texts = tuple(f"{keys[0]}{a}{keys[1]}{b}" for a, b in zip(row.values, column.values, strict=True))
    return [Column(texts, meaning="well"), *columns[2:]]


def meaning_of(key: str, *, among: Sequence[str] = ()) -> str:
    """Return the meaning of the letters before a number: frame, z, channel, field, well, plate or "".

    Parameters
    ----------
    key : str
        The letters.
    among : sequence of str
        All letters of a text without separators, such as (T, F, L, A, Z, C).
    """
    lower, others = key.lower(), {other.lower() for other in among}
    if lower == "p" and {"r", "c", "f"} <= others:
        return "z"
    if lower == "w" and {"f", "c"} <= others:  # W0001F001T0001Z01C1
        return "well"
    return next((meaning for meaning, keys in KEYS.items() if lower in keys), "")


def _are_stains(values: Sequence[str]) -> bool:
    return len(set(values)) > 1 and {value.lower() for value in values} <= set(STAINS)


def _opera_table(names: list[str]) -> Table:
    def part(first: int, last: int | None) -> tuple[str, ...]:
        return tuple(name[first:last] for name in names)

    return Table(
        tuple(names),
        (
            Column(part(0, 6), meaning="well"),
            Column(tuple(name.split("-")[1] for name in names), before="-", meaning="field"),
            Column(part(-9, -6), before="-", meaning="z"),
            Column(part(-6, -3), meaning="frame"),
            Column(part(-3, None), meaning="channel"),
        ),
    )


def _named(table: Table) -> Table:
    """Keep each meaning for one column, and choose names for the wildcards."""
    columns = list(table.columns)
    for meaning in {column.meaning for column in columns} - {"", "random"}:
        claims = [place for place in table.varying if columns[place].meaning == meaning]
        keys = list(KEYS.get(meaning, ()))

        def rank(place: int, keys: list[str] = keys) -> tuple[int, int]:
            letters = re.search(r"[^\W\d_]*$", columns[place].before.lower())
            key = letters.group() if letters else ""
            return (keys.index(key) if key in keys else -1, place)

        for place in sorted(claims, key=rank)[1:]:
            columns[place] = replace(columns[place], meaning="")
    wells = [place for place, column in enumerate(columns) if column.meaning == "well"]
    has_field = any(columns[place].meaning == "field" for place in table.varying)
    for place in wells:  # A01_1_...: the number after a well is the field
        beside = place + 1
        if not has_field and beside in table.varying and _is_number(columns[beside]) and not columns[beside].meaning:
            columns[beside] = replace(columns[beside], meaning="field")
    used: set[str] = set()
    for place in table.varying:
        columns[place] = replace(columns[place], name=_name_of(columns[place], used))
    return Table(table.names, tuple(columns), table.after)


def _is_number(column: Column) -> bool:
    return all(value.isdecimal() for value in column.values)


def _name_of(column: Column, used: set[str]) -> str:
    letters = re.search(r"[A-Za-z][A-Za-z0-9]*$", column.before)
    words = letters.group().lower() if letters else ""
    wanted = column.meaning or words or ("number" if _is_number(column) else "name")
    name, count = wanted, 1
    while name in used or name in ("sample", "sequence"):
        count += 1
        name = f"{wanted}{count}"
    used.add(name)
    return name
