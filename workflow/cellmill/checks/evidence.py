"""Measure in one image what shows that its annotations do not mean what was read from them.

The judgement needs all images of a dataset: see `worth.py`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.ndimage import label as label_components

from cellmill.annotations.instance import AnnotationSettings, Instance

# Objects per image whose parts are counted: a mask read as a label image has one number or a few.
COUNTED_OBJECTS = 20
# Smaller parts of an object are debris: fraction of its largest part.
KEPT_PART = 0.1
# An object spans the image if its bounding box covers this fraction of rows and of columns.
SPANNING = 0.95
# Objects per image, the largest ones, that are tested for surrounding others.
TESTED_OBJECTS = 5
# Enclosed regions with fewer pixels are debris.
ENCLOSED_PX = 4
# Larger masks are subsampled before their holes are counted.
MAX_PIXELS = 2**24
SHOWN_FAULTS = 3
SHOWN_NUMBERS = 3

TOUCHING = np.ones((3, 3), dtype=bool)


def measure_evidence(
    instances: Sequence[Instance], *, shape: tuple[int, int], annotations: AnnotationSettings
) -> dict[str, Any]:
    """Measure what `judge_annotations` compares between the images of a dataset.

    Parameters
    ----------
    instances : sequence of Instance
        Annotations of one image, as read.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section; `format`, `min_object_px` are read.

    Returns
    -------
    dict
        annotations (count, without ignored pixels of other files); crowds (ignored annotations of a COCO file); faults
        (fault of an outline -> count, the most frequent ones); tiny (objects below min_object_px); parts (large parts
        of the first 20 objects) of counted (that many objects); numbers (of the objects in a label image, the first
        three); enclosed (regions that the largest object surrounds, None unless it spans the image); surrounding (those
        of the five largest objects that span the image and surround a region); largest_fraction (of the image, by the
        largest object), largest_number; is_full (one object covers every pixel); reach_px (top, left, bottom and right
        of the box around all objects, or None).
    """
    own = [one for one in instances if not one.is_ignored]
    crowds = [one for one in instances if one.is_ignored and annotations["format"] == "coco" and _is_entry(one)]
    objects = [one for one in own if one.area_px > 0]
    tested = sorted(objects, key=lambda one: -one.area_px)[:TESTED_OBJECTS]
    largest = tested[0] if tested else None
    enclosed = [count_enclosed(one, shape=shape) for one in tested]
    counted = objects[:COUNTED_OBJECTS]
    fraction = 0.0 if largest is None else largest.area_px / (shape[0] * shape[1])
    faults = Counter(one.broken for one in own if one.broken)
    return {
        "annotations": len(own) + len(crowds),
        "crowds": len(crowds),
        "faults": dict(faults.most_common(SHOWN_FAULTS)),
        "tiny": sum(one.area_px < annotations["min_object_px"] for one in objects),
        "parts": sum(count_large_parts(one.mask_yx) for one in counted),
        "counted": len(counted),
        "numbers": [one.number for one in objects if one.number is not None][:SHOWN_NUMBERS],
        "enclosed": enclosed[0] if enclosed else None,
        "surrounding": sum(bool(count) for count in enclosed),
        "largest_fraction": fraction,
        "largest_number": None if largest is None else largest.number,
        "is_full": len(objects) == 1 and fraction == 1.0,
        "reach_px": _box_around(objects),
    }


def count_large_parts(mask_yx: np.ndarray) -> int:
    """Count the 8-connected components of a mask with at least a tenth of the pixels of the largest."""
    parts_yx, count = label_components(mask_yx, structure=TOUCHING)
    if count < 2:
        return int(count)
    areas = np.bincount(parts_yx.ravel())[1:]
    return int(np.count_nonzero(areas >= KEPT_PART * areas.max()))


def count_enclosed(instance: Instance, *, shape: tuple[int, int]) -> int | None:
    """Count the regions that an object surrounds, if it spans the image as a background does.

    Parameters
    ----------
    instance : Instance
        Not empty.
    shape : tuple of int
        (rows, columns) of the image.

    Returns
    -------
    int or None
        Regions of at least 4 px that do not reach the border of the bounding box; None if the box is smaller than 95 %
        of the rows or columns of the image.
    """
    rows, columns = instance.mask_yx.shape
    if rows < SPANNING * shape[0] or columns < SPANNING * shape[1]:
        return None
    step = int(np.ceil(np.sqrt(rows * columns / MAX_PIXELS)))
    regions_yx, _ = label_components(~instance.mask_yx[::step, ::step])
    areas = np.bincount(regions_yx.ravel())
    areas[0] = 0
    for edge in (regions_yx[0], regions_yx[-1], regions_yx[:, 0], regions_yx[:, -1]):
        areas[edge] = 0
    return int(np.count_nonzero(areas >= ENCLOSED_PX))


def _is_entry(instance: Instance) -> bool:
    """Check whether an ignored region is an entry of the annotation file, and no file of ignored pixels."""
    return instance.source.startswith("annotation ")


def _box_around(objects: Sequence[Instance]) -> list[int] | None:
    if not objects:
        return None
    edges = np.array([[one.row, one.column, one.box[0].stop, one.box[1].stop] for one in objects])
    return [*edges[:, :2].min(axis=0).tolist(), *edges[:, 2:].max(axis=0).tolist()]
