"""Masks and label images: closing, small holes, components, numbering."""

import numpy as np
from scipy import ndimage
from skimage import morphology

from cellmill.images.stored import IGNORE_LABEL

# Labels up to this number are renumbered through a table, larger labels by sorting.
MAX_LOOKUP = 1 << 24


def make_footprint(footprint: str, *, radius_px: int) -> np.ndarray:
    """Build the neighbourhood of a closing.

    Parameters
    ----------
    footprint : "cross", "square" or "disk"
        A cross has arms of length `radius_px`, one pixel wide.
    radius_px : int, >= 0
        Reach from the centre; 0 is the centre alone, which changes nothing.

    Returns
    -------
    ndarray of bool, shape (2 radius + 1, 2 radius + 1)
    """
    size = 2 * radius_px + 1
    if footprint == "square":
        return np.ones((size, size), dtype=bool)
    if footprint == "disk":
        return morphology.disk(radius_px).astype(bool)
    assert footprint == "cross", footprint
    cross = np.zeros((size, size), dtype=bool)
    cross[radius_px, :] = cross[:, radius_px] = True
    return cross


def close_mask(mask_yx: np.ndarray, *, footprint: np.ndarray) -> np.ndarray:
    """Close gaps narrower than the footprint.

    Parameters
    ----------
    mask_yx : ndarray of bool, shape (rows, columns)
    footprint : ndarray of bool
        From `make_footprint`.

    Returns
    -------
    ndarray of bool, shape (rows, columns)
        Contains every pixel of `mask_yx`, also at the borders of the image; closing it again changes nothing.

    Notes
    -----
    scikit-image mirrors the image at its borders. scipy's binary_closing treats the outside as background and
    erodes objects that touch the border.
    """
    if footprint.size == 1:
        return mask_yx.copy()
    return morphology.closing(mask_yx, footprint)


def fill_holes(mask_yx: np.ndarray, *, max_hole_px: int) -> np.ndarray:
    """Fill small holes of the foreground.

    Parameters
    ----------
    mask_yx : ndarray of bool, shape (rows, columns)
    max_hole_px : int, >= 0
        Largest area to fill. Larger holes stay, since a ring of touching cells encloses real background.

    Returns
    -------
    ndarray of bool, shape (rows, columns)
        A hole is 4-connected background that does not reach the border of the image.
    """
    if max_hole_px == 0:
        return mask_yx.copy()
    holes_yx, count = ndimage.label(~mask_yx)
    is_filled = np.bincount(holes_yx.ravel(), minlength=count + 1) <= max_hole_px
    for edge in (holes_yx[0], holes_yx[-1], holes_yx[:, 0], holes_yx[:, -1]):
        is_filled[edge] = False
    is_filled[0] = True  # the foreground itself
    return is_filled[holes_yx]


def label_components(mask_yx: np.ndarray) -> np.ndarray:
    """Number the connected components of a mask 1 .. n.

    Components are 8-connected, so that a diagonal process one pixel wide is a single object.
    """
    labels, _ = ndimage.label(mask_yx, structure=np.ones((3, 3), dtype=bool))
    return labels


def number_objects(labels_yx: np.ndarray) -> tuple[np.ndarray, int]:
    """Number objects 1 .. n in the order of their labels.

    Parameters
    ----------
    labels_yx : ndarray of non-negative integers, shape (rows, columns)
        0 is background; labels need not be consecutive.

    Returns
    -------
    tuple
        The image with int64 labels, and n.
    """
    largest = int(labels_yx.max(initial=0))
    if largest <= MAX_LOOKUP:
        present = np.bincount(labels_yx.ravel().astype(np.int64), minlength=largest + 1) > 0
        present[0] = False
        return np.where(present, np.cumsum(present), 0)[labels_yx], int(present.sum())
    values, inverse = np.unique(labels_yx, return_inverse=True)
    shift = 0 if values[0] == 0 else 1
    return inverse.reshape(labels_yx.shape) + shift, len(values) - 1 + shift


def avoid_ignore_label(labels_yx: np.ndarray) -> np.ndarray:
    """Number objects 1 .. n, skipping IGNORE_LABEL.

    Returns
    -------
    ndarray of int64, shape (rows, columns)
        The same objects; from the 65,535th on, numbers are one higher.
    """
    numbered_yx, _ = number_objects(labels_yx)
    return numbered_yx + (numbered_yx >= IGNORE_LABEL)


def remove_ignored(labels_yx: np.ndarray) -> np.ndarray:
    """Set ignored pixels to background, so that IGNORE_LABEL is not taken for a cell."""
    return np.where(labels_yx == IGNORE_LABEL, labels_yx.dtype.type(0), labels_yx)
