"""Training targets: classes, maps and weights, computed from the label image.

Axes     c maps, y rows, x columns
Labels   0 background, IGNORE_LABEL where the truth is unknown, any other number a cell
Classes  0 background, 1 cell, 2 contour, IGNORED_TARGET where the truth is unknown

Maps that depend on a whole cell are computed once for an image and augmented with it. All else is computed from the
augmented labels of a patch and its context, so that cells outside of the patch have their influence within it.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cellmill.images.stored import IGNORE_LABEL
from cellmill.objects.distances import distance_weights, normalised_distance, reach_px, separate_touching
from cellmill.objects.flows import grey_of_flows, unit_flows
from cellmill.objects.morphology import remove_ignored
from cellmill.training.losses import IGNORED_TARGET, DistanceSettings, LossSettings

CONTOUR_CLASS = 2
# Shorter vectors result from interpolation between opposite vectors and have no meaningful direction.
SHORTEST_FLOW = 1e-6


@dataclass(frozen=True)
class Target:
    """Target of one patch."""

    classes_yx: np.ndarray  # uint8
    values_cyx: np.ndarray | None  # float32: distance (1 plane), flow y and x, or grey flow (1 plane)
    weights_yx: np.ndarray | None  # float32: added to the weight of the class


def image_maps(labels_yx: np.ndarray, *, output: str) -> np.ndarray | None:
    """Compute the maps of a whole image that are augmented with it.

    Parameters
    ----------
    labels_yx : ndarray of unsigned integers, shape (rows, columns)
        Labels of the whole image.
    output : str
        `network.output` of a preset.

    Returns
    -------
    ndarray of float32, shape (maps, rows, columns), or None
        Unit flow (y, x) for flow and flow_gray, distance from 0 to 1 for distance, None for all others. 0 in
        background and ignored pixels.
    """
    if output in ("flow", "flow_gray"):
        return unit_flows(labels_yx)
    if output == "distance":
        return normalised_distance(labels_yx)[np.newaxis]
    return None


def context_px(*, output: str, loss: LossSettings) -> int:
    """Return the width (px) of the context around a patch in which labels are needed.

    Parameters
    ----------
    output : str
        `network.output` of a preset.
    loss : LossSettings

    Returns
    -------
    int
        Width on each side: 1 for contours, the reach of distance weights if there are any, otherwise 0.
    """
    distance = _distance_of(loss)
    reach = 0 if distance is None else reach_px(sigma_px=distance["sigma_px"], factor=distance["factor"])
    return max(int(output == "contour"), reach)


def make_target(
    labels_yx: np.ndarray, maps_cyx: np.ndarray | None, *, output: str, loss: LossSettings, context_px: int
) -> Target:
    """Compute the target of one patch from its augmented labels and maps.

    Parameters
    ----------
    labels_yx : ndarray of unsigned integers, shape (rows + 2 context, columns + 2 context)
        Labels of the patch and of its context.
    maps_cyx : ndarray of float32, shape (maps, rows + 2 context, columns + 2 context), or None
        From `image_maps`, augmented with the labels, vectors rotated accordingly.
    output : str
        `network.output` of a preset.
    loss : LossSettings
    context_px : int
        Width of the context on each side: that of the function `context_px`, or more.

    Returns
    -------
    Target
        For the patch, without its context.

    Notes
    -----
    Distance weights are meant to open a gap between touching cells. If that gap were labelled as cell, they would have
    the opposite effect. For two_classes with distance weights, the ridge of `separate_touching` is therefore
    background. For contour the ridge is part of the contour anyway. Without distance weights there is no ridge.
    """
    distance = _distance_of(loss)
    inner = tuple(slice(context_px, size - context_px) for size in labels_yx.shape)
    if output == "contour":
        classes_yx = contour_classes(labels_yx)
    else:
        classes_yx = foreground_classes(labels_yx if distance is None else separate_touching(labels_yx))
    values_cyx = weights_yx = None
    if maps_cyx is not None:
        assert maps_cyx.shape[1:] == labels_yx.shape
        values_cyx = _make_values(maps_cyx[:, *inner], is_cell_yx=classes_yx[inner] == 1, output=output)
    if distance is not None:
        weights_yx = np.ascontiguousarray(distance_weights(labels_yx, **distance)[inner])
    return Target(np.ascontiguousarray(classes_yx[inner]), values_cyx, weights_yx)


def foreground_classes(labels_yx: np.ndarray) -> np.ndarray:
    """Convert labels to background and cell classes: uint8, 0, 1 or IGNORED_TARGET."""
    classes_yx = (labels_yx > 0).astype(np.uint8)
    classes_yx[labels_yx == IGNORE_LABEL] = IGNORED_TARGET
    return classes_yx


def contour_classes(labels_yx: np.ndarray) -> np.ndarray:
    """Convert labels to classes for background, cells and their contours.

    Parameters
    ----------
    labels_yx : ndarray of unsigned integers, shape (rows, columns)
        A label image.

    Returns
    -------
    ndarray of uint8, shape (rows, columns)
        0 background, 1 cell, 2 contour, IGNORED_TARGET where the label is ignored.

    Notes
    -----
    A pixel is contour if the highest label in its 3 x 3 neighbourhood differs from its own label. This gives a ring of
    one pixel around each cell, and between touching cells a single line on the side of the lower number. Ignored
    neighbours do not count, so a cell has no contour towards them.

    # SOURCE published code of paper 2: labels against their 3 x 3 grey dilation
    """
    cells_yx = remove_ignored(labels_yx)
    classes_yx = foreground_classes(labels_yx)
    is_contour_yx = ndimage.maximum_filter(cells_yx, size=3, mode="nearest") != cells_yx
    classes_yx[is_contour_yx & (classes_yx != IGNORED_TARGET)] = CONTOUR_CLASS
    return classes_yx


def _distance_of(loss: LossSettings) -> DistanceSettings | None:
    """Return the settings of distance weights, which only apply to the loss `ce`; otherwise None."""
    return loss["distance"] if loss["name"] == "ce" else None


def _make_values(maps_cyx: np.ndarray, *, is_cell_yx: np.ndarray, output: str) -> np.ndarray:
    if output == "distance":
        return np.where(is_cell_yx, np.clip(maps_cyx, 0, 1), np.float32(0))
    # Interpolation shortens vectors, especially along the borders of cells.
    lengths_yx = np.hypot(maps_cyx[0], maps_cyx[1])
    has_direction_yx = is_cell_yx & (lengths_yx > SHORTEST_FLOW)
    flows_cyx = np.where(has_direction_yx, maps_cyx / np.where(has_direction_yx, lengths_yx, 1), 0).astype(np.float32)
    return flows_cyx if output == "flow" else grey_of_flows(flows_cyx)[np.newaxis]
