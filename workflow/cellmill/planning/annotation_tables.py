"""Shared annotation tables: a digest of each sample's rows, so that one corrected row reruns only one shard."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cellmill.annotations.coco import index_coco
from cellmill.annotations.table import find_columns, strip_suffix
from cellmill.shards import atomic_path, file_digest

CACHE_VERSION = 4
# between the different values of a column in the rows of one image
SEPARATOR = "\x1f"
SHOWN_VALUES = 3


class TableIndex:
    """Digest and first values of each sample in an annotation table, for use in the sample table."""

    def __init__(
        self,
        digests: dict[str, str],
        values: dict[str, dict[str, str]],
        columns: list[str],
        paths: dict[str, str] | None = None,
    ) -> None:
        self._digests = digests
        self._values = values
        self.columns = columns
        # name of an entry -> path as written in the table
        self.entries = {name: name for name in digests} if paths is None else paths
        self._names: dict[str, str] = {}

    def tie(self, names: Mapping[str, str]) -> None:
        """Set the names of the entries of samples, which otherwise have the names of the samples."""
        self._names = dict(names)

    def others(self, samples: set[str]) -> list[str]:
        """List the images that the table annotates but that are not samples."""
        return sorted(set(self._digests) - {self._names.get(sample, sample) for sample in samples})

    def digest(self, sample: str) -> str:
        """Return the digest of a sample's rows, "" without rows."""
        return self._digests.get(self._names.get(sample, sample), "")

    def value(self, sample: str, column: str) -> str:
        """Return a column's value in the rows of a sample, "" without rows."""
        return self._values[column].get(self._names.get(sample, sample), "")

    def explain_several(self, samples: Sequence[str], column: str) -> str:
        """Return a message if the rows of an image have different values in a column, "" otherwise."""
        several = {name: value.split(SEPARATOR) for name in samples if SEPARATOR in (value := self.value(name, column))}
        if not several:
            return ""
        shown = [f"{name} ({', '.join(values[:SHOWN_VALUES])})" for name, values in several.items()]
        return (
            f"expected one value of {column!r} for all rows of an image, found several in {len(several)} of "
            f"{len(samples)} images, such as {'; '.join(shown[:SHOWN_VALUES])}. The value is that of the whole image: "
            "remove this key, or give all rows of an image the same value"
        )


def index_table(
    section: Mapping[str, Any],
    *,
    samples: set[str],
    value_columns: Sequence[str],
    cache_dir: Path,
    where: str,
) -> TableIndex:
    """Read a table that all images share, and cache the digests of its rows by path, size and modification time.

    Parameters
    ----------
    section : mapping
        The section `annotations`: format (rle or coco), table, sample_column, rle_column, object_column.
    samples : set of str
        Names of the samples; the table may contain them with a file suffix.
    value_columns : sequence of str
        Columns whose values are kept: class, group, stratum. They should be the same in all rows of a sample.
    cache_dir : Path
        Folder of the cache.
    where : str
        Key path in the config, for messages.

    Raises
    ------
    ValueError
        If the file is missing or in another format, or a column is missing.
    """
    path = section["table"]
    names = [section[key] for key in ("sample_column", "rle_column", "object_column")]
    if not Path(path).is_file():
        raise ValueError(missing_table(path, where=where))
    stat = Path(path).stat()
    key = hashlib.sha256(
        json.dumps(
            [
                str(Path(path).absolute()),
                section["format"],
                names,
                sorted(value_columns),
                sorted(samples),
                CACHE_VERSION,
            ]
        ).encode()
    ).hexdigest()
    cache = cache_dir / f"table-{key[:16]}.json"
    stamp = [stat.st_size, stat.st_mtime_ns]
    if cache.is_file():
        content = json.loads(cache.read_text())
        if content["stamp"] == stamp:
            return _index_of(content)
        if content["stamp"][0] == stamp[0] and content["file"] == file_digest(path):
            content["stamp"] = stamp  # touched, not changed
            _store(cache, content)
            return _index_of(content)
    content = {"stamp": stamp, "file": file_digest(path)}
    if section["format"] == "coco":
        digests, values, columns = index_coco(path, where=where)
        content["paths"] = {name: values["file_name"][name] for name in digests}
        content.update({"digests": digests, "values": _pick(values, value_columns, columns, path, where=where)})
        content["columns"] = columns
    else:
        content.update(_index_csv(path, names=names, samples=samples, value_columns=value_columns, where=where))
    _store(cache, content)
    return _index_of(content)


def _index_of(content: Mapping[str, Any]) -> TableIndex:
    return TableIndex(content["digests"], content["values"], content["columns"], content.get("paths"))


def missing_table(path: str, *, where: str) -> str:
    """Return the error message for a missing annotation table."""
    return f"{where}: expected a table, found no file {path}. Check the path."


def _index_csv(
    path: str, *, names: Sequence[str | None], samples: set[str], value_columns: Sequence[str], where: str
) -> dict[str, Any]:
    try:
        columns = find_columns(Path(path), sample_column=names[0], rle_column=names[1], object_column=names[2])
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{where}: {path}: expected a CSV table, found something else ({_reason(error)}). "
            "Save the table as CSV in UTF-8."
        ) from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return dict(_read(path, samples=samples, columns=columns, value_columns=value_columns, where=where))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())


def _pick(
    values: Mapping[str, dict[str, str]], wanted: Sequence[str], columns: Sequence[str], path: str, *, where: str
) -> dict[str, dict[str, str]]:
    """Select the wanted columns; if one is missing, raise an error that lists the existing columns."""
    for name in wanted:
        if name not in columns:
            raise ValueError(
                f"{where}: {path}: expected a column {name!r}, found {', '.join(columns)}. "
                "Set class_column, group_by or stratify to an existing column."
            )
    return {name: values[name] for name in wanted}


def _store(cache: Path, content: dict[str, object]) -> None:
    with atomic_path(cache) as partial:
        partial.write_text(json.dumps(content))


def _read(
    path: str, *, samples: set[str], columns: Sequence[str], value_columns: Sequence[str], where: str
) -> dict[str, dict[str, str] | dict[str, dict[str, str]] | list[str]]:
    """Compute digests from the columns that labels are made from (runs, objects, image size), not from the others."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except pd.errors.ParserError as error:
        raise ValueError(
            f"{where}: {path}: expected a CSV table, found something else ({_reason(error)}). "
            "Save the table as CSV in UTF-8."
        ) from error
    every = list(table.columns)
    _pick({name: {} for name in every}, value_columns, every, path, where=where)
    groups = table.groupby(strip_suffix(table[columns[0]], keep=samples), sort=False)
    # Row order within a sample is part of its digest, because object numbers depend on it.
    text = table[list(columns[1:])].agg("\x1f".join, axis=1)
    digests = {
        str(sample): hashlib.sha256("\x1e".join(text.loc[rows]).encode()).hexdigest()[:16]
        for sample, rows in groups.groups.items()
    }
    values = {
        column: {str(sample): SEPARATOR.join(filter(None, dict.fromkeys(texts))) for sample, texts in groups[column]}
        for column in value_columns
    }
    return {"digests": digests, "values": values, "columns": every}
