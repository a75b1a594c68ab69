"""Patterns with wildcards for the files of a family, and for the annotations that belong to them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cellmill.proposing.columns import Table
from cellmill.proposing.families import Family
from cellmill.proposing.pairing import Pairing

WHOLE = "whole"


@dataclass(frozen=True)
class Span:
    """Varying columns, from the first to the last (counted among the varying ones), that one wildcard stands for."""

    first: int
    last: int
    name: str


@dataclass(frozen=True)
class Naming:
    """Wildcards of a family: those of the folders, and those of the names.

    `spans` is WHOLE if {sample} is the whole name, and empty if any name fits. Varying columns without a span are
    matched by *.
    """

    folders: tuple[str, ...]
    spans: tuple[Span, ...] | str

    @property
    def wildcards(self) -> set[str]:
        names = {"sample"} if self.spans == WHOLE else {span.name for span in self._spans}
        return names | {name for name in self.folders if name}

    @property
    def _spans(self) -> tuple[Span, ...]:
        return () if isinstance(self.spans, str) else self.spans

    def name_part(self, table: Table) -> str:
        """Return the pattern of the names of a table, without suffix."""
        if self.spans == WHOLE:
            return "{sample}"
        return render(table, self._spans)

    def pattern(self, root: str, family: Family) -> str:
        """Return the pattern of the files of a family."""
        return join(root, self.folder_part(family.folders), self.name_part(family.table) + family.suffix)

    def folder_part(self, folders: Sequence[str]) -> str:
        """Return folders with wildcards in place of the stars."""
        names = iter(self.folders)
        parts = []
        for folder in folders:
            if folder.startswith("*"):
                name = next(names, "")
                parts.append((f"{{{name}}}" if name else "*") + folder[1:])
            else:
                parts.append(folder)
        return "/".join(parts)

    def pattern_of(self, root: str, images: Family, pairing: Pairing) -> str:
        """Return the pattern of the annotation files that belong to images."""
        others = pairing.family
        folders = self if len(images.folder_names) == len(others.folder_names) else replace(self, folders=())
        own = self.name_part(images.table)
        # {sample} is the whole name also where the pattern of the images has no such wildcard
        own = "{sample}" if "*" in own else own
        name = {
            "equal": own,
            "end": own + pairing.text,
            "start": pairing.text + own,
            "columns": render(others.table, self._spans),
            "objects": render(others.table, self._spans),
            "folder": render(others.table, ()),
        }[pairing.way]
        return join(root, folders.folder_part(others.folders), name + others.suffix)


def render(table: Table, spans: Sequence[Span]) -> str:
    """Write the names of a table as a pattern."""
    span_of: Mapping[int, Span] = {place: span for span in spans for place in range(span.first, span.last + 1)}
    text, rank = "", -1
    for column in table.columns:
        if column.is_fixed:
            inside = span_of.get(rank)
            if inside is None or inside is not span_of.get(rank + 1):
                text += column.before + column.values[0]
            continue
        rank += 1
        span = span_of.get(rank)
        if span is None:
            text += column.before if text.endswith("*") and not column.before else f"{column.before}*"
        elif rank == span.first:
            text += f"{column.before}{{{span.name}}}"
    return text + table.after


def matcher(pattern: str) -> re.Pattern[str]:
    """Compile a pattern to a regular expression: a wildcard or a star stands for text within a name."""
    text, seen = "", set()
    for part in re.split(r"(\{\w+\}|\*)", pattern):
        if part == "*":
            text += "[^/]*"
        elif part.startswith("{"):
            name = part[1:-1]
            text += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+)"
            seen.add(name)
        else:
            text += re.escape(part)
    return re.compile(text, re.DOTALL)


def join(*parts: str) -> str:
    """Join the parts of a path, of which some may be empty."""
    return "/".join(part.rstrip("/") if part != "/" else "" for part in parts if part)
