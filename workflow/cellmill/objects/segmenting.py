"""Segment one frame of any size: probabilities window by window, objects in the geometry of the raw image."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.images.stored import IGNORE_LABEL, StoredRows
from cellmill.images.windows import LabelFile, Window, halo_for, middles_of, plan_windows
from cellmill.objects.frames import Frame
from cellmill.objects.instances import keep_objects, masks_reach_px, segment_image, smallest_area
from cellmill.objects.morphology import number_objects
from cellmill.preprocessing.geometry import unfit_label_rows

logger = logging.getLogger(__name__)


def segment_frame(frame: Frame, *, fitted: Mapping[str, Any], room: Path) -> tuple[LabelFile, int, int]:
    """Convert the probabilities of one frame to objects.

    Parameters
    ----------
    frame : Frame
        Preprocessed image and probabilities; its truth is not used.
    fitted : mapping
        Contents of postprocess.json.
    room : path
        Folder for temporary files.

    Returns
    -------
    labels : LabelFile
        Objects 1 .. n in the geometry of the raw image, skipping IGNORE_LABEL.
    n_objects : int
        Number of objects.
    covered_px : int
        Number of pixels of the raw image that they cover.

    Notes
    -----
    Images up to 3072 x 3072 px are segmented as a whole, larger images in windows with a halo. An object is taken from
    the window whose core contains its middle. Objects are the same as in the whole image if they are narrower than the
    larger of 256 px and five times the square root of the validation images' median object area. The halo has that
    width plus the radius that a pixel of the mask depends on.
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
            "%s: %d objects are wider than the windows used to segment this large image, and were assembled from "
            "their parts in each window", frame.sample, len(drawing.cut),
        )  # fmt: skip
    if frame.geometry.is_unchanged:
        labels = drawn
    else:
        labels = LabelFile(room / "raw.bin", frame.geometry.raw_shape)
        for rows, _ in labels.bands():
            labels.write(unfit_label_rows(drawn.read, frame.geometry, rows), rows)
    # A fit of an earlier version has no share.
    share = float(fitted["instances"].get("min_area_share") or 0)
    n_objects, covered_px = _renumber(labels, highest=drawing.count, min_area_share=share)
    return labels, n_objects, covered_px


def _segment_window(
    prob_cyx: np.ndarray,
    part: Frame,
    *,
    window: Window,
    grey: tuple[float, float],
    fitted: Mapping[str, Any],
) -> tuple[np.ndarray, np.ndarray]:
    """Segment a window; return the objects 1 .. n that it owns, and for 0 .. n whether its edges cut them."""
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
    """Objects of all windows so far, in the file of the whole image.

    Where windows overlap, the earlier one wins. An object wider than a window is owned by several windows, each with a
    part of it; parts that overlap are merged.
    """

    def __init__(self, drawn: LabelFile, *, min_area_px: int) -> None:
        self._drawn = drawn
        self._min_area_px = max(1, min_area_px)
        self.count = 0
        self.cut: set[int] = set()

    def add(self, labels_yx: np.ndarray, *, window: Window, cut: np.ndarray) -> None:
        """Draw objects 1 .. n of a window where no earlier window has drawn an object."""
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
            # The remainder of an object beside another window's object is dropped if it is below the minimum area.
            left = whole - covered
            numbers[(covered > 0) & (left < self._min_area_px) & (numbers > self.count)] = 0
        free_yx = (labels_yx > 0) & (there_yx == 0)
        there_yx[free_yx] = numbers[labels_yx[free_yx]]
        self._drawn.write(there_yx, window.rows, window.columns)
        self.cut |= set(numbers[cut].tolist()) - {0}
        self.count += n_objects


def _renumber(labels: LabelFile, *, highest: int, min_area_share: float) -> tuple[int, int]:
    """Drop objects below a share of their median area, and number the others 1 .. n, skipping IGNORE_LABEL.

    This is done for the whole image, so that the median does not depend on windows. Returns n and the total area, px.
    """
    areas = np.zeros(highest + 1, dtype=np.int64)
    for _, labels_yx in labels.bands():
        areas += np.bincount(labels_yx.ravel(), minlength=len(areas))
    areas[0] = 0
    is_there = areas >= max(1.0, smallest_area(areas[areas > 0], share=min_area_share))
    areas = np.where(is_there, areas, 0)
    numbers = np.cumsum(is_there)
    numbers += numbers >= IGNORE_LABEL
    labels.look_up(np.where(is_there, numbers, 0).astype(np.uint32))
    return int(np.count_nonzero(is_there)), int(areas.sum())
