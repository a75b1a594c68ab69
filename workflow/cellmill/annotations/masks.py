"""Annotations stored as images: one file per object, a label image, or a binary image.

Annotations of every format are read into a list of instances. An instance holds the mask of an object inside its
bounding box, so that a thousand objects need memory for their own pixels and not for a thousand images.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.annotations.codes import JPEG_SUFFIXES, only_path, read_class, read_codes, read_two_values, stack_place
from cellmill.annotations.instance import AnnotationSettings, Instance, instance_of_piece
from cellmill.annotations.pieces import crop_piece, gather_bands, join_regions, merge_pieces
from cellmill.images.stored import IGNORE_LABEL

# Declaration, see formats.py
FORMATS = {
    "label_image": {
        "reader": "read_label_image",
        "files": "one",
        "keys": ("path", "ignore_value"),
        "needs": ("path",),
        "is_filled": False,
        "missing": "error",
        "summary": "one image of object numbers, 0 for background",
        "reads": "one image of object numbers, with 0 for background; 65535 is never an object",
        "used_by": "Cellpose, StarDist, ilastik, CellProfiler, QuPath",
    },
    "mask_folder": {
        "reader": "read_mask_folder",
        "files": "several",
        "keys": ("path",),
        "needs": ("path",),
        "is_filled": True,
        "missing": "error",
        "summary": "one binary file per object",
        "reads": "one file per object, with zero and one other value",
        "used_by": "Data Science Bowl 2018",
    },
    "binary": {
        "reader": "read_binary",
        "files": "one",
        "keys": ("path", "foreground"),
        "needs": ("path",),
        "is_filled": False,
        "missing": "error",
        "summary": "one image with two values; objects are its 4-connected regions",
        "reads": "one image with two values, or one class of an image of classes; objects are its 4-connected regions",
        "used_by": "membranes of ISBI 2012, thresholded images from Fiji, Simple Segmentation of ilastik",
    },
}

NAME_FOREGROUND = (
    "If these are classes, set annotations.foreground to the number of the objects (ilastik numbers its labels from 1 "
    "in their order); if every cell has a number of its own, use format label_image"
)


def read_mask_folder(
    row: Mapping[str, Any], *, shape: tuple[int, int], annotations: AnnotationSettings, table: None
) -> list[Instance]:
    """Read the objects of one sample, each from a separate file.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `sample`, `annotations` (paths) and the position in a stack are read.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section; not used.
    table : None
        Only used by formats with one file for all samples.

    Returns
    -------
    list of Instance
        In the order of the files; a file without a foreground pixel is an empty instance.

    Raises
    ------
    ValueError
        If a file is unreadable, differs in size from the image, or has more than two values; one line per file.
    """
    instances, problems = [], []
    for path in row["annotations"]:
        try:
            bands = read_two_values(row["sample"], path, shape=shape, plane=stack_place(row))
            pieces = [crop_piece(band_yx, row=rows.start) for rows, band_yx in bands]
        except ValueError as error:
            problems.append(str(error))
            continue
        instances.append(instance_of_piece(merge_pieces(pieces), source=path))
    if problems:
        raise ValueError("\n".join(problems))
    return instances


def read_label_image(
    row: Mapping[str, Any], *, shape: tuple[int, int], annotations: AnnotationSettings, table: None
) -> list[Instance]:
    """Read the objects of one sample from an image of object numbers, 0 for background.

    Parameters
    ----------
    row, shape, table
        As in `read_mask_folder`.
    annotations : mapping
        The config section; `ignore_value` is read.

    Returns
    -------
    list of Instance
        In the order of the numbers, which may have gaps and are kept; `source` is the number.

    Raises
    ------
    ValueError
        If there is not exactly one file, or if it is unreadable, is a JPEG, differs in size from the image, or has
        invalid object numbers.
    """
    path = only_path(row)
    if Path(path).suffix.lower() in JPEG_SUFFIXES:
        # compression artefacts are whole numbers, too, and each value would become an object
        raise ValueError(
            f"sample {row['sample']}, {path}: expected an image with exact numbers, found a JPEG. "
            "Export the labels again as PNG or TIFF; saving the JPEG under another name does not help."
        )
    ignore_value = annotations["ignore_value"]
    bands = read_codes(row["sample"], path, shape=shape, plane=stack_place(row))
    objects = gather_bands(_refuse_codes(bands, ignore_value=ignore_value, where=f"sample {row['sample']}, {path}"))
    return [
        instance_of_piece(piece, source=str(number), number=number, is_ignored=number == ignore_value)
        for number, piece in objects.items()
    ]


def read_binary(
    row: Mapping[str, Any], *, shape: tuple[int, int], annotations: AnnotationSettings, table: None
) -> list[Instance]:
    """Read the objects of one sample as connected components of a binary image.

    Parameters
    ----------
    row, shape, table
        As in `read_mask_folder`.
    annotations : mapping
        The config section; `foreground` is read: "nonzero", "zero" or a number of the stored values, or None, which is
        nonzero except in a one-bit MinIsWhite image, whose objects are shown white.

    Returns
    -------
    list of Instance
        Ordered by the first pixel of each region, row by row.

    Raises
    ------
    ValueError
        If there is not exactly one file, or if it is unreadable, differs in size from the image, has more than two
        values (with a number as foreground: more than 16), or is MinIsWhite with objects that may be the background.

    Notes
    -----
    Regions are 4-connected, so that a diagonal membrane one pixel wide separates two cells.
    """
    path, foreground, plane = only_path(row), annotations["foreground"], stack_place(row)
    if isinstance(foreground, int):
        bands = read_class(row["sample"], path, number=foreground, shape=shape, plane=plane)
    else:
        bands = read_two_values(
            row["sample"],
            path,
            shape=shape,
            plane=plane,
            is_as_stored=foreground is not None,
            advice=NAME_FOREGROUND,
        )
    is_background = foreground == "zero"
    regions = join_regions((rows, ~band_yx if is_background else band_yx) for rows, band_yx in bands)
    return [instance_of_piece(piece, source=f"region {i}") for i, piece in enumerate(regions, start=1)]


def _refuse_codes(
    bands: Iterator[tuple[slice, np.ndarray]], *, ignore_value: int | None, where: str
) -> Iterator[tuple[slice, np.ndarray]]:
    for rows, codes_yx in bands:
        bad = (codes_yx < 0) | (codes_yx != np.floor(codes_yx))
        if ignore_value != IGNORE_LABEL:
            bad |= codes_yx == IGNORE_LABEL
        if bad.any():
            raise ValueError(
                f"{where}: expected whole object numbers from 0, except {IGNORE_LABEL}, found {codes_yx[bad][0]:g}. "
                "Renumber the objects, or set annotations.ignore_value to the number that marks ignored pixels."
            )
        yield rows, codes_yx
