"""Draw many objects into one label image: object numbers, and which object gets the pixels where objects overlap."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from cellmill.annotations.instance import Instance
from cellmill.images.stored import BAND_PIXELS, IGNORE_LABEL, list_bands


@dataclass
class Drawing:
    """Objects of one image, to be drawn into one label image band by band; drawing fills `contests`.

    A contested pixel goes to the smaller object, or to the first of two objects of equal size. Objects are drawn over
    ignored regions. `contests` counts for (object, other) the pixels of `other` that went to `object`. The sum of all
    object areas minus these pixels is the number of labelled pixels, so every lost pixel is recorded.
    """

    shape: tuple[int, int]
    instances: Sequence[Instance]
    numbers: Sequence[int]
    ignored: Sequence[Instance] = ()
    faults: list[tuple[int, str, str, int]] = field(default_factory=list)
    contests: Counter[tuple[int, int]] = field(default_factory=Counter)

    def bands(self, max_pixels: int = BAND_PIXELS) -> Iterator[np.ndarray]:
        """Draw the bands from top to bottom.

        Yields
        ------
        ndarray of uint32, shape (rows, columns)
            0 background, 65535 ignored pixels, other numbers objects.
        """
        self.contests.clear()
        # SOURCE specification 4.4: the smaller instance is drawn later, over the larger one
        areas = [instance.area_px for instance in self.instances]
        order = sorted(range(len(areas)), key=lambda i: (areas[i], i), reverse=True)
        tops = np.array([self.instances[i].row for i in order])
        bottoms = tops + np.array([self.instances[i].mask_yx.shape[0] for i in order], dtype=int)
        for rows in list_bands(self.shape, pixels=max_pixels):
            first, last = rows.start, rows.stop
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
    """Return the part of a band inside an object's bounding box, as a view, and the object's mask there."""
    rows, columns = instance.box
    top, bottom = max(rows.start, first), min(rows.stop, first + band_yx.shape[0])
    if top >= bottom:
        return band_yx[:0], np.zeros((0, band_yx.shape[1]), dtype=bool)
    return band_yx[top - first : bottom - first, columns], instance.mask_yx[top - rows.start : bottom - rows.start]


def choose_numbers(instances: Sequence[Instance]) -> list[int]:
    """Choose object numbers: those of the annotation if all are unique and from 1 to 65534, else 1, 2, 3 and so on.

    65535 is skipped because it marks ignored pixels.
    """
    given = [instance.number for instance in instances]
    usable = [number for number in given if number is not None and 0 < number < IGNORE_LABEL]
    if len(set(usable)) == len(instances):
        return usable
    return [number + (number >= IGNORE_LABEL) for number in range(1, len(instances) + 1)]
