"""Annotations as one colour image: touching objects differ in colour, and black is background."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import find_objects
from skimage.measure import label

from cellmill.annotations.codes import JPEG_SUFFIXES, only_path, refuse_dark_objects, stack_place
from cellmill.annotations.instance import AnnotationSettings, Instance
from cellmill.images.channels import has_alpha
from cellmill.images.rasters import match_plane, open_raster, read_layout

# Declaration, see formats.py
FORMATS = {
    "color_components": {
        "reader": "read_color_components",
        "files": "one",
        "keys": ("path",),
        "needs": ("path",),
        "is_filled": False,
        "missing": "error",
        "summary": "one image in which touching objects have different colours and the background is black",
        "reads": "one image; objects are 8-connected regions of one colour, and black is background",
        "used_by": "BBBC039, hand-painted masks",
    },
}

# ASSUME a drawn mask has few one-pixel objects; most regions of smoothed edges and camera noise have one pixel
MAX_SINGLE_PIXELS = 100
MAX_SINGLE_SHARE = 0.01


def read_color_components(
    row: Mapping[str, Any], *, shape: tuple[int, int], annotations: AnnotationSettings, table: None
) -> list[Instance]:
    """Read the objects of one sample as connected components of equal colour.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `sample`, `annotations` (one path) and the position in a stack are read.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section; not used.
    table : None
        Only used by formats with one file for all samples.

    Returns
    -------
    list of Instance
        Ordered by the first pixel of each region, row by row. Two regions of one colour that do not touch are two
        objects.

    Raises
    ------
    ValueError
        If there is not exactly one file, or if it is unreadable, is a JPEG, differs in size from the image, is
        MinIsWhite with objects that may be the background, or has so many one-pixel regions that its edges must have
        been smoothed.

    Notes
    -----
    Regions are 8-connected. Pixels whose colour channels are all 0 are background. Alpha is not a colour: constant
    alpha is ignored, and if alpha varies, pixels of alpha 0 are background.
    """
    path = only_path(row)
    where = f"sample {row['sample']}, {path}"
    if Path(path).suffix.lower() in JPEG_SUFFIXES:
        raise ValueError(
            f"{where}: expected an image with exact colours, found a JPEG. "
            "Export the masks again as PNG or TIFF; saving the JPEG under another name does not help."
        )
    plane = stack_place(row)
    layout = read_layout(path)
    # an inverted look-up table of ImageJ leaves the stored background at 0
    is_inverted = layout.is_min_is_white and layout.bits > 1
    raster = open_raster(
        path, palette="indices" if is_inverted else "colours", plane=match_plane(path, plane) if plane else ()
    )
    if raster.shape != tuple(shape):
        raise ValueError(
            f"{where}: expected an annotation of {shape[0]} rows and {shape[1]} columns, the size of its image, found "
            f"{raster.shape[0]} rows and {raster.shape[1]} columns. Pair every image with its own full-size annotation."
        )
    codes_yx = number_colours(raster.read(0, shape[0]), axes=raster.axes)
    if layout.is_min_is_white:
        refuse_dark_objects(np.count_nonzero(codes_yx) / codes_yx.size, where=where)
    regions_yx, count = label(codes_yx, connectivity=2, return_num=True)
    single = int(np.count_nonzero(np.bincount(regions_yx.ravel())[1:] == 1))
    if single > MAX_SINGLE_PIXELS and single > MAX_SINGLE_SHARE * count:
        raise ValueError(
            f"{where}: expected areas of uniform colour, found {single} single-pixel regions among {count}. "
            "Export the mask without antialiasing and without resizing: its edges were smoothed, or it is not a mask."
        )
    return [
        Instance(box[0].start, box[1].start, regions_yx[box] == number, f"region {number}")
        for number, box in enumerate(find_objects(regions_yx), start=1)
    ]


def number_colours(array: np.ndarray, *, axes: str) -> np.ndarray:
    """Assign a number from 1 to each colour, and 0 to the background.

    Parameters
    ----------
    array : ndarray of shape (rows, columns) or (rows, columns, channels), any real dtype
    axes : "YX", "YXS" or "YXC"
        Axes of the array, as in `cellmill.images.rasters.Raster`.

    Returns
    -------
    ndarray of int64, shape (rows, columns)
    """
    channels = array[:, :, np.newaxis] if array.ndim == 2 else array
    colours = channels[:, :, :-1] if has_alpha(array, axes) else channels
    is_background_yx = ~colours.any(axis=2)
    if has_alpha(array, axes):
        alpha_yx = array[:, :, -1]
        if alpha_yx.min() != alpha_yx.max():
            is_background_yx |= alpha_yx == 0
    bits = 8 * colours.dtype.itemsize
    codes_yx = np.zeros(array.shape[:2], dtype=np.int64)
    for i in range(colours.shape[2]):
        if colours.dtype.kind == "u" and bits * colours.shape[2] < 63:
            codes_yx = (codes_yx << bits) | colours[:, :, i]
        else:
            _, inverse = np.unique(colours[:, :, i], return_inverse=True)
            # renumbered after each channel, so that numbers stay below the pixel count
            pairs_yx = codes_yx * (int(inverse.max()) + 1) + inverse.reshape(codes_yx.shape)
            codes_yx = np.unique(pairs_yx, return_inverse=True)[1].reshape(codes_yx.shape).astype(np.int64)
    return np.where(is_background_yx, 0, codes_yx + 1)
