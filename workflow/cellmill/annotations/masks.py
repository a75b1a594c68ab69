"""Annotations that are images: a file for each object, a label image, or one binary image.

Every format ends as a list of instances: the mask of each object inside its bounding box, so that a thousand objects
take the memory of their own pixels and not of a thousand images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import find_objects
from skimage.measure import label

from cellmill.images import IGNORE_LABEL, read_array


@dataclass(frozen=True, eq=False)
class Instance:
    """One annotated object.

    `mask_yx` (bool) is its bounding box, `row` and `column` the place of the box's first pixel in the image, px.
    `source` says where the annotation stands: a row of a table, a file, a number in a label image.
    """

    row: int
    column: int
    mask_yx: np.ndarray
    source: str

    @property
    def area_px(self) -> int:
        """Number of pixels, before overlaps are resolved."""
        return int(np.count_nonzero(self.mask_yx))

    @property
    def box(self) -> tuple[slice, slice]:
        """Where the box lies in the image."""
        return (
            slice(self.row, self.row + self.mask_yx.shape[0]),
            slice(self.column, self.column + self.mask_yx.shape[1]),
        )


def crop_instance(mask_yx: np.ndarray, *, source: str) -> Instance:
    """Cut a mask down to its bounding box; an empty mask becomes a box of shape (0, 0)."""
    rows = np.flatnonzero(mask_yx.any(axis=1))
    if rows.size == 0:
        return Instance(0, 0, np.zeros((0, 0), dtype=bool), source)
    columns = np.flatnonzero(mask_yx.any(axis=0))
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    return Instance(box[0].start, box[1].start, mask_yx[box].copy(), source)


def read_mask_folder(
    row: Mapping[str, Any], *, shape: tuple[int, int], annotations: Mapping[str, Any], table: None
) -> list[Instance]:
    """Read the objects of one sample from a file each.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `sample` and `annotations` (paths) are read.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section; nothing of it is read.
    table : None
        For formats whose samples share a file.

    Returns
    -------
    list of Instance
        In the order of the files; a file without a foreground pixel is an empty instance.

    Raises
    ------
    ValueError
        If a file is unreadable, of another size than the image, or holds more than two values; a line for each.
    """
    instances, problems = [], []
    for path in row["annotations"]:
        try:
            mask_yx = read_two_values(row["sample"], path, shape=shape)
        except ValueError as error:
            problems.append(str(error))
            continue
        instances.append(crop_instance(mask_yx, source=path))
    if problems:
        raise ValueError("\n".join(problems))
    return instances


def read_label_image(
    row: Mapping[str, Any], *, shape: tuple[int, int], annotations: Mapping[str, Any], table: None
) -> list[Instance]:
    """Read the objects of one sample from an image of object numbers, 0 for background.

    Parameters
    ----------
    row, shape, annotations, table
        As in `read_mask_folder`.

    Returns
    -------
    list of Instance
        In the order of the numbers, which may have gaps; `source` is the number.

    Raises
    ------
    ValueError
        If there is not exactly one file, it is unreadable, of another size than the image, or holds numbers that
        cannot be objects.
    """
    path = _only_path(row)
    codes_yx = read_codes(row["sample"], path, shape=shape)
    numbers, compact = np.unique(codes_yx, return_inverse=True)
    bad = numbers[(numbers < 0) | (numbers == IGNORE_LABEL) | (numbers != np.floor(numbers))]
    if bad.size:
        raise ValueError(
            f"sample {row['sample']}, {path}: expected whole numbers from 0 for objects, {IGNORE_LABEL} excepted, "
            f"found {bad[0]}. Renumber the objects."
        )
    # 0 is the background also where no pixel is background
    compact_yx = compact.reshape(shape) + int(numbers[0] != 0)
    objects = numbers[numbers != 0]
    return _split_labels(compact_yx, sources=[str(int(number)) for number in objects])


def read_binary(
    row: Mapping[str, Any], *, shape: tuple[int, int], annotations: Mapping[str, Any], table: None
) -> list[Instance]:
    """Read the objects of one sample as connected regions of a binary image.

    Parameters
    ----------
    row, shape, table
        As in `read_mask_folder`.
    annotations : mapping
        The config section; `foreground` ("nonzero" or "zero") is read.

    Returns
    -------
    list of Instance
        In the order in which the regions begin, row by row.

    Raises
    ------
    ValueError
        If there is not exactly one file, it is unreadable, of another size than the image, or holds more than two
        values.

    Notes
    -----
    Regions are 4-connected, so that a membrane of one pixel that runs diagonally keeps two cells apart.
    """
    path = _only_path(row)
    mask_yx = read_two_values(row["sample"], path, shape=shape)
    if annotations["foreground"] == "zero":
        mask_yx = ~mask_yx
    regions_yx, count = label(mask_yx, connectivity=1, return_num=True)
    return _split_labels(regions_yx, sources=[f"region {i}" for i in range(1, count + 1)])


def read_codes(sample: str, path: str, *, shape: tuple[int, int]) -> np.ndarray:
    """Read an annotation image that holds one number a pixel, and check its size.

    Parameters
    ----------
    sample : str
        Named in errors.
    path : str
        The annotation.
    shape : tuple of int
        (rows, columns) of the sample's image.

    Returns
    -------
    ndarray of that shape
        The stored numbers; of a palette its indices; of equal colours one of them.

    Raises
    ------
    ValueError
        If the file is unreadable, of another size, or coloured.
    """
    array, axes = read_array(path, palette="indices")
    if array.shape[:2] != tuple(shape):
        raise ValueError(
            f"sample {sample}, {path}: expected an annotation of {shape[0]} rows and {shape[1]} columns, the size "
            f"of its image, found {array.shape[0]} rows and {array.shape[1]} columns. "
            "Pair every image with its own annotation, at full size."
        )
    if axes == "YX":
        return array
    if axes == "YXS" and array.shape[2] in (2, 4) and np.ptp(array[:, :, -1]) == 0:
        array = array[:, :, :-1]
    if (array != array[:, :, :1]).any():
        raise ValueError(
            f"sample {sample}, {path}: expected one number a pixel, found {array.shape[2]} channels that differ. "
            "Save the annotation as a grey image without transparency."
        )
    return array[:, :, 0]


def read_two_values(sample: str, path: str, *, shape: tuple[int, int]) -> np.ndarray:
    """Read an annotation image of two values as a mask of what is not zero.

    Parameters
    ----------
    sample, path, shape
        As in `read_codes`.

    Returns
    -------
    ndarray of bool

    Raises
    ------
    ValueError
        As `read_codes`, and if there are more than two values, or two and none of them is zero.
    """
    codes_yx = read_codes(sample, path, shape=shape)
    lowest, highest = codes_yx.min(), codes_yx.max()
    between = np.count_nonzero((codes_yx != lowest) & (codes_yx != highest))
    if between or (lowest != highest and lowest != 0):
        raise ValueError(
            f"sample {sample}, {path}: expected zero and one other value, found values from {lowest} to {highest} "
            f"with {between} pixels between them. Save it without smoothing or JPEG, or use format label_image."
        )
    return codes_yx != 0


def _only_path(row: Mapping[str, Any]) -> str:
    paths = row["annotations"]
    if len(paths) != 1:
        raise ValueError(
            f"sample {row['sample']}: expected one annotation file, found {len(paths)}: {', '.join(paths[:3])}. "
            "Make annotations.path so narrow that it matches one file for each image."
        )
    return paths[0]


def _split_labels(labels_yx: np.ndarray, *, sources: list[str]) -> list[Instance]:
    """Cut a label image with the numbers 1 to len(sources) into instances."""
    return [
        Instance(box[0].start, box[1].start, labels_yx[box] == number, source)
        for number, (box, source) in enumerate(zip(find_objects(labels_yx), sources, strict=True), start=1)
    ]
