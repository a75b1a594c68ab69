"""Stage rasterize: draw the annotations of every image as one label image, in the geometry of the raw image."""

import csv
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellmill.annotations.drawing import Drawing
from cellmill.annotations.instance import AnnotationSettings
from cellmill.annotations.rasterizing import draw_sample
from cellmill.annotations.reading import explain_missing, open_table
from cellmill.images.content import explain_changes
from cellmill.images.files import raise_together
from cellmill.images.stored import IGNORE_LABEL, write_label_bands
from cellmill.shards import shard_folder

logger = logging.getLogger(__name__)


FAULT_COLUMNS = ("sample", "object", "fault", "detail", "pixels")
OVERLAP_COLUMNS = ("sample", "object", "other", "pixels")
OBJECT_COLUMNS = ("sample", "object", "source")


def rasterize_shard(
    *,
    output_dir: str | Path,
    samples: Sequence[Mapping[str, Any]],
    annotations: AnnotationSettings,
    missing: str,
) -> None:
    """Convert the annotations of one shard to label images.

    Parameters
    ----------
    output_dir : path
        Shard folder: {sample}.tif (integers, YX, 0 background), objects.csv (the source of each object),
        faults.csv, overlaps.csv, manifest.json.
    samples : sequence of mappings
        Rows of the sample table; `sample`, `image`, `annotations`, `frame`, `extra` and the position in a stack are
        read.
    annotations : mapping
        The config section; format, path, table, its columns and order, foreground, ignore_value, repair, fragments
        and min_object_px are read.
    missing : "error", "unlabelled" or "empty"
        How to treat an image without annotation: with "empty" it has no objects, else it is an error, because
        shards of labels contain no unlabelled images.

    Raises
    ------
    ValueError
        If annotations cannot be used; the message lists all of them.
    """
    table = open_table(annotations, samples=samples)
    problems = explain_missing(samples, annotations=annotations, table=table, missing=missing)
    rows: dict[str, list[tuple[Any, ...]]] = {"faults": [], "overlaps": [], "objects": []}
    with shard_folder(output_dir) as folder:
        for row in samples:
            try:
                drawing = draw_sample(row, annotations=annotations, table=table)
                write_label_bands(
                    folder / f"{row['sample']}.tif",
                    drawing.bands(),
                    shape=drawing.shape,
                    highest=max([*drawing.numbers, IGNORE_LABEL if drawing.ignored else 0], default=0),
                )
            except ValueError as error:
                problems.append(str(error))
                continue
            found = drawing.faults + _find_hidden(drawing)
            rows["faults"] += [(row["sample"], *fault) for fault in found]
            rows["overlaps"] += [(row["sample"], *overlap) for overlap in drawing.contested()]
            rows["objects"] += [
                (row["sample"], number, instance.source)
                for number, instance in zip(drawing.numbers, drawing.instances, strict=True)
            ]
            logger.info(
                "%s: %d objects, %d faults, %d contested px",
                *(row["sample"], len(drawing.instances), len(found), sum(drawing.contests.values())),
            )
        raise_together([*problems, *explain_changes(samples)], subject="annotations")
        _write_table(folder / "faults.csv", FAULT_COLUMNS, rows["faults"])
        _write_table(folder / "overlaps.csv", OVERLAP_COLUMNS, rows["overlaps"])
        _write_table(folder / "objects.csv", OBJECT_COLUMNS, rows["objects"])


def _find_hidden(drawing: Drawing) -> list[tuple[int, str, str, int]]:
    """List the objects that lost every pixel to others and are therefore missing from the label image."""
    areas = {number: inst.area_px for number, inst in zip(drawing.numbers, drawing.instances, strict=True)}
    left = Counter(areas)
    for (_, other), pixels in drawing.contests.items():
        left[other] -= pixels
    return [
        (number, "hidden", "every pixel belongs to smaller objects", area)
        for number, area in areas.items()
        if left[number] == 0
    ]


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
