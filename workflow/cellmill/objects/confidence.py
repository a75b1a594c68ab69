"""Confidence: the estimated probability that an object is right, and the expected score of an image.

An object counts as right if its IoU with an annotated object is above 0.5. Its traits are means of the predicted maps
over its pixels and along its border. A logistic regression on the objects of the validation images turns them into a
probability. Measured in workflow/decisions/0020-confidence.md.

The maps of a `contour` network say where the inside of a cell is, those of `flow_gray` have a grey value in place of
the probability. There, an uncalibrated confidence says little.

Axes  c channels as `cellmill.models.outputs` lists them, y rows, x columns, n objects, t traits
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellmill.images.stored import list_bands
from cellmill.objects.shard_tables import Rating

# Means over an object: probability of foreground; its step across the border to the background; length of the
# predicted flow vectors, which are short where the network is unsure of their direction; and the part of the flow that
# crosses the border towards the object.
PROBABILITY, STEP, FLOW, INWARD = "probability", "step", "flow", "inward"
TRAITS = (PROBABILITY, STEP)
FLOW_TRAITS = (PROBABILITY, STEP, FLOW, INWARD)

ReadRows = Callable[[slice], np.ndarray]


def list_traits(output: str) -> tuple[str, ...]:
    """List the traits that the maps of a network with this `network.output` have."""
    return FLOW_TRAITS if output == "flow" else TRAITS


@dataclass(frozen=True)
class Traits:
    """Traits of the objects of an image.

    Attributes
    ----------
    means_nt : ndarray of float64, shape (highest number + 1, traits)
        0 where undefined. Row 0 stands for the background.
    areas_px : ndarray of float64, shape (highest number + 1,)
        0 for numbers without an object.
    outside_px : float
        Sum of the probabilities below the threshold outside objects. What is above it was left out on purpose, such as
        objects at the border.
    """

    means_nt: np.ndarray
    areas_px: np.ndarray
    outside_px: float


class TraitSums:
    """Sums over the pixels and the border of each object, from which its traits are computed.

    Parameters
    ----------
    highest : int
        Highest object number.
    traits : sequence of str
        From `list_traits`.
    threshold : float
        Of the probability of foreground.
    """

    def __init__(self, highest: int, *, traits: tuple[str, ...], threshold: float) -> None:
        self._traits = traits
        self._threshold = threshold
        self._outside_px = 0.0
        self._size = highest + 1
        names = ("pixels", PROBABILITY, FLOW, "border", INWARD, "open_border", STEP)
        self._sums = {name: np.zeros(self._size) for name in names}

    def add(self, labels_yx: np.ndarray, maps_cyx: np.ndarray, *, rows: int) -> None:
        """Add the first `rows` rows of an array; a further row may follow, for the border between both.

        Parameters
        ----------
        labels_yx : ndarray of non-negative integers, shape (rows, columns) or (rows + 1, columns)
            Objects 1 .. highest, 0 background.
        maps_cyx : ndarray of float32, shape (channels, rows, columns) or (channels, rows + 1, columns)
            Predicted maps of the same rows.
        """
        has_flow = FLOW in self._traits
        own_yx, own_cyx = labels_yx[:rows], maps_cyx[:, :rows]
        self._count("pixels", own_yx, None)
        self._count(PROBABILITY, own_yx, own_cyx[0])
        is_missed_yx = (own_yx == 0) & (own_cyx[0] < self._threshold)
        self._outside_px += float(own_cyx[0][is_missed_yx].sum(dtype=np.float64))
        if has_flow:
            self._count(FLOW, own_yx, np.hypot(own_cyx[1], own_cyx[2]))
        down = (slice(0, len(labels_yx) - 1), slice(None)), (slice(1, None), slice(None))
        across = (slice(0, rows), slice(0, -1)), (slice(0, rows), slice(1, None))
        for axis, (here, there) in enumerate((down, across)):
            differs_yx = labels_yx[here] != labels_yx[there]
            for inner, outer, sign in ((here, there, -1), (there, here, 1)):
                is_inner_yx = differs_yx & (labels_yx[inner] > 0)
                labels = labels_yx[inner][is_inner_yx]
                self._count("border", labels, None)
                if has_flow:
                    self._count(INWARD, labels, sign * maps_cyx[1 + axis][inner][is_inner_yx])
                is_open = labels_yx[outer][is_inner_yx] == 0
                step = maps_cyx[0][inner][is_inner_yx] - maps_cyx[0][outer][is_inner_yx]
                self._count("open_border", labels[is_open], None)
                self._count(STEP, labels[is_open], step[is_open])

    def finish(self) -> Traits:
        """Compute the traits from the sums."""
        over = {PROBABILITY: "pixels", FLOW: "pixels", INWARD: "border", STEP: "open_border"}
        means = [self._sums[name] / np.maximum(self._sums[over[name]], 1) for name in self._traits]
        areas_px = self._sums["pixels"].copy()
        areas_px[0] = 0
        return Traits(np.stack(means, axis=1), areas_px, self._outside_px)

    def _count(self, name: str, labels: np.ndarray, weights: np.ndarray | None) -> None:
        flat = None if weights is None else weights.ravel().astype(np.float64)
        self._sums[name] += np.bincount(labels.ravel(), weights=flat, minlength=self._size)


def measure_traits(
    read_labels: ReadRows,
    read_maps: ReadRows,
    *,
    shape: tuple[int, int],
    highest: int,
    traits: tuple[str, ...],
    threshold: float,
) -> Traits:
    """Measure the traits of the objects of one image, band by band.

    Parameters
    ----------
    read_labels : callable
        Rows -> labels of objects, 0 background: integers, shape (rows, columns).
    read_maps : callable
        Rows -> predicted maps: float32, shape (channels, rows, columns).
    shape : (rows, columns)
        Of the part of the fitted image without padding.
    highest : int
        Highest object number.
    traits : tuple of str
        From `list_traits`.
    threshold : float
        Of the probability of foreground.

    Returns
    -------
    Traits
    """
    sums = TraitSums(highest, traits=traits, threshold=threshold)
    for rows in list_bands(shape):
        more = slice(rows.start, min(rows.stop + 1, shape[0]))
        sums.add(read_labels(more), read_maps(more), rows=rows.stop - rows.start)
    return sums.finish()


def rate_objects(traits_nt: np.ndarray, fitted: Mapping[str, Any]) -> np.ndarray:
    """Compute the confidence of objects from their traits.

    Parameters
    ----------
    traits_nt : ndarray of float64, shape (objects, traits)
        From `measure_traits`, with the traits that `fitted` lists.
    fitted : mapping
        Section confidence of postprocess.json.

    Returns
    -------
    ndarray of float64, shape (objects,)
        In [0, 1]. If the section is not calibrated, the trait that it names as the most telling, limited to [0, 1].
    """
    if not fitted["calibrated"]:
        place = fitted["traits"].index(fitted["leading"])
        return np.clip(traits_nt[:, place], 0, 1)
    score = traits_nt @ np.array(fitted["weights"]) + fitted["offset"]
    result: np.ndarray = 1 / (1 + np.exp(-np.clip(score, -50, 50)))
    return result


def rate(traits: Traits, fitted: Mapping[str, Any], *, typical_px: float | None) -> Rating:
    """Compute the confidence of the objects of an image, and estimate the score of the image.

    Parameters
    ----------
    traits : Traits
    fitted : mapping
        Section confidence of postprocess.json.
    typical_px : float or None
        Median area of the objects of other images, for an image without objects; None if unknown.

    Returns
    -------
    Rating
        The confidence of the image is the expected number of right objects divided by that of right, wrong and missed
        objects. The number of missed objects is the probability below the threshold outside objects, summed over pixels
        and divided by the median area of an object, or 0 if no area is known. Without objects it is 1 / (1 + missed).
    """
    of_objects = rate_objects(traits.means_nt, fitted)
    is_there = traits.areas_px > 0
    if is_there.any():
        typical_px = float(np.median(traits.areas_px[is_there]))
    missed = traits.outside_px / typical_px if typical_px else 0.0
    if not is_there.any():
        return Rating(1 / (1 + missed), of_objects)
    return Rating(float(of_objects[is_there].sum() / (np.count_nonzero(is_there) + missed)), of_objects)


def uncalibrated(output: str, *, reason: str) -> dict[str, Any]:
    """Return the section confidence of postprocess.json for a run without enough annotated objects."""
    traits = list_traits(output)
    leading = FLOW if FLOW in traits else PROBABILITY
    return {"traits": list(traits), "calibrated": False, "leading": leading, "reason": reason}
