"""Convert probabilities to objects: mask, connected components, and splitting of touching cells.

Depending on the network's output, touching cells are split at the necks of the mask, along predicted contours, at the
saddles between peaks of predicted distances, or by following predicted flows.

Axes  c channels as `cellmill.models.outputs` lists them, y rows, x columns
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from scipy import ndimage
from skimage import measure, segmentation

from cellmill.objects.boundary import features_reach_px, tune_boundary
from cellmill.objects.flow_tracking import track_objects
from cellmill.objects.morphology import close_mask, fill_holes, label_components, make_footprint, number_objects
from cellmill.objects.necks import Necks, find_necks, join_parts

# Methods that cut at the saddles of a height map, and the channel that it is computed from (None: from the mask)
LANDSCAPE_CHANNELS: dict[str, int | None] = {"watershed": None, "contour": 1, "distance": 1}
# Predicted maps are noisy: a small Gaussian (sigma, px) removes peaks of one pixel.
LANDSCAPE_SIGMA_PX = 1.0
# Outputs with maps of single cells, each with a splitting method of the same name
MAPS = ("contour", "distance", "flow")
EVERY_OUTPUT = ("components", "watershed")


class ThresholdSettings(TypedDict):
    """Config section `postprocess.threshold`."""

    method: str
    value: float | None


class ClosingSettings(TypedDict):
    """Config section `postprocess.closing`."""

    footprint: str
    radius_px: int


class BoundarySettings(TypedDict):
    """Config section `postprocess.boundary`."""

    classifier: str
    apply: str
    images: int
    pixels_per_image: int
    standardise: bool
    coef0: float
    cost: float
    scales_px: list[float]
    repeats: int
    repeat_pixels: int


class InstanceSettings(TypedDict):
    """Config section `postprocess.instances`."""

    method: str
    split_depth_px: float | None
    split_depth: float | None
    max_flow_error: float | None
    min_area_px: int | None
    min_area_share: float | None
    max_area_px: int | None
    min_solidity: float | None
    exclude_border: bool
    fill_holes_px: int | None


class PostprocessSettings(TypedDict):
    """Config section `postprocess`."""

    threshold: ThresholdSettings
    closing: ClosingSettings
    boundary: BoundarySettings
    instances: InstanceSettings
    search_images: int


def methods_of(output: str) -> tuple[str, ...]:
    """List the methods that split a network's output into objects, the simplest first."""
    return (*EVERY_OUTPUT, output) if output in MAPS else EVERY_OUTPUT


def make_masks(
    prob_cyx: np.ndarray,
    image_yx: np.ndarray,
    *,
    valid_yx: np.ndarray,
    grey: tuple[float, float],
    fitted: Mapping[str, Any],
) -> tuple[np.ndarray, np.ndarray]:
    """Turn probabilities into a semantic mask.

    Parameters
    ----------
    prob_cyx : ndarray of float, shape (channels, rows, columns)
        Channel 0 is the foreground, in [0, 1]; fitted geometry.
    image_yx : ndarray of float, shape (rows, columns)
        Preprocessed image, used by boundary tuning only.
    valid_yx : ndarray of bool, shape (rows, columns)
        False where the frame was padded; there is no foreground there.
    grey : (low, high)
        Range of the whole image, from `cellmill.objects.boundary.measure_grey`; used by boundary tuning only.
    fitted : mapping
        Contents of postprocess.json: threshold, closing, boundary, instances.

    Returns
    -------
    core_yx, mask_yx : ndarray of bool
        The thresholded mask and the final mask. The truth is not used.
    """
    masks = list(mask_steps(prob_cyx, image_yx, valid_yx=valid_yx, grey=grey, fitted=fitted).values())
    return masks[0], masks[-1]


def mask_steps(
    prob_cyx: np.ndarray,
    image_yx: np.ndarray,
    *,
    valid_yx: np.ndarray,
    grey: tuple[float, float],
    fitted: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """Compute the mask after each step of `make_masks`, by name: threshold, closing, boundary, holes.

    Parameters
    ----------
    prob_cyx, image_yx, valid_yx, grey, fitted
        As for `make_masks`. If the boundary classifier is not applied, there is no mask `boundary`.
    """
    core_yx = (prob_cyx[0] >= fitted["threshold"]["value"]) & valid_yx
    footprint = make_footprint(**fitted["closing"])
    mask_yx = close_mask(core_yx, footprint=footprint) & valid_yx
    masks = {"threshold": core_yx, "closing": mask_yx}
    boundary = fitted["boundary"]
    if boundary["applied"]:
        tuned_yx = tune_boundary(
            mask_yx, image_yx, model=boundary["model"], scales_px=boundary["scales_px"], grey=grey, valid_yx=valid_yx
        )
        masks["boundary"] = mask_yx = close_mask(tuned_yx, footprint=footprint) & valid_yx
    masks["holes"] = fill_holes(mask_yx, max_hole_px=fitted["instances"]["fill_holes_px"])
    return masks


def masks_reach_px(fitted: Mapping[str, Any]) -> int:
    """Return the radius (px) that a pixel of the mask depends on, except for holes, whose reach is their width."""
    boundary = fitted["boundary"]
    reach = 2 * int(fitted["closing"]["radius_px"])
    return 2 * reach + 1 + features_reach_px(boundary["scales_px"]) if boundary["applied"] else reach


def segment_image(
    prob_cyx: np.ndarray,
    image_yx: np.ndarray,
    *,
    valid_yx: np.ndarray,
    grey: tuple[float, float],
    fitted: Mapping[str, Any],
) -> np.ndarray:
    """Convert the probabilities of one image to objects, before the filters of `keep_objects`.

    Parameters
    ----------
    prob_cyx, image_yx, valid_yx, grey, fitted
        As for `make_masks`.

    Returns
    -------
    ndarray of int64, shape (rows, columns)
        Objects 1 .. n, 0 background, in fitted geometry.
    """
    core_yx, mask_yx = make_masks(prob_cyx, image_yx, valid_yx=valid_yx, grey=grey, fitted=fitted)
    instances = fitted["instances"]
    return Candidates(core_yx, mask_yx, prob_cyx).split(
        instances["method"], depth=instances["split_depth"], max_flow_error=instances["max_flow_error"]
    )


class Candidates:
    """Alternative splits of the mask of one image into objects; shared intermediate results are computed once.

    Parameters
    ----------
    core_yx, mask_yx : ndarray of bool, shape (rows, columns)
        The mask before closing and the final mask, from `make_masks`.
    prob_cyx : ndarray of float, shape (channels, rows, columns)
        Network output.
    """

    def __init__(self, core_yx: np.ndarray, mask_yx: np.ndarray, prob_cyx: np.ndarray) -> None:
        self._base_yx = grow_components(core_yx, mask_yx)
        self._mask_yx = mask_yx
        self._prob_cyx = prob_cyx
        self._necks: dict[str, Necks] = {}

    def split(self, method: str, *, depth: float | None, max_flow_error: float | None) -> np.ndarray:
        """Cut the mask into objects.

        Parameters
        ----------
        method : "components", "watershed", "contour", "distance" or "flow"
            One of `methods_of` the network's output.
        depth : float or None
            For `cellmill.objects.necks.join_parts`: in px for watershed, in units of the map for contour and distance.
        max_flow_error : float or None
            For `cellmill.objects.flow_tracking.track_objects`.

        Returns
        -------
        ndarray of int64, shape (rows, columns)
            Objects 1 .. n, 0 background.
        """
        if method == "components":
            return number_objects(self._base_yx)[0]
        if method == "flow":
            return track_objects(self._prob_cyx[1:3], self._mask_yx, max_flow_error=max_flow_error)
        assert depth is not None
        if method not in self._necks:
            self._necks[method] = find_necks(self._base_yx, heights_yx=self._landscape(method))
        return join_parts(self._necks[method], depth=depth)

    def _landscape(self, method: str) -> np.ndarray | None:
        channel = LANDSCAPE_CHANNELS[method]
        if channel is None:
            return None
        map_yx = self._prob_cyx[channel].astype(np.float32)
        return ndimage.gaussian_filter(map_yx if method == "distance" else 1 - map_yx, LANDSCAPE_SIGMA_PX)


def grow_components(core_yx: np.ndarray, mask_yx: np.ndarray) -> np.ndarray:
    """Number the components of a core and grow them to fill a mask, so that closing does not merge cells.

    Parameters
    ----------
    core_yx : ndarray of bool, shape (rows, columns)
        The mask before closing. Components that are separate here stay separate.
    mask_yx : ndarray of bool, shape (rows, columns)
        The final mask.

    Returns
    -------
    ndarray of int, shape (rows, columns)
        Positive exactly on `mask_yx`. There is an object for each component of `core_yx & mask_yx`, and for each
        component of `mask_yx` without a core.
    """
    cores_yx = label_components(core_yx & mask_yx)
    whole_yx = label_components(mask_yx)
    n_whole = int(whole_yx.max(initial=0))
    cored = np.zeros(n_whole + 1, dtype=bool)
    cored[whole_yx[cores_yx > 0]] = True
    if int(cores_yx.max(initial=0)) == np.count_nonzero(cored):
        return whole_yx  # no component of the mask contains two cores
    extra = np.cumsum(~cored) - 1 + int(cores_yx.max())
    markers_yx = np.where((whole_yx > 0) & ~cored[whole_yx], extra[whole_yx], cores_yx)
    flat_yx = np.zeros(mask_yx.shape, dtype=np.uint8)
    return segmentation.watershed(flat_yx, markers_yx, connectivity=2, mask=mask_yx)


def keep_objects(labels_yx: np.ndarray, *, box: Sequence[tuple[int, int]], limits: Mapping[str, Any]) -> np.ndarray:
    """Find the objects that pass the filters.

    Parameters
    ----------
    labels_yx : ndarray of integers >= 0, shape (rows, columns)
        Objects 1 .. n, 0 background.
    box : ((first row, end), (first column, end))
        Extent of the raw image in the array. Objects that touch its edges are cut by the image border; edges outside
        the array are ignored.
    limits : mapping
        min_area_px, max_area_px, min_solidity and exclude_border, as in the section instances of postprocess.json. No
        limit is 0 for min_area_px, None for max_area_px and min_solidity, and False for exclude_border.

    Returns
    -------
    ndarray of bool, shape (n + 1,)
        False for the background.
    """
    areas = np.bincount(labels_yx.ravel())
    kept = areas >= max(1, limits["min_area_px"])
    if limits["max_area_px"] is not None:
        kept &= areas <= limits["max_area_px"]
    if limits["exclude_border"]:
        for axis, places in enumerate(box):
            for place in (places[0], places[1] - 1):
                if 0 <= place < labels_yx.shape[axis]:
                    kept[labels_yx.take(place, axis=axis)] = False
    kept[0] = False
    if limits["min_solidity"] is not None and kept.any():
        chosen_yx = np.where(kept[labels_yx], labels_yx, 0)
        found = measure.regionprops_table(chosen_yx, properties=("label", "solidity"))
        # Objects of fewer than three pixels, or on a line, have no convex hull and count as solid.
        solidity = np.where(np.isfinite(found["solidity"]), found["solidity"], 1.0)
        kept[found["label"][solidity < limits["min_solidity"]]] = False
    return kept


def smallest_area(areas: np.ndarray, *, share: float) -> float:
    """Return the area below which objects are dropped: a share of the median area of the objects of one image.

    Parameters
    ----------
    areas : ndarray of numbers
        Areas of all objects of the image that pass the other filters, px.
    share : float, in [0, 1)

    Returns
    -------
    float
        0 without objects.
    """
    return share * float(np.median(areas)) if share > 0 and len(areas) else 0.0


def drop_small_share(labels_yx: np.ndarray, *, share: float) -> np.ndarray:
    """Return the label image of a whole image without the objects that `smallest_area` drops."""
    areas = np.bincount(labels_yx.ravel())
    areas[0] = 0
    kept = areas >= max(1.0, smallest_area(areas[areas > 0], share=share))
    return np.where(kept[labels_yx], labels_yx, 0)
