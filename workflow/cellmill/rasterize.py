"""Stage rasterize: the annotations of every image as one label image, in the geometry of the raw image."""

import csv
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import binary_closing, binary_fill_holes, find_objects
from scipy.ndimage import label as label_components

from cellmill.annotations.coco import read_coco, read_coco_table
from cellmill.annotations.color_components import read_color_components
from cellmill.annotations.ctc import read_ctc
from cellmill.annotations.imagej_roi import read_imagej_roi
from cellmill.annotations.masks import Instance, read_binary, read_ignored, read_label_image, read_mask_folder
from cellmill.annotations.table import read_rle, read_rle_table
from cellmill.images import IGNORE_LABEL, raise_together, read_shape, write_label_bands
from cellmill.shards import shard_folder

logger = logging.getLogger(__name__)

# format -> how the objects of one sample are read
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
# format -> how a file that all samples share is read, once a shard
TABLE_READERS: dict[str, Callable[..., dict[str, Any]]] = {
    "rle": read_rle_table,
    "coco": read_coco_table,
}

# Pixels drawn together: a slide's labels take the memory of a band and of its objects.
BAND_PIXELS = 2**22
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


def draw_sample(
    row: Mapping[str, Any], *, annotations: Mapping[str, Any], table: Mapping[str, Any] | None
) -> "Drawing":
    """Read and repair the objects of one sample.

    Parameters
    ----------
    row, annotations, table
        As in `read_instances`.

    Returns
    -------
    Drawing
        Nothing is drawn yet.

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


@dataclass
class Drawing:
    """The objects of one image, to be drawn into one label image band by band; `contests` is filled while drawing.

    A contested pixel goes to the smaller object, and of two objects of one size to the first. Ignored regions lie
    below all objects. `contests` counts for (object, other) the pixels of `other` that went to `object`: the areas of
    all objects less these pixels are the labelled pixels, so nothing is lost unseen.
    """

    shape: tuple[int, int]
    instances: Sequence[Instance]
    numbers: Sequence[int]
    ignored: Sequence[Instance] = ()
    faults: list[tuple[int, str, str, int]] = field(default_factory=list)
    contests: Counter[tuple[int, int]] = field(default_factory=Counter)

    def bands(self, max_pixels: int = BAND_PIXELS) -> Iterator[np.ndarray]:
        """Draw from top to bottom.

        Yields
        ------
        ndarray of uint32, shape (rows, columns)
            0 where no object is, 65535 where nobody annotated.
        """
        self.contests.clear()
        # SOURCE specification 4.4: the smaller instance is drawn later, over the larger one
        areas = [instance.area_px for instance in self.instances]
        order = sorted(range(len(areas)), key=lambda i: (areas[i], i), reverse=True)
        tops = np.array([self.instances[i].row for i in order])
        bottoms = tops + np.array([self.instances[i].mask_yx.shape[0] for i in order], dtype=int)
        height = max(1, max_pixels // self.shape[1])
        for first in range(0, self.shape[0], height):
            last = min(first + height, self.shape[0])
            band_yx = np.zeros((last - first, self.shape[1]), dtype=np.uint32)
            for instance in self.ignored:
                view_yx, mask_yx = _overlay(band_yx, instance, first=first)
                view_yx[mask_yx] = IGNORE_LABEL
            for place in np.flatnonzero((tops < last) & (bottoms > first)):
                self._draw(band_yx, order[place], first=first)
            yield band_yx

    def contested(self) -> list[tuple[int, int, int]]:
        """List (object, other, pixels), sorted, once all bands are drawn."""
        return sorted((number, other, pixels) for (number, other), pixels in self.contests.items())

    def _draw(self, band_yx: np.ndarray, i: int, *, first: int) -> None:
        view_yx, mask_yx = _overlay(band_yx, self.instances[i], first=first)
        owners, pixels = np.unique(view_yx[mask_yx], return_counts=True)
        for owner, count in zip(owners, pixels, strict=True):
            if owner not in (0, IGNORE_LABEL):
                self.contests[self.numbers[i], int(owner)] += int(count)
        view_yx[mask_yx] = self.numbers[i]


def _overlay(band_yx: np.ndarray, instance: Instance, *, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the part of a band where an object's box lies, and the object's mask there."""
    rows, columns = instance.box
    top, bottom = max(rows.start, first), min(rows.stop, first + band_yx.shape[0])
    if top >= bottom:
        return band_yx[:0], np.zeros((0, band_yx.shape[1]), dtype=bool)
    return band_yx[top - first : bottom - first, columns], instance.mask_yx[top - rows.start : bottom - rows.start]


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
        In the order of the annotations, ignored regions too; none where there is no annotation.

    Raises
    ------
    ValueError
        If the annotation cannot be used; a line for each fault.
    """
    if not has_annotation(row, table=table):
        return []
    instances = READERS[annotations["format"]](row, shape=shape, annotations=annotations, table=table)
    return instances + read_ignored(row, shape=shape)


def repair_instances(
    instances: Sequence[Instance], *, repair: str, fragments: str, min_object_px: int
) -> tuple[list[Instance], list[tuple[int, str, str, int]]]:
    """Repair the mask of every object by itself, and list what was wrong.

    Parameters
    ----------
    instances : sequence of Instance
        In the order of the annotations.
    repair : "none", "fill" or "fill_close"
        As in `repair_mask`.
    fragments : "keep", "largest" or "split"
        What parts are that do not touch: one object, the largest only, or an object each.
    min_object_px : int, >= 0
        Objects of fewer pixels are dropped.

    Returns
    -------
    list of Instance
        Those that are left.
    list of tuple
        (object, fault, detail, pixels): `empty`, `broken` (an outline that is more than its mask), `components`
        (pixels outside the largest part, before repair), `repaired` (pixels that changed), `fragments` (pixels of
        parts that were dropped or became objects), `tiny` (pixels of a dropped object). Object 0 is one that got no
        number.
    """
    kept: list[Instance] = []
    found: list[tuple[int | None, str, str, int]] = []
    for instance in instances:
        # The place in `kept` stands for the object until all have numbers.
        place = len(kept)
        if instance.broken:
            found.append((place if instance.area_px else None, "broken", instance.broken, 0))
        if instance.area_px == 0:
            found.append((None, "empty", instance.source, 0))
            continue
        areas = _component_areas(instance.mask_yx)
        if len(areas) > 1:
            found.append((place, "components", f"{len(areas)} parts", int(areas.sum() - areas.max())))
        mask_yx = repair_mask(instance.mask_yx, repair=repair)
        added = int(np.count_nonzero(mask_yx & ~instance.mask_yx))
        removed = int(np.count_nonzero(instance.mask_yx & ~mask_yx))
        if added or removed:
            found.append((place, "repaired", f"{added} px added, {removed} px removed", added + removed))
        parts = part_object(replace(instance, mask_yx=mask_yx), fragments=fragments)
        if (lost := int(np.count_nonzero(mask_yx)) - parts[0].area_px) > 0:
            found.append((place, "fragments", f"{fragments} of several parts", lost))
        for part in parts:
            if part.area_px < min_object_px:
                found.append((None, "tiny", part.source, part.area_px))
            else:
                kept.append(part)
        if len(kept) == place:
            found = [(None if i == place else i, *rest) for i, *rest in found]  # type: ignore[misc]
    numbers = choose_numbers(kept)
    return kept, [(0 if i is None else numbers[i], *rest) for i, *rest in found]  # type: ignore[misc]


def part_object(instance: Instance, *, fragments: str) -> list[Instance]:
    """Give what is left of an object of several parts: itself, its largest part, or each part, the largest first."""
    assert fragments in ("keep", "largest", "split")
    if fragments == "keep":
        return [instance]
    parts_yx, count = label_components(instance.mask_yx, structure=TOUCHING)
    if count == 1:
        return [instance]
    parts = [
        replace(
            instance, row=instance.row + box[0].start, column=instance.column + box[1].start,
            mask_yx=parts_yx[box] == number,
        )
        for number, box in enumerate(find_objects(parts_yx), start=1)
    ]  # fmt: skip
    parts.sort(key=lambda part: -part.area_px)
    if fragments == "largest":
        return parts[:1]
    # one number cannot stand for several objects
    return [replace(part, number=part.number if i == 0 else None) for i, part in enumerate(parts)]


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


def choose_numbers(instances: Sequence[Instance]) -> list[int]:
    """Number objects: as their annotation does where that numbers all of them, else 1, 2, 3 and so on.

    Never 65535, which marks ignored pixels.
    """
    given = [instance.number for instance in instances]
    usable = [number for number in given if number is not None and 0 < number < IGNORE_LABEL]
    if len(set(usable)) == len(instances):
        return usable
    return [number + (number >= IGNORE_LABEL) for number in range(1, len(instances) + 1)]


def _find_hidden(drawing: Drawing) -> list[tuple[int, str, str, int]]:
    """List the objects that lost every pixel to others: they are in no label image."""
    areas = {number: inst.area_px for number, inst in zip(drawing.numbers, drawing.instances, strict=True)}
    left = Counter(areas)
    for (_, other), pixels in drawing.contests.items():
        left[other] -= pixels
    return [
        (number, "hidden", "every pixel lies in smaller objects", area)
        for number, area in areas.items()
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
