"""Annotations that are one coloured image: objects that touch have different colours, black is background."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import find_objects
from skimage.measure import label

from cellmill.annotations.masks import JPEG_SUFFIXES, Instance, only_path, stack_place
from cellmill.channels import has_alpha
from cellmill.rasters import match_plane, open_raster

# ASSUME a drawn mask has few objects of one pixel, smoothed edges and camera noise have little else
MAX_SINGLE_PIXELS = 100
MAX_SINGLE_SHARE = 0.01


def read_color_components(
    row: Mapping[str, Any], *, shape: tuple[int, int], annotations: Mapping[str, Any], table: None
) -> list[Instance]:
    """Read the objects of one sample as the connected regions of equal colour.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `sample`, `annotations` (one path) and the place in a stack are read.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section; nothing of it is read.
    table : None
        For formats whose samples share a file.

    Returns
    -------
    list of Instance
        In the order in which the regions begin, row by row. Two regions of one colour that do not touch are two
        objects.

    Raises
    ------
    ValueError
        If there is not exactly one file, it is unreadable, a JPEG, of another size than the image, or has so many
        regions of one pixel that its edges were smoothed.

    Notes
    -----
    Regions are 8-connected. Pixels whose colours are all 0 are background. Alpha is no colour: where it is the same
    everywhere it says nothing; where it varies, pixels of alpha 0 show nothing and are background.
    """
    path = only_path(row)
    where = f"sample {row['sample']}, {path}"
    if Path(path).suffix.lower() in JPEG_SUFFIXES:
        raise ValueError(
            f"{where}: expected an image whose colours are exact, found a JPEG. "
            "Export the masks again as PNG or TIFF; saving the JPEG under another name does not help."
        )
    plane = stack_place(row)
    raster = open_raster(path, palette="colours", plane=match_plane(path, plane) if plane else ())
    if raster.shape != tuple(shape):
        raise ValueError(
            f"{where}: expected an annotation of {shape[0]} rows and {shape[1]} columns, the size of its image, found "
            f"{raster.shape[0]} rows and {raster.shape[1]} columns. "
            "Pair every image with its own annotation, at full size."
        )
    codes_yx = number_colours(raster.read(0, shape[0]), axes=raster.axes)
    regions_yx, count = label(codes_yx, connectivity=2, return_num=True)
    single = int(np.count_nonzero(np.bincount(regions_yx.ravel())[1:] == 1))
    if single > MAX_SINGLE_PIXELS and single > MAX_SINGLE_SHARE * count:
        raise ValueError(
            f"{where}: expected areas of one colour each, found {single} regions of a single pixel among {count}. "
            "The edges were smoothed or it is no mask: export it without antialiasing and without resizing."
        )
    return [
        Instance(box[0].start, box[1].start, regions_yx[box] == number, f"region {number}")
        for number, box in enumerate(find_objects(regions_yx), start=1)
    ]


def number_colours(array: np.ndarray, *, axes: str) -> np.ndarray:
    """Give every colour a number of its own, and the background 0.

    Parameters
    ----------
    array : ndarray of shape (rows, columns) or (rows, columns, channels), any real dtype
    axes : "YX", "YXS" or "YXC"
        As `cellmill.rasters.Raster` gives both.

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
            # numbered again after every channel, so that no number outgrows the pixels
            pairs_yx = codes_yx * (int(inverse.max()) + 1) + inverse.reshape(codes_yx.shape)
            codes_yx = np.unique(pairs_yx, return_inverse=True)[1].reshape(codes_yx.shape).astype(np.int64)
    return np.where(is_background_yx, 0, codes_yx + 1)
