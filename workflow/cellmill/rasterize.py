"""Stage rasterize: draw the annotations of every image as one label image, in the geometry of the raw image."""

import csv
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cellmill.annotations.coco import read_coco, read_coco_table
from cellmill.annotations.color_components import read_color_components
from cellmill.annotations.ctc import read_ctc
from cellmill.annotations.drawing import Drawing, choose_numbers
from cellmill.annotations.imagej_roi import read_imagej_roi
from cellmill.annotations.masks import Instance, read_binary, read_ignored, read_label_image, read_mask_folder
from cellmill.annotations.repair import repair_instances
from cellmill.annotations.table import read_rle, read_rle_table
from cellmill.images import IGNORE_LABEL, raise_together, read_shape, write_label_bands
from cellmill.shards import shard_folder

logger = logging.getLogger(__name__)

# format -> reader of the objects of one sample
READERS: dict[str, Callable[..., list[Instance]]] = {
    "rle": read_rle,
    "coco": read_coco,
    "mask_folder": read_mask_folder,
    "label_image": read_label_image,
    "binary": read_binary,
    "ctc": read_ctc,
    "color_components": read_color_components,
    "imagej_roi": read_imagej_roi,
}
# format -> reader of a file that all samples share, called once per shard
TABLE_READERS: dict[str, Callable[..., dict[str, Any]]] = {
    "rle": read_rle_table,
    "coco": read_coco_table,
}

FAULT_COLUMNS = ("sample", "object", "fault", "detail", "pixels")
OVERLAP_COLUMNS = ("sample", "object", "other", "pixels")
OBJECT_COLUMNS = ("sample", "object", "source")


def rasterize_shard(
    *,
    output_dir: str | Path,
    samples: Sequence[Mapping[str, Any]],
    annotations: Mapping[str, Any],
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
        raise_together(problems, subject="annotations")
        _write_table(folder / "faults.csv", FAULT_COLUMNS, rows["faults"])
        _write_table(folder / "overlaps.csv", OVERLAP_COLUMNS, rows["overlaps"])
        _write_table(folder / "objects.csv", OBJECT_COLUMNS, rows["objects"])


def draw_sample(row: Mapping[str, Any], *, annotations: Mapping[str, Any], table: Mapping[str, Any] | None) -> Drawing:
    """Read and repair the objects of one sample.

    Parameters
    ----------
    row, annotations, table
        As in `read_instances`.

    Returns
    -------
    Drawing
        The objects, not drawn yet.

    Raises
    ------
    ValueError
        If the annotation cannot be used.
    """
    shape = read_shape(row["image"], plane=row.get("plane", ()))
    instances = read_instances(row, shape=shape, annotations=annotations, table=table)
    ignored = [instance for instance in instances if instance.is_ignored]
    objects, faults = repair_instances(
        [instance for instance in instances if not instance.is_ignored],
        repair=annotations["repair"],
        fragments=annotations["fragments"],
        min_object_px=annotations["min_object_px"],
    )
    faults += [(0, "ignored", instance.source, instance.area_px) for instance in ignored]
    return Drawing(shape, objects, choose_numbers(objects), ignored, faults)


def open_table(annotations: Mapping[str, Any], *, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Read the entries of a shard's samples from the file that all samples share; None for other formats."""
    if annotations["format"] not in TABLE_READERS:
        return None
    return TABLE_READERS[annotations["format"]](annotations, samples=[row["sample"] for row in samples])


def has_annotation(row: Mapping[str, Any], *, table: Mapping[str, Any] | None) -> bool:
    """Check whether a sample has an annotation, even an empty one."""
    return row["sample"] in table if table is not None else bool(row["annotations"])


def explain_missing(
    samples: Sequence[Mapping[str, Any]],
    *,
    annotations: Mapping[str, Any],
    table: Mapping[str, Any] | None,
    missing: str,
) -> list[str]:
    """List the samples without annotation in a message, if every sample needs one.

    Parameters
    ----------
    samples, annotations, missing
        As in `rasterize_shard`.
    table : mapping or None
        From `open_table`.

    Returns
    -------
    list of str
        One message for all samples, or none.
    """
    lacking = [row["sample"] for row in samples if not has_annotation(row, table=table)]
    if missing == "empty" or not lacking:
        return []
    names = ", ".join(lacking[:5]) + (" and others" if len(lacking) > 5 else "")
    return [
        f"{annotations['table'] or annotations['path']}: expected an annotation for every image, found none for "
        f"{len(lacking)} of {len(samples)}: {names}. Add them, or set annotations.missing to unlabelled "
        "(predicted only) or to empty (an image without objects)."
    ]


def read_instances(
    row: Mapping[str, Any],
    *,
    shape: tuple[int, int],
    annotations: Mapping[str, Any],
    table: Mapping[str, Any] | None,
) -> list[Instance]:
    """Read the objects of one sample in any format.

    Parameters
    ----------
    row : mapping
        Row of the sample table.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section.
    table : mapping or None
        From `open_table`.

    Returns
    -------
    list of Instance
        In the order of the annotations, including ignored regions; empty if there is no annotation.

    Raises
    ------
    ValueError
        If the annotation cannot be used; one line per fault.
    """
    if not has_annotation(row, table=table):
        return []
    instances = READERS[annotations["format"]](row, shape=shape, annotations=annotations, table=table)
    return instances + read_ignored(row, shape=shape)


def _find_hidden(drawing: Drawing) -> list[tuple[int, str, str, int]]:
    """List the objects that lost every pixel to others and are therefore missing from the label image."""
    areas = {number: inst.area_px for number, inst in zip(drawing.numbers, drawing.instances, strict=True)}
    left = Counter(areas)
    for (_, other), pixels in drawing.contests.items():
        left[other] -= pixels
    return [
        (number, "hidden", "every pixel lies in smaller objects", area)
        for number, area in areas.items()
        if left[number] == 0
    ]


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
