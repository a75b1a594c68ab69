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
from cellmill.images.showing import ORIENTATION_TAG, exchanges_axes, known_orientation, read_table

# A pixel of a microscope image has an edge of 1 nm to 1 mm.
PLAUSIBLE_UM = (1e-3, 1e3)
COLOURS = (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
# Resolutions of screens and printers, dots per inch; those of scanners above 1200 dpi may be measurements.
PRINTER_DPI = (72, 75, 90, 96, 100, 120, 144, 150, 180, 192, 200, 240, 250, 300, 350, 360, 400, 600, 720, 1200)
UM_PER_INCH = 25400
# Programs round dots per cm to whole numbers or to a few decimals.
DPI_TOLERANCE = 2e-3
# Pages of a stack whose orientations are compared; reading the tags of all pages would take long.
COMPARED_PAGES = 32
# Compressions whose decoder converts YCbCr to RGB
JPEG_COMPRESSIONS = (tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.JPEG)

# The file opened last, kept so that a stack's directory is read only once while its frames are read in turn.
_opened: dict[tuple[str, int, int], tifffile.TiffFile] = {}
# Orientations of the pages of that file
_orientations: dict[int, set[int]] = {}


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
    page = series.keyframe
    _refuse_colour_models(path, page)
    sizes = {axis: int(size) for axis, size in zip(series.axes, series.shape, strict=True)}
    is_colour = page.photometric in COLOURS and sizes.get("S", 1) in (3, 4)
    orientation = _orientation(path, series)
    size_um, printer_dpi = _pixel_size_um(_parent(series))
    if exchanges_axes(orientation):
        shown = {"Y": sizes.get("X", 1), "X": sizes.get("Y", 1)}
        sizes = {axis: shown.get(axis, size) for axis, size in sizes.items()}
        size_um = size_um[::-1] if size_um is not None else None
    colours = page.colormap if page.photometric == tifffile.PHOTOMETRIC.PALETTE else None
    table, ramp = read_table(colours) if colours is not None else (None, "")
    return Layout(
        sizes=check_axes(sizes, where=path),
        dtype=np.dtype(series.dtype).newbyteorder("="),
        is_colour=is_colour,
        pixel_size_um=size_um,
        bits=int(page.bitspersample),
        orientation=orientation,
        is_min_is_white=_is_min_is_white(page),
        table=table,
        ramp=ramp,
        printer_dpi=printer_dpi,
    )


def _orientation(path: Path, series: tifffile.TiffPageSeries) -> int:
    """Read the orientation that all pages of a stack share."""
    stack = id(_parent(series))
    if stack not in _orientations:
        others = [page for page in series.pages[1:COMPARED_PAGES] if page is not None]
        tags = [page.tags.get(ORIENTATION_TAG) for page in (series.keyframe, *(page.aspage() for page in others))]
        # some programs write the tag to the first page only
        values = {tag.value for tag in tags if tag is not None} or {1}
        _orientations[stack] = {known_orientation(value) for value in values}
    found = _orientations[stack]
    if len(found) > 1:
        raise ValueError(
            f"{path}: expected pages of one orientation, found the orientations {', '.join(map(str, sorted(found)))}. "
            "Save the pages upright, without an orientation."
        )
    return next(iter(found))


def _is_min_is_white(page: Any) -> bool:
    """Return whether a page states that smaller numbers are brighter."""
    if page.photometric != tifffile.PHOTOMETRIC.MINISWHITE:
        return False
    # tifffile writes boolean arrays so by default; its users mean true by 1
    return int(page.bitspersample) > 1 or not (page.is_shaped or str(page.software).startswith("tifffile"))


def _refuse_colour_models(path: Path, page: Any) -> None:
    """Raise an error for pixels whose stored numbers are neither intensities nor RGB.

    CMYK and Lab are channels without colours, and are refused where luminance is computed.
    """
    if page.photometric == tifffile.PHOTOMETRIC.YCBCR and page.compression not in JPEG_COMPRESSIONS:
        found = "YCbCr without JPEG compression"
    elif page.photometric == tifffile.PHOTOMETRIC.CFA:
        found = "the raw mosaic of a colour camera (CFA)"
    else:
        return
    raise ValueError(f"{path}: expected grey or RGB pixels, found {found}. Convert the image to RGB or grey.")


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
    return read_series(_series(path)[0], index=index, first=first, last=last)


def read_series(series: tifffile.TiffPageSeries, *, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
    """Read some rows of one plane of a series, as `read_rows`; with C in `index`, of that channel only."""
    place = tuple(_selection(axis, index, slice(first, last)) for axis in series.axes)
    if series.dataoffset is not None:
        path = _parent(series).filehandle.path
        stored = np.memmap(path, dtype=_stored_dtype(series), mode="r", offset=series.dataoffset, shape=series.shape)
        array = np.array(stored[place])
        del stored
    elif all(size == 1 for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "YXSC") and (
        first == 0 and last == series.shape[series.axes.index("Y")]
    ):
        array = series.asarray()[place]
    else:
        import zarr  # slow to import, and only compressed stacks and bands of large images need it

        array = np.asarray(zarr.open_array(series.aszarr(level=0), mode="r")[place])
    kept = "".join(axis for axis, at in zip(series.axes, place, strict=True) if isinstance(at, slice))
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return _rows_first(array, kept)


def chunk_rows(path: Path) -> int:
    """Return the minimum number of rows decoded together: a strip or a row of tiles; 1 without decoding."""
    series = _series(path)[0]
    return 1 if series.dataoffset is not None else int(series.keyframe.chunks[0]) or 1


def _selection(axis: str, index: Mapping[str, int], rows: slice) -> slice | int:
    if axis == "Y":
        return rows
    return slice(None) if axis in "XS" or (axis == "C" and "C" not in index) else index.get(axis, 0)


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
    _orientations.clear()


atexit.register(close_opened)


def _pixel_size_um(tif: tifffile.TiffFile) -> tuple[tuple[float, float] | None, float | None]:
    """Read the edge lengths (row, column) of a pixel in um from OME, ImageJ, or a resolution per cm.

    Returns
    -------
    size : tuple of float or None
        None if the metadata contain no plausible size, or the resolution of a printer.
    dpi : float or None
        The resolution of a printer or screen in dots per inch, if that is what the metadata contain.
    """
    try:
        size = _ome_pixel_size(tif.ome_metadata) if tif.is_ome and tif.ome_metadata else _resolution(tif)
        dpi = _printer_dpi(size or _inches(tif))
    except (ET.ParseError, ValueError, KeyError, ZeroDivisionError, TypeError, AttributeError):
        return None, None  # treat unreadable metadata as missing
    if dpi is not None or size is None or not all(PLAUSIBLE_UM[0] <= edge <= PLAUSIBLE_UM[1] for edge in size):
        return None, dpi
    return size, None


def _printer_dpi(size_um: tuple[float, float] | None) -> float | None:
    """Return the resolution of a printer or screen that explains a pixel size, or None.

    ASSUME no microscope has square pixels of exactly 1/72 or 1/300 inch. Its pixels are smaller than those of the
    finest listed printer (21 um), and their size is no round fraction of an inch.
    """
    if size_um is None or min(size_um) <= 0:
        return None
    row, column = (UM_PER_INCH / edge for edge in size_um)
    if abs(row - column) > DPI_TOLERANCE * column:
        return None
    for dpi in PRINTER_DPI:
        is_whole_per_cm = abs(row / 2.54 - round(dpi / 2.54)) <= 1e-6 * row
        if abs(row - dpi) <= DPI_TOLERANCE * dpi or is_whole_per_cm:
            return float(dpi)
    return None


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
    factor = 1e4 if _resolution_unit(tif) == tifffile.RESUNIT.CENTIMETER else 0.0
    if tif.is_imagej and (name := str((tif.imagej_metadata or {}).get("unit", ""))):
        factor = unit_in_um(re.sub(r"\\u00b5", "u", name, flags=re.IGNORECASE))
    return _edges(tif, factor)


def _inches(tif: tifffile.TiffFile) -> tuple[float, float] | None:
    """Read the pixel size from a resolution in pixels per inch, which only pictures for print have."""
    name = str((tif.imagej_metadata or {}).get("unit", "")) if tif.is_imagej else ""
    is_inch = name in ("inch", "inches", "in") or (not name and _resolution_unit(tif) == tifffile.RESUNIT.INCH)
    return _edges(tif, UM_PER_INCH if is_inch else 0.0)


def _resolution_unit(tif: tifffile.TiffFile) -> int:
    unit = tif.pages.first.tags.get("ResolutionUnit")
    # SOURCE TIFF 6.0: inch is the default
    return tifffile.RESUNIT.INCH if unit is None else int(unit.value)


def _edges(tif: tifffile.TiffFile, unit_um: float) -> tuple[float, float] | None:
    """Return the edge lengths (row, column) of a pixel in um for a resolution per unit; None without a unit."""
    tags = tif.pages.first.tags
    if not unit_um or "XResolution" not in tags or "YResolution" not in tags:
        return None
    row, column = (_per_unit(tags[name].value) for name in ("YResolution", "XResolution"))
    return unit_um / row, unit_um / column


def _per_unit(fraction: Any) -> float:
    return float(fraction[0]) / float(fraction[1])
