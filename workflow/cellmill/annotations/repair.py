"""Repair each object's mask separately, before objects are merged, and list the changes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.ndimage import binary_closing, binary_fill_holes, find_objects
from scipy.ndimage import label as label_components

from cellmill.annotations.drawing import choose_numbers
from cellmill.annotations.instance import Instance

TOUCHING = np.ones((3, 3), dtype=bool)
# SOURCE 11th place of Sartorius 2021: smaller parts of a broken mask are debris
KEPT_PART = 0.1


def repair_instances(
    instances: Sequence[Instance], *, repair: str, fragments: str, min_object_px: int
) -> tuple[list[Instance], list[tuple[int, str, str, int]]]:
    """Repair each object's mask separately, and list the faults.

    Parameters
    ----------
    instances : sequence of Instance
        In the order of the annotations.
    repair : "none", "fill" or "fill_close"
        As in `repair_mask`.
    fragments : "keep", "largest" or "split"
        How to treat parts that do not touch: as one object, only the largest part, or each part as an object.
    min_object_px : int, >= 0
        Objects of fewer pixels are dropped.

    Returns
    -------
    list of Instance
        The remaining objects.
    list of tuple
        (object, fault, detail, pixels): `empty`, `broken` (a faulty outline), `components` (pixels outside the largest
        part, before repair), `repaired` (pixels that changed), `fragments` (pixels of parts that were dropped or
        became objects), `tiny` (pixels of a dropped object). Object 0 stands for objects without a number.
    """
    kept: list[Instance] = []
    found: list[tuple[int | None, str, str, int]] = []
    for instance in instances:
        # The index in `kept` identifies the object until numbers are assigned.
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
            detail = "only the largest part kept" if fragments == "largest" else "each part became an object"
            found.append((place, "fragments", detail, lost))
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
    """Return an object unchanged, only its largest part, or each part as an object, the largest first."""
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
    # the largest part keeps the number, because objects cannot share it
    return [replace(part, number=part.number if i == 0 else None) for i, part in enumerate(parts)]


def repair_mask(mask_yx: np.ndarray, *, repair: str) -> np.ndarray:
    """Repair the mask of one object.

    Parameters
    ----------
    mask_yx : ndarray of bool
        The object inside its bounding box, not empty.
    repair : "none", "fill" or "fill_close"
        fill: fill holes. fill_close: close with 3x3 pixels, fill holes, then keep the largest part and parts of at
        least a tenth of its area.

    Returns
    -------
    ndarray of bool, same shape
        No pixel outside the bounding box is added.

    Notes
    -----
    Masks filled from drawn outlines by a convex polygon have streaks, holes and fragments.
    """
    assert repair in ("none", "fill", "fill_close")
    if repair == "none":
        return mask_yx
    if repair == "fill":
        return binary_fill_holes(mask_yx)
    # Without the margin, scipy's closing would erode the object where it touches the box.
    closed_yx = binary_closing(np.pad(mask_yx, 2), structure=TOUCHING)[2:-2, 2:-2]
    filled_yx = binary_fill_holes(closed_yx)
    parts_yx, _ = label_components(filled_yx, structure=TOUCHING)
    areas = np.bincount(parts_yx.ravel())
    areas[0] = 0
    return (areas >= KEPT_PART * areas.max())[parts_yx] & filled_yx


def _component_areas(mask_yx: np.ndarray) -> np.ndarray:
    parts_yx, _ = label_components(mask_yx, structure=TOUCHING)
    return np.bincount(parts_yx.ravel())[1:]
