"""Read axes and pixel size of TIFF files, and any rows of any plane without reading the rest.

Axes are named as in tifffile: Y rows, X columns, S samples of one colour, C channels, T time, Z depth; I and Q are
pages that the metadata do not identify.
"""

import atexit
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cellmill.images.axes import Layout, check_axes, unit_in_um

# A pixel of a microscope image has an edge of 1 nm to 1 mm. Print resolutions (72 dpi) are not measurements.
PLAUSIBLE_UM = (1e-3, 1e3)
COLOURS = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)

# The file opened last, kept so that a stack's directory is read only once while its frames are read in turn.
_opened: dict[tuple[str, int, int], tifffile.TiffFile] = {}


def read_layout(path: Path) -> Layout:
    """Read the axes of a TIFF file from its header only.

    Raises
    ------
    ValueError
        If the file contains several images that do not form a stack, or axes that do not form a plane.
    """
    with_series = _series(path)
    series = with_series[0]
    if len(with_series) > 1:
        shapes = "; ".join(f"{each.axes} of {' x '.join(map(str, each.shape))}" for each in with_series[:3])
        raise ValueError(
            f"{path}: expected one image or one stack of planes of equal size and type, found {len(with_series)} "
            f"images ({shapes}). Save each image as a separate file."
        )
    _refuse_missing_bytes(series)
    sizes = {axis: int(size) for axis, size in zip(series.axes, series.shape, strict=True)}
    is_colour = series.keyframe.photometric in COLOURS and sizes.get("S", 1) in (3, 4)
    return Layout(
        sizes=check_axes(sizes, where=path),
        dtype=np.dtype(series.dtype).newbyteorder("="),
        is_colour=is_colour,
        pixel_size_um=_pixel_size_um(_parent(series)),
        bits=int(series.keyframe.bitspersample),
    )


def read_rows(path: Path, *, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
    """Read some rows of one plane, decoding only the strips or tiles that contain them.

    Parameters
    ----------
    path : Path
    index : mapping
        Axis -> position, for every axis of the stack but Y, X, S and C.
    first, last : int
        Range of rows; `last` is excluded.

    Returns
    -------
    ndarray of shape (rows, columns) or (rows, columns, channels)
        The file's dtype in native byte order.
    """
    series = _series(path)[0]
    place = tuple(_selection(axis, index, slice(first, last)) for axis in series.axes)
    if series.dataoffset is not None:
        stored = np.memmap(path, dtype=_stored_dtype(series), mode="r", offset=series.dataoffset, shape=series.shape)
        array = np.array(stored[place])
        del stored
    elif all(size == 1 for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "YXSC") and (
        first == 0 and last == series.shape[series.axes.index("Y")]
    ):
        array = series.asarray()[place]
    else:
        import zarr  # slow to import, and only compressed stacks and bands of large images need it

        array = np.asarray(zarr.open_array(series.aszarr(), mode="r")[place])
    kept = "".join(axis for axis in series.axes if axis in "YXSC")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return _rows_first(array, kept)


def chunk_rows(path: Path) -> int:
    """Return the minimum number of rows decoded together: a strip or a row of tiles; 1 without decoding."""
    series = _series(path)[0]
    return 1 if series.dataoffset is not None else int(series.keyframe.chunks[0]) or 1


def _selection(axis: str, index: Mapping[str, int], rows: slice) -> slice | int:
    if axis == "Y":
        return rows
    return slice(None) if axis in "XSC" else index.get(axis, 0)


def _stored_dtype(series: tifffile.TiffPageSeries) -> np.dtype:
    return np.dtype(series.dtype).newbyteorder(_parent(series).byteorder)


def _rows_first(array: np.ndarray, axes: str) -> np.ndarray:
    """Move channels behind rows and columns; drop the axis of a single channel."""
    order = [axes.index("Y"), axes.index("X")] + [i for i, axis in enumerate(axes) if axis not in "YX"]
    array = array.transpose(order)
    single = tuple(i for i in range(2, array.ndim) if array.shape[i] == 1)
    return np.ascontiguousarray(array.squeeze(single))


def _series(path: Path) -> Sequence[tifffile.TiffPageSeries]:
    tif = _open(path)
    if len(tif.series) > 1 and tif.is_shaped and _are_equal(tif.series):
        # frames that were appended one by one form a stack of pages
        tif = _open(path, is_shaped=False)
    return tif.series


def _refuse_missing_bytes(series: tifffile.TiffPageSeries) -> None:
    """Raise an error for a page with missing bytes, which tifffile would fill with zeros."""
    page = series.keyframe
    if not all(isinstance(number, int) for number in (*page.dataoffsets, *page.databytecounts)):
        raise ValueError("the list of strips is damaged")
    if not series.shape or len(page.databytecounts) < prod(page.chunked):
        raise EOFError("fewer strips or tiles than the header declares")
    # a strip of zero bytes was omitted on purpose
    if page.compression == tifffile.COMPRESSION.NONE and 0 not in page.databytecounts:
        bits = int(page.bitspersample) * prod(page.shape)
        if 8 * sum(page.databytecounts) < bits:
            raise EOFError("fewer bytes than the header declares")


def _are_equal(series: Sequence[tifffile.TiffPageSeries]) -> bool:
    return len({(each.shape, each.axes, str(each.dtype)) for each in series}) == 1


def _parent(series: tifffile.TiffPageSeries) -> tifffile.TiffFile:
    assert series.parent is not None
    return series.parent


def _open(path: Path, **flags: Any) -> tifffile.TiffFile:
    stat = path.stat()
    key = (f"{path.absolute()} {sorted(flags.items())}", stat.st_size, stat.st_mtime_ns)
    if key not in _opened:
        close_opened()
        # OME metadata may refer to other files, which tifffile would read too. Treat every file as a separate image.
        _opened[key] = tifffile.TiffFile(path, _multifile=False, **flags)
    return _opened[key]


def close_opened() -> None:
    """Close the file that was opened last."""
    for tif in _opened.values():
        tif.close()
    _opened.clear()


atexit.register(close_opened)


def _pixel_size_um(tif: tifffile.TiffFile) -> tuple[float, float] | None:
    """Read the edge lengths (row, column) of a pixel in um from OME, ImageJ, or a resolution per cm."""
    try:
        size = _ome_pixel_size(tif.ome_metadata) if tif.is_ome and tif.ome_metadata else _resolution(tif)
    except (ET.ParseError, ValueError, KeyError, ZeroDivisionError, TypeError):
        return None  # treat unreadable metadata as missing
    if size is None or not all(PLAUSIBLE_UM[0] <= edge <= PLAUSIBLE_UM[1] for edge in size):
        return None
    return size


def _ome_pixel_size(text: str) -> tuple[float, float] | None:
    # SOURCE OME-XML schema 2016-06: Pixels/@PhysicalSizeX in @PhysicalSizeXUnit, um where it is left out
    for element in ET.fromstring(text).iter():
        if element.tag.endswith("}Pixels") and "PhysicalSizeX" in element.attrib:
            column = float(element.attrib["PhysicalSizeX"]) * unit_in_um(element.get("PhysicalSizeXUnit", "um"))
            row = float(element.get("PhysicalSizeY", element.attrib["PhysicalSizeX"]))
            return row * unit_in_um(element.get("PhysicalSizeYUnit", element.get("PhysicalSizeXUnit", "um"))), column
    return None


def _resolution(tif: tifffile.TiffFile) -> tuple[float, float] | None:
    """Read the pixel size from XResolution and YResolution, in pixels per cm or per unit of ImageJ's description."""
    tags = tif.pages.first.tags
    if "XResolution" not in tags or "YResolution" not in tags:
        return None
    unit = tags.get("ResolutionUnit")
    factor = 1e4 if unit is not None and int(unit.value) == tifffile.RESUNIT.CENTIMETER else 0.0
    if tif.is_imagej and (name := str((tif.imagej_metadata or {}).get("unit", ""))):
        factor = unit_in_um(re.sub(r"\\u00b5", "u", name, flags=re.IGNORECASE))
    if not factor:
        return None
    row, column = (_per_unit(tags[name].value) for name in ("YResolution", "XResolution"))
    return factor / row, factor / column


def _per_unit(fraction: Any) -> float:
    return float(fraction[0]) / float(fraction[1])
