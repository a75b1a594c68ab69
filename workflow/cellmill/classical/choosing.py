"""Choose the numbers of a run without a network on annotated images."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from cellmill.classical.levels import Level, find_level
from cellmill.classical.maps import open_flat, read_map
from cellmill.classical.recipes import Recipe
from cellmill.images.stored import IGNORE_LABEL
from cellmill.metrics.instance import count_objects, count_overlaps, score_instances
from cellmill.metrics.pixel import BINS, best_threshold, histogram_classes
from cellmill.objects.frames import Scene, cut_frames, draw_frames
from cellmill.objects.instances import Candidates
from cellmill.objects.morphology import fill_holes
from cellmill.objects.tuning import FALLBACK_SPLIT_DEPTH_PX, HOLE_FRACTION, list_areas

logger = logging.getLogger(__name__)

# Tried on annotated images. A window is a multiple of the diameter of the median annotated object: a smaller one takes
# objects for their surroundings. Measured in docs/objects.md. The first wins ties; it and the last polarity are used
# where nothing is annotated: smoothing removes single bright pixels, and a window would have to fit the objects.
SIGMAS_PX = (1.0, 0.0, 2.0)
WINDOW_DIAMETERS = (3, 6)
POLARITIES = ("bright", "dark", "image")
# Window of a local threshold that the config asks for where nothing is annotated
FIXED_WINDOW_PX = 101
# More images take longer, and the choice among few numbers is the same.
SEARCHED_IMAGES = 20
# Smaller objects than this share of the median object are left out when ways are compared.
SMALL_FRACTION = 0.1


class ClassicalSettings(TypedDict):
    """Config section `network` of a preset without a network; None and "auto" are chosen."""

    architecture: str
    output: str
    sigma_px: float | None
    threshold: str
    window_px: int | None
    polarity: str


@dataclass(frozen=True)
class Way:
    """Smoothing and window that are tried together."""

    sigma_px: float
    window_px: int | None


def choose_recipe(scenes: Sequence[Scene], *, network: ClassicalSettings, seed: int) -> dict[str, Any]:
    """Choose smoothing, window and polarity by the mean Kaggle AP of some images.

    Parameters
    ----------
    scenes : sequence of Scene
        Training and validation images with their truth; may be empty.
    network : mapping
        Config section; what it sets is not chosen.
    seed : int
        Seed for drawing images and windows.

    Returns
    -------
    dict
        recipe (`cellmill.classical.maps.Recipe`), reason, images (their number) and searched: for each way its
        sigma_px, window_px, polarity and threshold (best Matthews correlation, mcc), and ap_kaggle.

    Notes
    -----
    The map of each way is cut at the threshold of the best Matthews correlation, as in postprocessing, and its
    components are split by the watershed of their mask. About a second for an image of 512 x 512 px.
    """
    parts = list(cut_frames(draw_frames(scenes, count=SEARCHED_IMAGES, seed=seed), seed=seed))
    areas_px = np.concatenate([np.zeros(0, dtype=int), *list_areas(parts).values()])
    diameter_px = 2 * float(np.sqrt(np.median(areas_px) / np.pi)) if areas_px.size else None
    ways, polarities = _ways_to_try(network, diameter_px), _polarities_to_try(network)
    images = len({part.sample for part in parts})
    if diameter_px is None or len(ways) * len(polarities) == 1:
        recipe = _recipe(ways[0], polarities[-1])
        reason = "set in the config" if len(ways) * len(polarities) == 1 and _is_set(network) else _NO_OBJECTS
        return {"recipe": recipe, "reason": reason, "images": images, "searched": []}
    levels: dict[tuple[str, Way], Level | None] = {}
    cuts = [_choose_cut(parts, way, polarities=polarities, levels=levels) for way in ways]
    median_px = float(np.median(areas_px))
    scores = [
        _score_way(parts, way, cut=cut, levels=levels, median_px=median_px) for way, cut in zip(ways, cuts, strict=True)
    ]
    searched = [
        {**_recipe(way, cut.polarity), "threshold": cut.threshold, "mcc": cut.mcc, "ap_kaggle": ap}
        for way, cut, ap in zip(ways, cuts, scores, strict=True)
    ]
    # Rounded, because other machines add up in another order; the first of equal scores wins.
    best = int(np.argmax(np.round(scores, 9)))
    count = "1 training and validation image" if images == 1 else f"{images} training and validation images"
    reason = f"best mean Kaggle AP on {count}; polarity by Matthews correlation"
    return {
        "recipe": _recipe(ways[best], cuts[best].polarity),
        "reason": reason,
        "images": images,
        "searched": searched,
    }


_NO_OBJECTS = "fixed values, because no training or validation image contains annotated objects"


@dataclass(frozen=True)
class _Cut:
    """Polarity and threshold of a way with the best Matthews correlation."""

    polarity: str
    threshold: float
    mcc: float


def _recipe(way: Way, polarity: str) -> Recipe:
    return {"sigma_px": way.sigma_px, "window_px": way.window_px, "polarity": polarity}


def _is_set(network: ClassicalSettings) -> bool:
    is_local = network["threshold"] == "global" or network["window_px"] is not None
    return network["sigma_px"] is not None and is_local and network["polarity"] != "auto"


def _ways_to_try(network: ClassicalSettings, diameter_px: float | None) -> list[Way]:
    """List the ways that the config leaves open, the fixed one first; only that one without a diameter."""
    sigmas: Iterable[float] = SIGMAS_PX if network["sigma_px"] is None else (network["sigma_px"],)
    windows: list[int | None] = [] if network["threshold"] == "local" else [None]
    if network["threshold"] != "global":
        set_px, sides = network["window_px"], [FIXED_WINDOW_PX]
        if set_px is not None:
            sides = [set_px]
        elif diameter_px is not None:
            sides = [2 * round(factor * diameter_px / 2) + 1 for factor in WINDOW_DIAMETERS]
        windows += sides
    ways = [Way(sigma, window) for sigma in sigmas for window in windows]
    return ways if diameter_px is not None else ways[:1]


def _polarities_to_try(network: ClassicalSettings) -> tuple[str, ...]:
    return POLARITIES if network["polarity"] == "auto" else (network["polarity"],)


def _read_part(part: Scene, way: Way, *, levels: dict[tuple[str, Way], Level | None]) -> tuple[np.ndarray, bool]:
    """Compute the map of bright objects of a part of an image, and whether the image has dark ones."""
    flat = open_flat(part, sigma_px=way.sigma_px, window_px=way.window_px)
    rows, columns = part.extent
    if (part.sample, way) not in levels:
        levels[part.sample, way] = None if flat is None else find_level(flat.count_values(), polarity="image")
    level = levels[part.sample, way]
    if flat is None or level is None:
        return np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=np.float32), False
    bright = Level(level.threshold, level.separation, is_dark=False)
    return read_map(flat, bright, geometry=part.geometry, rows=rows, columns=columns), level.is_dark


def _turn(map_yx: np.ndarray, *, polarity: str, is_dark: bool) -> np.ndarray:
    """Return the map for a polarity, from that of bright objects; one without contrast stays 0 everywhere."""
    turns = polarity == "dark" or (polarity == "image" and is_dark)
    return 1 - map_yx if turns and map_yx.any() else map_yx


def _choose_cut(
    parts: Sequence[Scene], way: Way, *, polarities: Sequence[str], levels: dict[tuple[str, Way], Level | None]
) -> _Cut:
    histograms: Mapping[str, np.ndarray] = {polarity: np.zeros((2, BINS), dtype=np.int64) for polarity in polarities}
    for part in parts:
        truth_yx = part.read_truth()
        map_yx, is_dark = _read_part(part, way, levels=levels)
        for polarity, histogram in histograms.items():
            turned_yx = _turn(map_yx, polarity=polarity, is_dark=is_dark)
            histogram += histogram_classes(turned_yx, truth_yx > 0, valid_yx=truth_yx != IGNORE_LABEL)
    found = [_Cut(polarity, *best_threshold(histogram)) for polarity, histogram in histograms.items()]
    return max(found, key=lambda cut: round(cut.mcc, 9))


def _score_way(
    parts: Sequence[Scene], way: Way, *, cut: _Cut, levels: dict[tuple[str, Way], Level | None], median_px: float
) -> float:
    """Compute the mean Kaggle AP of some images for one way."""
    scores = []
    for part in parts:
        truth_yx = part.read_truth()
        known_yx = truth_yx != IGNORE_LABEL
        map_yx, is_dark = _read_part(part, way, levels=levels)
        map_yx = _turn(map_yx, polarity=cut.polarity, is_dark=is_dark)
        core_yx = (map_yx >= cut.threshold) & part.find_valid()
        mask_yx = fill_holes(core_yx, max_hole_px=round(HOLE_FRACTION * median_px))
        found = Candidates(core_yx, mask_yx, map_yx[np.newaxis])
        objects_yx = found.split("watershed", depth=FALLBACK_SPLIT_DEPTH_PX, max_flow_error=None)
        overlaps = count_overlaps(objects_yx, truth_yx, valid_yx=known_yx)
        counts = count_objects(overlaps.without_small(round(SMALL_FRACTION * median_px)))
        scores.append(float(score_instances(counts)["ap_kaggle"]))
    return float(np.mean(scores))
