"""Masks of COCO objects: runs, compressed or not, and outlines, drawn as pycocotools draws them.

COCO runs count pixels down the columns. The first run is background and may have length 0. In compressed text each
count takes a few characters of five bits each.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from cellmill.annotations.coco_json import as_numbers, shorten
from cellmill.annotations.instance import Instance
from cellmill.annotations.outlines import explain_few_points, leaves_image
from cellmill.annotations.pieces import LabelBands, gather_objects
from cellmill.annotations.rle import draw_runs, find_runs
from cellmill.images.stored import IGNORE_LABEL

# five bits per character; two counts differ by less than 2**31, the pixel count of the largest image
MAX_CHARACTERS = 7
# pycocotools holds about 80 bytes for each pixel of the outline
MAX_OUTLINE_PX = 1_000_000
EXPORT_AGAIN = "Export the file again: the runs are damaged or in another format."


def draw_annotation(annotation: Mapping[str, Any], *, shape: tuple[int, int], where: str, source: str) -> Instance:
    """Draw one annotation.

    Parameters
    ----------
    annotation : mapping
        Its `segmentation` and `iscrowd`; lists of numbers may be arrays.
    shape : tuple of int
        (rows, columns) of the image.
    where : str
        File and annotation, for error messages.
    source : str
        Stored in the instance.

    Returns
    -------
    Instance
        A crowd is an ignored region; an outline with fewer than three points, without area or partly outside the image
        is broken and may be empty.

    Raises
    ------
    ValueError
        If iscrowd is not 0 or 1, the segmentation is neither outlines nor runs of the image's size, or an outline is
        longer than 1,000,000 px.
    """
    crowd = annotation.get("iscrowd")
    if crowd is not None and (not isinstance(crowd, int | float) or crowd not in (0, 1)):
        raise ValueError(f"{where}: expected iscrowd 0 or 1, found {shorten(crowd)}. Correct the file.")
    segmentation = annotation.get("segmentation")
    broken = order = ""
    if isinstance(segmentation, dict):
        counts, order = _read_counts(segmentation, shape=shape, where=where), "column"
    elif isinstance(segmentation, list) and segmentation:
        outlines, broken = _read_outlines(segmentation, shape=shape, where=where)
        counts = _outlined_counts(outlines, shape=shape) if outlines else np.array([shape[0] * shape[1]])
    else:
        found = "none" if segmentation is None or segmentation == [] else shorten(segmentation)
        raise ValueError(
            f"{where}: expected a segmentation (outlines or runs), found {found}. "
            "Annotate the outline: a bounding box alone does not define the object's pixels."
        )
    lengths = counts[1::2]
    firsts = np.cumsum(counts)[0::2][: lengths.size]
    row, column, mask_yx = draw_runs(firsts[lengths > 0], lengths[lengths > 0], shape=shape, order="column")
    return Instance(row, column, mask_yx, source, is_ignored=bool(crowd), broken=broken, order=order)


def describe_objects(labels: np.ndarray | LabelBands, *, where: str) -> Iterator[dict[str, Any]]:
    """Describe the objects of a label image.

    Parameters
    ----------
    labels : ndarray of non-negative integers, shape (rows, columns), or LabelBands
        0 background, 65535 ignored pixels.
    where : str
        Start of error messages.

    Yields
    ------
    dict
        The pixel fields of an annotation (`iscrowd`, `area` in px, `bbox`, `segmentation` as compressed runs), in
        ascending order of the labels.
    """
    n_pixels = math.prod(labels.shape)
    for number, (row, column, mask_yx) in gather_objects(labels, where=where).items():
        firsts, lengths = find_runs(mask_yx, order="column", row=row, column=column, shape=labels.shape)
        counts = np.zeros(2 * firsts.size + 1, dtype=np.int64)
        counts[1::2] = lengths
        counts[0::2] = np.append(firsts, n_pixels) - np.concatenate(([0], firsts + lengths))
        yield {
            "iscrowd": int(number == IGNORE_LABEL),
            "area": int(lengths.sum()),
            "bbox": [column, row, mask_yx.shape[1], mask_yx.shape[0]],
            "segmentation": {
                "size": list(labels.shape),
                "counts": encode_counts(counts if counts[-1] else counts[:-1]),
            },
        }


def encode_counts(counts: np.ndarray) -> str:
    """Compress counts to COCO's text.

    Parameters
    ----------
    counts : ndarray of int64, shape (runs,)
        Alternating lengths of background and object runs, px; the first may be 0.

    Returns
    -------
    str
        Identical to the text that pycocotools writes.
    """
    values = counts.astype(np.int64)
    # SOURCE pycocotools: from the fourth count on, the difference from the previous count of the same kind
    values[3:] -= counts[1:-2]
    shifts = 5 * np.arange(MAX_CHARACTERS)
    digits = values[:, np.newaxis] >> shifts
    rest = digits >> 5
    goes_on = np.where(digits & 16, rest != -1, rest != 0)
    is_written = np.ones_like(goes_on)
    is_written[:, 1:] = np.logical_and.accumulate(goes_on, axis=1)[:, :-1]
    return ((digits & 31) + 32 * goes_on + 48)[is_written].astype(np.uint8).tobytes().decode("ascii")


def decode_counts(text: str, *, where: str) -> np.ndarray:
    """Decode COCO's compressed text, with the checks that pycocotools lacks.

    Parameters
    ----------
    text : str
        As written by `encode_counts`.
    where : str
        File and annotation, for error messages.

    Returns
    -------
    ndarray of int64, shape (runs,)
        Alternating lengths of background and object runs, px. They may be negative if the text is not COCO's.

    Raises
    ------
    ValueError
        If the text has characters other than "0" to "o" or ends inside a number, or a number is too long.
    """
    if wrong := re.search("[^0-o]", text):
        raise ValueError(
            f"{where}: expected compressed runs of the characters '0' to 'o', found {wrong.group()!r} at character "
            f"{wrong.start() + 1}. {EXPORT_AGAIN}"
        )
    codes = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes < 32)
    if codes.size and codes[-1] >= 32:
        raise ValueError(
            f"{where}: expected compressed runs that end with a complete number, found text that ends inside a number "
            f"after {codes.size} characters. {EXPORT_AGAIN}"
        )
    if codes.size == 0:
        return codes
    sizes = np.diff(ends, prepend=-1)
    if sizes.max() > MAX_CHARACTERS:
        raise ValueError(
            f"{where}: expected numbers of at most {MAX_CHARACTERS} characters in compressed runs, found a number of "
            f"{sizes.max()} characters. {EXPORT_AGAIN}"
        )
    starts = ends + 1 - sizes
    places = np.arange(codes.size) - np.repeat(starts, sizes)
    values = np.add.reduceat((codes & 31) << (5 * places), starts)
    values[codes[ends] >= 16] -= 1 << (5 * sizes[codes[ends] >= 16])
    for kind in (1, 2):
        values[kind::2] = np.cumsum(values[kind::2])
    return values


def _read_counts(segmentation: Mapping[str, Any], *, shape: tuple[int, int], where: str) -> np.ndarray:
    """Read runs, compressed or not, and check them against the size of the image."""
    size = as_numbers(segmentation.get("size"))
    if size is None or size.tolist() != list(shape):
        found = shorten(segmentation.get("size") if size is None else size.tolist())
        raise ValueError(
            f"{where}: expected runs of size [{shape[0]}, {shape[1]}], the rows and columns of the image, found "
            f"{found}. Pair every image with its own full-size annotation."
        )
    pixels = shape[0] * shape[1]
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        numbers = decode_counts(counts, where=where)
    else:
        found_numbers = as_numbers(counts)
        if found_numbers is None:
            raise ValueError(
                f"{where}: expected counts as a list of numbers or as compressed text, found {shorten(counts)}. "
                "Export the annotations as COCO instances."
            )
        numbers = found_numbers
    wrong = numbers[(numbers < 0) | (numbers > pixels) | (numbers != np.floor(numbers))]
    if wrong.size:
        raise ValueError(
            f"{where}: expected counts from 0 to {pixels}, the number of pixels of the image, found {wrong[0]:.15g}. "
            f"{EXPORT_AGAIN}"
        )
    if numbers.sum() != pixels:
        raise ValueError(
            f"{where}: expected counts that sum to the {pixels} pixels of the image, found a sum of "
            f"{numbers.sum():.0f}. {EXPORT_AGAIN}"
        )
    return numbers.astype(np.int64)


def _read_outlines(parts: Sequence[Any], *, shape: tuple[int, int], where: str) -> tuple[list[list[float]], str]:
    """Return the drawable outlines as flat lists (x, y, x, y, ...), and the first fault among all outlines."""
    outlines, faults = [], []
    for part in parts:
        numbers = as_numbers(part)
        if numbers is None:
            raise ValueError(
                f"{where}: expected outlines as lists of finite numbers [x, y, x, y, ...], found {shorten(part)}. "
                "Export the annotations as COCO instances."
            )
        if numbers.size % 2:
            raise ValueError(
                f"{where}: expected an x and a y for every point, found {numbers.size} numbers. "
                "The outline is truncated: export the file again."
            )
        fault, can_be_drawn = _judge_outline(numbers.reshape(-1, 2), shape=shape, where=where)
        faults += [fault] if fault else []
        if can_be_drawn:
            outlines.append(numbers.tolist())
    if len(parts) > 2 and all(len(part) == 2 for part in parts):
        raise ValueError(
            f"{where}: expected outlines as lists of numbers [x, y, x, y, ...], found {len(parts)} points of two "
            "numbers. Write all numbers of an outline in one list."
        )
    return outlines, faults[0] if faults else ""


def _judge_outline(points_xy: np.ndarray, *, shape: tuple[int, int], where: str) -> tuple[str, bool]:
    """Return the fault of an outline, or an empty text, and whether it can be drawn."""
    if fault := explain_few_points(len(points_xy)):
        # pycocotools would read two points as a box
        return fault, False
    low, high = points_xy.min(axis=0), points_xy.max(axis=0)
    end = np.array([shape[1], shape[0]])
    if (high <= 0).any() or (low >= end).any():
        return "outline lies outside the image", False
    with np.errstate(over="ignore"):
        length_px = float(np.abs(points_xy - np.roll(points_xy, 1, axis=0)).max(axis=1).sum())
    if length_px > MAX_OUTLINE_PX:
        raise ValueError(
            f"{where}: expected an outline of at most {MAX_OUTLINE_PX} px, found {length_px:.3g} px. "
            "Correct the point that lies far outside: its coordinates are not pixels of this image."
        )
    if leaves_image(*low.tolist(), *high.tolist(), shape=shape):
        return "outline extends beyond the image", True
    if (high <= 1).all():
        return "outline within the first pixel, as if in fractions of the image", True
    edges_xy = points_xy - points_xy[0]
    far_xy = edges_xy[np.abs(edges_xy).max(axis=1).argmax()]
    distances = np.abs(edges_xy @ np.array([far_xy[1], -far_xy[0]]))
    return ("outline without area" if distances.max() <= 1e-9 * (far_xy @ far_xy) else ""), True


def _outlined_counts(outlines: list[list[float]], *, shape: tuple[int, int]) -> np.ndarray:
    # pycocotools draws at full image size, but its runs need memory only for the outline. In a crop, coordinates half
    # way between the fifths of a pixel that pycocotools draws with would round differently.
    runs = coco_mask.merge(coco_mask.frPyObjects(outlines, *shape))
    return decode_counts(runs["counts"].decode("ascii"), where="pycocotools")
