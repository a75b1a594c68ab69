"""Count what the scores of one image need: correct and wrong pixels, objects and their matches, borders.

An image above 3072 x 3072 px is counted in bands of rows. All counts are sums over pixels or objects, and parts of an
object in several bands are merged before it is scored. The height of the bands therefore does not affect the counts.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cellmill.evaluation.paper_scores import count_section
from cellmill.images.stored import BAND_PIXELS, IGNORE_LABEL, StoredRows
from cellmill.images.windows import WHOLE_PIXELS, cut_evenly
from cellmill.metrics.borders import count_borders
from cellmill.metrics.calibration import DIGITS, count_calibration
from cellmill.metrics.instance import (
    Overlaps,
    add_tallies,
    count_objects,
    count_sizes,
    judge_tally,
    list_right,
    tally_overlaps,
)
from cellmill.metrics.pixel import BACKGROUND, BINS, FOREGROUND, count_pixels, histogram_classes
from cellmill.objects.frames import Frame, Scene
from cellmill.objects.morphology import label_components
from cellmill.preprocessing.geometry import fit_label_rows, unfit_image_rows

THRESHOLDED, POSTPROCESSED = "thresholded", "postprocessed"
ReadRows = Callable[[slice], np.ndarray]


@dataclass(frozen=True)
class View:
    """One image in one geometry, read by rows.

    Attributes
    ----------
    shape : (rows, columns), px
    read_probability : callable or None
        Rows -> foreground probability in [0, 1], float; None if there are only objects.
    read_truth, read_segmented : callable
        Rows -> labels, 0 background; 65535 in the truth marks pixels to ignore.
    behind : int
        Number of pixels in the files behind all rows; determines how many rows are read at a time.
    """

    shape: tuple[int, int]
    read_probability: ReadRows | None
    read_truth: ReadRows
    read_segmented: ReadRows
    behind: int

    def probability(self, rows: slice) -> np.ndarray:
        """Read probabilities, of a view that has them."""
        assert self.read_probability is not None
        return self.read_probability(rows)

    def bands(self) -> list[slice]:
        """Split the rows into bands of about four million pixels; images up to nine million pixels stay whole."""
        pixels = max(self.behind, self.shape[0] * self.shape[1])
        count = 1 if pixels <= WHOLE_PIXELS else min(self.shape[0], -(-pixels // BAND_PIXELS))
        return cut_evenly(self.shape[0], count)


def count_frame(
    frame: Scene,
    *,
    segmentation_path: str | Path,
    threshold: float | None,
    isbi2012: bool,
    tolerance_px: int,
    exclude_border: bool,
    confidences: Mapping[int, float] | None,
) -> dict[str, Any]:
    """Count one image in the geometry of the raw image, and in the fitted geometry where it differs.

    Parameters
    ----------
    frame : Scene
        Must have labels. Probabilities are counted if it is a `Frame`.
    segmentation_path : path
        Final segmentation, geometry of the raw image.
    threshold : float or None
        Threshold of the stage `thresholded`; None without probabilities.
    isbi2012 : bool
        Whether to add the result of `count_section`, which needs the whole image in memory, and probabilities.
    tolerance_px : int
        For `count_borders`.
    exclude_border : bool
        Whether postprocessing dropped the objects at the border of the raw image. True objects there are then ignored
        when the final objects are scored.
    confidences : mapping or None
        Object number -> confidence; None if the objects have none.

    Returns
    -------
    dict
        geometry -> result of `count_view`, with confidences in the geometry of the raw image. For the fitted geometry,
        the final segmentation is resampled from that of the raw image by nearest neighbour, like the truth.

    Raises
    ------
    ValueError
        If segmentation and truth differ in size.
    """
    assert frame.labels_path is not None
    truth, segmented = StoredRows(frame.labels_path), StoredRows(segmentation_path)
    if segmented.shape != truth.shape:
        raise ValueError(
            f"{frame.sample}: expected a segmentation of {truth.shape[0]} x {truth.shape[1]} px, the size of its "
            f"labels, found {segmented.shape[0]} x {segmented.shape[1]} px. "
            "Labels and image differ in size, or one is outdated. Run snakemake with --forcerun rasterize."
        )
    views = open_views(frame, truth=truth, segmented=segmented)
    cut = find_cut(views["raw"]) if exclude_border else np.zeros(0, dtype=np.int64)
    counted = {
        geometry: count_view(
            view, threshold=threshold, tolerance_px=tolerance_px, unasked=cut,
            confidences=confidences if geometry == "raw" else None,
        )
        for geometry, view in views.items()
    }  # fmt: skip
    if isbi2012 and threshold is not None:
        image_yx, raw_rows = frame.read_image(), slice(0, frame.geometry.raw_rows)
        images = {"raw": unfit_image_rows(image_yx, frame.geometry, raw_rows), "fitted": image_yx}
        for geometry, view in views.items():
            rows = slice(0, view.shape[0])
            counted[geometry] |= count_section(
                view.probability(rows), view.read_truth(rows), images[geometry], threshold=threshold
            )
    return counted


def open_views(frame: Scene, *, truth: StoredRows, segmented: StoredRows) -> dict[str, View]:
    """Return the views of an image: `raw`, and `fitted` where it was rescaled, resized, cropped or padded."""
    geometry = frame.geometry
    pixels = max(truth.shape[0] * truth.shape[1], geometry.rows * geometry.columns)

    def part(rows: slice) -> Scene:
        return replace(frame, window=(rows, slice(0, geometry.columns)))

    read_raw, read_fitted = _open_probability(frame) if isinstance(frame, Frame) else (None, None)
    views = {"raw": View(geometry.raw_shape, read_raw, lambda rows: truth[rows], lambda rows: segmented[rows], pixels)}
    if not geometry.is_unchanged:
        views["fitted"] = View(
            geometry.shape, read_fitted, lambda rows: part(rows).read_truth(),
            lambda rows: fit_label_rows(segmented.__getitem__, geometry, rows), pixels,
        )  # fmt: skip
    return views


def _open_probability(frame: Frame) -> tuple[ReadRows, ReadRows]:
    """Return functions that read rows of the probability in the geometry of the raw and of the fitted image."""
    probability = StoredRows(frame.probability_path)
    frame.check_shape(frame.probability_path, probability.shape)

    def read_raw(rows: slice) -> np.ndarray:
        # Interpolation in float32 may exceed [0, 1] by an ulp.
        return np.clip(unfit_image_rows(probability, frame.geometry, rows), 0, 1)

    def read_fitted(rows: slice) -> np.ndarray:
        part = replace(frame, window=(rows, slice(0, frame.geometry.columns)))
        return np.where(part.find_valid(), part.read_probability(), 0)

    return read_raw, read_fitted


def find_cut(view: View) -> np.ndarray:
    """List the labels of the true objects that touch the border of an image."""
    edges = []
    for rows in view.bands():
        truth_yx = view.read_truth(rows)
        edges += [truth_yx[:, 0], truth_yx[:, -1]]
        edges += [truth_yx[0]] if rows.start == 0 else []
        edges += [truth_yx[-1]] if rows.stop == view.shape[0] else []
    labels = np.unique(np.concatenate(edges))
    return labels[(labels > 0) & (labels != IGNORE_LABEL)]


def count_view(
    view: View,
    *,
    threshold: float | None,
    tolerance_px: int,
    unasked: np.ndarray,
    confidences: Mapping[int, float] | None = None,
) -> dict[str, Any]:
    """Count pixels and objects of one image in one geometry.

    Parameters
    ----------
    view : View
    threshold : float or None
        Threshold of the stage `thresholded`; None for a view without probabilities.
    tolerance_px : int
        For `count_borders`.
    unasked : ndarray of integers
        Labels of true objects that are ignored when the final objects are scored.
    confidences : mapping or None
        As for `count_frame`.

    Returns
    -------
    dict
        The counts of `MapCounts` if there are probabilities, and for each stage those of `count_pixels`,
        `count_objects`, `count_sizes` and `count_borders`; with confidences also those of `count_confidences` for the
        final objects. Plain numbers, for JSON.
    """
    bands = view.bands()
    # Finding border pixels needs their neighbours, and matching them needs all pixels within the tolerance.
    halo = tolerance_px + 1 if len(bands) > 1 else 0
    maps = MapCounts()
    numbers = [None] * len(bands) if threshold is None else number_components(view, bands, threshold=threshold)
    stages = (POSTPROCESSED,) if threshold is None else (THRESHOLDED, POSTPROCESSED)
    pixels: dict[str, Counter[str]] = {stage: Counter() for stage in stages}
    tallies: dict[str, list[Any]] = {stage: [] for stage in stages}
    for rows, of_components in zip(bands, numbers, strict=True):
        around = slice(max(0, rows.start - halo), min(view.shape[0], rows.stop + halo))
        core = slice(rows.start - around.start, rows.stop - around.start)
        truth_yx, segmented_yx = view.read_truth(around), view.read_segmented(around)
        valid_yx = truth_yx != IGNORE_LABEL
        asked_yx = valid_yx & ~np.isin(truth_yx, unasked) if unasked.size else valid_yx
        final_yx = np.where(segmented_yx == IGNORE_LABEL, 0, segmented_yx)
        predictions = {POSTPROCESSED: (final_yx[core], final_yx, asked_yx)}
        if threshold is not None:
            probability_yx = view.probability(around)
            maps.add(probability_yx[core], truth_yx=truth_yx[core] > 0, valid_yx=valid_yx[core])
            components_yx = label_components(probability_yx[core] >= threshold)
            around_yx = components_yx if not halo else label_components(probability_yx >= threshold)
            if of_components is not None:
                components_yx = of_components[components_yx]
            predictions[THRESHOLDED] = (components_yx, around_yx, valid_yx)
        for stage, (predicted_yx, bordered_yx, judged_yx) in predictions.items():
            tallies[stage].append(tally_overlaps(predicted_yx, truth_yx[core], valid_yx=judged_yx[core]))
            pixels[stage].update(count_pixels(predicted_yx > 0, truth_yx[core] > 0, valid_yx=judged_yx[core]))
            borders = count_borders(
                bordered_yx, truth_yx, valid_yx=judged_yx, tolerance_px=tolerance_px, rows=core
            )  # fmt: skip
            pixels[stage].update(borders)
    counted: dict[str, Any] = {} if threshold is None else maps.as_numbers()
    for stage, parts in tallies.items():
        overlaps = judge_tally(add_tallies(parts))
        counted[stage] = {**pixels[stage], **count_objects(overlaps), **count_sizes(overlaps)}
        if stage == POSTPROCESSED and confidences is not None:
            counted[stage] |= count_confidences(overlaps, confidences)
    return counted


def count_confidences(overlaps: Overlaps, confidences: Mapping[int, float]) -> dict[str, list[int]]:
    """List the confidences of right and of wrong objects, each as the number of one of BINS equal intervals.

    Parameters
    ----------
    overlaps : Overlaps
        Final and true objects of one image.
    confidences : mapping
        Object number -> confidence in [0, 1].

    Returns
    -------
    dict
        right_at and wrong_at, sorted. Objects that cannot be judged are in neither.
    """
    is_right = list_right(overlaps)
    values = np.array([confidences[number] for number in overlaps.predicted_labels.tolist()], dtype=np.float64)
    places = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    return {"right_at": sorted(places[is_right].tolist()), "wrong_at": sorted(places[~is_right].tolist())}


class MapCounts:
    """Counts of a probability map against the truth, added up over parts of an image."""

    def __init__(self) -> None:
        self._histogram = np.zeros((2, BINS), dtype=np.int64)
        self._confidence, self._squared_error = np.zeros(BINS), 0.0

    def add(self, probability_yx: np.ndarray, *, truth_yx: np.ndarray, valid_yx: np.ndarray) -> None:
        """Add a part."""
        self._histogram += histogram_classes(probability_yx, truth_yx=truth_yx, valid_yx=valid_yx)
        calibration = count_calibration(probability_yx, truth_yx=truth_yx, valid_yx=valid_yx)
        self._confidence += calibration["confidence"]
        self._squared_error += calibration["squared_error"]

    def as_numbers(self) -> dict[str, Any]:
        """Return background and foreground (256 bins each) and the results of `count_calibration`, for JSON."""
        return {
            "background": self._histogram[BACKGROUND].tolist(),
            "foreground": self._histogram[FOREGROUND].tolist(),
            "squared_error": round(self._squared_error, DIGITS),
            "confidence": np.round(self._confidence, DIGITS).tolist(),
        }


def number_components(view: View, bands: Sequence[slice], *, threshold: float) -> list[np.ndarray | None]:
    """Number the connected components of a mask consistently across bands.

    Parameters
    ----------
    view : View
    bands : sequence of slice
        Rows of the view, from top to bottom.
    threshold : float
        Pixels with at least this probability are in the mask.

    Returns
    -------
    list of ndarray of int64 or None
        For each band the number in the image of labels 0, 1, ... of `label_components`; None for a single band.
    """
    if len(bands) == 1:
        return [None]
    counts, seams, above = [0], [], None
    for rows in bands:
        components_yx = label_components(view.probability(rows) >= threshold).astype(np.int64)
        first_count = sum(counts)
        if above is not None:
            seams.append(_meet(above, np.where(components_yx[0] > 0, components_yx[0] + first_count, 0)))
        above = np.where(components_yx[-1] > 0, components_yx[-1] + first_count, 0)
        counts.append(int(components_yx.max(initial=0)))
    total = sum(counts)
    upper, lower = np.concatenate(seams, axis=1)
    edges = coo_array((np.ones(upper.size, dtype=bool), (upper, lower)), shape=(total + 1, total + 1))
    _, members = connected_components(edges, directed=False)
    # Node 0 is the background, a separate component.
    starts = np.cumsum(counts)
    return [
        np.concatenate([[0], members[first + 1 : last + 1] + 1]).astype(np.int64)
        for first, last in itertools.pairwise(starts)
    ]


def _meet(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """List the pairs of numbers that touch between two adjacent rows, also at a corner."""
    found = []
    for upper, lower in ((above, below), (above[1:], below[:-1]), (above[:-1], below[1:])):
        touches = (upper > 0) & (lower > 0)
        found.append(np.stack([upper[touches], lower[touches]]))
    return np.unique(np.concatenate(found, axis=1), axis=1)
