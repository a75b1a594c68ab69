"""Fit postprocessing: threshold and object sizes on validation images, boundary classifier on training images."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from cellmill.images.stored import IGNORE_LABEL
from cellmill.metrics.instance import count_objects, count_overlaps, score_instances
from cellmill.metrics.pixel import (
    BINS,
    best_threshold,
    count_pixels,
    histogram_classes,
    matthews_correlation,
    score_pixels,
    sweep_counts,
)
from cellmill.objects.boundary import boundary_features, find_boundary, fit_classifier, held_out_accuracy
from cellmill.objects.frames import Frame, Scene, cut_frames, draw_frames
from cellmill.objects.instances import (
    LANDSCAPE_CHANNELS,
    BoundarySettings,
    Candidates,
    InstanceSettings,
    PostprocessSettings,
    drop_small_share,
    grow_components,
    keep_objects,
    make_masks,
    mask_steps,
    methods_of,
    smallest_area,
)
from cellmill.objects.morphology import close_mask, make_footprint
from cellmill.shards import stable_hash

logger = logging.getLogger(__name__)

# ASSUME a hole below a quarter of an object is a prediction error, not background between cells
HOLE_FRACTION = 0.25
FALLBACK_THRESHOLD = 0.5
# Depths and areas tried on the validation images. The choice that changes least comes first and wins ties. On real
# nuclei and cells (BBBC039, DSB 2018, HeLa, Sartorius; true masks, ragged masks, Otsu masks), 0.25 px cut single
# cells, the best depth was between 0.75 and 2 px, and not splitting lost 0.03 to 0.25 AP.
SPLIT_DEPTHS_PX = (4.0, 2.0, 1.5, 1.0, 0.75)
# In units of the predicted map
SPLIT_DEPTHS = (0.5, 0.3, 0.2, 0.1, 0.05)
MIN_AREA_FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.4)
# Shares of the median area of the objects found in the same image, for images of different magnification
MIN_AREA_SHARES = (0.1, 0.2)
# Used with few validation images: best on half of those datasets, within 0.04 AP of the best on all.
FALLBACK_SPLIT_DEPTH_PX = 1.0
FALLBACK_SPLIT_DEPTH = 0.2
# The largest minimum area in px is this quantile of the areas of all annotated objects, but at most this fraction of
# their median: where all are alike, many predicted objects are a little smaller than the smallest annotated one.
SMALL_QUANTILE, SMALL_FRACTION = 0.05, 0.2
# With fewer validation images that contain objects, a search adapts to these images. The threshold is then chosen on
# the training images as well, the split depth is the fallback, and the minimum area is the largest one above. Measured
# in docs/objects.md.
FEW_IMAGES = 10
_FEW = f"fewer than {FEW_IMAGES} of the searched validation images contain objects"


def fit_frames(
    training: Sequence[Frame],
    validation: Sequence[Frame],
    *,
    settings: PostprocessSettings,
    output: str,
    seed: int,
    is_trained: bool = True,
) -> dict[str, Any]:
    """Fit and choose all parameters of postprocessing.

    Parameters
    ----------
    training : sequence of Frame
        Images for the boundary classifier; may be empty.
    validation : sequence of Frame
        Images for threshold, sizes and splitting method; may be empty. Both here and in training, images above
        3072 x 3072 px are replaced by windows, see `cellmill.objects.frames.cut_frames`.
    settings : mapping
        Config section postprocess.
    output : str
        `network.output`.
    seed : int
        Seed for drawing images, windows and pixels.
    is_trained : bool
        Whether the maps come from a network that was trained on the training images. If not, these are as good as the
        validation images, and all are searched.

    Returns
    -------
    dict
        threshold, closing, boundary and instances in the form that `segment_image` and `keep_objects` take, with the
        data that each was chosen on; and steps, from `score_steps`.
    """
    parts = list(cut_frames(validation if is_trained else [*training, *validation], seed=seed))
    searched = draw_frames(parts, count=settings["search_images"], seed=seed)
    areas_px = list_areas(searched)
    shown = sum(areas.size > 0 for areas in areas_px.values())
    is_few = shown < FEW_IMAGES
    others: list[Frame] = []
    if is_trained:
        others = draw_frames(list(cut_frames(training, seed=seed)), count=settings["search_images"], seed=seed)
    known_px = areas_px | list_areas(others)
    helpers = others if is_few else []
    median_area_px, _ = _typical_areas((known_px if is_few else areas_px).values())
    _, smallest_area_px = _typical_areas(known_px.values())
    holes_px = settings["instances"]["fill_holes_px"]
    if holes_px is None:
        holes_px = round(HOLE_FRACTION * median_area_px) if median_area_px else 0
    fitted: dict[str, Any] = {
        "threshold": choose_threshold(parts, training=helpers, **settings["threshold"]),
        "closing": dict(settings["closing"]),
        "boundary": {"applied": False, "scales_px": settings["boundary"]["scales_px"]},
        "instances": {"fill_holes_px": holes_px, "median_area_px": median_area_px},
    }
    fitted["boundary"] = fit_boundary(training, fitted=fitted, settings=settings["boundary"], seed=seed)
    fitted["boundary"] = decide_application(searched, fitted=fitted, apply=settings["boundary"]["apply"])
    fitted["instances"] |= choose_objects(
        search_frames(searched, fitted=fitted) if shown else (), instances=settings["instances"], output=output,
        median_area_px=median_area_px, smallest_area_px=smallest_area_px, is_few=is_few,
    )  # fmt: skip
    if not is_trained:
        for name in ("threshold", "boundary", "instances"):
            fitted[name]["reason"] = _name_both_parts(fitted[name]["reason"])
    return fitted | {"steps": score_steps(searched, fitted=fitted)}


def _name_both_parts(reason: str) -> str:
    """Return a reason with the training images beside the validation images, which it names alone."""
    return re.sub(r"(?<!training and )(?<!training or )validation image", "training and validation image", reason)


def choose_threshold(
    frames: Sequence[Frame], *, method: str, value: float | None, training: Sequence[Frame] = ()
) -> dict[str, Any]:
    """Choose the threshold by Matthews' correlation on the pooled pixels of the validation images.

    Parameters
    ----------
    frames : sequence of Frame
        Validation images only.
    training : sequence of Frame
        Training images to pool with them if validation images are few; empty otherwise.
    method : "mcc" or "fixed"
        fixed uses `value`.
    value : float or None
        In (0, 1).

    Returns
    -------
    dict
        value, method, mcc (at this threshold), mcc_at_half, images, pixels and reason. mcc and mcc_at_half are None
        unless the images have both foreground and background.
    """
    histogram = np.zeros((2, BINS), dtype=np.int64)
    pooled = [*frames, *training]
    for frame in pooled:
        truth_yx = frame.read_truth()
        histogram += histogram_classes(frame.read_probability(), truth_yx > 0, valid_yx=truth_yx != IGNORE_LABEL)
    has_both = bool(histogram.sum(axis=1).all())
    if method == "fixed":
        assert value is not None
        threshold, reason = float(value), "set in the config"
    elif has_both:
        threshold, _ = best_threshold(histogram)
        reason = "best Matthews correlation on the validation images"
        if training:
            reason = f"best Matthews correlation on the training and validation images, because {_FEW}"
    else:
        threshold = FALLBACK_THRESHOLD
        reason = "default value, because no training or validation image contains both foreground and background"
        logger.warning("threshold %.3g: %s", threshold, reason)
    mcc = matthews_correlation(**sweep_counts(histogram))
    return {
        "value": threshold,
        "method": method,
        "mcc": float(mcc[min(round(threshold * BINS), BINS - 1)]) if has_both else None,
        "mcc_at_half": float(mcc[BINS // 2]) if has_both else None,
        "images": len({frame.sample for frame in pooled}),
        "pixels": int(histogram.sum()),
        "reason": reason,
    }


def fit_boundary(
    frames: Sequence[Frame], *, fitted: Mapping[str, Any], settings: BoundarySettings, seed: int
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
        Seed for drawing images and pixels; adding an image changes at most one of the drawn images.

    Returns
    -------
    dict
        classifier, scales_px, model (None if none could be trained), applied (False for now), reason, images, pixels,
        majority_rate, kept_accuracy (accuracy of the closed prediction at those pixels) and held_out (accuracy by pixel
        and by image).
    """
    result: dict[str, Any] = {
        "classifier": settings["classifier"], "scales_px": settings["scales_px"], "model": None, "applied": False,
    }  # fmt: skip
    if settings["classifier"] == "none":
        return result | {"reason": "set in the config"}
    chosen = list(cut_frames(draw_frames(frames, count=settings["images"], seed=seed), seed=seed))
    drawn = [_draw_boundary_pixels(frame, fitted=fitted, settings=settings, seed=seed) for frame in chosen]
    nothing = np.zeros((0, 2 * len(settings["scales_px"])))
    features = np.concatenate([nothing, *(found[0] for found in drawn)])
    is_object = np.concatenate([np.zeros(0, dtype=bool), *(found[1] for found in drawn)])
    was_object = np.concatenate([np.zeros(0, dtype=bool), *(found[2] for found in drawn)])
    images = list(dict.fromkeys(frame.sample for frame in chosen))  # windows of one image form one group
    groups = np.repeat([images.index(frame.sample) for frame in chosen], [len(found[1]) for found in drawn])
    result |= {"images": len(np.unique(groups)), "pixels": len(is_object)}
    if is_object.size == 0 or is_object.all() or not is_object.any():
        reason = "not trained, because the boundary pixels of the training images do not include both classes"
        return result | {"reason": reason if chosen else "no training images"}
    share = float(np.mean(is_object))
    result |= {"majority_rate": max(share, 1 - share), "kept_accuracy": float(np.mean(was_object == is_object))}
    classifier: dict[str, Any] = {
        "classifier": settings["classifier"], "standardise": settings["standardise"], "coef0": settings["coef0"],
        "cost": settings["cost"],
    }  # fmt: skip
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
        Parameters fitted so far, with the boundary section from `fit_boundary`.
    apply : "if_better" or "always"
        if_better requires a higher mean Dice on the validation images. If none of them contains an object, it requires
        a higher accuracy on held-out training images than that of the prediction.

    Returns
    -------
    dict
        The boundary section with `applied`, `reason` and, if there is a classifier, `validation_dice` (mean over
        images, with and without it; None if no validation image contains an object).
    """
    boundary = fitted["boundary"]
    if boundary["model"] is None:
        return dict(boundary)
    with_it, without = (
        _mean_dice(frames, fitted={**fitted, "boundary": {**boundary, "applied": applied}}) for applied in (True, False)
    )
    held_out = boundary["held_out"]["by_image"]["mean"]
    if apply == "always":
        applied, reason = True, "set in the config"
    elif with_it is not None and without is not None:
        applied = with_it > without
        reason = "decided by the mean Dice of the validation images with and without the classifier"
    else:
        applied = held_out is not None and held_out > boundary["kept_accuracy"]
        reason = (
            "no validation image contains an object; decided by comparing the accuracy on held-out training images "
            "with that of the prediction"
        )
    dice = {"with": with_it, "without": without}
    return {**boundary, "applied": applied, "reason": reason, "validation_dice": dice}


@dataclass(frozen=True)
class Searched:
    """Validation image, or a window of it, for choosing how objects are split: candidates, truth and frame box.

    `known_yx` is True where the truth is known; `box` is as for `keep_objects`.
    """

    sample: str
    candidates: Candidates
    truth_yx: np.ndarray
    known_yx: np.ndarray
    box: tuple[tuple[int, int], tuple[int, int]]


def choose_objects(
    frames: Iterable[Searched],
    *,
    instances: InstanceSettings,
    output: str,
    median_area_px: float | None,
    smallest_area_px: int,
    is_few: bool,
) -> dict[str, Any]:
    """Choose the splitting method and the minimum area of objects by mean Kaggle AP over images.

    Parameters
    ----------
    frames : iterable of Searched
        Validation images.
    instances : mapping
        Config section postprocess.instances; values that are None or "auto" are chosen here.
    output : str
        `network.output`, which determines the available methods.
    median_area_px : float or None
        Median area of the true objects, which determines the areas to try; None without true objects.
    smallest_area_px : int
        Area that few annotated objects of training and validation images are below. Larger minimum areas are not tried:
        on images of different magnification, they would drop all objects of some of them.
    is_few : bool
        Whether validation images are few. Then `smallest_area_px` and the fallback of the split depth are used, and
        only the method is chosen.

    Returns
    -------
    dict
        method, split_depth (in px for watershed, in units of the map for contour and distance, None for others),
        min_area_px, min_area_share, searched (a list of the combinations tried, with ap_kaggle), reason, and the limits
        as set.
    """
    limits = {
        "max_area_px": instances["max_area_px"], "min_solidity": instances["min_solidity"],
        "exclude_border": instances["exclude_border"], "max_flow_error": instances["max_flow_error"],
    }  # fmt: skip
    methods = methods_of(output) if instances["method"] == "auto" else (instances["method"],)
    area = instances["min_area_px"]
    ways = [(method, depth) for method in methods for depth in _depths_to_try(method, instances, is_few=is_few)]
    share = instances["min_area_share"]
    sizes = _sizes_to_try(median_area_px, smallest_area_px, is_few=is_few, area=area, share=share)

    def result(way: tuple[str, float | None], size: tuple[int, float], **rest: Any) -> dict[str, Any]:
        sizes = {"min_area_px": size[0], "min_area_share": size[1]}
        return {"method": way[0], "split_depth": way[1], **sizes, **limits, **rest}

    if len(sizes) == len(ways) == 1 and area is not None and instances["method"] != "auto":
        return result(ways[0], sizes[0], searched=[], reason="set in the config")
    scores: list[np.ndarray] = []
    samples: set[str] = set()
    for frame in frames:
        if frame.known_yx.any():
            scores.append(_score_ways(frame, ways=ways, sizes=sizes, limits=limits))
            samples.add(frame.sample)
    if not scores:
        reason = "not fitted, because no validation image contains annotated objects"
        return result((methods[-1], _fallback_depth(methods[-1], instances)), sizes[0], searched=[], reason=reason)
    means = np.mean(scores, axis=0)
    searched = [
        {
            "method": way[0], "split_depth": way[1], "min_area_px": size[0], "min_area_share": size[1],
            "ap_kaggle": float(means[i, j]),
        }
        for (i, way), (j, size) in product(enumerate(ways), enumerate(sizes))
    ]  # fmt: skip
    # Rounded, so that ties do not depend on the order of summation; argmax takes the first.
    i, j = np.unravel_index(int(np.argmax(np.round(means, 9))), means.shape)
    parts = f"{len(scores)} windows of " if len(scores) > len(samples) else ""
    images = "1 validation image" if len(samples) == 1 else f"{len(samples)} validation images"
    reason = f"best mean Kaggle AP on {parts}{images}"
    if is_few:
        reason = f"method by {reason}, sizes by the annotated objects of training and validation, because {_FEW}"
    return result(ways[i], sizes[j], searched=searched, reason=reason)


def score_steps(frames: Sequence[Frame], *, fitted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Score the validation images after each step of postprocessing.

    Parameters
    ----------
    frames : sequence of Frame
        Validation images.
    fitted : mapping
        All fitted parameters.

    Returns
    -------
    list of dict
        step (those of `mask_steps`, with connected components as objects; then objects and filters), dice and
        ap_kaggle (means over images with known truth). Empty if no image has known truth.
    """
    limits = fitted["instances"]
    scores: dict[str, list[tuple[float, float]]] = {}
    for frame in frames:
        truth_yx = frame.read_truth()
        known_yx = truth_yx != IGNORE_LABEL
        if not known_yx.any():
            continue
        maps_cyx, grey = frame.read_maps(), frame.measure_grey()
        masks = mask_steps(maps_cyx, frame.read_image(), valid_yx=frame.find_valid(), grey=grey, fitted=fitted)
        found = {step: grow_components(masks["threshold"], mask_yx) for step, mask_yx in masks.items()}
        found["objects"] = Candidates(masks["threshold"], masks["holes"], maps_cyx).split(
            limits["method"], depth=limits["split_depth"], max_flow_error=limits["max_flow_error"]
        )
        kept = keep_objects(found["objects"], box=frame.box, limits=limits)
        found["filters"] = drop_small_share(
            np.where(kept[found["objects"]], found["objects"], 0), share=limits["min_area_share"]
        )
        for step, objects_yx in found.items():
            dice = score_pixels(count_pixels(objects_yx > 0, truth_yx > 0, valid_yx=known_yx))["dice"]
            counts = count_objects(count_overlaps(objects_yx, truth_yx, valid_yx=known_yx))
            scores.setdefault(step, []).append((float(dice), float(score_instances(counts)["ap_kaggle"])))
    return [
        {"step": step, **dict(zip(("dice", "ap_kaggle"), np.mean(values, axis=0).tolist(), strict=True))}
        for step, values in scores.items()
    ]


def list_areas(frames: Iterable[Scene]) -> dict[str, np.ndarray]:
    """List the areas of the true objects of each image, in px of the fitted geometry; windows of an image together."""
    areas: dict[str, np.ndarray] = {}
    for frame in frames:
        truth_yx = frame.read_truth()
        counts = np.bincount(truth_yx[truth_yx != IGNORE_LABEL])[1:]
        areas[frame.sample] = np.concatenate([areas.get(frame.sample, counts[:0]), counts[counts > 0]])
    return areas


def _typical_areas(areas_px: Iterable[np.ndarray]) -> tuple[float | None, int]:
    """Return the median area of objects, and an area that few of them are below; None and 0 without objects."""
    pooled = np.concatenate([np.zeros(0, dtype=int), *areas_px])
    if pooled.size == 0:
        return None, 0
    median, small = float(np.median(pooled)), float(np.quantile(pooled, SMALL_QUANTILE))
    return median, round(min(small, SMALL_FRACTION * median))


def search_frames(frames: Sequence[Frame], *, fitted: Mapping[str, Any]) -> Iterator[Searched]:
    """Read the validation images one by one, in the form that `choose_objects` takes."""
    for frame in frames:
        truth_yx, maps_cyx = frame.read_truth(), frame.read_maps()
        core_yx, mask_yx = _masks_of(frame, maps_cyx, fitted=fitted)
        candidates = Candidates(core_yx, mask_yx, maps_cyx)
        yield Searched(frame.sample, candidates, truth_yx, truth_yx != IGNORE_LABEL, frame.box)


def _masks_of(frame: Frame, maps_cyx: np.ndarray, *, fitted: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    image_yx, valid_yx = frame.read_image(), frame.find_valid()
    return make_masks(maps_cyx, image_yx, valid_yx=valid_yx, grey=frame.measure_grey(), fitted=fitted)


def _mean_dice(frames: Sequence[Frame], *, fitted: Mapping[str, Any]) -> float | None:
    """Compute the mean Dice of the final mask over images; None if no image contains an object, as all would tie."""
    scores, shows_object = [], False
    for frame in frames:
        truth_yx = frame.read_truth()
        known_yx = truth_yx != IGNORE_LABEL
        shows_object |= bool((known_yx & (truth_yx > 0)).any())
        if known_yx.any():
            _, mask_yx = _masks_of(frame, frame.read_maps(), fitted=fitted)
            scores.append(float(score_pixels(count_pixels(mask_yx, truth_yx > 0, valid_yx=known_yx))["dice"]))
    return float(np.mean(scores)) if shows_object else None


def _draw_boundary_pixels(
    frame: Frame, *, fitted: Mapping[str, Any], settings: BoundarySettings, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw boundary pixels of one image; return their features, truth and closed prediction."""
    truth_yx, valid_yx, image_yx = frame.read_truth(), frame.find_valid(), frame.read_image()
    threshold = fitted["threshold"]["value"]
    core_yx = (frame.read_probability() >= threshold) & valid_yx
    closed_yx = close_mask(core_yx, footprint=make_footprint(**fitted["closing"])) & valid_yx
    candidates = np.flatnonzero(find_boundary(closed_yx, valid_yx=valid_yx) & (truth_yx != IGNORE_LABEL))
    if candidates.size == 0:
        return np.zeros((0, 2 * len(settings["scales_px"]))), np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)
    rng = np.random.default_rng([seed, stable_hash(frame.name, purpose="boundary")])
    drawn = np.sort(rng.choice(candidates, size=min(settings["pixels_per_image"], candidates.size), replace=False))
    features_yxf = boundary_features(image_yx, grey=frame.measure_grey(), scales_px=settings["scales_px"])
    places = np.unravel_index(drawn, image_yx.shape)
    return features_yxf[places], truth_yx[places] > 0, closed_yx[places]


def _sizes_to_try(
    median_area_px: float | None, smallest_area_px: int, *, is_few: bool, area: int | None, share: float | None
) -> list[tuple[int, float]]:
    """List the pairs of a smallest area (px) and a smallest share of the median area; None is chosen here."""
    if area is not None:
        return [(area, share or 0.0)]
    if share is not None and share > 0:
        return [(0, share)]
    if is_few or median_area_px is None:
        return [(smallest_area_px, 0.0)]
    areas = sorted({min(round(fraction * median_area_px), smallest_area_px) for fraction in MIN_AREA_FRACTIONS})
    shares = MIN_AREA_SHARES if share is None else ()
    return [*((area, 0.0) for area in areas), *((0, share) for share in shares)]


def _depths_to_try(method: str, instances: InstanceSettings, *, is_few: bool = False) -> list[float | None]:
    if method not in LANDSCAPE_CHANNELS:
        return [None]
    if is_few:
        return [_fallback_depth(method, instances)]
    if method == "watershed":
        depth, depths = instances["split_depth_px"], SPLIT_DEPTHS_PX
    else:
        depth, depths = instances["split_depth"], SPLIT_DEPTHS
    return [depth] if depth is not None else [*depths]


def _fallback_depth(method: str, instances: InstanceSettings) -> float | None:
    depths = _depths_to_try(method, instances)
    if len(depths) == 1:
        return depths[0]
    return FALLBACK_SPLIT_DEPTH_PX if method == "watershed" else FALLBACK_SPLIT_DEPTH


def _score_ways(
    frame: Searched, *, ways: list[tuple[str, float | None]], sizes: list[tuple[int, float]], limits: Mapping[str, Any]
) -> np.ndarray:
    """Compute the Kaggle AP of one image for each method with its depth and each smallest size: (ways, sizes)."""
    scores = np.zeros((len(ways), len(sizes)))
    for i, (method, depth) in enumerate(ways):
        objects_yx = frame.candidates.split(method, depth=depth, max_flow_error=limits["max_flow_error"])
        kept = keep_objects(objects_yx, box=frame.box, limits={**limits, "min_area_px": 0})
        objects_yx = np.where(kept[objects_yx], objects_yx, 0)
        overlaps = count_overlaps(objects_yx, frame.truth_yx, valid_yx=frame.known_yx)
        for j, (area, share) in enumerate(sizes):
            left = overlaps.without_small(max(area, smallest_area(overlaps.predicted_whole, share=share)))
            found = score_instances(count_objects(left))
            scores[i, j] = found["ap_kaggle"]
    return scores
