"""Evidence from the content of a few files: headers of images, numbers of masks, similarity of successive images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.ndimage import label as label_components

from cellmill.annotations.color_components import number_colours
from cellmill.images.axes import Layout
from cellmill.images.channels import has_alpha
from cellmill.images.files import read_array
from cellmill.images.rasters import read_layout
from cellmill.images.raw_files import open_raw, raw_format_of

Item = TypeVar("Item")
HEADERS = 5
MASKS = 5
PAIRS = 4
# Larger images are judged by their header only
MAX_PIXELS = 2**26
# In a mask, a pixel has the value of its right neighbour; camera noise differs
EQUAL_NEIGHBOURS = 0.85
CLASSES = 16
# A number of a label image is one object; a colour or a class is used for many
PARTS_OF_LABEL = 1.5
# Side of the pictures that are compared, px
THUMB = 24
# How much more alike successive images are than distant ones (difference of correlations)
ALIKE_MARGIN = 0.15


@dataclass(frozen=True)
class Headers:
    """Layouts of some files of a family, and messages on files that cannot be read.

    `scenes` is the largest number of images in one of the files; 0 if they are no microscope files.
    """

    layouts: list[Layout]
    damaged: list[str]
    scenes: int = 0

    @property
    def first(self) -> Layout | None:
        return self.layouts[0] if self.layouts else None


@dataclass(frozen=True)
class Codes:
    """Numbers of one mask: values with their shares and numbers of parts, whether they are colours or grey levels."""

    path: str
    shape: tuple[int, int]
    values: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    parts: tuple[int, ...] = ()
    has_colours: bool = False
    is_smooth: bool = False


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """Choose evenly spread items, with the first and the last."""
    if len(items) <= count:
        return list(items)
    places = np.linspace(0, len(items) - 1, count).round().astype(int)
    return [items[place] for place in places]


def read_headers(paths: Sequence[str]) -> Headers:
    """Read the headers of files."""
    layouts, damaged, scenes = [], [], 0
    for path in paths:
        try:
            layouts.append(read_layout(path))
            if raw_format_of(path) is not None:
                scenes = max(scenes, len(open_raw(Path(path)).scenes))
        except (ValueError, OSError) as error:
            damaged.append(str(error))
    return Headers(layouts, damaged, scenes)


def read_codes(path: str) -> Codes | None:
    """Read the numbers of a mask, of a stack those of its middle plane; None if the file is unreadable or too large.

    Returns
    -------
    Codes
        Without values if they are the grey levels or colours of a picture.
    """
    try:
        layout = read_layout(path)
        if layout.shape[0] * layout.shape[1] > MAX_PIXELS:
            return None
        plane = [[axis, size // 2, size] for axis, size in layout.stack.items()]
        array, axes = read_array(path, palette="indices", plane=plane)
    except (ValueError, OSError):
        return None
    if has_alpha(array, axes) and np.ptp(array[:, :, -1]) == 0:
        array = array[:, :, :-1]
    has_colours = array.ndim == 3 and bool((array != array[:, :, :1]).any())
    codes_yx = number_colours(array, axes=axes) if has_colours else array if array.ndim == 2 else array[:, :, 0]
    equal = float(np.mean(codes_yx[:, 1:] == codes_yx[:, :-1])) if codes_yx.shape[1] > 1 else 1.0
    is_whole = codes_yx.dtype.kind in "uib" or bool((codes_yx == np.floor(codes_yx)).all())
    if equal < EQUAL_NEIGHBOURS or not is_whole or Path(path).suffix.lower() in (".jpg", ".jpeg"):
        return Codes(path, layout.shape, has_colours=has_colours, is_smooth=True)
    values, counts = np.unique(codes_yx, return_counts=True)
    few = values[:: max(1, len(values) // CLASSES)]
    parts = [int(label_components(codes_yx == value, structure=np.ones((3, 3)))[1]) for value in few if value != 0]
    return Codes(
        path,
        layout.shape,
        tuple(map(float, values)),
        tuple((counts / codes_yx.size).tolist()),
        tuple(parts),
        has_colours,
    )


def is_mask(codes: Sequence[Codes | None]) -> bool:
    """Check whether files look like masks: areas of equal numbers, few numbers or few areas of each."""
    found = [one for one in codes if one is not None]
    return bool(found) and all(
        not one.is_smooth and (len(one.values) <= CLASSES or np.median(one.parts or [0]) <= 2) for one in found
    )


def count_regions(path: str) -> tuple[int, int]:
    """Count the 4-connected regions of the nonzero and of the zero pixels of a binary mask."""
    array, axes = read_array(path, palette="indices")
    if has_alpha(array, axes):
        array = array[:, :, :-1]
    mask_yx = array.reshape(*array.shape[:2], -1)[:, :, 0] != 0
    return int(label_components(mask_yx)[1]), int(label_components(~mask_yx)[1])


def compare_neighbours(paths: Sequence[str]) -> tuple[float, float] | None:
    """Compare successive images with distant ones.

    Parameters
    ----------
    paths : sequence of str
        Images in the order of their numbers.

    Returns
    -------
    tuple of float or None
        Median correlation of small pictures of successive images, and of distant ones (a third of the list apart or
        more); None for fewer than six images, or if they cannot be read.
    """
    if len(paths) < 6:
        return None
    apart = max(3, len(paths) // 3)
    starts = spread(range(len(paths) - 1), PAIRS)
    near = [_correlate(paths[start], paths[start + 1]) for start in starts]
    far = [_correlate(paths[start], paths[(start + apart) % len(paths)]) for start in starts]
    found_near, found_far = [x for x in near if x is not None], [x for x in far if x is not None]
    if len(found_near) < 2 or len(found_far) < 2:
        return None
    return float(np.median(found_near)), float(np.median(found_far))


def is_sequence(near: float, far: float) -> bool:
    """Check whether successive images are clearly more alike than distant ones, or nearly equal."""
    return near - far >= ALIKE_MARGIN or (near >= 0.9 and near > far)


def _correlate(one: str, other: str) -> float | None:
    first_yx, second_yx = _thumb(one), _thumb(other)
    if first_yx is None or second_yx is None or first_yx.std() == 0 or second_yx.std() == 0:
        return None
    return float(np.corrcoef(first_yx.ravel(), second_yx.ravel())[0, 1])


def _thumb(path: str) -> np.ndarray | None:
    """Read an image as a small picture without its slow gradients."""
    try:
        layout = read_layout(path)
        if layout.stack or layout.shape[0] * layout.shape[1] > MAX_PIXELS or min(layout.shape) < THUMB:
            return None
        array, _ = read_array(path, palette="colours")
    except (ValueError, OSError):
        return None
    image_yx = array.astype(np.float64).reshape(*array.shape[:2], -1)[:, :, :3].mean(axis=2)
    side = [size // THUMB for size in image_yx.shape]
    cut_yx = image_yx[: side[0] * THUMB, : side[1] * THUMB]
    small_yx: np.ndarray = cut_yx.reshape(THUMB, side[0], THUMB, side[1]).mean(axis=(1, 3))
    return small_yx - gaussian_filter(small_yx, 4.0)
