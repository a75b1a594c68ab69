"""Sample sheets: CSV with further columns of the images, such as their treatment."""

import csv
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cellmill.annotations.table import SEPARATORS, strip_suffix
from cellmill.experiment.wells import find_well, write_well
from cellmill.planning.samples import SampleError, some

ADVICE = "Save the sheet as CSV with commas, in UTF-8."


@dataclass(frozen=True)
class Sheet:
    """Columns and rows of a sample sheet; a row is its number in a spreadsheet (header: row 1) and its cells."""

    path: str
    columns: list[str]
    rows: list[tuple[int, dict[str, str]]]


def read_sheet(path: str, *, where: str) -> Sheet:
    """Read a sample sheet as text, without blanks around cells and without empty rows.

    Parameters
    ----------
    path : str
        CSV file with a header.
    where : str
        Key path in the config, for messages.

    Raises
    ------
    SampleError
        If the file is missing or no CSV table, or if a row has more cells than the header.
    """
    if not Path(path).is_file():
        raise SampleError([f"{where}: expected a CSV file, found no file {path}. Check the path."])
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as stream:
            lines = [[cell.strip() for cell in line] for line in csv.reader(stream, strict=True)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SampleError(
            [f"{where}: {path}: expected a CSV table, found something else ({error}). {ADVICE}"]
        ) from None
    header, *body = lines or [[]]
    while header and not header[-1]:  # spreadsheets write columns that were once used
        header.pop()
    if len(header) == 1 and (mark := next((name for sign, name in SEPARATORS.items() if sign in header[0]), "")):
        raise SampleError(
            [f"{where}: {path}: expected columns separated by commas, found {mark} in {header[0]!r}. {ADVICE}"]
        )
    if not header or not any(any(line) for line in body):
        found = "no header" if not header else "only a header"
        raise SampleError([f"{where}: {path}: expected a header and rows, found {found}. Add a row for each image."])
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise SampleError(
            [f"{where}: {path}: expected different column names, found {some(twice)} twice. Rename or remove one."]
        )
    rows = []
    for number, line in enumerate(body, start=2):
        if any(line[len(header) :]):
            raise SampleError(
                [
                    f"{where}: {path}, row {number}: expected {len(header)} cells as in the header, found {len(line)}. "
                    "Quote cells that contain a comma."
                ]
            )
        if any(line):
            padded = [*line, *[""] * len(header)]
            rows.append((number, dict(zip(header, padded, strict=False))))
    return Sheet(path, header, rows)


@dataclass(frozen=True)
class Tied:
    """Cells of the row of each image (None without a row), and the rows of no image."""

    cells: list[dict[str, str] | None]
    left: list[tuple[int, dict[str, str]]]


def tie_sheet(sheet: Sheet, images: Sequence[Mapping[str, str]], *, needed: Sequence[str], where: str) -> Tied:
    """Find the row of each image by the columns that both have.

    Parameters
    ----------
    sheet : Sheet
        From `read_sheet`.
    images : sequence of mappings
        Texts of the wildcards of each image, and its name as `sample`.
    needed : sequence of str
        Columns in which several rows of an image must agree.
    where : str
        Key path in the config, for messages.

    Returns
    -------
    Tied
        A1 and A01 are the same well, and names of samples may have the suffix of an image file.

    Raises
    ------
    SampleError
        If there is no common column, if no row fits an image, or if rows of an image contradict each other.
    """
    keys = [column for column in sheet.columns if column in images[0]]
    if not keys:
        raise SampleError(
            [
                f"{where}: {sheet.path}: expected a column with the name of a wildcard of the images "
                f"({some(sorted(images[0]))}), found {some(sheet.columns)}. Rename the column that ties rows to images."
            ]
        )
    texts = [_plain_texts(sheet, images, key) for key in keys]
    keys_of_rows = list(zip(*(of_rows for of_rows, _ in texts), strict=True))
    keys_of_images = list(zip(*(of_images for _, of_images in texts), strict=True))
    rows: dict[tuple[str, ...], list[tuple[int, dict[str, str]]]] = {}
    for key, row in zip(keys_of_rows, sheet.rows, strict=True):
        rows.setdefault(key, []).append(row)
    if not rows.keys() & set(keys_of_images):
        raise SampleError(
            [_explain_no_row(sheet, keys, keys_of_rows=keys_of_rows, keys_of_images=keys_of_images, where=where)]
        )
    wanted, needed = set(keys_of_images), [column for column in needed if column not in keys]
    if mistakes := [
        mistake for key, own in rows.items() if key in wanted for mistake in _contradictions(sheet, own, needed, where)
    ]:
        raise SampleError(mistakes[:20])
    return Tied(
        [rows[key][0][1] if key in rows else None for key in keys_of_images],
        [row for key, own in rows.items() if key not in wanted for row in own],
    )


def _plain_texts(sheet: Sheet, images: Sequence[Mapping[str, str]], column: str) -> tuple[list[str], list[str]]:
    """Return the texts of a column in the rows and in the images, in the same form."""
    of_images = [unicodedata.normalize("NFC", image[column]) for image in images]
    of_rows = [unicodedata.normalize("NFC", row[column]) for _, row in sheet.rows]
    if column == "sample":
        of_rows = [str(name) for name in strip_suffix(pd.Series(of_rows, dtype=str), keep=set(of_images))]
    if all(find_well(text) is not None for text in (*of_rows, *of_images) if text):
        return [_plain_well(text) for text in of_rows], [_plain_well(text) for text in of_images]
    return of_rows, of_images


def _plain_well(text: str) -> str:
    well = find_well(text)
    return text if well is None else write_well(well)


def _explain_no_row(
    sheet: Sheet,
    keys: Sequence[str],
    *,
    keys_of_rows: Sequence[tuple[str, ...]],
    keys_of_images: Sequence[tuple[str, ...]],
    where: str,
) -> str:
    """Return the message if no row fits an image, with the first texts of a column in which they differ."""
    number = next(
        (at for at in range(len(keys)) if not {key[at] for key in keys_of_rows} & {key[at] for key in keys_of_images}),
        0,
    )
    of_rows, of_images = (list(dict.fromkeys(key[number] for key in group)) for group in (keys_of_rows, keys_of_images))
    return (
        f"{where}: {sheet.path}: expected rows for the images, found none: the images have {keys[number]} "
        f"{some(of_images)}, the sheet has {some(of_rows)}. Write the names in the sheet as in the paths of the "
        "images; spreadsheets remove leading zeros."
    )


def _contradictions(
    sheet: Sheet, rows: Sequence[tuple[int, dict[str, str]]], needed: Sequence[str], where: str
) -> list[str]:
    found = []
    for column in needed:
        values = {cells[column]: number for number, cells in rows if column in cells}
        if len(values) > 1:
            numbers = ", ".join(map(str, values.values()))
            found.append(
                f"{where}: {sheet.path}: expected one {column} for the images of a row, found {some(list(values))} in "
                f"rows {numbers}, which fit the same images. Correct the rows, or add a column that tells the images "
                "apart."
            )
    return found
