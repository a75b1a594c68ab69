"""Classify the objects of one image as found, missed, false, split or merged."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cellmill.images.stored import IGNORE_LABEL
from cellmill.metrics.instance import Overlaps, Tally, add_tallies, judge_tally, tally_overlaps


@dataclass(frozen=True)
class Mistakes:
    """The kind of each true and of each predicted object, by label, and the number of objects of each kind.

    The kinds are found, missed, false, split and merged.

    A predicted object matches a true one if their intersection over union exceeds one half. An unmatched true object
    is split if it contains most of each of two or more predicted objects. An unmatched predicted object is merged if
    it contains most of each of two or more true objects. True objects that are neither of these are missed, predicted
    ones false, unless they belong to a split or merged object.
    """

    true_kinds: dict[int, str]
    predicted_kinds: dict[int, str]
    counts: dict[str, int]


def find_mistakes(bands: Iterable[tuple[np.ndarray, np.ndarray]]) -> Mistakes:
    """Match predicted with true objects and classify the errors.

    Parameters
    ----------
    bands : iterable of (predicted, true)
        Label images, or rows of them from top to bottom. Pixels with the ignore label of the truth do not count, and
        a predicted object with more than half of its pixels there has no kind.
    """
    tallies: list[Tally] = []
    for predicted_yx, truth_yx in bands:
        tallies.append(tally_overlaps(predicted_yx, truth_yx, valid_yx=truth_yx != IGNORE_LABEL))
    return name_mistakes(judge_tally(add_tallies(tallies)))


def name_mistakes(overlaps: Overlaps) -> Mistakes:
    """Classify each object."""
    of_true, of_predicted, pixels = overlaps.pair_true, overlaps.pair_predicted, overlaps.pair_pixels
    true_areas, predicted_areas = overlaps.true_areas[of_true], overlaps.predicted_areas[of_predicted]
    match = 2 * pixels > true_areas + predicted_areas - pixels
    within_true, within_predicted = 2 * pixels > predicted_areas, 2 * pixels > true_areas
    pieces = np.bincount(of_true[within_true], minlength=len(overlaps.true_areas))
    swallowed = np.bincount(of_predicted[within_predicted], minlength=len(overlaps.predicted_areas))

    true_kinds = np.where(pieces >= 2, "split", "missed")
    predicted_kinds = np.where(swallowed >= 2, "merged", "false")
    true_kinds[of_true[match]] = "found"
    predicted_kinds[of_predicted[match]] = "found"
    # Pieces of a split object and objects in a merged one are counted with the whole, not twice.
    inside = within_true & (true_kinds[of_true] == "split")
    predicted_kinds[of_predicted[inside & (predicted_kinds[of_predicted] == "false")]] = "piece"
    inside = within_predicted & (predicted_kinds[of_predicted] == "merged")
    true_kinds[of_true[inside & (true_kinds[of_true] == "missed")]] = "part"
    counts = {
        kind: int((kinds == kind).sum())
        for kind, kinds in (
            ("found", true_kinds), ("missed", true_kinds), ("false", predicted_kinds), ("split", true_kinds),
            ("merged", predicted_kinds),
        )
    }  # fmt: skip
    return Mistakes(
        dict(zip(overlaps.true_labels.tolist(), true_kinds.tolist(), strict=True)),
        dict(zip(overlaps.predicted_labels.tolist(), predicted_kinds.tolist(), strict=True)),
        counts,
    )


def describe_mistakes(counts: dict[str, int]) -> str:
    """Format the counts of `find_mistakes` in words, without kinds that do not occur except found and missed."""
    shown = [(kind, n) for kind, n in counts.items() if n or kind in ("found", "missed")]
    return ", ".join(f"{number}\N{NO-BREAK SPACE}{kind}" for kind, number in shown)
