"""What a network is to give for an image: classes, maps and weights, made from the label image.

Axes     c maps, y rows, x columns
Labels   0 background, IGNORE_LABEL where nothing is known, any other number a cell
Classes  0 background, 1 cell, 2 contour, IGNORED_TARGET where nothing is known

Maps that depend on a whole cell are made once for an image and augmented with it. All else is made from the augmented
labels of a patch, with as much context as it takes: cells outside of a patch count as far as they reach into it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from cellmill.distances import distance_weights, normalised_distance, reach_px, remove_ignored, separate_touching
from cellmill.flows import grey_of_flows, unit_flows
from cellmill.images import IGNORE_LABEL
from cellmill.training.losses import IGNORED_TARGET

CONTOUR_CLASS = 2
# Shorter vectors come from interpolation between opposite ones, and have no direction.
SHORTEST_FLOW = 1e-6


@dataclass(frozen=True)
class Target:
    """The truth of one patch."""

    classes_yx: np.ndarray  # uint8
    values_cyx: np.ndarray | None  # float32: distance (1 plane), flow y and x, or grey flow (1 plane)
    weights_yx: np.ndarray | None  # float32: added to the weight of the class


def image_maps(labels_yx: np.ndarray, *, output: str) -> np.ndarray | None:
    """Make the maps of a whole image that are augmented with it.

    Parameters
    ----------
    labels_yx : ndarray of unsigned integers, shape (rows, columns)
        The label image of the whole image.
    output : str
        `network.output` of a preset.

    Returns
    -------
    ndarray of float32, shape (maps, rows, columns), or None
        Unit flow (y, x) for flow and flow_gray, depth from 0 to 1 for distance, None for all others. 0 where there is
        no cell or it is ignored.
    """
    if output in ("flow", "flow_gray"):
        return unit_flows(labels_yx)
    if output == "distance":
        return normalised_distance(labels_yx)[np.newaxis]
    return None


def context_px(*, output: str, loss: dict[str, Any]) -> int:
    """Give how much further than a patch its labels must be known.

    Parameters
    ----------
    output : str
        `network.output` of a preset.
    loss : dict
        `train.loss` of a preset.

    Returns
    -------
    int
        In px on each side: 1 for contours, the reach of distance weights where there are any, otherwise 0.
    """
    distance = _distance_of(loss)
    reach = 0 if distance is None else reach_px(sigma_px=distance["sigma_px"], factor=distance["factor"])
    return max(int(output == "contour"), reach)


def make_target(
    labels_yx: np.ndarray, maps_cyx: np.ndarray | None, *, output: str, loss: dict[str, Any], context_px: int
) -> Target:
    """Make the truth of one patch from its augmented labels and maps.

    Parameters
    ----------
    labels_yx : ndarray of unsigned integers, shape (rows + 2 context, columns + 2 context)
        Labels of the patch and of its context.
    maps_cyx : ndarray of float32, shape (maps, rows + 2 context, columns + 2 context), or None
        From `image_maps`, augmented with the labels, vectors turned with them.
    output : str
        `network.output` of a preset.
    loss : dict
        `train.loss` of a preset.
    context_px : int
        How much of the labels is context on each side: that of the function of this name, or more.

    Returns
    -------
    Target
        Of the patch, without its context.

    Notes
    -----
    Distance weights ask for a gap between cells that touch, and a gap that is weighted but called cell would teach
    the opposite: with them the ridge of `separate_touching` is background for two_classes. For contour the ridge is
    part of the contour anyway. Without them there is no ridge.
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
    """Tell cells from background: uint8, 0, 1 or IGNORED_TARGET."""
    classes_yx = (labels_yx > 0).astype(np.uint8)
    classes_yx[labels_yx == IGNORE_LABEL] = IGNORED_TARGET
    return classes_yx


def contour_classes(labels_yx: np.ndarray) -> np.ndarray:
    """Tell background, cells and their contours.

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
    Contour is where the highest label of the 3 x 3 neighbours is not that of the pixel itself: a ring of one pixel
    around each cell, and where two cells touch one line on the side of the lower number. Ignored neighbours do not
    count, so a cell has no contour towards them.

    # SOURCE published code of paper 2: labels against their 3 x 3 grey dilation
    """
    cells_yx = remove_ignored(labels_yx)
    classes_yx = foreground_classes(labels_yx)
    is_contour_yx = ndimage.maximum_filter(cells_yx, size=3, mode="nearest") != cells_yx
    classes_yx[is_contour_yx & (classes_yx != IGNORED_TARGET)] = CONTOUR_CLASS
    return classes_yx


def _distance_of(loss: dict[str, Any]) -> dict[str, Any] | None:
    """Take the settings of distance weights, which only cross-entropy reads."""
    return loss["distance"] if loss["name"] == "ce" else None


def _make_values(maps_cyx: np.ndarray, *, is_cell_yx: np.ndarray, output: str) -> np.ndarray:
    if output == "distance":
        return np.where(is_cell_yx, np.clip(maps_cyx, 0, 1), np.float32(0))
    # Interpolation shortens vectors, most of all along the borders of cells.
    lengths_yx = np.hypot(maps_cyx[0], maps_cyx[1])
    has_direction_yx = is_cell_yx & (lengths_yx > SHORTEST_FLOW)
    flows_cyx = np.where(has_direction_yx, maps_cyx / np.where(has_direction_yx, lengths_yx, 1), 0).astype(np.float32)
    return flows_cyx if output == "flow" else grey_of_flows(flows_cyx)[np.newaxis]
