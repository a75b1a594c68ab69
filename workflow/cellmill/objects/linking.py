"""Link objects through the frames of a sequence by overlap; objects that move far or divide are not tracked."""

from collections.abc import Iterable, Iterator

import numpy as np

from cellmill.images.stored import IGNORE_LABEL
from cellmill.metrics.instance import count_overlaps
from cellmill.objects.morphology import number_objects

# Objects of two frames with a lower IoU than this are not linked.
MIN_IOU = 0.3


def link_frames(frames: Iterable[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    """Number objects consistently through the frames of a sequence.

    Parameters
    ----------
    frames : iterable of (int, ndarray of integers >= 0, shape (rows, columns))
        Number and objects of each frame, in temporal order. 0 is background.

    Yields
    ------
    int, ndarray of int64
        Number of the frame and its renumbered objects. An object keeps the number of an object in the previous frame if
        each has its highest IoU with the other and this IoU is at least 0.3. Other objects get a new number, never
        IGNORE_LABEL. After a gap in the frame numbers or a change of shape, all numbers are new.
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
    """Return for objects 0 .. n the number of the object that each continues, 0 if there is none."""
    known = np.setdiff1d(before_yx, [0])
    overlaps = count_overlaps(objects_yx, before_yx, valid_yx=np.ones(objects_yx.shape, dtype=bool))
    a, b = overlaps.pair_true, overlaps.pair_predicted
    iou = overlaps.pair_pixels / (overlaps.true_areas[a] + overlaps.predicted_areas[b] - overlaps.pair_pixels)
    best_of_a, best_of_b = np.zeros(len(overlaps.true_areas)), np.zeros(len(overlaps.predicted_areas))
    np.maximum.at(best_of_a, a, iou)
    np.maximum.at(best_of_b, b, iou)
    # Among equal overlaps, the lowest number wins.
    names = np.zeros(n_objects + 1, dtype=np.int64)
    is_taken = np.zeros(len(known), dtype=bool)
    for pair in np.flatnonzero((iou >= MIN_IOU) & (iou == best_of_a[a]) & (iou == best_of_b[b])):
        if not is_taken[a[pair]] and names[b[pair] + 1] == 0:
            names[b[pair] + 1] = known[a[pair]]
            is_taken[a[pair]] = True
    return names
