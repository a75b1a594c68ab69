"""One annotated object: its mask within its bounding box."""

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
