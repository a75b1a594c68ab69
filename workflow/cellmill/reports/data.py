"""The data chapter of a report: images and annotations by split, and the findings of the stage check.

No files are read here.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from cellmill.preprocessing.geometry import Geometry
from cellmill.reports.chapters import sort_parts
from cellmill.reports.wording import (  # fmt: skip
    MAX_ROWS,
    MISSING,
    Cell,
    Column,
    Table,
    count,
    hide_folders,
    say_list,
    say_percent,
    say_range,
    say_value,
    word,
)

SEVERITIES = ("error", "warning", "note")
PART_NOTES = {
    "gap": "between two blocks, neither trained on nor scored",
    "left out": "annotated, but in no part of the split table",
    "unlabelled": "without annotation",
}
MAX_NAMED = 5  # samples listed for the same finding


def describe_data(
    samples: Sequence[Mapping[str, Any]],
    *,
    images: Mapping[str, Mapping[str, Any]],
    annotations: Mapping[str, Mapping[str, Any]],
    pixel_size_um: float | None = None,
    geometries: Mapping[str, Geometry] | None = None,
) -> list[Table]:
    """Tabulate images by split, annotations by split, and classes by split if there are any.

    Parameters
    ----------
    samples : sequence of mappings
        Rows of the sample table.
    images, annotations : mapping
        Sample -> its row in images.csv and annotations.csv of the stage check.
    pixel_size_um : float, optional
        Edge of a pixel from the config, which takes precedence over the metadata.
    geometries : mapping, optional
        Sample -> its geometry, for the images whose preprocessed size is shown.

    Returns
    -------
    list of Table
    """
    parts = sort_parts({row["split"] for row in samples})
    changed = {sample: found for sample, found in (geometries or {}).items() if not found.is_unchanged}
    tables = [_tabulate_raw(samples, parts=parts, images=images, pixel_size_um=pixel_size_um, changed=changed)]
    if annotations:
        tables.append(_tabulate_truth(samples, parts=parts, annotations=annotations))
    if any(row.get("class") for row in samples):
        tally = Counter((row.get("class") or MISSING, row["split"]) for row in samples)
        classes = sorted({name for name, _ in tally})
        rows = [[word(name), *(count(tally[name, part]) for part in parts)] for name in classes]
        tables.append(
            Table("classes", "Images by class", [Column("Class"), *(Column(part, True) for part in parts)], rows)
        )
    return tables


def _tabulate_raw(
    samples: Sequence[Mapping[str, Any]],
    *,
    parts: Sequence[str],
    images: Mapping[str, Mapping[str, Any]],
    pixel_size_um: float | None,
    changed: Mapping[str, Geometry],
) -> Table:
    has_sequences = any(row.get("sequence") for row in samples)
    source = "metadata" if pixel_size_um is None else "config"
    columns = [Column("Split"), Column("Images", True)]
    columns += [Column("Sequences", True)] if has_sequences else []
    columns += [
        Column("Size", meaning="rows × columns, px"), Column("Pixel type"), Column("Values"),
        Column("Pixel size, µm", meaning=f"edge of a pixel, from the {source}"),
        Column("Saturated", True, "largest share of pixels at the top of the range in any image"),
        Column("Focus", True, "median over the images: variance of the Laplacian divided by the variance of the image, "
               "both after 2 × 2 averaging. Compare only within a dataset"), Column("Lowest focus", True),
    ]  # fmt: skip
    if changed:
        columns += [
            Column("Size for the networks", meaning="rows × columns after preprocessing, px, of the images shown here"),
            Column("Scale", meaning="diameter of an object in the networks' images divided by its diameter in the raw "
                   "images"),
        ]  # fmt: skip
    rows = []
    for part in parts:
        chosen = [row for row in samples if row["split"] == part]
        seen = [images[row["sample"]] for row in chosen if row["sample"] in images]
        saturated = max((entry["saturated_fraction"] for entry in seen), default=None)
        focus = [float(entry["focus"]) for entry in seen if entry["focus"] is not None]
        said = (entry[key] for entry in seen for key in ("pixel_height_um", "pixel_width_um"))
        edges = said if pixel_size_um is None else [pixel_size_um]
        cells = [replace(word(part), note=PART_NOTES.get(part, "")), count(len(chosen))]
        if has_sequences:
            cells.append(count(len({row["sequence"] for row in chosen if row.get("sequence")})))
        cells += [
            word(f"{say_range(e['rows'] for e in seen)} × {say_range(e['columns'] for e in seen)}"),
            word(say_list(sorted({str(entry["dtype"]) for entry in seen}), most=3)),
            word(say_range(value for entry in seen for value in (entry["minimum"], entry["maximum"]))),
            word(say_range(edges)),
            word("") if saturated is None else Cell(say_percent(saturated), saturated),
            *(Cell(say_value(value), value) for value in ((median(focus), min(focus)) if focus else (None, None))),
        ]
        if changed:
            cells += _say_sizes([changed[row["sample"]] for row in chosen if row["sample"] in changed])
        rows.append(cells)
    return Table("data", "Images by split", columns, rows)


def _say_sizes(geometries: Sequence[Geometry]) -> list[Cell]:
    if not geometries:
        return [word(""), word("")]
    rows, columns = (say_range(sizes) for sizes in zip(*(each.shape for each in geometries), strict=True))
    scales = (float(f"{each.area_scale**0.5:.3g}") for each in geometries)
    return [word(f"{rows} × {columns}"), word(say_range(scales))]


def _tabulate_truth(
    samples: Sequence[Mapping[str, Any]], *, parts: Sequence[str], annotations: Mapping[str, Mapping[str, Any]]
) -> Table:
    sums = (
        ("touching_border", Column("At the border", True, "objects that touch the border of their image")),
        ("overlapping", Column("Overlapping", True, "objects that share pixels with another object")),
        ("in_parts", Column("In parts", True, "objects that consist of several separate parts")),
        ("with_holes", Column("With holes", True, "objects with holes")),
        ("empty", Column("Empty", True, "annotations without a pixel")),
        ("broken", Column("Broken", True, "annotations with an invalid outline")),
        ("ignored_px", Column("Ignored, px", True, "ignored pixels, which are neither trained on nor scored")),
    )
    columns = [
        Column("Split"), Column("Annotated images", True), Column("Objects", True),
        Column("Without objects", True, "annotated images without objects"), Column("Objects per image"),
        Column("Median area, px", True, "median over the images of their median object area"),
        Column("Areas, px", meaning="smallest to largest object"),
    ]  # fmt: skip
    rows = []
    for part in parts:
        known = [annotations[row["sample"]] for row in samples if row["split"] == part and row["sample"] in annotations]
        if not known:
            continue
        medians = [float(entry["median_area_px"]) for entry in known if entry["median_area_px"] is not None]
        cells = [
            word(part),
            count(len(known)),
            count(sum(entry["objects"] for entry in known)),
            count(sum(not entry["objects"] for entry in known)),
            word(say_range(entry["objects"] for entry in known)),
            Cell(say_value(median(medians)), median(medians)) if medians else word(""),
            word(say_range(entry[key] for entry in known for key in ("min_area_px", "max_area_px"))),
        ]
        rows.append(cells + [count(sum(entry[key] for entry in known)) for key, _ in sums])
    return Table("annotations", "Annotations by split", [*columns, *(column for _, column in sums)], rows)


def list_findings(findings: Iterable[Mapping[str, Any]]) -> Table:
    """Tabulate findings, the most severe first.

    Findings of the same severity and remedy share a row; if their texts differ, the first is shown.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in findings:
        groups.setdefault((entry["severity"], str(entry.get("advice") or entry["finding"])), []).append(entry)
    order = {severity: index for index, severity in enumerate(SEVERITIES)}
    ranked = sorted(groups.items(), key=lambda item: (order.get(item[0][0], len(order)), -len(item[1])))
    columns = [Column("Severity"), Column("Images", True), Column("Image"), Column("Finding"), Column("What to do")]
    rows = []
    for (severity, _), same in ranked:
        names = list(dict.fromkeys(str(entry["sample"]) for entry in same if entry.get("sample")))
        places = names or [hide_folders(str(same[0].get("where") or ""))]
        alike = len({entry["finding"] for entry in same}) > 1
        rows.append(
            [
                Cell(severity, order.get(severity, len(order)), style=f"severity {severity}"),
                count(len(names) or None),
                word(say_list(places, most=MAX_NAMED)),
                replace(word(hide_folders(str(same[0]["finding"]))), note="and similar findings" if alike else ""),
                word(hide_folders(str(same[0].get("advice") or ""))),
            ]
        )
    return Table("findings", "Findings", columns, rows[:MAX_ROWS], max(0, len(rows) - MAX_ROWS), "check/summary.csv")
