"""The objects of one frame of any size: its probabilities window by window, back in the geometry of the raw image."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.fit import unfit_label_rows
from cellmill.frames import Frame
from cellmill.images import IGNORE_LABEL, StoredRows
from cellmill.instances import keep_objects, masks_reach_px, segment_image
from cellmill.morphology import number_objects
from cellmill.windows import LabelFile, Window, halo_for, middles_of, plan_windows

logger = logging.getLogger(__name__)


def segment_frame(frame: Frame, *, fitted: Mapping[str, Any], room: Path) -> tuple[LabelFile, int, int]:
    """Turn the probabilities of one frame into objects.

    Parameters
    ----------
    frame : Frame
        Preprocessed image and probabilities; its truth takes no part.
    fitted : mapping
        Contents of postprocess.json.
    room : path
        Folder for files that may go afterwards.

    Returns
    -------
    labels : LabelFile
        Objects 1 .. n in the geometry of the raw image, without the number that marks ignored pixels.
    n_objects : int
        How many there are.
    covered_px : int
        How many pixels of the raw image they cover.

    Notes
    -----
    Up to 3072 x 3072 px the image is looked at as a whole, beyond that in windows with a halo; an object
    is that of the window in whose core its middle lies. Objects are the same as in the whole image as long as they are
    less wide than 256 px or five times the root of the validation images' median area: the halo of a window is as
    wide as that and, beyond it, as far as a pixel of the mask looks.
    """
    shape = frame.geometry.shape
    drawn = LabelFile(room / "fitted.bin", shape)
    grey = frame.measure_grey()
    reader = StoredRows(frame.probability_path)
    frame.check_shape(frame.probability_path, reader.shape)
    drawing = _Drawing(drawn, min_area_px=fitted["instances"]["min_area_px"])
    halo_px = halo_for(fitted["instances"]["median_area_px"]) + masks_reach_px(fitted)
    for row_of_windows in plan_windows(shape, halo_px=halo_px):
        rows = row_of_windows[0].rows
        prob_cyx = reader.read(rows.start, rows.stop)
        for window in row_of_windows:
            labels_yx, cut = _segment_window(
                prob_cyx[:, :, window.columns].astype(np.float32),
                frame.at(window),
                window=window,
                grey=grey,
                fitted=fitted,
            )
            drawing.add(labels_yx, window=window, cut=cut)
    if drawing.cut:
        logger.warning(
            "%s: %d objects are wider than the windows in which this large image is segmented, and were put together "
            "from what each window saw", frame.sample, len(drawing.cut),
        )  # fmt: skip
    if frame.geometry.mode == "none":
        labels = drawn
    else:
        labels = LabelFile(room / "raw.bin", frame.geometry.raw_shape)
        for rows, _ in labels.bands():
            labels.write(unfit_label_rows(drawn.read, frame.geometry, rows), rows)
    n_objects, covered_px = _renumber(labels, highest=drawing.count)
    return labels, n_objects, covered_px


def _segment_window(
    prob_cyx: np.ndarray,
    part: Frame,
    *,
    window: Window,
    grey: tuple[float, float],
    fitted: Mapping[str, Any],
) -> tuple[np.ndarray, np.ndarray]:
    """Give the objects 1 .. n that a window owns, and for 0 .. n whether its edges cut them."""
    labels_yx = segment_image(prob_cyx, part.read_image(), valid_yx=part.find_valid(), grey=grey, fitted=fitted)
    kept = keep_objects(labels_yx, box=part.box, limits=fitted["instances"])
    kept[1:] &= window.owns(middles_of(labels_yx, n_objects=len(kept) - 1))
    labels_yx, n_objects = number_objects(np.where(kept[labels_yx], labels_yx, 0))
    cut = np.zeros(n_objects + 1, dtype=bool)
    for axis, side in enumerate((window.rows, window.columns)):
        for end, is_inside in ((0, side.start > 0), (-1, side.stop < part.geometry.shape[axis])):
            if is_inside:
                cut[labels_yx.take(end, axis=axis)] = True
    cut[0] = False
    return labels_yx, cut


class _Drawing:
    """The objects of all windows so far, in the file of the whole image.

    Where two windows see one place, the earlier one is right. An object that is wider than a window is owned by
    several, each of which sees a part: where the parts cover one another they are one object.
    """

    def __init__(self, drawn: LabelFile, *, min_area_px: int) -> None:
        self._drawn = drawn
        self._min_area_px = max(1, min_area_px)
        self.count = 0
        self.cut: set[int] = set()

    def add(self, labels_yx: np.ndarray, *, window: Window, cut: np.ndarray) -> None:
        """Draw objects 1 .. n of a window where no other one has put an object."""
        there_yx = self._drawn.read(window.rows, window.columns)
        n_objects = len(cut) - 1
        numbers = np.concatenate([[0], np.arange(self.count + 1, self.count + n_objects + 1)])
        whole = np.bincount(labels_yx.ravel(), minlength=n_objects + 1)
        covered_yx = (labels_yx > 0) & (there_yx > 0)
        if covered_yx.any():
            pairs, pixels = np.unique(
                np.stack([labels_yx[covered_yx], there_yx[covered_yx]]), axis=1, return_counts=True
            )
            covered = np.bincount(labels_yx[covered_yx], minlength=n_objects + 1)
            for (label, number), shared in zip(pairs.T.tolist(), pixels.tolist(), strict=True):
                is_same = 2 * shared > covered[label] and (cut[label] or number in self.cut)
                if is_same:
                    numbers[label] = number
            # What is left of an object beside another window's is no object where it is too small for one.
            left = whole - covered
            numbers[(covered > 0) & (left < self._min_area_px) & (numbers > self.count)] = 0
        free_yx = (labels_yx > 0) & (there_yx == 0)
        there_yx[free_yx] = numbers[labels_yx[free_yx]]
        self._drawn.write(there_yx, window.rows, window.columns)
        self.cut |= set(numbers[cut].tolist()) - {0}
        self.count += n_objects


def _renumber(labels: LabelFile, *, highest: int) -> tuple[int, int]:
    """Number the objects that are left 1 .. n, without the number of ignored pixels; give n and their area, px."""
    areas = np.zeros(highest + 1, dtype=np.int64)
    for _, labels_yx in labels.bands():
        areas += np.bincount(labels_yx.ravel(), minlength=len(areas))
    areas[0] = 0
    is_there = areas > 0
    numbers = np.cumsum(is_there)
    numbers += numbers >= IGNORE_LABEL
    labels.look_up(np.where(is_there, numbers, 0).astype(np.uint32))
    return int(np.count_nonzero(is_there)), int(areas.sum())
