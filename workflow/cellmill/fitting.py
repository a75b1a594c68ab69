"""What postprocessing learns and chooses: threshold and sizes on validation images, boundaries on training ones."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from cellmill.boundary import boundary_features, find_boundary, fit_classifier, held_out_accuracy
from cellmill.frames import Frame, draw_frames
from cellmill.images import IGNORE_LABEL
from cellmill.instances import find_necks, grow_components, join_parts, make_masks
from cellmill.metrics.instance import count_matches, count_overlaps, score_instances
from cellmill.metrics.pixel import (
    BINS,
    best_threshold,
    count_pixels,
    histogram_classes,
    matthews_correlation,
    score_pixels,
    sweep_counts,
)
from cellmill.morphology import close_mask, make_footprint
from cellmill.shards import stable_hash

logger = logging.getLogger(__name__)

FALLBACK_THRESHOLD = 0.5
# What is tried on the validation images, the choice that changes least first: among equals it wins. On real
# nuclei and cells (BBBC039, DSB 2018, HeLa, Sartorius; true masks, ragged ones, Otsu's) 0.25 px cut single
# cells, the best lay between 0.75 and 2 px, and no splitting cost .03 to .25 of the AP.
SPLIT_DEPTHS_PX = (4.0, 2.0, 1.5, 1.0, 0.75)
MIN_AREA_FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.4)
# Without validation images: best on half of those sets, within .04 of the best on all.
FALLBACK_SPLIT_DEPTH_PX = 1.0
FALLBACK_MIN_AREA_PX = 0


def choose_threshold(frames: Sequence[Frame], *, method: str, value: float | None) -> dict[str, Any]:
    """Choose the threshold by Matthews' correlation on the pooled pixels of the validation images.

    Parameters
    ----------
    frames : sequence of Frame
        Validation images only.
    method : "mcc" or "fixed"
        fixed takes `value`.
    value : float or None
        In (0, 1).

    Returns
    -------
    dict
        value, method, mcc there, mcc_at_half, images, pixels and reason; mcc is None where there was no image.
    """
    histogram = np.zeros((2, BINS), dtype=np.int64)
    for frame in frames:
        truth_yx = frame.read_truth()
        histogram += histogram_classes(frame.read_probability(), truth_yx > 0, valid_yx=truth_yx != IGNORE_LABEL)
    has_both = bool(histogram.sum(axis=1).all())
    if method == "fixed":
        assert value is not None
        threshold, reason = float(value), "as set"
    elif has_both:
        threshold, _ = best_threshold(histogram)
        reason = "best Matthews correlation on the validation images"
    else:
        threshold = FALLBACK_THRESHOLD
        reason = "no validation image with both foreground and background to choose on"
        logger.warning("threshold %.3g: %s", threshold, reason)
    mcc = matthews_correlation(**sweep_counts(histogram))
    return {
        "value": threshold,
        "method": method,
        "mcc": float(mcc[min(round(threshold * BINS), BINS - 1)]) if has_both else None,
        "mcc_at_half": float(mcc[BINS // 2]) if has_both else None,
        "images": len(frames),
        "pixels": int(histogram.sum()),
        "reason": reason,
    }


def fit_boundary(
    frames: Sequence[Frame], *, fitted: Mapping[str, Any], settings: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Train the classifier of boundary pixels on training images.

    Parameters
    ----------
    frames : sequence of Frame
        Training images only.
    fitted : mapping
        Threshold, closing and sizes chosen so far, with boundary not applied.
    settings : mapping
        Config section postprocess.boundary.
    seed : int
        Draws images and pixels; another image in the set changes at most one of those drawn.

    Returns
    -------
    dict
        classifier, model (None where none could be trained), applied (False so far), reason, images, pixels,
        majority_rate, kept_accuracy (of the closed prediction's own labels at those pixels) and held_out
        accuracy by pixel and by image.
    """
    result: dict[str, Any] = {"classifier": settings["classifier"], "model": None, "applied": False}
    if settings["classifier"] == "none":
        return result | {"reason": "as set"}
    chosen = draw_frames(frames, count=settings["images"], seed=seed)
    drawn = [
        _draw_boundary_pixels(frame, fitted=fitted, pixels=settings["pixels_per_image"], seed=seed) for frame in chosen
    ]
    features = np.concatenate([np.zeros((0, 2)), *(found[0] for found in drawn)])
    is_object = np.concatenate([np.zeros(0, dtype=bool), *(found[1] for found in drawn)])
    was_object = np.concatenate([np.zeros(0, dtype=bool), *(found[2] for found in drawn)])
    groups = np.repeat(np.arange(len(drawn)), [len(found[1]) for found in drawn])
    result |= {"images": len(np.unique(groups)), "pixels": len(is_object)}
    if is_object.size == 0 or is_object.all() or not is_object.any():
        reason = "the boundary pixels of the training images are not of both classes"
        return result | {"reason": reason if chosen else "no training images"}
    share = float(np.mean(is_object))
    result |= {"majority_rate": max(share, 1 - share), "kept_accuracy": float(np.mean(was_object == is_object))}
    classifier = {key: settings[key] for key in ("classifier", "standardise", "coef0", "cost")}
    result["held_out"] = {
        f"by_{by}": held_out_accuracy(
            features, is_object, groups, by=by, repeats=settings["repeats"],
            max_points=settings["repeat_pixels"], rng=np.random.default_rng([seed, number]), **classifier,
        )
        for number, by in enumerate(("pixel", "image"))
    }  # fmt: skip
    result["model"] = fit_classifier(features, is_object, **classifier)
    return result | {"reason": "trained on the training images"}


def decide_application(frames: Sequence[Frame], *, fitted: Mapping[str, Any], apply: str) -> dict[str, Any]:
    """Decide whether the boundary classifier is used.

    Parameters
    ----------
    frames : sequence of Frame
        Validation images.
    fitted : mapping
        What was fitted so far, its boundary section as `fit_boundary` gives it.
    apply : "if_better" or "always"
        if_better wants a higher mean Dice of the validation images; without any, a higher accuracy on held-out
        images than the predicted labels have.

    Returns
    -------
    dict
        The boundary section with `applied`, `reason` and, where there is a classifier, `validation_dice` (mean
        over images, with and without it; None where there is no labelled image).
    """
    boundary = fitted["boundary"]
    if boundary["model"] is None:
        return dict(boundary)
    with_it, without = (
        _mean_dice(frames, fitted={**fitted, "boundary": {**boundary, "applied": applied}}) for applied in (True, False)
    )
    held_out = boundary["held_out"]["by_image"]["mean"]
    if apply == "always":
        applied, reason = True, "as set"
    elif with_it is not None and without is not None:
        applied, reason = with_it > without, "mean Dice of the validation images with and without"
    else:
        applied = held_out is not None and held_out > boundary["kept_accuracy"]
        reason = "no validation image; accuracy on held-out images against the predicted labels"
    dice = {"with": with_it, "without": without}
    return {**boundary, "applied": applied, "reason": reason, "validation_dice": dice}


def choose_sizes(
    frames: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
    *,
    method: str,
    split_depth_px: float | None,
    min_area_px: int | None,
    median_area_px: float | None,
) -> dict[str, Any]:
    """Choose how objects are split and which are too small, by mean Kaggle AP over images.

    Parameters
    ----------
    frames : iterable of (core_yx, mask_yx, truth_yx, known_yx)
        Validation images: masks as for `split_objects`, true label image, where the truth is known.
    method : "auto", "watershed" or "components"
        auto chooses among both.
    split_depth_px, min_area_px : number or None
        None: choose.
    median_area_px : float or None
        Of the true objects, for the areas to try; None: there are none to choose on.

    Returns
    -------
    dict
        method, split_depth_px (None for components), min_area_px, searched (a list of what was tried, with
        ap_kaggle), reason.
    """
    depths: list[float | None] = [] if method == "watershed" else [None]
    if method != "components":
        depths += [split_depth_px] if split_depth_px else SPLIT_DEPTHS_PX
    areas = [min_area_px] if min_area_px is not None else _areas_to_try(median_area_px)
    if len(depths) * len(areas) == 1:
        return _sizes(depths[0], areas[0], searched=[], reason="as set")
    scores = [
        _score_sizes(frame, depths=depths, areas=areas)
        for frame in (frames if median_area_px is not None else [])
        if frame[3].any()
    ]
    if not scores:
        depth = None if method == "components" else split_depth_px or FALLBACK_SPLIT_DEPTH_PX
        area = FALLBACK_MIN_AREA_PX if min_area_px is None else min_area_px
        return _sizes(depth, area, searched=[], reason="no labelled validation image to choose on")
    means = np.mean(scores, axis=0)
    searched = [
        {"split_depth_px": depth, "min_area_px": area, "ap_kaggle": float(means[i, j])}
        for (i, depth), (j, area) in product(enumerate(depths), enumerate(areas))
    ]
    # Rounded, so that equal choices are equal whatever the order of a sum; argmax takes the first.
    i, j = np.unravel_index(int(np.argmax(np.round(means, 9))), means.shape)
    reason = f"best mean Kaggle AP on {len(scores)} validation images"
    return _sizes(depths[i], areas[j], searched=searched, reason=reason)


def median_area(frames: Sequence[Frame]) -> float | None:
    """Give the median area of the true objects in px of the fitted geometry, None without any."""
    areas: list[int] = []
    for frame in frames:
        truth_yx = frame.read_truth()
        counts = np.bincount(truth_yx[truth_yx != IGNORE_LABEL])[1:]
        areas += counts[counts > 0].tolist()
    return float(np.median(areas)) if areas else None


def masks_and_truth(
    frames: Sequence[Frame], *, fitted: Mapping[str, Any]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Core, final mask, true labels and where these are known, of one image after the other."""
    for frame in frames:
        truth_yx = frame.read_truth()
        masks = make_masks(frame.read_probability(), frame.read_image(), valid_yx=frame.find_valid(), fitted=fitted)
        yield *masks, truth_yx, truth_yx != IGNORE_LABEL


def _mean_dice(frames: Sequence[Frame], *, fitted: Mapping[str, Any]) -> float | None:
    """Mean Dice over images of the final mask, None without an image of which something is known."""
    scores = [
        float(score_pixels(count_pixels(mask_yx, truth_yx > 0, valid_yx=known_yx))["dice"])
        for _, mask_yx, truth_yx, known_yx in masks_and_truth(frames, fitted=fitted)
        if known_yx.any()
    ]
    return float(np.mean(scores)) if scores else None


def _draw_boundary_pixels(
    frame: Frame, *, fitted: Mapping[str, Any], pixels: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw boundary pixels of one image: their features, the truth, the closed prediction."""
    truth_yx, valid_yx, image_yx = frame.read_truth(), frame.find_valid(), frame.read_image()
    threshold = fitted["threshold"]["value"]
    core_yx = (frame.read_probability() >= threshold) & valid_yx
    closed_yx = close_mask(core_yx, footprint=make_footprint(**fitted["closing"])) & valid_yx
    candidates = np.flatnonzero(find_boundary(closed_yx, valid_yx=valid_yx) & (truth_yx != IGNORE_LABEL))
    if candidates.size == 0:
        return np.zeros((0, 2)), np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)
    rng = np.random.default_rng([seed, stable_hash(frame.sample, purpose="boundary")])
    drawn = np.sort(rng.choice(candidates, size=min(pixels, candidates.size), replace=False))
    features = boundary_features(image_yx, valid_yx=valid_yx).reshape(-1, 2)[drawn]
    return features, (truth_yx > 0).ravel()[drawn], closed_yx.ravel()[drawn]


def _areas_to_try(median_area_px: float | None) -> list[int]:
    if median_area_px is None:
        return [FALLBACK_MIN_AREA_PX]
    return sorted({round(fraction * median_area_px) for fraction in MIN_AREA_FRACTIONS})


def _sizes(depth: float | None, area: int, *, searched: list[dict[str, Any]], reason: str) -> dict[str, Any]:
    return {
        "method": "components" if depth is None else "watershed",
        "split_depth_px": depth,
        "min_area_px": area,
        "searched": searched,
        "reason": reason,
    }


def _score_sizes(
    frame: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    *,
    depths: list[float | None],
    areas: list[int],
) -> np.ndarray:
    """Kaggle AP of one image for each depth and area, shape (depths, areas)."""
    core_yx, mask_yx, truth_yx, known_yx = frame
    base_yx = grow_components(core_yx, mask_yx)
    necks = find_necks(base_yx)
    scores = np.zeros((len(depths), len(areas)))
    for i, depth in enumerate(depths):
        objects_yx = base_yx if depth is None else join_parts(necks, split_depth_px=depth)
        overlaps = count_overlaps(objects_yx, truth_yx, valid_yx=known_yx)
        for j, area in enumerate(areas):
            kept = overlaps.without_small(area)
            found = score_instances(len(kept.true_areas), len(kept.predicted_areas), count_matches(kept))
            scores[i, j] = found["ap_kaggle"]
    return scores
