"""One number for an object through the frames of a sequence, by overlap: no tracking of what moves far or divides."""

from collections.abc import Iterable, Iterator

import numpy as np

from cellmill.images import IGNORE_LABEL
from cellmill.metrics.instance import count_overlaps
from cellmill.morphology import number_objects

# Objects of two frames that share less of their union than this are not the same.
MIN_IOU = 0.3


def link_frames(frames: Iterable[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    """Give objects lasting numbers.

    Parameters
    ----------
    frames : iterable of (int, ndarray of integers >= 0, shape (rows, columns))
        Number and objects of each frame, in the order of time. 0 is background.

    Yields
    ------
    int, ndarray of int64
        The frame with the same objects: one that overlaps an object of the frame before more than any other does, and
        the other way round, by at least 30 % of their union, keeps its number; others get a new one, never that which
        marks ignored pixels. After a gap in the numbers of the frames all are new.
    """
    last: tuple[int, np.ndarray] | None = None
    highest = 0
    for number, labels_yx in frames:
        objects_yx, n_objects = number_objects(labels_yx)
        names = np.zeros(n_objects + 1, dtype=np.int64)
        if last is not None and last[0] + 1 == number and last[1].shape == objects_yx.shape:
            names = _names_from(last[1], objects_yx, n_objects=n_objects)
        is_new = names == 0
        is_new[0] = False
        count = int(np.count_nonzero(is_new))
        fresh = np.arange(highest + 1, highest + 1 + count)
        names[is_new] = fresh + (highest < IGNORE_LABEL) * (fresh >= IGNORE_LABEL)
        highest = int(names.max(initial=highest))
        last = number, names[objects_yx]
        yield last


def _names_from(before_yx: np.ndarray, objects_yx: np.ndarray, *, n_objects: int) -> np.ndarray:
    """Give objects 1 .. n the names of those that they continue, 0 where there is none."""
    known = np.setdiff1d(before_yx, [0])
    overlaps = count_overlaps(objects_yx, before_yx, valid_yx=np.ones(objects_yx.shape, dtype=bool))
    a, b = overlaps.pair_true, overlaps.pair_predicted
    iou = overlaps.pair_pixels / (overlaps.true_areas[a] + overlaps.predicted_areas[b] - overlaps.pair_pixels)
    best_of_a, best_of_b = np.zeros(len(overlaps.true_areas)), np.zeros(len(overlaps.predicted_areas))
    np.maximum.at(best_of_a, a, iou)
    np.maximum.at(best_of_b, b, iou)
    # Of equal overlaps the one with the lowest number
    names = np.zeros(n_objects + 1, dtype=np.int64)
    is_taken = np.zeros(len(known), dtype=bool)
    for pair in np.flatnonzero((iou >= MIN_IOU) & (iou == best_of_a[a]) & (iou == best_of_b[b])):
        if not is_taken[a[pair]] and names[b[pair] + 1] == 0:
            names[b[pair] + 1] = known[a[pair]]
            is_taken[a[pair]] = True
    return names
