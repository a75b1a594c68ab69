"""Annotations as rows of a table shared by all images, with one run-length encoded mask per row."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cellmill.annotations.instance import AnnotationSettings, Instance
from cellmill.annotations.pieces import merge_pieces
from cellmill.annotations.rle import decode_crop

# Declaration, see formats.py
FORMATS = {
    "rle": {
        "reader": "read_rle",
        "table_reader": "read_rle_table",
        "files": "table",
        "keys": ("table", "order", "sample_column", "rle_column", "object_column"),
        "needs": ("table", "order"),
        "is_filled": True,
        "missing": "error",
        "summary": "a CSV table with one run-length encoded object per row",
        "reads": "a CSV table with one run-length encoded object per row; `height` and `width` are checked if present",
        "used_by": "Kaggle: Sartorius 2021 (`order: row`), Data Science Bowl 2018 (`order: column`)",
    },
}

# (sample column, annotation column) of known tables: Sartorius 2021, Data Science Bowl 2018
KNOWN_COLUMNS = (("id", "annotation"), ("ImageId", "EncodedPixels"))
# Separators of tables that are not read, as spreadsheets of some countries write them
SEPARATORS = {";": "semicolons", "\t": "tabulators"}
# Texts of a cell, in lower case, that state that an image has no objects; pandas writes missing values as nan.
NOTHING = ("", "-1", "-1 -1", "nan", "none", "null", "na", "n/a", "<na>")
# rows read at a time, so that memory does not grow with the table
CHUNK_ROWS = 50_000
# text keeps the zeros of sample 007, and a sample NA is not read as a missing value
AS_TEXT: dict[str, Any] = {"dtype": str, "keep_default_na": False, "encoding": "utf-8-sig"}


class TableRow(NamedTuple):
    """One annotation of a table; `number` is its row in a spreadsheet (header: row 1), `name` that of its object."""

    number: int
    text: str
    size: tuple[int, int] | None
    name: str = ""


def read_rle_table(annotations: AnnotationSettings, *, samples: Sequence[str]) -> dict[str, list[TableRow]]:
    """Read the rows of some samples from a table of run-length encoded objects.

    Parameters
    ----------
    annotations : mapping
        The config section; `table` (path), `sample_column`, `rle_column` and `object_column` (names or None) are read.
    samples : sequence of str
        Samples of a shard. Their names in the table may have the suffix of an image file.

    Returns
    -------
    dict
        sample -> its rows in the order of the table; a sample without rows is missing.

    Raises
    ------
    ValueError
        If the table cannot be read, a column is missing or duplicated, or a height or width is not a number.
    """
    assert annotations["table"] is not None
    path = Path(annotations["table"])
    try:
        columns = find_columns(
            path,
            sample_column=annotations["sample_column"],
            rle_column=annotations["rle_column"],
            object_column=annotations["object_column"],
        )
        has_names = annotations["object_column"] is not None
        return _collect_rows(path, columns=columns, wanted=set(samples), has_names=has_names)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(
            f"{path}: expected a comma-separated table with one header row, found: {error}. "
            "Save the table as CSV in UTF-8."
        ) from error


def strip_suffix(names: pd.Series, *, keep: set[str]) -> pd.Series:
    """Remove the suffix of an image file from the names in a table, except from names that are samples themselves."""
    stems = names.str.replace(r"\.(png|jpe?g|tiff?)$", "", regex=True, case=False)
    return names.where(names.isin(keep), stems)


def read_rle(
    row: Mapping[str, Any],
    *,
    shape: tuple[int, int],
    annotations: AnnotationSettings,
    table: Mapping[str, Sequence[TableRow]],
) -> list[Instance]:
    """Decode the objects of one sample.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `sample` is read.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section; `table` and `order` are read.
    table : mapping
        From `read_rle_table`.

    Returns
    -------
    list of Instance
        In the order of the table. If all rows are blank, NaN or -1, the image has no objects; a blank row among others
        is an empty instance. Rows with the same object name are merged.

    Raises
    ------
    ValueError
        If the table states another image size, a text is not a mask of this size, or a row states with -1 that the
        image has no objects although others have runs; one line per row.
    """
    assert annotations["order"] is not None
    entries = table[row["sample"]]
    where = f"sample {row['sample']}, {annotations['table']}, row"
    for entry in entries:
        if entry.size is not None and entry.size != tuple(shape):
            raise ValueError(
                f"{where} {entry.number}: expected an annotation of {shape[0]} rows and {shape[1]} columns, the size "
                f"of its image, found height {entry.size[0]} and width {entry.size[1]}. "
                "Pair every image with its own full-size annotation."
            )
    texts = [_plain(entry.text) for entry in entries]
    if all(text in NOTHING for text in texts):
        return []
    instances, problems = [], []
    for entry, text in zip(entries, texts, strict=True):
        if text in NOTHING:
            if text.startswith("-1"):
                problems.append(
                    f"{where} {entry.number}: expected runs, found {entry.text.strip()}, which states that the image "
                    f"has no objects, although another row has runs. Remove one of them."
                )
            instances.append(Instance(0, 0, np.zeros((0, 0), dtype=bool), f"row {entry.number}"))
            continue
        try:
            top, left, mask_yx = decode_crop(
                entry.text, shape=shape, order=annotations["order"], where=f"{where} {entry.number}"
            )
        except ValueError as error:
            problems.append(str(error))
            continue
        instances.append(Instance(top, left, mask_yx, f"row {entry.number}"))
    if problems:
        raise ValueError("\n".join(problems))
    if annotations["object_column"] is None:
        return instances
    return _join_rows(instances, names=[entry.name for entry in entries])


def _plain(text: str) -> str:
    """Return the text of a cell in lower case, without blanks around it and without the decimals of -1.0."""
    return text.strip().lower().replace("-1.0", "-1")


def _join_rows(instances: Sequence[Instance], *, names: Sequence[str]) -> list[Instance]:
    """Merge the rows that have the same object name into one object."""
    parts: dict[str, list[Instance]] = {}
    for name, instance in zip(names, instances, strict=True):
        parts.setdefault(name, []).append(instance)
    return [
        Instance(
            *merge_pieces([(part.row, part.column, part.mask_yx) for part in same]),
            source=" and ".join([same[0].source, *(part.source.removeprefix("row ") for part in same[1:])]),
        )
        for same in parts.values()
    ]


def find_columns(
    path: Path, *, sample_column: str | None, rle_column: str | None, object_column: str | None
) -> list[str]:
    """Return the columns of samples, runs and (if set) objects, then height and width if the table has both.

    Raises
    ------
    ValueError
        If a column is missing or duplicated.
    """
    names = pd.read_csv(path, nrows=1, header=None, **AS_TEXT).iloc[0]
    columns = [str(name) for name in names]
    known = [pair for pair in KNOWN_COLUMNS if set(pair) <= set(columns)]
    if sample_column is None and rle_column is None and known:
        sample_column, rle_column = known[0]
    if sample_column not in columns or rle_column not in columns:
        pairs = " or ".join(f"{a} and {b}" for a, b in KNOWN_COLUMNS)
        wanted = f"{sample_column} and {rle_column}" if sample_column and rle_column else pairs
        if separator := next(
            (name for mark, name in SEPARATORS.items() if len(columns) == 1 and mark in columns[0]), ""
        ):
            raise ValueError(
                f"{path}: expected the columns {wanted}, separated by commas, found {separator} between them "
                f"({columns[0]!r}). Save the table as CSV with commas."
            )
        raise ValueError(
            f"{path}: expected the columns {wanted}, found {', '.join(columns[:12])}. "
            "Set annotations.sample_column and annotations.rle_column to names in the table's first row."
        )
    needed = [name for name in (sample_column, rle_column, object_column) if name is not None]
    if twice := [name for name in needed if columns.count(name) > 1]:
        raise ValueError(
            f"{path}: expected one column {twice[0]}, found {columns.count(twice[0])}. Remove or rename the others."
        )
    if object_column is not None and object_column not in columns:
        raise ValueError(
            f"{path}: expected the column {object_column}, found {', '.join(columns[:12])}. "
            "Set annotations.object_column to a name in the table's first row, or leave it out."
        )
    size = [column for name in ("height", "width") for column in columns if column.lower() == name]
    found = [str(sample_column), str(rle_column), *([] if object_column is None else [object_column])]
    return [*found, *(size if len(size) == 2 else [])]


def _collect_rows(
    path: Path, *, columns: Sequence[str], wanted: set[str], has_names: bool
) -> dict[str, list[TableRow]]:
    found: dict[str, list[TableRow]] = {}
    with pd.read_csv(path, usecols=list(columns), chunksize=CHUNK_ROWS, **AS_TEXT) as chunks:
        for chunk in chunks:
            names = strip_suffix(chunk[columns[0]], keep=wanted)
            chunk = chunk[names.isin(wanted)]
            fields = (chunk[column] for column in columns[1:])
            for name, index, text, *rest in zip(names[chunk.index], chunk.index, *fields, strict=True):
                object_name = rest.pop(0) if has_names else ""
                size = _read_size(rest, where=f"{path}, row {int(index) + 2}")
                found.setdefault(name, []).append(TableRow(int(index) + 2, text, size, object_name))
    return found


def _read_size(texts: Sequence[str], *, where: str) -> tuple[int, int] | None:
    if not texts or not all(texts):
        return None
    try:
        height, width = (float(text) for text in texts)
    except ValueError:
        raise ValueError(
            f"{where}: expected height and width in pixels, found {texts[0]!r} and {texts[1]!r}. "
            "Correct them, or remove both."
        ) from None
    return (int(height), int(width)) if np.isfinite([height, width]).all() else None
