"""Write OME-Zarr stores (0.4): an image with its channels, and labels beside it.

SOURCE NGFF 0.4, https://ngff.openmicroscopy.org/0.4/
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc

VERSION = "0.4"
CHUNK_PX = 512
# Levels of half the size are added until both sides are at most this long.
SMALLEST_LEVEL_PX = 1024
# The codec that readers of other languages have as well
COMPRESSOR = Blosc(cname="zstd", clevel=5, shuffle=Blosc.SHUFFLE)
# Colours of channels: grey alone, red, green and blue of a colour image, otherwise colours that differ when added
GREY, RGB = ("FFFFFF",), ("FF0000", "00FF00", "0000FF")
MIXED = ("00FFFF", "FF00FF", "FFFF00", "FF0000", "00FF00", "0000FF")


@dataclass(frozen=True)
class Plane:
    """Facts about the pixels of a store: shape (rows, columns), and edges (row, column) of a pixel in um or None."""

    shape: tuple[int, int]
    pixel_size_um: tuple[float, float] | None


def write_image(
    path: str | Path,
    plane: Plane,
    *,
    name: str,
    dtype: np.dtype,
    channels: Sequence[str],
    windows_counts: Sequence[tuple[float, float]],
    is_colour: bool,
    read: Callable[[slice], Sequence[np.ndarray]],
) -> None:
    """Write an image as a new store with the axes c, y, x.

    Parameters
    ----------
    path : path
        The store, a folder.
    plane : Plane
    name : str
        Name of the image in viewers.
    dtype : dtype
        Type of the pixels.
    channels : sequence of str
        Names of the channels.
    windows_counts : sequence of (float, float)
        Intensities that viewers show as black and as full colour, for each channel.
    is_colour : bool
        Whether the channels are red, green and blue.
    read : function
        Takes a slice of rows; returns their pixels for each channel, shape (rows, columns).
    """
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    colours = RGB if is_colour else GREY if len(channels) == 1 else MIXED
    limits = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "ui" else None
    omero: dict[str, Any] = {
        "name": name,
        "version": VERSION,
        "channels": [
            {
                "label": channel, "color": colours[number % len(colours)], "active": True,
                "window": {
                    "start": start, "end": end,
                    "min": start if limits is None else limits[0], "max": end if limits is None else limits[1],
                },
            }
            for number, (channel, (start, end)) in enumerate(zip(channels, windows_counts, strict=True))
        ],
        "rdefs": {"model": "color"},
    }  # fmt: skip
    group.attrs.update({"multiscales": [_describe(plane, name=name, axes="cyx")], "omero": omero})
    _write_levels(group, plane, leading=(len(channels),), dtype=dtype, read=lambda rows: np.stack(read(rows)))


def write_labels(
    path: str | Path, plane: Plane, *, name: str, dtype: np.dtype, read: Callable[[slice], np.ndarray]
) -> None:
    """Write a label image with the axes y, x into the store of its image.

    Parameters
    ----------
    path : path
        A store from `write_image` without labels.
    plane : Plane
        That of the image.
    name : str
        Name of the labels, of letters, digits, _, +, - and full stops.
    dtype : dtype
        uint16 or uint32; 0 is background.
    read : function
        Takes a slice of rows; returns their labels, shape (rows, columns).
    """
    image = zarr.open_group(str(path), mode="r+", zarr_format=2)
    labels = image.create_group("labels")
    labels.attrs.update({"labels": [name]})
    group = labels.create_group(name)
    group.attrs.update(
        {
            "multiscales": [_describe(plane, name=name, axes="yx")],
            "image-label": {"version": VERSION, "source": {"image": "../../"}},
        }
    )
    _write_levels(group, plane, leading=(), dtype=dtype, read=read)


def count_levels(shape: tuple[int, int]) -> int:
    """Return the number of levels of an image of this shape (rows, columns)."""
    levels = 1
    while -(-max(shape) // 2 ** (levels - 1)) > SMALLEST_LEVEL_PX:
        levels += 1
    return levels


def _describe(plane: Plane, *, name: str, axes: str) -> dict[str, Any]:
    """Return the entry of `multiscales`. Every n-th pixel is kept, so the levels of images and labels agree."""
    rows_um, columns_um = plane.pixel_size_um or (1.0, 1.0)
    unit = {} if plane.pixel_size_um is None else {"unit": "micrometer"}
    leading = [1.0] * (len(axes) - 2)
    return {
        "version": VERSION,
        "name": name,
        "axes": [
            {"name": axis, "type": "channel"} if axis == "c" else {"name": axis, "type": "space", **unit}
            for axis in axes
        ],
        "datasets": [
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [*leading, rows_um * 2**level, columns_um * 2**level]}
                ],
            }
            for level in range(count_levels(plane.shape))
        ],
        "type": "nearest",
    }


def _write_levels(
    group: zarr.Group, plane: Plane, *, leading: tuple[int, ...], dtype: np.dtype, read: Callable[[slice], np.ndarray]
) -> None:
    """Write all levels band by band, so that a large image is never in memory as a whole."""
    levels = [
        group.create_array(
            str(level), shape=(*leading, *(-(-size // 2**level) for size in plane.shape)), dtype=dtype, fill_value=0,
            chunks=(*(1 for _ in leading), *(min(CHUNK_PX, -(-size // 2**level)) for size in plane.shape)),
            compressors=COMPRESSOR, chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        for level in range(count_levels(plane.shape))
    ]  # fmt: skip
    for rows in _bands(plane.shape[0], multiple=2 ** (len(levels) - 1)):
        band = read(rows)
        for level, array in enumerate(levels):
            part = band[..., :: 2**level, :: 2**level]
            first = rows.start // 2**level
            array[..., first : first + part.shape[-2], :] = part


def _bands(height: int, *, multiple: int) -> Iterator[slice]:
    """Yield slices of rows that begin at a chunk and at a row of the smallest level."""
    step = max(CHUNK_PX, multiple)
    for first in range(0, height, step):
        yield slice(first, min(first + step, height))
