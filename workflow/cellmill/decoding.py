"""Decoding PNG, TIFF and JPEG files: what kind a file is, how large, and its pixels with their axes.

Axes: Y rows, X columns, S samples of one colour (RGB, RGBA, grey with alpha), C channels of any other kind.
"""

import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

MAX_PIXELS = 2**31

KIND_OF_SUFFIX = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
# classic and BigTIFF, little and big endian
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def identify(path: Path) -> str:
    """Give PNG, JPEG or TIFF, after comparing the suffix with the first bytes.

    Raises
    ------
    ValueError
        If the file cannot be opened, its suffix is unknown, or it holds something else.
    """
    expected = KIND_OF_SUFFIX.get(path.suffix.lower())
    if expected is None:
        raise ValueError(
            f"{path}: expected one of {', '.join(KIND_OF_SUFFIX)}, found the suffix '{path.suffix}'. "
            "Convert the image to TIFF or PNG."
        )
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise ValueError(
            f"{path}: expected a readable file, found: {error.strerror}. Check the path and the rights of the file."
        ) from error
    found = _kind_of_bytes(head)
    if found != expected:
        raise ValueError(
            f"{path}: expected {expected} because of the suffix, found {found}. "
            "Rename the file to what it holds, or copy it again from its source."
        )
    return expected


def image_shape(path: Path, *, kind: str) -> tuple[int, int]:
    """Read (rows, columns) in px from a file's header.

    Raises
    ------
    ValueError
        If the header is damaged, the file is a stack, or the size is absurd.
    """
    try:
        rows, columns = {"PNG": _png_shape, "JPEG": _jpeg_shape, "TIFF": _tiff_shape}[kind](path)
    except Exception as error:  # a broken header breaks in many ways
        raise explain(error, path=path, kind=kind) from error
    if not 0 < rows * columns <= MAX_PIXELS:
        raise ValueError(
            f"{path}: expected 1 to {MAX_PIXELS} pixels, found {rows} rows and {columns} columns. "
            "Cut the image into tiles first."
        )
    return rows, columns


def decode(path: Path, *, kind: str, palette: str) -> tuple[np.ndarray, str]:
    """Read all pixels of a file.

    Parameters
    ----------
    path : Path
    kind : "PNG", "JPEG" or "TIFF"
        From `identify`.
    palette : "colours" or "indices"
        What a PNG with a palette means: the colours that it shows, or the numbers that it stores.

    Returns
    -------
    ndarray of shape (rows, columns) or (rows, columns, channels)
        The file's own dtype.
    str
        "YX", "YXS" or "YXC".

    Raises
    ------
    ValueError
        If the file is damaged, or a stack.
    """
    assert palette in ("colours", "indices")
    try:
        if kind == "TIFF":
            with tifffile.TiffFile(path) as tif:
                return _to_yx_first(tif.series[0].asarray(), tif.series[0].axes), _tiff_axes(tif, path)
        if kind == "PNG" and palette == "indices" and _png_colour_type(path) == 3:
            with Image.open(path) as image:
                return np.array(image), "YX"
        data = path.read_bytes()
        array = imagecodecs.png_decode(data) if kind == "PNG" else _decode_jpeg(data)
    except Exception as error:  # the decoders raise errors of many kinds
        raise explain(error, path=path, kind=kind) from error
    return array, "YX" if array.ndim == 2 else "YXS"


def explain(error: Exception, *, path: Path, kind: str) -> ValueError:
    """Turn a decoder's error into one that names the file; leave one of ours as it is."""
    if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
        return error
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ValueError(
        f"{path}: expected a readable {kind} image, found a damaged one ({reason}). "
        "Copy the file again from its source."
    )


def _kind_of_bytes(head: bytes) -> str:
    if not head:
        return "an empty file"
    if head == PNG_SIGNATURE:
        return "PNG"
    if head.startswith(JPEG_SIGNATURE):
        return "JPEG"
    return "TIFF" if head[:4] in TIFF_SIGNATURES else "something else"


def _png_shape(path: Path) -> tuple[int, int]:
    # SOURCE ISO/IEC 15948, 11.2.2: signature, length and name of IHDR, width, height, depth, colour type
    with path.open("rb") as stream:
        columns, rows = struct.unpack(">II", stream.read(24)[16:])
    return rows, columns


def _png_colour_type(path: Path) -> int:
    with path.open("rb") as stream:
        return stream.read(26)[25]


def _jpeg_shape(path: Path) -> tuple[int, int]:
    # SOURCE ITU-T T.81, annex B: segments of marker and length; start-of-frame holds precision, rows, columns
    with path.open("rb") as stream:
        stream.seek(2)
        while True:
            marker, length = struct.unpack(">HH", stream.read(4))
            if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
                _, rows, columns, components = struct.unpack(">BHHB", stream.read(6))
                break
            stream.seek(length - 2, 1)
    if components not in (1, 3):
        raise ValueError(
            f"{path}: expected a grey or RGB JPEG, found {components} colour components. "
            "Save it as RGB, better as PNG or TIFF."
        )
    return rows, columns


def _decode_jpeg(data: bytes) -> np.ndarray:
    # libjpeg fills what is missing with grey: an end-of-image marker has to follow the last scan
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise EOFError("it ends before the image does")
    return imagecodecs.jpeg_decode(data)


def _tiff_shape(path: Path) -> tuple[int, int]:
    with tifffile.TiffFile(path) as tif:
        _tiff_axes(tif, path)
        series = tif.series[0]
        sizes = dict(zip(series.axes, series.shape, strict=True))
    return sizes["Y"], sizes["X"]


def _tiff_axes(tif: Any, path: Path) -> str:
    """Give YX, YXS or YXC; a stack is refused."""
    series = tif.series[0]
    sizes = {axis: size for axis, size in zip(series.axes, series.shape, strict=True) if size > 1}
    if len(tif.series) > 1 or set(sizes) - set("YXSC") or {"S", "C"} <= set(sizes):
        found = f"axes {series.axes} of {' x '.join(map(str, series.shape))}"
        if len(tif.series) > 1:
            found = f"{len(tif.series)} images, the first with {found}"
        raise ValueError(
            f"{path}: expected one image with axes YX, or YX and channels, found {found}. "
            "Save every frame or section as a file of its own; {sequence} and {frame} tie them together."
        )
    if "C" in sizes:
        return "YXC"
    if "S" not in sizes:
        return "YX"
    is_colour = tif.pages[0].photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
    return "YXS" if is_colour and sizes["S"] in (3, 4) else "YXC"


def _to_yx_first(array: np.ndarray, axes: str) -> np.ndarray:
    """Drop axes of size 1 and move the channels behind rows and columns."""
    single = tuple(i for i, axis in enumerate(axes) if array.shape[i] == 1 and axis not in "YX")
    array = array.squeeze(single)
    kept = "".join(axis for i, axis in enumerate(axes) if i not in single)
    order = [kept.index("Y"), kept.index("X")] + [i for i, axis in enumerate(kept) if axis not in "YX"]
    return np.ascontiguousarray(array.transpose(order))
