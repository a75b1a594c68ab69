"""Tables of a folder: run lengths in CSV, outlines in COCO JSON, and tables that describe images."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pandas as pd

from cellmill.annotations.coco_json import read_entries
from cellmill.annotations.instance import AnnotationSettings
from cellmill.annotations.table import KNOWN_COLUMNS, read_rle, read_rle_table
from cellmill.checks.plausibility import TwoReadings, compare_readings, fits_image_better, has_streaks, other_order
from cellmill.images.files import read_plane, read_shape
from cellmill.proposing.evidence import spread

RUNS = re.compile(r"\d+ \d+(?: \d+ \d+)*")
SUFFIX = re.compile(r"(?:\.ome)?\.[A-Za-z][A-Za-z0-9]{1,4}$")
# Rows in which the column of the runs is sought, and images in which their order is
ROWS, IMAGES = 200, 6
# Entries of a COCO file whose images are compared with the files
ENTRIES = 20_000
MAX_CLASSES = 10
CLASS_WORDS = ("cell_type", "celltype", "class", "category", "label", "type", "kind", "stain", "treatment", "condition")
# Cells of a table are longer than csv allows
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class RunTable:
    """A table of run lengths: its columns, the images in it, and columns with one value for each image."""

    sample_column: str
    rle_column: str
    names: frozenset[str]
    classes: dict[str, list[str]]

    @property
    def is_known(self) -> bool:
        """Whether the columns have the names that are the default."""
        return (self.sample_column, self.rle_column) in KNOWN_COLUMNS


def strip_suffix(name: str) -> str:
    """Return the name of a file in a table without folder and suffix."""
    base = re.split(r"[/\\]", name)[-1]
    return SUFFIX.sub("", base) or base


def read_run_table(path: str, *, stems: set[str]) -> RunTable | None:
    """Find the columns of a CSV table with run lengths of images; None if it is another table.

    Parameters
    ----------
    path : str
    stems : set of str
        Names of image files without suffix.
    """
    header, rows = _head(path)
    runs = next(
        (c for c, name in enumerate(header) if _is_column(rows, c, lambda text: bool(RUNS.fullmatch(text)))), None
    )
    if runs is None:
        return None
    sample = next(
        (c for c, _ in enumerate(header) if _is_column(rows, c, lambda text: strip_suffix(text) in stems)), None
    )
    if sample is None:
        # the head may hold other images than those of the folder
        pair = next((pair for pair in KNOWN_COLUMNS if set(pair) <= set(header)), None)
        if pair is None:
            return None
        sample = header.index(pair[0])
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (pd.errors.ParserError, UnicodeDecodeError, OSError):
        return None
    frame["\0"] = frame[header[sample]].map(strip_suffix)
    frame = frame[frame["\0"].isin(stems)]
    return RunTable(header[sample], header[runs], frozenset(frame["\0"]), _classes(frame, skip=(sample, runs)))


def _classes(frame: pd.DataFrame, *, skip: tuple[int, int]) -> dict[str, list[str]]:
    """Return the columns with one of few values for each image: column -> values."""
    found: dict[str, list[str]] = {}
    images = frame["\0"].nunique()
    for place, column in enumerate(frame.columns[:-1]):
        values = sorted(set(frame[column]) - {""})
        is_few = 2 <= len(values) <= MAX_CLASSES and len(values) < images
        if place in skip or not is_few or "" in set(frame[column]) or all(_is_number(value) for value in values):
            continue
        if len(frame.drop_duplicates(["\0", column])) == images:
            found[str(column)] = values
    return found


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None


def _head(path: str) -> tuple[list[str], list[list[str]]]:
    """Read the header and some rows of a CSV file; nothing if it is none."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as stream:
            lines = list(islice(csv.reader(stream), ROWS + 1))
    except (OSError, UnicodeDecodeError, csv.Error):
        return [], []
    return (lines[0], [line for line in lines[1:] if len(line) == len(lines[0])]) if lines else ([], [])


def _is_column(rows: Sequence[Sequence[str]], column: int, fits: Callable[[str], bool]) -> bool:
    texts = [row[column].strip() for row in rows if row[column].strip() not in ("", "-1")]
    return bool(texts) and sum(map(fits, texts)) >= 0.9 * len(texts)


def choose_order(path: str, table: RunTable, images: Mapping[str, str]) -> str | None:
    """Decode runs along rows and down columns, and return the order in which objects fit their images.

    Parameters
    ----------
    path : str
        The table.
    table : RunTable
        Its columns.
    images : mapping
        Name -> path of the images in it.

    Returns
    -------
    "row", "column" or None
        None if both orders fit, or if the images cannot be read.
    """
    settings = rle_settings(path, table)
    chosen = spread(sorted(images), IMAGES)
    verdicts = {
        order: _refutes(settings, order, {name: images[name] for name in chosen}) for order in ("row", "column")
    }
    refuted = [order for order, is_wrong in verdicts.items() if is_wrong]
    return other_order(refuted[0]) if len(refuted) == 1 else None


def _refutes(settings: AnnotationSettings, order: str, images: Mapping[str, str]) -> bool:
    """Check whether objects are streaks, or do not stand out, when runs are read in an order."""
    settings = {**settings, "order": order}
    readings: list[TwoReadings] = []
    try:
        rows = read_rle_table(settings, samples=list(images))
        for name, image in images.items():
            if name not in rows:
                continue
            shape = read_shape(image)
            found = read_rle({"sample": name}, shape=shape, annotations=settings, table=rows)
            image_yx = read_plane(image, channel="luminance")
            readings.append(compare_readings(found, shape=shape, order=order, image_yx=image_yx))
    except (ValueError, OSError):
        return False
    return any(has_streaks(one) for one in readings) or fits_image_better(readings)


def rle_settings(path: str, table: RunTable) -> AnnotationSettings:
    """Return the section of a table, as its reader takes it."""
    known = table.is_known
    return {
        "format": "rle", "table": path, "path": None, "order": None,
        "sample_column": None if known else table.sample_column, "rle_column": None if known else table.rle_column,
        "object_column": None, "foreground": None, "tracks": None, "markers": None, "ignore": None,
        "ignore_value": None, "object_type": None, "repair": "fill", "fragments": "keep", "min_object_px": 0,
    }  # fmt: skip


def read_coco_names(path: str) -> frozenset[str] | None:
    """Read the names of images in a COCO file; None if it is another JSON file."""
    names = []
    try:
        for kind, entry in islice(read_entries(path, ("images", "annotations"), where=path), 3 * ENTRIES):
            if kind == "images" and isinstance(entry, Mapping):
                names.append(strip_suffix(str(entry.get("file_name", ""))))
            if kind == "annotations" and (len(names) >= ENTRIES or names):
                break
    except (ValueError, OSError):
        return None
    return frozenset(names) if names else None


def describe_table(path: str, stems: set[str]) -> tuple[str, int] | None:
    """Return the column of a CSV table that holds names of images, and the number of these; None without one."""
    header, rows = _head(path)
    for column, name in enumerate(header):
        found = {strip_suffix(row[column].strip()) for row in rows} & stems
        if found and len(found) >= 0.5 * min(len(rows), len(stems)):
            return name, len(found)
    return None
