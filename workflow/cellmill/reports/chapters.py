"""Chapters of a report, as tables and figures: the objects, and how to reproduce the results.

No files are read here.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import pandas as pd

from cellmill.reports.colours import ANNOTATION_STYLE
from cellmill.reports.comparison import final_scores
from cellmill.reports.figures import Curve, Figure, Key, Point, draw_curves, draw_histogram, draw_scatter
from cellmill.reports.results import Run
from cellmill.reports.wording import (  # fmt: skip
    MAX_ROWS,
    MISSING,
    Cell,
    Column,
    Table,
    count,
    say_count,
    say_list,
    say_value,
    score,
    word,
)

PART_ORDER = ("train", "validation", "test", "gap", "left out", "unlabelled")
NO_PART = ("gap", "left out", "unlabelled")
MAX_AREAS = 100_000  # in a histogram; more are thinned evenly
MAX_SEQUENCES = 6  # with counts drawn over time


def sort_parts(parts: Iterable[str]) -> list[str]:
    """Sort parts into the order train, validation, test, folds, gap, left out, unlabelled."""
    order = {part: index for index, part in enumerate(PART_ORDER)}
    return sorted(parts, key=lambda part: (order.get(part, 2.5), part))


def shared_sequences(samples: Iterable[Mapping[str, Any]]) -> list[str]:
    """List the sequences with frames in several parts of the split."""
    parts: dict[str, set[str]] = {}
    for row in samples:
        if row.get("sequence") and row["split"] not in NO_PART:
            parts.setdefault(str(row["sequence"]), set()).add(row["split"])
    return sorted(sequence for sequence, found in parts.items() if len(found) > 1)


def draw_sizes(runs: Sequence[Run], *, samples: Sequence[str], truth_areas_px: Sequence[float]) -> Figure | None:
    """Draw the size distribution of the objects of some images, predicted by each run and annotated.

    Parameters
    ----------
    runs : sequence of Run
        One for each model.
    samples : sequence of str
        The images; the annotated areas come from the same ones.
    truth_areas_px : sequence of float
        Areas of the annotated objects.

    Returns
    -------
    Figure or None
        None if there are no objects.
    """
    series: list[tuple[Key, Sequence[float]]] = []
    scale, unit = _area_unit(runs)
    if truth_areas_px:
        series.append((Key(ANNOTATION_STYLE, "annotated", "area"), [scale * area for area in _thin(truth_areas_px)]))
    for run in runs:
        areas = [scale * float(area) for sample in samples for area in run.areas.get(sample, ())]
        if areas:
            series.append((Key(run.style, run.model), _thin(areas)))
    if not series:
        return None
    medians = ", ".join(f"{key.label} {say_value(float(median(areas)))} {unit}" for key, areas in series)
    return draw_histogram(
        series, title="Size of the objects", x_label=f"area, {unit}", is_log=True, caption=f"Median: {medians}."
    )


def draw_intensities(runs: Sequence[Run], *, samples: Sequence[str]) -> Figure | None:
    """Draw the intensities of predicted objects in the raw images; None if they were not measured."""
    series: list[tuple[Key, Sequence[float]]] = []
    for run in runs:
        values = [float(value) for sample in samples for value in run.intensities.get(sample, ())]
        if values:
            series.append((Key(run.style, run.model), _thin(values)))
    if not series:
        return None
    medians = ", ".join(f"{key.label} {say_value(float(median(values)))}" for key, values in series)
    return draw_histogram(
        series, title="Intensity of the objects", x_label="mean intensity in the raw image", is_log=False,
        caption=f"Median: {medians}.",
    )  # fmt: skip


def draw_times(runs: Sequence[Run], *, rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """Draw the number of predicted objects over the frames of the first sequences; empty without sequences.

    Parameters
    ----------
    runs : sequence of Run
        One for each model.
    rows : sequence of mappings
        Rows of the sample table with sample, sequence and frame.
    """
    sequences: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("sequence"):
            sequences.setdefault(str(row["sequence"]), []).append(row)
    figures = []
    for name, members in list(sequences.items())[:MAX_SEQUENCES]:
        members = sorted(members, key=lambda row: int(row["frame"]))
        if len(members) < 2:
            continue
        frames = [float(row["frame"]) for row in members]
        curves = [
            Curve(run.model, run.style, frames, [run.counts.get(row["sample"]) for row in members]) for run in runs
        ]
        figures.append(
            draw_curves(
                curves, title=f"Objects over time, {name}", x_label="frame", y_label="predicted objects", is_log=False,
                mark_x=None, caption=f"{say_count(len(members))} frames.",
            )
        )  # fmt: skip
    return figures


def draw_counts(runs: Sequence[Run], *, scores: pd.DataFrame, samples: Sequence[str]) -> Figure:
    """Draw object counts of the images: predicted against annotated, or their distribution if nothing is scored."""
    points = []
    for run in runs:
        for row in final_scores(scores, run=run):
            true, predicted = row["n_true"], row["n_predicted"]
            says = f"{row['sample']}: {predicted:.0f} predicted by {run.model}, {true:.0f} annotated"
            points.append(Point(true, predicted, run.style, says))
    if points:
        return draw_scatter(
            points, title="Objects in each image", x_label="annotated", y_label="predicted", is_agreement=True,
            legend=tuple(Key(run.style, run.model, "dot") for run in runs),
            caption="One point per test image and model. On the line, both counts are equal.",
        )  # fmt: skip
    series = [
        (Key(run.style, run.model), [float(run.counts[sample]) for sample in samples if sample in run.counts])
        for run in runs
    ]
    return draw_histogram(
        series, title="Objects in each image", x_label="objects", is_log=False,
        caption=f"{say_count(len(samples))} images.",
    )  # fmt: skip


def tabulate_images(rows: Sequence[Mapping[str, Any]], *, runs: Sequence[Run], scores: pd.DataFrame) -> Table:
    """Tabulate the images: object counts of each model, and median object area and scores of the first model.

    Parameters
    ----------
    rows : sequence of mappings
        Rows of the sample table.
    runs : sequence of Run
        One for each model, the best first.
    scores : DataFrame
        scores.csv.

    Returns
    -------
    Table
    """
    has_class = any(row.get("class") for row in rows)
    best, (scale, unit) = runs[0], _area_unit(runs)
    of_best = {row["sample"]: row for row in final_scores(scores, run=best)}
    columns = [Column("Image"), Column("Split")] + ([Column("Class")] if has_class else [])
    columns += [Column("Annotated", True, "objects")] if of_best else []
    columns += [Column(f"Found, {run.model}" if len(runs) > 1 else "Found", True, "objects") for run in runs]
    columns.append(Column(f"Median area, {unit}", True, f"of the objects found by {best.model}"))
    columns += [Column("Dice", True), Column("AP (Kaggle)", True)] if of_best else []
    body = []
    for row in rows[:MAX_ROWS]:
        sample = row["sample"]
        cells = [word(sample), word(row["split"])] + ([word(row.get("class"))] if has_class else [])
        scored = of_best.get(sample, {})
        if of_best:
            cells.append(count(scored.get("n_true")))
        cells += [count(run.counts.get(sample)) for run in runs]
        areas = best.areas.get(sample, ())
        middle = scale * float(median(areas)) if len(areas) else None
        cells.append(Cell(MISSING if middle is None else say_value(middle), middle))
        if of_best:
            cells += [score(scored.get("dice")), score(scored.get("ap_kaggle"))]
        body.append(cells)
    return Table(
        "images", "Images", columns, body, max(0, len(rows) - MAX_ROWS), "scores.csv and objects.csv of the runs"
    )


def _area_unit(runs: Sequence[Run]) -> tuple[float, str]:
    """Return the area of a pixel and its unit: µm² if the pixel size is known, otherwise px."""
    scale = runs[0].um2_per_px
    return (1.0, "px") if scale is None else (float(scale), "µm²")


def _thin(values: Sequence[float]) -> Sequence[float]:
    return values[:: -(-len(values) // MAX_AREAS) or 1]


def tabulate_digests(digests: Sequence[tuple[str, str]]) -> Table:
    """Tabulate the digests of `list_digests`."""
    columns = [
        Column("Item"), Column("SHA-256", meaning="for the raw images, the hash of their hashes in check/images.csv")
    ]  # fmt: skip
    return Table("digests", "Hashes", columns, [[word(what), word(digest)] for what, digest in digests])


def tabulate_versions(recorded: Mapping[str, Mapping[str, str]]) -> tuple[Table, list[str]]:
    """Tabulate package versions, and list the packages that differ between stages.

    Parameters
    ----------
    recorded : mapping
        Place ("train unet") -> package -> version.

    Returns
    -------
    tuple
        The table, and the packages with several versions.
    """
    packages: dict[str, dict[str, list[str]]] = {}
    for place, of_place in recorded.items():
        for package, version in sorted(of_place.items()):
            packages.setdefault(package, {}).setdefault(str(version), []).append(place)
    mixed = sorted(package for package, found in packages.items() if len(found) > 1)
    rows = []
    for package in sorted(packages, key=str.lower):
        versions = packages[package]
        said = [
            f"{v} ({say_list(places, most=3)})" if package in mixed else v for v, places in sorted(versions.items())
        ]
        rows.append([word(package), word("; ".join(said))])
    return Table("versions", "Package versions", [Column("Package"), Column("Version")], rows), mixed
