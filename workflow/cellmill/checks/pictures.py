"""Remarks on pictures: pixels that viewers show otherwise than stored, defective pixels, sizes of a printer."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cellmill.images.axes import Layout
from cellmill.images.png_jpeg import KIND_OF_SUFFIX
from cellmill.images.rasters import read_layout
from cellmill.images.showing import TURNS
from cellmill.preprocessing.hot_pixels import Defects

# severity, finding, advice
Remark = tuple[str, str, str]


def remark_on_picture(layout: Layout, *, path: str | Path, pixel_size_um: float | None) -> list[Remark]:
    """List what is unusual about how an image file stores its picture.

    Parameters
    ----------
    layout : Layout
        Header of the image.
    path : path
        Path of the image.
    pixel_size_um : float or None
        Edge length of a pixel from the config.
    """
    remarks = _remark_on_turn(layout, path=path)
    if layout.is_min_is_white:
        text = f"the image is MinIsWhite; it was inverted, as viewers show it: {2**layout.bits - 1} minus the number"
        remarks.append(("note", text, "Check that bright pixels are meant to be bright, or save it with MinIsBlack"))
    if layout.ramp == "rising":
        text = "the colour table only shades intensities; the stored numbers were read"
        remarks.append(("note", text, "Save the image as RGB if its colours are meant"))
    if layout.ramp == "other":
        text = (
            "the colour table was taken as shading, although its colours do not grow brighter; stored numbers were read"
        )
        remarks.append(("warning", text, "Save the image as RGB if its colours are meant, or as grey if they are not"))
    if layout.printer_dpi is not None and pixel_size_um is None:
        text = f"the resolution in the metadata, {layout.printer_dpi:g} dots per inch, is that of a printer or screen"
        remarks.append(("note", f"{text}, and no pixel size", "Set pixel_size_um of the dataset to measure in um"))
    return remarks


def _remark_on_turn(layout: Layout, *, path: str | Path) -> list[Remark]:
    if layout.orientation == 1:
        return []
    is_tiff = KIND_OF_SUFFIX.get(Path(path).suffix.lower()) == "TIFF"
    text = f"the picture was {TURNS[layout.orientation]}, as its orientation ({layout.orientation}) states"
    if not is_tiff:
        advice = "Annotations must be drawn on the turned picture, as browsers and viewers show it"
        return [("note", text, advice)]
    advice = "ImageJ and napari show such a TIFF unturned: if it was annotated there, remove its orientation"
    return [("warning", text, advice)]


def remark_on_masks(row: Mapping[str, Any], *, annotations: Mapping[str, Any]) -> Iterator[tuple[str, Remark]]:
    """Yield the path of each annotation image that is turned or MinIsWhite, and a remark.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `annotations` (paths) and `extra` are read.
    annotations : mapping
        The config section; `format` and `foreground` are read.
    """
    paths: Sequence[str] = [*row["annotations"], *filter(None, [row.get("extra", {}).get("ignore")])]
    for path in map(str, paths):
        if KIND_OF_SUFFIX.get(Path(path).suffix.lower()) is None:
            continue
        layout = read_layout(path)
        for remark in _remark_on_turn(layout, path=path):
            yield path, remark
        if layout.is_min_is_white and annotations["foreground"] is None:
            yield path, _remark_on_white(layout, file_format=annotations["format"])


def _remark_on_white(layout: Layout, *, file_format: str) -> Remark:
    if layout.bits == 1:
        text = "the mask is one-bit MinIsWhite; its objects are the pixels that viewers show white"
        return "note", text, "Check the objects, or save the mask with MinIsBlack"
    text = "the mask is MinIsWhite; objects are its nonzero stored numbers, which viewers show darker than zero"
    if file_format == "binary":
        return "warning", text, "Set annotations.foreground to nonzero if that is right, else to zero"
    return "warning", text, "Check the objects, and save the mask with MinIsBlack"


def remark_on_defects(defects: Defects) -> list[Remark]:
    """Describe the pixels of an image that are far beyond the range of all others."""
    remarks = []
    others = f"all other pixels are from {defects.lowest:g} to {defects.highest:g}"
    if defects.pixels:
        first, more = defects.pixels[0], len(defects.pixels) - 1
        text = f"hot or dead pixel: row {first.row}, column {first.column} has the value {first.value:g}; {others}"
        if first.value > defects.highest > 0:
            text += f", so it is {first.value / defects.highest:.3g} times brighter than any other"
        if more:
            places = ", ".join(f"({pixel.row}, {pixel.column})" for pixel in defects.pixels[1:4])
            text += f"; {more} more: {places}{', ...' if more > 3 else ''}"
        advice = (
            "preprocess replaces such pixels by the median of their neighbours, unless preprocess.hot_pixels is keep"
        )
        remarks.append(("warning", text, advice))
    if defects.lines:
        names = ", ".join(f"{kind} {number}" for kind, number in defects.lines[:4])
        text = f"defective lines of the camera: {names}; {others}"
        remarks.append(("warning", text, "Replace them in the file, or crop the images: they change the normalisation"))
    if defects.spots:
        text = f"{defects.spots} pixels have extreme values; {others}"
        remarks.append(("warning", text, "Check whether they belong to the specimen: they change the normalisation"))
    return remarks
