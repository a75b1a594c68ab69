"""The geometry of a training patch: frames, labels and maps are moved alike.

Frames  float32, interpolated linearly
Labels  uint16, copied from the nearest pixel, never interpolated; what lies outside the window is IGNORE_LABEL
Maps    float32, interpolated linearly; a vector field is turned with the image and keeps its lengths
Axes    c frames or maps, t planes of labels, y rows, x columns
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from cellmill.images import IGNORE_LABEL
from cellmill.training.resampling import Places

# Displacements of an elastic change beyond so many standard deviations are cut off: one pixel in 16,000.
ELASTIC_REACH = 4.0
# Nodes of noise reach so many sigmas beyond the patch: further ones weigh nothing within it.
SMOOTHING_REACH = 4.0
NODES_PER_SIGMA = 2


@dataclass(frozen=True)
class Window:
    """A piece of an image with its truth; all planes have the same rows and columns."""

    images_cyx: np.ndarray  # float32, normalised frames; planes that say something else are added after augmentation
    labels_tyx: np.ndarray  # uint16 instances, IGNORE_LABEL where nothing is known
    maps_cyx: np.ndarray | None  # float32, as many for each plane of labels: those of the first plane first
    is_vector: bool  # the maps of a plane of labels are one vector field: y, x


@dataclass(frozen=True, eq=False)
class Elastic:
    """A smooth random displacement: Gaussian weights around nodes of white noise."""

    nodes_cyx: np.ndarray  # float64, standard normal; c is y, x
    spacing_px: float
    sigma_px: float
    displacement_px: float  # standard deviation along each axis

    def displacements(self, shape: tuple[int, int]) -> np.ndarray:
        """Give the displacement of each pixel of a plane around the patch's centre: float64, (2, rows, columns), px.

        The field dies away beyond the patch. No value is above ELASTIC_REACH standard deviations.
        """
        weights_y, weights_x = (
            self._weights(length, nodes) for length, nodes in zip(shape, self.nodes_cyx.shape[1:], strict=True)
        )
        smooth_cyx = weights_y @ self.nodes_cyx @ weights_x.T
        return self.displacement_px * np.clip(smooth_cyx, -ELASTIC_REACH, ELASTIC_REACH)

    def _weights(self, length: int, nodes: int) -> np.ndarray:
        places = np.arange(length) - (length - 1) / 2
        centres = (np.arange(nodes) - (nodes - 1) / 2) * self.spacing_px
        weights = np.exp(-((places[:, None] - centres) ** 2) / (2 * self.sigma_px**2))
        # Squared weights add up to sqrt(pi) nodes per sigma: divided by its root, the sum of noise has variance 1.
        return weights / math.sqrt(math.sqrt(math.pi) * self.sigma_px / self.spacing_px)


@dataclass(frozen=True, eq=False)
class Geometry:
    """What was drawn once for a patch and holds for all its planes."""

    back_yx: np.ndarray | None  # from a place of the patch to its place in the window, both from the centre
    shift_yx_px: tuple[float, float]
    elastic: Elastic | None
    quarter_turns: int
    flip_rows: bool
    flip_columns: bool
    reverse_time: bool
    is_inverted: bool  # bright and dark change places in all frames, or a sequence would flicker

    @property
    def is_warped(self) -> bool:
        """Whether pixels are resampled; only then is the margin of a window looked at."""
        return self.back_yx is not None or self.elastic is not None


def move(window: Window, *, geometry: Geometry, shape: tuple[int, int]) -> Window:
    """Apply a geometry to all planes of a window.

    Parameters
    ----------
    window : Window
        Larger than the result by the same number of pixels on each side.
    geometry : Geometry
        What is applied: affine and elastic change in one resampling, quarter turns, flips, order of the frames.
    shape : (rows, columns)
        Of the result; square where there is an odd number of quarter turns.

    Returns
    -------
    Window
        Views of the window where nothing is resampled. Maps are 0 where they were resampled and there is no object.
    """
    assert geometry.quarter_turns % 2 == 0 or shape[0] == shape[1]
    window = _warp(window, geometry=geometry, shape=shape) if geometry.is_warped else _crop(window, shape=shape)
    maps_cyx = window.maps_cyx
    if maps_cyx is not None:
        if window.is_vector:
            maps_cyx = turn_vectors(maps_cyx, _turning_matrix(geometry))
        maps_tcyx = _turn(maps_cyx, geometry).reshape(len(window.labels_tyx), -1, *shape)
        maps_cyx = _in_time(maps_tcyx, geometry).reshape(-1, *shape)
    return replace(
        window,
        images_cyx=_in_time(_turn(window.images_cyx, geometry), geometry),
        labels_tyx=_in_time(_turn(window.labels_tyx, geometry), geometry),
        maps_cyx=maps_cyx,
    )


def back_matrix(*, rotation_deg: float, zoom_yx: tuple[float, ...], shear_deg: float) -> np.ndarray:
    """Give the matrix from a place of the patch to its place in the window, float64 of shape (2, 2), axes y, x.

    Parameters
    ----------
    rotation_deg : float
        Of the patch's content, counter-clockwise as it is seen.
    zoom_yx : (rows, columns), > 0
        Magnification.
    shear_deg : float, between -90 and 90
        By how much a row is tilted.
    """
    angle = math.radians(rotation_deg)
    rotation_yx = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    shear_yx = np.array([[1.0, math.tan(math.radians(shear_deg))], [0.0, 1.0]])
    return rotation_yx @ shear_yx / np.array(zoom_yx)


def turn_vectors(vectors_cyx: np.ndarray, matrix_yx: np.ndarray) -> np.ndarray:
    """Multiply each vector (y, x) of one or more fields by a matrix; an entry of 0, 1 or -1 is exact.

    Parameters
    ----------
    vectors_cyx : ndarray of float32, shape (2 * fields, rows, columns)
        y and x of one field after the other.
    matrix_yx : ndarray of shape (2, 2)

    Returns
    -------
    ndarray of float32, same shape
    """
    ((yy, yx), (xy, xx)) = matrix_yx.astype(np.float32)
    turned_cyx = np.empty_like(vectors_cyx)
    turned_cyx[0::2] = yy * vectors_cyx[0::2] + yx * vectors_cyx[1::2]
    turned_cyx[1::2] = xy * vectors_cyx[0::2] + xx * vectors_cyx[1::2]
    return turned_cyx


def _crop(window: Window, *, shape: tuple[int, int]) -> Window:
    starts = [(length - part) // 2 for length, part in zip(window.images_cyx.shape[1:], shape, strict=True)]
    rows, columns = (slice(start, start + part) for start, part in zip(starts, shape, strict=True))
    return replace(
        window,
        images_cyx=window.images_cyx[:, rows, columns],
        labels_tyx=window.labels_tyx[:, rows, columns],
        maps_cyx=None if window.maps_cyx is None else window.maps_cyx[:, rows, columns],
    )


def _warp(window: Window, *, geometry: Geometry, shape: tuple[int, int]) -> Window:
    places = _find_places(geometry, window_shape=window.images_cyx.shape[1:], shape=shape)
    labels_tyx = places.take_nearest(window.labels_tyx, outside=IGNORE_LABEL)
    maps_cyx = window.maps_cyx
    if maps_cyx is not None:
        if window.is_vector:
            maps_cyx = _warp_vectors(maps_cyx, back_yx=geometry.back_yx, places=places)
        else:
            maps_cyx = places.interpolate(maps_cyx)
        is_object_tyx = (labels_tyx != 0) & (labels_tyx != IGNORE_LABEL)
        maps_cyx *= np.repeat(is_object_tyx, len(maps_cyx) // len(labels_tyx), axis=0)
    images_cyx = places.interpolate(window.images_cyx)
    return replace(window, images_cyx=images_cyx, labels_tyx=labels_tyx, maps_cyx=maps_cyx)


def _find_places(geometry: Geometry, *, window_shape: tuple[int, ...], shape: tuple[int, int]) -> Places:
    back_yx = np.eye(2) if geometry.back_yx is None else geometry.back_yx
    window_centre = (np.array(window_shape) - 1) / 2
    offset = window_centre + np.array(geometry.shift_yx_px) - back_yx @ ((np.array(shape) - 1) / 2)
    y, x = np.ogrid[: shape[0], : shape[1]]
    places_cyx = np.zeros((2, *shape)) if geometry.elastic is None else geometry.elastic.displacements(shape)
    for place_yx, (along_y, along_x), start in zip(places_cyx, back_yx, offset, strict=True):
        place_yx += along_y * y + along_x * x + start
    return Places(places_cyx, shape=window_shape)


def _warp_vectors(vectors_cyx: np.ndarray, *, back_yx: np.ndarray | None, places: Places) -> np.ndarray:
    nearest_cyx = places.take_nearest(vectors_cyx, outside=None)
    smooth_cyx = places.interpolate(vectors_cyx)
    # Where cells touch, the mean of both fields may vanish, or point into the wrong cell.
    agreement_cyx = nearest_cyx[0::2] * smooth_cyx[0::2] + nearest_cyx[1::2] * smooth_cyx[1::2]
    agrees_cyx = agreement_cyx > 1e-3 * (nearest_cyx[0::2] ** 2 + nearest_cyx[1::2] ** 2)
    turned_cyx = np.where(np.repeat(agrees_cyx, 2, axis=0), smooth_cyx, nearest_cyx)
    if back_yx is not None:
        # ASSUME an elastic change turns vectors by a few degrees only: its own slope is neglected.
        turned_cyx = turn_vectors(turned_cyx, np.linalg.inv(back_yx))
    length_cyx = np.hypot(nearest_cyx[0::2], nearest_cyx[1::2])
    found_cyx = np.hypot(turned_cyx[0::2], turned_cyx[1::2])
    scale_cyx = np.divide(length_cyx, found_cyx, out=np.zeros_like(length_cyx), where=found_cyx > 0)
    return turned_cyx * np.repeat(scale_cyx, 2, axis=0)


def _turn(planes_cyx: np.ndarray, geometry: Geometry) -> np.ndarray:
    planes_cyx = np.rot90(planes_cyx, geometry.quarter_turns, axes=(1, 2))
    return planes_cyx[:, :: -1 if geometry.flip_rows else 1, :: -1 if geometry.flip_columns else 1]


def _turning_matrix(geometry: Geometry) -> np.ndarray:
    # What `_turn` does to a vector (y, x): a quarter turn takes (y, x) to (-x, y).
    quarter_yx = np.array([[0, -1], [1, 0]])
    flips_yx = np.diag([-1 if geometry.flip_rows else 1, -1 if geometry.flip_columns else 1])
    return flips_yx @ np.linalg.matrix_power(quarter_yx, geometry.quarter_turns)


def _in_time(planes: np.ndarray, geometry: Geometry) -> np.ndarray:
    return planes[::-1] if geometry.reverse_time else planes
