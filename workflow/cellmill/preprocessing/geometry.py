"""Rescale frames and fit them to a common size, and map results back to the geometry of the raw image.

A raw frame is resampled to the scaled frame, which is then cropped or padded to the fitted frame. Labels are resampled
by nearest neighbour, so that no new labels appear. Images and probabilities are averaged over the covered area where an
axis shrinks, and interpolated linearly where it grows.
"""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.sparse import csr_array

from cellmill.images.stored import IGNORE_LABEL

MODES = ("none", "resize", "crop_pad")
# A size that is larger than a whole number by less than this many pixels is not rounded up. Pixel sizes in metadata are
# themselves rounded.
ROUNDING_PX = 0.01


class RowSource(Protocol):
    """An image that is read a few rows at a time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns), px."""

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return a slice of the rows, or the rows at ascending indices."""


@dataclass(frozen=True)
class Geometry:
    """Mapping from one raw frame to its fitted frame; a row of geometry.csv. Sizes and offsets in px.

    `row_offset` and `column_offset` are the origin of the fitted frame in coordinates of the scaled frame: positive
    where it was cropped, negative where it was padded, 0 where it was resized. `pixel_size_um` is the edge length of a
    raw pixel from the image metadata, or None. `scaled_rows` and `scaled_columns` are the size of the scaled frame if
    the frame was rescaled before `mode`, otherwise None.
    """

    raw_rows: int
    raw_columns: int
    mode: str
    rows: int
    columns: int
    row_offset: int
    column_offset: int
    pixel_size_um: float | None = None
    scaled_rows: int | None = None
    scaled_columns: int | None = None

    @property
    def is_unchanged(self) -> bool:
        """Whether the frame was neither rescaled nor fitted."""
        return self.mode == "none" and self.scaled_rows is None

    @property
    def is_resampled(self) -> bool:
        """Whether the scaled frame has other pixels than the raw frame."""
        return self.scaled_shape != self.raw_shape

    @property
    def is_padded(self) -> bool:
        """Whether the fitted frame extends beyond the scaled frame."""
        rows, columns = self.scaled_shape
        return self.mode == "crop_pad" and (
            min(self.row_offset, self.column_offset) < 0
            or self.row_offset + self.rows > rows
            or self.column_offset + self.columns > columns
        )

    @property
    def area_scale(self) -> float:
        """Area of an object in the fitted frame divided by its area in the raw frame."""
        rows, columns = self.scaled_shape
        return rows * columns / (self.raw_rows * self.raw_columns)

    def edge_um(self, raw_um: float | None) -> float | None:
        """Return the edge of a pixel of the fitted frame, um; None if it is unknown.

        `raw_um` is the edge of a raw pixel; None: that of the image metadata.
        """
        edge_um = self.pixel_size_um if raw_um is None else raw_um
        return None if edge_um is None else edge_um / self.area_scale**0.5

    @property
    def raw_shape(self) -> tuple[int, int]:
        """(rows, columns) of the raw frame."""
        return self.raw_rows, self.raw_columns

    @property
    def scaled_shape(self) -> tuple[int, int]:
        """(rows, columns) of the frame after resampling, before crop and pad."""
        if self.mode == "resize":
            return self.shape
        if self.scaled_rows is None or self.scaled_columns is None:
            return self.raw_shape
        return self.scaled_rows, self.scaled_columns

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the fitted frame."""
        return self.rows, self.columns


def plan_fit(
    raw_shape: tuple[int, int], *, mode: str, size: Sequence[int] | None, at: Sequence[int] | None = None
) -> Geometry:
    """Plan how to bring a frame to the common size.

    Parameters
    ----------
    raw_shape : tuple of int
        (rows, columns) of the raw frame.
    mode : "none", "resize" or "crop_pad"
        crop_pad crops a larger frame to its centre and pads a smaller frame on both sides, each axis
        independently. If the difference is odd, the extra pixel is cropped or padded at the end.
    size : (rows, columns) or None
        Target size in px; ignored for mode none.
    at : (row, column) or None
        First pixel of the frame that crop_pad keeps, instead of the centre.

    Returns
    -------
    Geometry

    Raises
    ------
    ValueError
        If `at` is outside the frame.
    """
    assert mode in MODES
    raw_rows, raw_columns = raw_shape
    if mode == "none":
        return Geometry(raw_rows, raw_columns, mode, raw_rows, raw_columns, 0, 0)
    assert size is not None
    rows, columns = (int(number) for number in size)
    if mode == "resize":
        return Geometry(raw_rows, raw_columns, mode, rows, columns, 0, 0)
    if at is not None and (at[0] >= raw_rows or at[1] >= raw_columns):
        raise ValueError(
            f"expected preprocess.fit.at within the image of {raw_rows} x {raw_columns} px, found {list(at)}. Set it "
            "to [row, column] of a pixel of every image, counted from 0."
        )
    top, left = (_offset(raw_rows, rows), _offset(raw_columns, columns)) if at is None else at
    return Geometry(raw_rows, raw_columns, mode, rows, columns, top, left)


def plan_rescale(
    raw_shape: tuple[int, int],
    *,
    factors: tuple[float, float],
    mode: str,
    size: Sequence[int] | None,
    at: Sequence[int] | None = None,
) -> Geometry:
    """Plan how to rescale a frame and then bring it to the common size.

    Parameters
    ----------
    raw_shape : tuple of int
        (rows, columns) of the raw frame.
    factors : tuple of float
        Size of an object after and before, along (rows, columns).
    mode : "none" or "crop_pad"
        How the scaled frame is fitted, as in `plan_fit`.
    size : (rows, columns) or None
    at : (row, column) or None
        As in `plan_fit`, in px of the scaled frame.

    Returns
    -------
    Geometry
        The scaled frame covers the raw frame exactly. Its size is rounded up, so that a downscaling keeps every object
        at least one scaled pixel wide.
    """
    assert mode != "resize"
    rows, columns = (
        max(1, math.ceil(raw * factor - ROUNDING_PX)) for raw, factor in zip(raw_shape, factors, strict=True)
    )
    fitted = plan_fit((rows, columns), mode=mode, size=size, at=at)
    raw_rows, raw_columns = raw_shape
    return replace(fitted, raw_rows=raw_rows, raw_columns=raw_columns, scaled_rows=rows, scaled_columns=columns)


def raw_rows_of(geometry: Geometry, rows: slice) -> slice:
    """Return the raw rows that contribute to some rows of the fitted frame; an empty slice for padding."""
    height, _ = geometry.scaled_shape
    first = min(max(rows.start + geometry.row_offset, 0), height)
    last = max(first, min(rows.stop + geometry.row_offset, height))
    if not geometry.is_resampled or first == last:
        return slice(first, last) if first < last else slice(0, 0)
    used = _axis_weights(geometry.raw_rows, height)[first:last].indices
    return slice(int(used.min()), int(used.max()) + 1)


def fit_rows(
    raw_part_yx: np.ndarray, geometry: Geometry, *, rows: slice, raw_rows: slice, pad_value: float
) -> np.ndarray:
    """Compute some rows of a fitted image, so that a large image is never in memory as a whole.

    Parameters
    ----------
    raw_part_yx : ndarray of shape (raw rows of the part, raw columns), any real dtype
    geometry : Geometry
        Of the whole image.
    rows : slice
        Rows of the fitted frame.
    raw_rows : slice
        Rows of the raw frame in `raw_part_yx`, including at least those from `raw_rows_of`.
    pad_value : float
        For pixels outside the raw frame.

    Returns
    -------
    ndarray of float32, shape (rows, columns of the fitted frame)
        Identical to these rows of the fitted whole image.
    """
    fitted_yx = np.full((rows.stop - rows.start, geometry.columns), pad_value, dtype=np.float32)
    (scaled_rows, scaled_columns), (_, columns) = _shared_part(geometry)
    shift = geometry.row_offset
    first, last = max(scaled_rows.start, rows.start + shift), min(scaled_rows.stop, rows.stop + shift)
    if first >= last:
        return fitted_yx
    if geometry.is_resampled:
        height, width = geometry.scaled_shape
        row_weights = _axis_weights(geometry.raw_rows, height)[first:last][:, raw_rows]
        column_weights = _axis_weights(geometry.raw_columns, width)[scaled_columns]
        part_yx = _resample_axes(raw_part_yx, row_weights, column_weights)
    else:
        part_yx = raw_part_yx[first - raw_rows.start : last - raw_rows.start, scaled_columns]
    fitted_yx[first - shift - rows.start : last - shift - rows.start, columns] = part_yx
    return fitted_yx


def fit_labels(labels_yx: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Bring a label image to its fitted size by nearest neighbour; mark pixels outside the raw frame as ignored.

    Parameters
    ----------
    labels_yx : ndarray of integers, shape (raw rows, raw columns)
    geometry : Geometry
        From `plan_fit`.

    Returns
    -------
    ndarray of shape (rows, columns)
        65535 where the frame was padded. The dtype is at least uint16, but unchanged for mode resize.
    """
    _check_shape(labels_yx, geometry.raw_shape)
    return fit_label_rows(lambda numbers: labels_yx[numbers], geometry, slice(0, geometry.rows))


def fit_label_rows(read: Callable[[np.ndarray], np.ndarray], geometry: Geometry, rows: slice) -> np.ndarray:
    """Compute some rows of a fitted label image, identical to those of `fit_labels`.

    Parameters
    ----------
    read : callable
        Takes row indices of the raw image; returns these rows, shape (indices, raw columns).
    geometry : Geometry
        From `plan_fit`.
    rows : slice
        Of the fitted frame.

    Returns
    -------
    ndarray, shape (rows, columns)
    """
    height, width = geometry.scaled_shape
    (_, scaled_columns), (_, columns) = _shared_part(geometry)
    scaled = np.arange(rows.start, rows.stop) + geometry.row_offset
    is_inside = (scaled >= 0) & (scaled < height)
    found = read(nearest(geometry.raw_rows, height)[scaled[is_inside]])
    found = found[:, nearest(geometry.raw_columns, width)[scaled_columns] if geometry.is_resampled else scaled_columns]
    if geometry.mode == "resize":
        return found
    fitted_yx = np.full((len(scaled), geometry.columns), IGNORE_LABEL, dtype=np.result_type(found.dtype, np.uint16))
    fitted_yx[is_inside, columns] = found
    return fitted_yx


def unfit_label_rows(read: Callable[[np.ndarray], np.ndarray], geometry: Geometry, rows: slice) -> np.ndarray:
    """Map a fitted label image back to some rows of the raw frame by nearest neighbour.

    Parameters
    ----------
    read : callable
        Takes row indices of the fitted image; returns these rows, shape (indices, columns).
    geometry : Geometry
        Geometry used for fitting.
    rows : slice
        Of the raw frame.

    Returns
    -------
    ndarray of the same dtype, shape (rows, raw columns)
        0 outside the fitted frame. Independent of how the frame is divided into rows.
    """
    height, width = geometry.scaled_shape
    _, raw_columns = covered_part(geometry)
    fitted = nearest(height, geometry.raw_rows)[rows.start : rows.stop] - geometry.row_offset
    is_inside = (fitted >= 0) & (fitted < geometry.rows)
    found = read(fitted[is_inside])
    raw_yx = np.zeros((len(fitted), geometry.raw_columns), dtype=found.dtype)
    raw_yx[is_inside, raw_columns] = found[
        :, nearest(width, geometry.raw_columns)[raw_columns] - geometry.column_offset
    ]
    return raw_yx


def unfit_image_rows(image_yx: np.ndarray | RowSource, geometry: Geometry, rows: slice) -> np.ndarray:
    """Map a fitted image or probability map back to some rows of the raw frame.

    Parameters
    ----------
    image_yx : ndarray of float, shape (rows, columns), or RowSource
        May be a memory map or a file; only the rows that are needed are read.
    geometry : Geometry
        Geometry used for fitting.
    rows : slice
        Of the raw frame.

    Returns
    -------
    ndarray of float32, shape (rows, raw columns)
        Resampled as in `resample` if the frame was resampled; 0 outside the fitted frame.
    """
    if not geometry.is_resampled:
        return unfit_label_rows(lambda numbers: np.asarray(image_yx[numbers], np.float32), geometry, rows)
    (height, width), (covered_rows, covered_columns) = geometry.scaled_shape, covered_part(geometry)
    (scaled_rows, scaled_columns), (fitted_rows, fitted_columns) = _shared_part(geometry)
    raw_yx = np.zeros((rows.stop - rows.start, geometry.raw_columns), dtype=np.float32)
    first, last = max(rows.start, covered_rows.start), min(rows.stop, covered_rows.stop)
    if first >= last:
        return raw_yx
    row_weights = _restrict(_axis_weights(height, geometry.raw_rows)[first:last], scaled_rows)
    low, high = int(row_weights.indices.min()), int(row_weights.indices.max()) + 1
    raw_yx[first - rows.start : last - rows.start, covered_columns] = _resample_axes(
        np.asarray(image_yx[fitted_rows.start + low : fitted_rows.start + high])[:, fitted_columns],
        row_weights[:, low:high],
        _restrict(_axis_weights(width, geometry.raw_columns)[covered_columns], scaled_columns),
    )
    return raw_yx


def covered_part(geometry: Geometry) -> tuple[slice, slice]:
    """Return the rows and columns of the raw frame that the fitted frame covers: all, unless it was cropped.

    A raw pixel is covered if its centre lies in a pixel of the fitted frame.
    """
    scaled = _shared_part(geometry)[0]
    if not geometry.is_resampled:
        return scaled
    parts = []
    for part, raw_size, size in zip(scaled, geometry.raw_shape, geometry.scaled_shape, strict=True):
        ends = np.searchsorted(nearest(size, raw_size), (part.start, part.stop))
        parts.append(slice(int(ends[0]), int(ends[1])))
    return parts[0], parts[1]


def resample(image_yx: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize an image: average over the covered area where an axis shrinks, interpolate linearly where it grows.

    Parameters
    ----------
    image_yx : ndarray of shape (rows, columns), any real dtype
    shape : tuple of int
        New (rows, columns).

    Returns
    -------
    ndarray of float32
        Every value is a weighted mean of old values, so nothing overshoots; the mean is kept if both axes shrink.
    """
    if image_yx.shape == tuple(shape):
        return image_yx.astype(np.float32)
    return _resample_axes(
        image_yx, _axis_weights(image_yx.shape[0], shape[0]), _axis_weights(image_yx.shape[1], shape[1])
    )


def write_geometry(path: str | Path, geometries: Mapping[str, Geometry]) -> None:
    """Write geometry.csv with one row per sample."""
    with Path(path).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["sample", *(field.name for field in fields(Geometry))])
        writer.writeheader()
        writer.writerows({"sample": sample, **asdict(geometry)} for sample, geometry in geometries.items())


def read_geometry(path: str | Path) -> dict[str, Geometry]:
    """Read geometry.csv: sample -> Geometry."""
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return {
            row.pop("sample"): Geometry(**{name: _parse(name, text) for name, text in row.items()})
            for row in csv.DictReader(stream)
        }


def _parse(name: str, text: str) -> Any:
    if name == "pixel_size_um":
        return float(text) if text else None
    if name == "mode":
        return text
    return int(text) if text else None


def _resample_axes(image_yx: np.ndarray, row_weights: csr_array, column_weights: csr_array) -> np.ndarray:
    halfway = row_weights @ image_yx.astype(np.float32)
    return np.ascontiguousarray((column_weights @ halfway.T).T, dtype=np.float32)


def _offset(raw: int, wanted: int) -> int:
    return (raw - wanted) // 2 if raw >= wanted else -((wanted - raw) // 2)


def _shared_part(geometry: Geometry) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the area common to both frames, as slices of the scaled frame and of the fitted frame."""
    scaled, fitted = [], []
    offsets = (geometry.row_offset, geometry.column_offset)
    for offset, scaled_size, size in zip(offsets, geometry.scaled_shape, geometry.shape, strict=True):
        first, last = max(offset, 0), min(offset + size, scaled_size)
        scaled.append(slice(first, last))
        fitted.append(slice(first - offset, last - offset))
    return (scaled[0], scaled[1]), (fitted[0], fitted[1])


def _restrict(weights: csr_array, part: slice) -> csr_array:
    """Restrict weights to some of the old pixels; each row sums to 1 again."""
    if part == slice(0, weights.shape[1]):
        return weights
    inside = weights[:, part]
    return csr_array(inside.multiply(1 / inside.sum(axis=1)[:, np.newaxis]), dtype=np.float32)


def nearest(old: int, new: int) -> np.ndarray:
    """Return the index of the old pixel under the centre of each new pixel."""
    return (2 * np.arange(new) + 1) * old // (2 * new)


def _axis_weights(old: int, new: int) -> csr_array:
    """Return the (new, old) matrix that resamples one axis; each row sums to 1."""
    if new < old:
        edges = np.arange(new + 1) * (old / new)
        first = np.minimum(edges[:-1].astype(int), old - 1)
        reach = int(np.ceil(old / new)) + 1
        pixels = first[:, np.newaxis] + np.arange(reach)
        weights = np.minimum(pixels + 1, edges[1:, np.newaxis]) - np.maximum(pixels, edges[:-1, np.newaxis])
        weights = np.clip(weights, 0, None)
    else:
        centres = (np.arange(new) + 0.5) * (old / new) - 0.5
        first = np.floor(centres).astype(int)
        pixels = first[:, np.newaxis] + np.arange(2)
        weights = np.stack((first + 1 - centres, centres - first), axis=1)
    weights = weights / weights.sum(axis=1, keepdims=True)
    place = np.repeat(np.arange(new), pixels.shape[1])
    return csr_array(
        (weights.ravel().astype(np.float32), (place, np.clip(pixels, 0, old - 1).ravel())), shape=(new, old)
    )


def _check_shape(array_yx: np.ndarray, shape: tuple[int, int]) -> None:
    if array_yx.shape != shape:
        raise ValueError(
            f"fit: expected a frame of {shape[0]} rows and {shape[1]} columns, found {array_yx.shape}. "
            "Run preprocess again: the geometry belongs to another image."
        )


def valid_box(geometry: Geometry) -> tuple[tuple[int, int], tuple[int, int]]:
    """Compute the part of a fitted image that the raw image covers.

    Returns
    -------
    (first_row, last_row + 1), (first_column, last_column + 1)
        In the fitted frame, px.
    """
    if geometry.mode != "crop_pad":
        return (0, geometry.rows), (0, geometry.columns)
    rows, columns = geometry.scaled_shape
    return (
        _overlap(geometry.rows, rows, geometry.row_offset),
        _overlap(geometry.columns, columns, geometry.column_offset),
    )


def _overlap(size: int, scaled_size: int, offset: int) -> tuple[int, int]:
    # Pixel p of the fitted frame is pixel p + offset of the scaled frame.
    first = min(max(0, -offset), size)
    return first, max(first, min(size, scaled_size - offset))
