"""Object scores: match predicted and true objects, and compute scores from the matches.

'AP' has several definitions in this field, which have separate names here. All are TP / (TP + FP + FN) of objects at
an IoU threshold.

ap_kaggle, ap_0.50, ...   as on Kaggle (Data Science Bowl 2018, Sartorius): a match has an IoU strictly above the
                          threshold; an image without true and predicted objects scores 1; ap_kaggle is the mean of ten
ap_stardist_0.50, ...     as in StarDist: an IoU equal to the threshold is a match; no match scores 0, even if there is
                          nothing to match; pooled is StarDist's by_image=False, image_mean its by_image=True
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from cellmill.metrics.pixel import divide

# SOURCE Kaggle, Sartorius, "Evaluation": thresholds 0.5 to 0.95 in steps of 0.05, in per cent so that
# integers are compared.
IOU_PERCENT = tuple(range(50, 100, 5))
STRICT_AP = tuple(f"ap_{percent / 100:.2f}" for percent in IOU_PERCENT)
STARDIST_AP = tuple(f"ap_stardist_{percent / 100:.2f}" for percent in IOU_PERCENT)
PANOPTIC = ("panoptic_quality", "segmentation_quality", "recognition_quality")
CTC = ("seg", "det", "op_csb")
INSTANCE_METRICS = ("ap_kaggle", *STRICT_AP, *STARDIST_AP, *PANOPTIC, "aji", *CTC, "count_error")
# Counts of one image for all of these scores, besides the two rows of matches; they can be summed over images.
OBJECT_COUNTS = (
    "n_true", "n_predicted", "matched_iou", "aji_intersection", "aji_union", "ctc_seg", "ctc_split", "ctc_missed",
    "ctc_false",
)  # fmt: skip
# True and predicted objects by size, all and matched: entry k counts those of 2**k to 2**(k + 1) - 1 px.
SIZES = 32
SIZE_COUNTS = ("true_by_size", "found_by_size", "predicted_by_size", "right_by_size")
# SOURCE Matula et al. 2015, doi:10.1371/journal.pone.0144959: costs of splitting, of adding and of deleting a node
SPLIT_COST, MISSED_COST, FALSE_COST = 5, 10, 1
# A table of all pairs is counted directly up to this size, by sorting above it.
MAX_DENSE_PAIRS = 1 << 22
# Labels up to this number are counted without renumbering.
MAX_TABLE = 1 << 20


@dataclass(frozen=True)
class Overlaps:
    """Objects of two label images and the pixels they share.

    Areas are in pixels where the truth is known; `predicted_whole` includes pixels of unknown truth. Labels and areas
    have one entry per object, in the order of the labels. Pairs are objects that overlap: `pair_true` and
    `pair_predicted` are indices into the areas, `pair_pixels` the number of shared pixels.
    """

    true_labels: np.ndarray
    predicted_labels: np.ndarray
    true_areas: np.ndarray
    predicted_areas: np.ndarray
    predicted_whole: np.ndarray
    pair_true: np.ndarray
    pair_predicted: np.ndarray
    pair_pixels: np.ndarray

    def without_small(self, min_area_px: float) -> "Overlaps":
        """Return the overlaps without predicted objects below an area, and without their pairs."""
        kept = self.predicted_whole >= min_area_px
        pairs = kept[self.pair_predicted]
        return Overlaps(
            true_labels=self.true_labels,
            predicted_labels=self.predicted_labels[kept],
            true_areas=self.true_areas,
            predicted_areas=self.predicted_areas[kept],
            predicted_whole=self.predicted_whole[kept],
            pair_true=self.pair_true[pairs],
            pair_predicted=(np.cumsum(kept) - 1)[self.pair_predicted[pairs]],
            pair_pixels=self.pair_pixels[pairs],
        )


def count_overlaps(predicted_yx: np.ndarray, truth_yx: np.ndarray, *, valid_yx: np.ndarray) -> Overlaps:
    """Count the pixels that predicted and true objects share.

    Parameters
    ----------
    predicted_yx, truth_yx : ndarray of integer, shape (rows, columns)
        Label images, 0 is background. Labels need not be consecutive.
    valid_yx : ndarray of bool, shape (rows, columns)
        False where the truth is unknown. Such pixels belong to no object. A predicted object with more than half of
        its pixels there is left out, because it cannot be judged.

    Returns
    -------
    Overlaps
        Cost and memory grow with the pixels, not with the number of pairs.
    """
    return judge_tally(tally_overlaps(predicted_yx, truth_yx, valid_yx=valid_yx))


@dataclass(frozen=True)
class Tally:
    """Pixel counts by label in one image or a part of it; `add_tallies` combines the tallies of parts.

    Labels are sorted. `predicted_known` counts the pixels where the truth is known, `predicted_whole` all pixels. Each
    column of `pairs` is a true and a predicted label that share `pair_pixels`.
    """

    predicted_labels: np.ndarray
    predicted_known: np.ndarray
    predicted_whole: np.ndarray
    true_labels: np.ndarray
    true_areas: np.ndarray
    pairs: np.ndarray
    pair_pixels: np.ndarray


def tally_overlaps(predicted_yx: np.ndarray, truth_yx: np.ndarray, *, valid_yx: np.ndarray) -> Tally:
    """Count pixels of an image, or of a part of it, by label; parameters as for `count_overlaps`."""
    (predicted, predicted_names), (truth, true_names) = (_small_numbers(one) for one in (predicted_yx, truth_yx))
    whole = np.bincount(predicted)
    if valid_yx.all():
        areas, true_areas = whole, np.bincount(truth)
    else:
        known = valid_yx.ravel()
        areas = np.bincount(predicted[known], minlength=len(whole))
        truth = np.where(known, truth, 0)
        true_areas = np.bincount(truth)
    is_predicted, is_true = whole > 0, true_areas > 0
    is_predicted[:1] = is_true[:1] = False
    # Pixels of unknown truth hold no true object, so every pair lies where it is known.
    both = np.flatnonzero((predicted > 0) & (truth > 0))
    code = truth[both] * len(whole) + predicted[both]
    if len(true_areas) * len(whole) <= MAX_DENSE_PAIRS:
        table = np.bincount(code)
        pairs = np.flatnonzero(table)
        pixels = table[pairs]
    else:
        pairs, pixels = np.unique(code, return_counts=True)
    return Tally(
        predicted_labels=_named(np.flatnonzero(is_predicted), predicted_names),
        predicted_known=areas[is_predicted],
        predicted_whole=whole[is_predicted],
        true_labels=_named(np.flatnonzero(is_true), true_names),
        true_areas=true_areas[is_true],
        pairs=np.stack([_named(pairs // len(whole), true_names), _named(pairs % len(whole), predicted_names)]),
        pair_pixels=pixels,
    )


def add_tallies(tallies: Sequence[Tally]) -> Tally:
    """Add the tallies of the parts of one image; labels must be consistent across the parts."""
    if len(tallies) == 1:
        return tallies[0]
    predicted_labels, known, whole = _add_up(
        np.concatenate([each.predicted_labels for each in tallies])[None],
        np.concatenate([each.predicted_known for each in tallies]),
        np.concatenate([each.predicted_whole for each in tallies]),
    )
    true_labels, true_areas = _add_up(
        np.concatenate([each.true_labels for each in tallies])[None],
        np.concatenate([each.true_areas for each in tallies]),
    )
    pairs, pixels = _add_up(
        np.concatenate([each.pairs for each in tallies], axis=1),
        np.concatenate([each.pair_pixels for each in tallies]),
    )
    return Tally(predicted_labels[0], known, whole, true_labels[0], true_areas, pairs, pixels)


def judge_tally(tally: Tally) -> Overlaps:
    """Convert a tally to overlaps, without predicted objects whose pixels are mostly of unknown truth (over half)."""
    judged = (2 * tally.predicted_known >= tally.predicted_whole) & (tally.predicted_known > 0)
    predicted_labels = tally.predicted_labels[judged]
    of_predicted = np.searchsorted(predicted_labels, tally.pairs[1])
    kept = predicted_labels.take(of_predicted, mode="clip") == tally.pairs[1] if judged.any() else of_predicted < 0
    return Overlaps(
        true_labels=tally.true_labels,
        predicted_labels=predicted_labels,
        true_areas=tally.true_areas,
        predicted_areas=tally.predicted_known[judged],
        predicted_whole=tally.predicted_whole[judged],
        pair_true=np.searchsorted(tally.true_labels, tally.pairs[0, kept]),
        pair_predicted=of_predicted[kept],
        pair_pixels=tally.pair_pixels[kept],
    )


def _small_numbers(labels_yx: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Flatten labels to int64, renumbered if any is above MAX_TABLE; return them and the original labels, or None."""
    if labels_yx.max(initial=0) <= MAX_TABLE:
        return labels_yx.ravel().astype(np.int64, copy=False), None
    names = np.union1d(labels_yx, [0])
    return np.searchsorted(names, labels_yx.ravel()), names.astype(np.int64)


def _named(numbers: np.ndarray, names: np.ndarray | None) -> np.ndarray:
    return numbers if names is None else names[numbers]


def _add_up(keys: np.ndarray, *counts: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sum counts over equal columns of `keys`; return the distinct columns, sorted, and the sums."""
    found, place = np.unique(keys, axis=1, return_inverse=True)
    sums = []
    for each in counts:
        total = np.zeros(found.shape[1], dtype=np.int64)
        np.add.at(total, place.ravel(), each)
        sums.append(total)
    return (found, *sums)


def count_matches(overlaps: Overlaps, *, inclusive: bool = False) -> np.ndarray:
    """Count the pairs of one image whose IoU is above each threshold.

    Parameters
    ----------
    overlaps : Overlaps
        From `count_overlaps`.
    inclusive : bool
        Whether an IoU equal to the threshold is a match too, as in StarDist.

    Returns
    -------
    ndarray of int64, shape (10,)
        One count for each of IOU_PERCENT. Above an IoU of 0.5, an object has at most one partner, so the pairs are the
        matches and no assignment is needed. At exactly 0.5, an object may have two partners and is matched once.
    """
    shared, union = 100 * overlaps.pair_pixels[None, :], np.array(IOU_PERCENT)[:, None] * _unions(overlaps)[None, :]
    if not inclusive:
        return (shared > union).sum(axis=1)
    counts = (shared >= union).sum(axis=1)
    at_half = 2 * overlaps.pair_pixels == _unions(overlaps)
    if at_half.any():
        counts[0] -= _surplus(overlaps.pair_true[at_half], overlaps.pair_predicted[at_half])
    return counts


def count_objects(overlaps: Overlaps) -> dict[str, Any]:
    """Count objects, matches and overlaps of one image for `score_instances`.

    Parameters
    ----------
    overlaps : Overlaps
        From `count_overlaps`.

    Returns
    -------
    dict
        OBJECT_COUNTS, and `matches` and `matches_inclusive`, lists of ten. Plain numbers, for JSON.

    Notes
    -----
    AJI: Kumar et al. 2017, doi:10.1109/TMI.2017.2677499, algorithm 1: each true object is paired with the predicted
    object of the largest IoU, which several may share. Cell Tracking Challenge: a true object is matched by the
    predicted object that covers more than half of it. Panoptic quality: Kirillov et al. 2019,
    doi:10.1109/CVPR.2019.00963.
    """
    n_true, n_predicted = len(overlaps.true_areas), len(overlaps.predicted_areas)
    unions = _unions(overlaps)
    iou = overlaps.pair_pixels / np.maximum(unions, 1)
    # Sorted by true object, then by IoU: the last pair of each object has its largest IoU.
    order = np.lexsort((iou, overlaps.pair_true))
    last = np.flatnonzero(np.diff(overlaps.pair_true[order], append=-1))
    best = order[last]
    unused = np.setdiff1d(np.arange(n_predicted), overlaps.pair_predicted[best])
    untouched = np.setdiff1d(np.arange(n_true), overlaps.pair_true)
    aji_union = unions[best].sum() + overlaps.true_areas[untouched].sum() + overlaps.predicted_areas[unused].sum()
    held = 2 * overlaps.pair_pixels > overlaps.true_areas[overlaps.pair_true]
    holders = np.bincount(overlaps.pair_predicted[held], minlength=n_predicted)
    return {
        "n_true": n_true,
        "n_predicted": n_predicted,
        "matched_iou": float(iou[2 * overlaps.pair_pixels > unions].sum()),
        "aji_intersection": int(overlaps.pair_pixels[best].sum()),
        "aji_union": int(aji_union),
        "ctc_seg": float(iou[held].sum()),
        "ctc_split": int(np.maximum(holders - 1, 0).sum()),
        "ctc_missed": n_true - int(np.count_nonzero(held)),
        "ctc_false": int(np.count_nonzero(holders == 0)),
        "matches": count_matches(overlaps).tolist(),
        "matches_inclusive": count_matches(overlaps, inclusive=True).tolist(),
    }


def list_right(overlaps: Overlaps) -> np.ndarray:
    """Return which predicted objects have an IoU above 0.5 with a true object.

    Parameters
    ----------
    overlaps : Overlaps
        From `count_overlaps`.

    Returns
    -------
    ndarray of bool, shape (predicted objects,)
        In the order of `overlaps.predicted_labels`.
    """
    is_right = np.zeros(len(overlaps.predicted_labels), dtype=bool)
    is_right[overlaps.pair_predicted[2 * overlaps.pair_pixels > _unions(overlaps)]] = True
    return is_right


def count_sizes(overlaps: Overlaps) -> dict[str, list[int]]:
    """Count true and predicted objects by size, and those matched at an IoU above one half.

    Parameters
    ----------
    overlaps : Overlaps
        From `count_overlaps`.

    Returns
    -------
    dict
        Each of SIZE_COUNTS as a list of SIZES numbers. Plain numbers, for JSON.
    """
    matched = 2 * overlaps.pair_pixels > _unions(overlaps)
    sides = (
        (overlaps.true_areas, overlaps.pair_true[matched]),
        (overlaps.predicted_areas, overlaps.pair_predicted[matched]),
    )
    counts = []
    for areas, partners in sides:
        place = np.log2(np.maximum(areas, 1)).astype(np.int64)
        counts += [np.bincount(place[chosen], minlength=SIZES).tolist() for chosen in (slice(None), partners)]
    return dict(zip(SIZE_COUNTS, counts, strict=True))


def score_instances(counts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Turn counts of objects into scores.

    Parameters
    ----------
    counts : mapping
        From `count_objects`: numbers, or arrays of one shape (...), for one image or summed over images; `matches` and
        `matches_inclusive` of shape (..., 10).

    Returns
    -------
    dict
        Each of INSTANCE_METRICS as a float64 array of shape (...):

        ==================== ================================================= ========== ========== ===============
        score                is                                                both empty only truth only prediction
                                                                                          empty      empty
        ==================== ================================================= ========== ========== ===============
        ap_kaggle, ap_T      TP / (TP + FP + FN) at IoU > T                    1          0          0
        ap_stardist_T        the same at IoU >= T                              0          0          0
        segmentation_quality mean IoU of the matches at IoU > 0.5              NaN        NaN        NaN
        recognition_quality  TP / (TP + FP/2 + FN/2) at IoU > 0.5              1          0          0
        panoptic_quality     product of both, 0 without a match                1          0          0
        aji                  aggregated Jaccard index                          1          0          0
        seg                  mean IoU of true objects with the object that     NaN        NaN        0
                             covers more than half of each, else 0
        det                  1 - cost / cost of finding none                   NaN        NaN        0
        op_csb               mean of seg and det                               NaN        NaN        0
        count_error          abs(n_predicted - n_true) / n_true                0          NaN        1
        ==================== ================================================= ========== ========== ===============

        det is the score of the Cell Tracking Challenge on masks, at least 0. A merged object costs 5, a missed object
        10, a false object 1.
    """
    count = {name: np.asarray(counts[name], dtype=np.float64) for name in OBJECT_COUNTS}
    true, predicted = count["n_true"], count["n_predicted"]
    matched, inclusive = (np.asarray(counts[name], dtype=np.float64) for name in ("matches", "matches_inclusive"))
    either = (true + predicted)[..., None]
    strict = divide(matched, either - matched, undefined=1.0)
    stardist = divide(inclusive, either - inclusive, undefined=0.0)
    found = matched[..., 0]
    quality = divide(count["matched_iou"], found, undefined=np.nan)
    recognition = divide(2 * found, true + predicted, undefined=1.0)
    cost = SPLIT_COST * count["ctc_split"] + MISSED_COST * count["ctc_missed"] + FALSE_COST * count["ctc_false"]
    missed_all = MISSED_COST * true
    seg = divide(count["ctc_seg"], true, undefined=np.nan)
    det = 1 - divide(np.minimum(cost, missed_all), missed_all, undefined=np.nan)
    return {
        "ap_kaggle": strict.mean(axis=-1),
        **{name: strict[..., k] for k, name in enumerate(STRICT_AP)},
        **{name: stardist[..., k] for k, name in enumerate(STARDIST_AP)},
        "panoptic_quality": np.where(found > 0, quality * recognition, recognition),
        "segmentation_quality": quality,
        "recognition_quality": recognition,
        "aji": divide(count["aji_intersection"], count["aji_union"], undefined=1.0),
        "seg": seg,
        "det": det,
        "op_csb": (seg + det) / 2,
        "count_error": divide(np.abs(predicted - true), true, undefined=np.where(predicted == true, 0.0, np.nan)),
    }


def _unions(overlaps: Overlaps) -> np.ndarray:
    areas = overlaps.true_areas[overlaps.pair_true] + overlaps.predicted_areas[overlaps.pair_predicted]
    return areas - overlaps.pair_pixels


def _surplus(of_true: np.ndarray, of_predicted: np.ndarray) -> int:
    """Count the pairs with an IoU of 0.5 that a one-to-one assignment must drop."""
    table = coo_array((np.ones(len(of_true), dtype=bool), (of_true, of_predicted))).tocsr()
    return len(of_true) - int(np.count_nonzero(maximum_bipartite_matching(table) >= 0))
