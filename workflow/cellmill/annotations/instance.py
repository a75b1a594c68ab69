"""One annotated object: its mask within its bounding box."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from cellmill.annotations.pieces import Piece, crop_piece


class AnnotationSettings(TypedDict):
    """Config section `annotations` without `missing` and `implausible`, which are settings of their own."""

    format: str
    table: str | None
    path: str | None
    order: str | None
    sample_column: str | None
    rle_column: str | None
    object_column: str | None
    foreground: str | int | None
    tracks: str | None
    markers: str | None
    ignore: str | None
    ignore_value: int | None
    object_type: str | None
    repair: str
    fragments: str
    min_object_px: int


@dataclass(frozen=True, eq=False)
class Instance:
    """One annotated object.

    `mask_yx` (bool) is the mask inside the object's bounding box; `row` and `column` are the position of the box's
    first pixel in the image, px. `source` is the origin of the annotation: a table row, a file or a number in a label
    image. `number` is the object's number in the annotation, if it has one. `is_ignored` marks a region without
    individual annotations (a crowd), which is not an object. `broken` is the fault of an outline, else empty. `order`
    is the pixel order of the runs that it was read from, if the format has only one.
    """

    row: int
    column: int
    mask_yx: np.ndarray
    source: str
    number: int | None = None
    is_ignored: bool = False
    broken: str = ""
    order: str = ""

    @property
    def area_px(self) -> int:
        """Number of pixels, before overlaps are resolved."""
        return int(np.count_nonzero(self.mask_yx))

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the bounding box in the image."""
        return (
            slice(self.row, self.row + self.mask_yx.shape[0]),
            slice(self.column, self.column + self.mask_yx.shape[1]),
        )


def crop_instance(mask_yx: np.ndarray, *, source: str) -> Instance:
    """Crop a mask to its bounding box; an empty mask becomes a box of shape (0, 0)."""
    return instance_of_piece(crop_piece(mask_yx, row=0), source=source)


def instance_of_piece(piece: Piece, *, source: str, number: int | None = None, is_ignored: bool = False) -> Instance:
    return Instance(*piece, source, number=number, is_ignored=is_ignored)


def list_neighbours(objects: Sequence[Instance]) -> list[list[int]]:
    """List, for each object, the others whose bounding boxes overlap its own."""
    boxes = np.array([(b.start, b.stop, c.start, c.stop) for b, c in (one.box for one in objects)]).reshape(-1, 4)
    order = np.argsort(boxes[:, 0], kind="stable")
    found: list[list[int]] = [[] for _ in objects]
    starts = boxes[order, 0]
    for place, i in enumerate(order):
        last = int(np.searchsorted(starts, boxes[i, 1]))
        below = order[place + 1 : last]
        meets = (boxes[below, 2] < boxes[i, 3]) & (boxes[i, 2] < boxes[below, 3])
        for j in below[meets]:
            found[i].append(int(j))
            found[j].append(int(i))
    return found


def draw_onto(target_yx: np.ndarray, place: Instance, drawn: Instance) -> None:
    """Draw the part of an object that lies inside the bounding box of another.

    Parameters
    ----------
    target_yx : ndarray of bool
        Changed; of the shape of the mask of `place`.
    place, drawn : Instance
        The object whose bounding box is drawn on, and the one that is drawn; their boxes overlap.
    """
    into, out_of = [], []
    for here, there in zip(place.box, drawn.box, strict=True):
        start, stop = max(here.start, there.start), min(here.stop, there.stop)
        into.append(slice(start - here.start, stop - here.start))
        out_of.append(slice(start - there.start, stop - there.start))
    target_yx[tuple(into)] |= drawn.mask_yx[tuple(out_of)]
