"""Stage rasterize: the annotations of every image as one label image, in the geometry of the raw image."""

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_closing, binary_fill_holes
from scipy.ndimage import label as label_components

from cellmill.annotations.masks import Instance, read_binary, read_label_image, read_mask_folder
from cellmill.annotations.table import read_rle, read_rle_table
from cellmill.images import IGNORE_LABEL, raise_together, read_shape, write_labels
from cellmill.shards import shard_folder

logger = logging.getLogger(__name__)

# format -> how the objects of one sample are read
READERS: dict[str, Callable[..., list[Instance]]] = {
    "rle": read_rle,
    "mask_folder": read_mask_folder,
    "label_image": read_label_image,
    "binary": read_binary,
}
# format -> how a file that all samples share is read, once a shard
TABLE_READERS: dict[str, Callable[..., dict[str, Any]]] = {
    "rle": read_rle_table,
}

TOUCHING = np.ones((3, 3), dtype=bool)
# SOURCE 11th place of Sartorius 2021: smaller parts of a broken mask are debris
KEPT_PART = 0.1

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
    """Turn the annotations of one shard into label images.

    Parameters
    ----------
    output_dir : path
        Shard folder: {sample}.tif (integers, YX, 0 background), objects.csv (where each object comes from),
        faults.csv, overlaps.csv, manifest.json.
    samples : sequence of mappings
        Rows of the sample table; `sample`, `image` and `annotations` are read.
    annotations : mapping
        format, table, order, sample_column, rle_column, foreground, repair.
    missing : "error", "unlabelled" or "empty"
        What an image without annotation is: with "empty" an image without objects, else an error, because
        unlabelled images are in no shard of labels.

    Raises
    ------
    ValueError
        One that lists every annotation that cannot be used.
    """
    table = open_table(annotations, samples=samples)
    problems = explain_missing(samples, annotations=annotations, table=table, missing=missing)
    faults, overlaps, objects = [], [], []
    with shard_folder(output_dir) as folder:
        for row in samples:
            sample = row["sample"]
            try:
                shape = read_shape(row["image"])
                instances = read_instances(row, shape=shape, annotations=annotations, table=table)
            except ValueError as error:
                problems.append(str(error))
                continue
            instances, found = repair_instances(instances, repair=annotations["repair"])
            numbers = number_objects(len(instances))
            labels_yx, contested = resolve_overlaps(instances, numbers=numbers, shape=shape)
            found += _find_hidden(instances, numbers=numbers, contested=contested)
            write_labels(folder / f"{sample}.tif", labels_yx)
            faults += [(sample, *fault) for fault in found]
            overlaps += [(sample, *overlap) for overlap in contested]
            objects += [(sample, number, inst.source) for number, inst in zip(numbers, instances, strict=True)]
            logger.info(
                "%s: %d objects, %d faults, %d contested px",
                *(sample, len(instances), len(found), sum(pixels for *_, pixels in contested)),
            )
        raise_together(problems, subject="annotations")
        _write_table(folder / "faults.csv", FAULT_COLUMNS, faults)
        _write_table(folder / "overlaps.csv", OVERLAP_COLUMNS, overlaps)
        _write_table(folder / "objects.csv", OBJECT_COLUMNS, objects)


def open_table(annotations: Mapping[str, Any], *, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Read what the samples of a shard have in a file that all samples share; None for other formats."""
    if annotations["format"] not in TABLE_READERS:
        return None
    return TABLE_READERS[annotations["format"]](annotations, samples=[row["sample"] for row in samples])


def has_annotation(row: Mapping[str, Any], *, table: Mapping[str, Any] | None) -> bool:
    """Say whether anybody annotated a sample, be it as empty."""
    return row["sample"] in table if table is not None else bool(row["annotations"])


def explain_missing(
    samples: Sequence[Mapping[str, Any]],
    *,
    annotations: Mapping[str, Any],
    table: Mapping[str, Any] | None,
    missing: str,
) -> list[str]:
    """Say which samples lack an annotation where each has to have one.

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
    """Read the objects of one sample, whatever the format.

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
        In the order of the annotations; none where there is no annotation.

    Raises
    ------
    ValueError
        If the annotation cannot be used; a line for each fault.
    """
    if not has_annotation(row, table=table):
        return []
    return READERS[annotations["format"]](row, shape=shape, annotations=annotations, table=table)


def repair_instances(
    instances: Sequence[Instance], *, repair: str
) -> tuple[list[Instance], list[tuple[int, str, str, int]]]:
    """Repair the mask of every object by itself, and list what was wrong.

    Parameters
    ----------
    instances : sequence of Instance
        In the order of the annotations.
    repair : "none", "fill" or "fill_close"
        As in `repair_mask`.

    Returns
    -------
    list of Instance
        Those that have pixels; their place in it is the number of the object.
    list of tuple
        (object, fault, detail, pixels): `empty` (object 0, for it gets no number), `components` (pixels outside
        the largest part, before repair), `repaired` (pixels that changed).
    """
    kept: list[Instance] = []
    faults: list[tuple[int, str, str, int]] = []
    numbers = number_objects(len(instances))
    for instance in instances:
        if instance.area_px == 0:
            faults.append((0, "empty", instance.source, 0))
            continue
        number = numbers[len(kept)]
        areas = _component_areas(instance.mask_yx)
        if len(areas) > 1:
            faults.append((number, "components", f"{len(areas)} parts", int(areas.sum() - areas.max())))
        mask_yx = repair_mask(instance.mask_yx, repair=repair)
        added = int(np.count_nonzero(mask_yx & ~instance.mask_yx))
        removed = int(np.count_nonzero(instance.mask_yx & ~mask_yx))
        if added or removed:
            faults.append((number, "repaired", f"{added} px added, {removed} px removed", added + removed))
        kept.append(replace(instance, mask_yx=mask_yx))
    return kept, faults


def repair_mask(mask_yx: np.ndarray, *, repair: str) -> np.ndarray:
    """Repair the mask of one object.

    Parameters
    ----------
    mask_yx : ndarray of bool
        The object inside its bounding box, not empty.
    repair : "none", "fill" or "fill_close"
        fill: holes become object. fill_close: closing by 3x3 pixels, then fill, then the largest part and those of
        at least a tenth of it.

    Returns
    -------
    ndarray of bool, same shape
        Neither closing nor filling leaves the bounding box.

    Notes
    -----
    Annotations that were drawn as outlines and filled by a convex polygon show streaks, holes and fragments.
    """
    assert repair in ("none", "fill", "fill_close")
    if repair == "none":
        return mask_yx
    if repair == "fill":
        return binary_fill_holes(mask_yx)
    # The margin keeps scipy's closing from eating the object where it touches the box.
    closed_yx = binary_closing(np.pad(mask_yx, 2), structure=TOUCHING)[2:-2, 2:-2]
    filled_yx = binary_fill_holes(closed_yx)
    parts_yx, _ = label_components(filled_yx, structure=TOUCHING)
    areas = np.bincount(parts_yx.ravel())
    areas[0] = 0
    return (areas >= KEPT_PART * areas.max())[parts_yx] & filled_yx


def number_objects(count: int) -> list[int]:
    """Give the numbers of `count` objects: 1, 2, 3 and so on, without 65535, which marks ignored pixels."""
    return [number + (number >= IGNORE_LABEL) for number in range(1, count + 1)]


def resolve_overlaps(
    instances: Sequence[Instance], *, numbers: Sequence[int], shape: tuple[int, int]
) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Draw objects into one label image; a contested pixel goes to the smaller object.

    Parameters
    ----------
    instances : sequence of Instance
        None empty.
    numbers : sequence of int
        The number of each.
    shape : tuple of int
        (rows, columns) of the image.

    Returns
    -------
    ndarray of uint32, shape (rows, columns)
        0 where no object is. Of two objects of one size the first keeps its pixels.
    list of tuple
        (object, other, pixels): so many pixels of `other` went to `object`. The areas of all objects less these
        pixels are the labelled pixels: nothing is lost unseen.
    """
    labels_yx = np.zeros(shape, dtype=np.uint32)
    contested: list[tuple[int, int, int]] = []
    # SOURCE specification 4.4: the smaller instance is drawn later, over the larger one
    order = sorted(range(len(instances)), key=lambda i: (instances[i].area_px, i), reverse=True)
    for i in order:
        view_yx = labels_yx[instances[i].box]
        owners, pixels = np.unique(view_yx[instances[i].mask_yx], return_counts=True)
        contested += [
            (numbers[i], int(owner), int(count)) for owner, count in zip(owners, pixels, strict=True) if owner != 0
        ]
        view_yx[instances[i].mask_yx] = numbers[i]
    return labels_yx, sorted(contested)


def _find_hidden(
    instances: Sequence[Instance], *, numbers: Sequence[int], contested: Sequence[tuple[int, int, int]]
) -> list[tuple[int, str, str, int]]:
    """List the objects that lost every pixel to others: they are in no label image."""
    left = {number: instance.area_px for number, instance in zip(numbers, instances, strict=True)}
    areas = dict(left)
    for _, other, pixels in contested:
        left[other] -= pixels
    return [
        (number, "hidden", "every pixel lies in smaller objects", areas[number])
        for number in numbers
        if left[number] == 0
    ]


def _component_areas(mask_yx: np.ndarray) -> np.ndarray:
    parts_yx, _ = label_components(mask_yx, structure=TOUCHING)
    return np.bincount(parts_yx.ravel())[1:]


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
