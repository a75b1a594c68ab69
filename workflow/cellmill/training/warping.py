"""Geometric augmentation of training patches, applied alike to frames, labels and maps.

Frames  float32, interpolated linearly
Labels  uint16, copied from the nearest pixel, never interpolated; IGNORE_LABEL outside of the window
Maps    float32, interpolated linearly; vectors are rotated with the image and keep their lengths
Axes    c frames or maps, t planes of labels, y rows, x columns
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from cellmill.images.stored import IGNORE_LABEL
from cellmill.training.resampling import Places

# Elastic displacements are clipped at this number of standard deviations, which affects one pixel in 16,000.
ELASTIC_REACH = 4.0
# Nodes of noise extend this number of sigmas beyond the patch; the weight of nodes further away is negligible.
SMOOTHING_REACH = 4.0
NODES_PER_SIGMA = 2


@dataclass(frozen=True)
class Window:
    """A piece of an image with its ground truth; all planes have the same rows and columns."""

    images_cyx: np.ndarray  # float32, normalised frames; constant planes are added after augmentation
    labels_tyx: np.ndarray  # uint16 instances, IGNORE_LABEL where the truth is unknown
    maps_cyx: np.ndarray | None  # float32, equally many for each plane of labels, those of the first plane first
    is_vector: bool  # the maps of a plane of labels are the y and x components of a vector field


@dataclass(frozen=True, eq=False)
class Elastic:
    """A smooth random displacement: Gaussian weights around nodes of white noise."""

    nodes_cyx: np.ndarray  # float64, standard normal; c is y, x
    spacing_px: float
    sigma_px: float
    displacement_px: float  # standard deviation along each axis

    def displacements(self, shape: tuple[int, int]) -> np.ndarray:
        """Compute the displacement of each pixel of a plane centred on the patch: float64, (2, rows, columns), px.

        The field decays beyond the patch. Its absolute value is at most ELASTIC_REACH standard deviations per axis.
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
        # Squared weights add up to sqrt(pi) times the nodes per sigma; dividing by the root makes the variance 1.
        return weights / math.sqrt(math.sqrt(math.pi) * self.sigma_px / self.spacing_px)


@dataclass(frozen=True, eq=False)
class Geometry:
    """Random geometry drawn once for a patch and applied to all its planes."""

    back_yx: np.ndarray | None  # maps a position in the patch to its position in the window, both from the centre
    shift_yx_px: tuple[float, float]
    elastic: Elastic | None
    quarter_turns: int
    flip_rows: bool
    flip_columns: bool
    reverse_time: bool
    is_inverted: bool  # swaps bright and dark, in all frames at once because a sequence would flicker otherwise

    @property
    def is_warped(self) -> bool:
        """Whether pixels are resampled, which uses the margin of a window."""
        return self.back_yx is not None or self.elastic is not None


def move(window: Window, *, geometry: Geometry, shape: tuple[int, int]) -> Window:
    """Apply a geometry to all planes of a window.

    Parameters
    ----------
    window : Window
        Larger than the result by the same number of pixels on each side.
    geometry : Geometry
        Affine and elastic change in one resampling, then quarter turns, flips, order of the frames.
    shape : (rows, columns)
        Shape of the result; square if the number of quarter turns is odd.

    Returns
    -------
    Window
        Views of the window if nothing is resampled. Resampled maps are 0 outside of objects.
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
    """Compute the matrix from positions in the patch to positions in the window, float64 (2, 2), axes y, x.

    Parameters
    ----------
    rotation_deg : float
        Rotation of the patch's content, counter-clockwise as displayed.
    zoom_yx : (rows, columns), > 0
        Magnification.
    shear_deg : float, between -90 and 90
        Angle by which rows are tilted.
    """
    angle = math.radians(rotation_deg)
    rotation_yx = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    shear_yx = np.array([[1.0, math.tan(math.radians(shear_deg))], [0.0, 1.0]])
    return rotation_yx @ shear_yx / np.array(zoom_yx)


def turn_vectors(vectors_cyx: np.ndarray, matrix_yx: np.ndarray) -> np.ndarray:
    """Multiply each vector (y, x) of one or more fields by a matrix; entries of 0, 1 or -1 are exact.

    Parameters
    ----------
    vectors_cyx : ndarray of float32, shape (2 * fields, rows, columns)
        y and x of the first field, then of the next.
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
    # Where cells touch, the interpolated vector may vanish or point into the wrong cell.
    agreement_cyx = nearest_cyx[0::2] * smooth_cyx[0::2] + nearest_cyx[1::2] * smooth_cyx[1::2]
    agrees_cyx = agreement_cyx > 1e-3 * (nearest_cyx[0::2] ** 2 + nearest_cyx[1::2] ** 2)
    turned_cyx = np.where(np.repeat(agrees_cyx, 2, axis=0), smooth_cyx, nearest_cyx)
    if back_yx is not None:
        # ASSUME an elastic change rotates vectors by a few degrees only, so its gradient is neglected.
        turned_cyx = turn_vectors(turned_cyx, np.linalg.inv(back_yx))
    length_cyx = np.hypot(nearest_cyx[0::2], nearest_cyx[1::2])
    found_cyx = np.hypot(turned_cyx[0::2], turned_cyx[1::2])
    scale_cyx = np.divide(length_cyx, found_cyx, out=np.zeros_like(length_cyx), where=found_cyx > 0)
    return turned_cyx * np.repeat(scale_cyx, 2, axis=0)


def _turn(planes_cyx: np.ndarray, geometry: Geometry) -> np.ndarray:
    planes_cyx = np.rot90(planes_cyx, geometry.quarter_turns, axes=(1, 2))
    return planes_cyx[:, :: -1 if geometry.flip_rows else 1, :: -1 if geometry.flip_columns else 1]


def _turning_matrix(geometry: Geometry) -> np.ndarray:
    # Effect of `_turn` on a vector (y, x); a quarter turn maps (y, x) to (-x, y).
    quarter_yx = np.array([[0, -1], [1, 0]])
    flips_yx = np.diag([-1 if geometry.flip_rows else 1, -1 if geometry.flip_columns else 1])
    return flips_yx @ np.linalg.matrix_power(quarter_yx, geometry.quarter_turns)


def _in_time(planes: np.ndarray, geometry: Geometry) -> np.ndarray:
    return planes[::-1] if geometry.reverse_time else planes
