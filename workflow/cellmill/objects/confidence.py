"""Confidence: the estimated probability that an object is right, and the expected score of an image.

An object counts as right if its IoU with an annotated object is above 0.5. Its traits are means of the predicted maps
over its pixels and along its border. A logistic regression on the objects of the validation images turns them into a
probability. Measured in workflow/decisions/0020-confidence.md.

Axes  c channels as `cellmill.models.outputs` lists them, y rows, x columns, n objects, t traits
"""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.images.stored import list_bands

# Means over an object: probability of foreground; its step across the border to the background; length of the
# predicted flow vectors, which are short where the network is unsure of their direction; and the part of the flow that
# crosses the border towards the object.
PROBABILITY, STEP, FLOW, INWARD = "probability", "step", "flow", "inward"
TRAITS = (PROBABILITY, STEP)
FLOW_TRAITS = (PROBABILITY, STEP, FLOW, INWARD)

# Tables of a shard of objects, with the confidences in their last columns
OBJECTS, COUNTS = "objects.csv", "counts.csv"

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
        Sum of the probabilities of foreground outside objects.
    """

    means_nt: np.ndarray
    areas_px: np.ndarray
    outside_px: float


@dataclass(frozen=True)
class Rating:
    """Confidence of an image, and of its objects by number: float64, shape (highest number + 1,), entry 0 unused."""

    of_image: float
    of_objects: np.ndarray


class TraitSums:
    """Sums over the pixels and the border of each object, from which its traits are computed.

    Parameters
    ----------
    highest : int
        Highest object number.
    traits : sequence of str
        From `list_traits`.
    """

    def __init__(self, highest: int, *, traits: tuple[str, ...]) -> None:
        self._traits = traits
        self._size = highest + 1
        names = ("pixels", PROBABILITY, FLOW, "border", INWARD, "open_border", STEP)
        self._sums = {name: np.zeros(self._size) for name in names}

    def add(self, labels_yx: np.ndarray, maps_cyx: np.ndarray, *, rows: int) -> None:
        """Add the first `rows` rows of an array; a further row may follow, for the border between both.

        Parameters
        ----------
        labels_yx : ndarray of non-negative integers, shape (rows, columns) or (rows + 1, columns)
            Objects 1 .. highest, 0 background.
        maps_cyx : ndarray of float32, shape (channels, rows, columns)
            Predicted maps of the same rows.
        """
        has_flow = FLOW in self._traits
        own_yx, own_cyx = labels_yx[:rows], maps_cyx[:, :rows]
        self._count("pixels", own_yx, None)
        self._count(PROBABILITY, own_yx, own_cyx[0])
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
        areas_px, outside_px = self._sums["pixels"].copy(), float(self._sums[PROBABILITY][0])
        areas_px[0] = 0
        return Traits(np.stack(means, axis=1), areas_px, outside_px)

    def _count(self, name: str, labels: np.ndarray, weights: np.ndarray | None) -> None:
        flat = None if weights is None else weights.ravel().astype(np.float64)
        self._sums[name] += np.bincount(labels.ravel(), weights=flat, minlength=self._size)


def measure_traits(
    read_labels: ReadRows, read_maps: ReadRows, *, shape: tuple[int, int], highest: int, traits: tuple[str, ...]
) -> Traits:
    """Measure the traits of the objects of one image, band by band.

    Parameters
    ----------
    read_labels : callable
        Rows -> labels of objects, 0 background: integers, shape (rows, columns).
    read_maps : callable
        Rows -> predicted maps: float32, shape (channels, rows, columns).
    shape : (rows, columns)
        Of the fitted image.
    highest : int
        Highest object number.
    traits : tuple of str
        From `list_traits`.

    Returns
    -------
    Traits
    """
    sums = TraitSums(highest, traits=traits)
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
        objects. The number of missed objects is the probability of foreground outside objects, summed over pixels and
        divided by the median area of an object. Without objects and without foreground outside, it is 1.
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


def read_confidences(folder: str | Path) -> dict[str, dict[int, float]]:
    """Read the confidences of the objects of a shard: sample -> object number -> confidence."""
    found: dict[str, dict[int, float]] = {}
    with (Path(folder) / OBJECTS).open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(row["sample"], {})[int(row["object"])] = float(row["confidence"])
    return found


def list_counted(folder: str | Path) -> set[str]:
    """List the samples of a shard whose objects are known: all but those that an annotator left out."""
    with (Path(folder) / COUNTS).open(newline="", encoding="utf-8") as stream:
        return {row["sample"] for row in csv.DictReader(stream) if row["objects"]}


def read_image_confidences(folder: str | Path) -> dict[str, float]:
    """Read the confidences of the images of a shard: sample -> confidence; images of masks are missing."""
    with (Path(folder) / COUNTS).open(newline="", encoding="utf-8") as stream:
        return {row["sample"]: float(row["confidence"]) for row in csv.DictReader(stream) if row["confidence"]}
