"""Decode PNG and JPEG files, and identify the format of a file from its first bytes.

Axes: Y rows, X columns, S samples of one colour (RGB, RGBA, grey with alpha).
"""

import struct
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL import Image

from cellmill.images.axes import MAX_DECODED_BYTES, Layout, check_size
from cellmill.images.ome_zarr import is_store
from cellmill.images.raw_files import RAW_FORMATS, raw_format_of
from cellmill.images.showing import exchanges_axes, read_orientation

KIND_OF_SUFFIX = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF"}
STORE = "OME-Zarr"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
# classic and BigTIFF, little and big endian
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
LONGEST_SIGNATURE = 16
# SOURCE ISO/IEC 15948, table 11.1: samples of a pixel by colour type
PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
PNG_PALETTE = 3


def identify(path: Path) -> str:
    """Return PNG, JPEG, TIFF, OME-Zarr (a folder) or a raw format, after comparing the suffix with the first bytes.

    Raises
    ------
    ValueError
        If the file cannot be opened, its suffix is unknown, or its content does not match the suffix.
    """
    if is_store(path):
        return STORE
    raw = raw_format_of(path)
    expected = raw or KIND_OF_SUFFIX.get(path.suffix.lower())
    if expected is None:
        suffixes = [*KIND_OF_SUFFIX, *sorted(suffix for facts in RAW_FORMATS.values() for suffix in facts["suffixes"])]
        raise ValueError(
            f"{path}: expected one of {', '.join(suffixes)}, or an OME-Zarr folder, found the suffix "
            f"'{path.suffix}'. Convert the image to TIFF or PNG."
        )
    try:
        with path.open("rb") as stream:
            head = stream.read(LONGEST_SIGNATURE)
    except OSError as error:
        raise ValueError(
            f"{path}: expected a readable file, found: {error.strerror}. Check the path and the file permissions."
        ) from error
    is_raw = raw is not None and _is_raw(head, raw)
    found = expected if is_raw else _kind_of_bytes(head)
    if found != expected:
        raise ValueError(
            f"{path}: expected {expected} because of the suffix, found {found}. "
            "Rename the file to match its content, or copy it again from its source."
        )
    return expected


def read_layout(path: Path, *, kind: str) -> Layout:
    """Read the size and the number of samples per pixel of a PNG or JPEG file from its header only.

    Raises
    ------
    ValueError
        If the size is implausible, or above the memory limit, because these formats are decoded as a whole.
    """
    rows, columns, samples, bits = _png_header(path) if kind == "PNG" else _jpeg_header(path)[:4]
    orientation = read_orientation(_png_exif(path) if kind == "PNG" else _jpeg_header(path)[4])
    check_size(rows, columns, where=path)
    if rows * columns * samples * max(1, bits // 8) > MAX_DECODED_BYTES:
        raise ValueError(
            f"{path}: expected a {kind} of at most {MAX_DECODED_BYTES >> 30} GiB of pixels, because it is decoded as a "
            f"whole, found {rows} x {columns} px with {samples} samples per pixel. Save it as a tiled TIFF."
        )
    if exchanges_axes(orientation):
        rows, columns = columns, rows
    return Layout(
        sizes={"Y": rows, "X": columns, **({"S": samples} if samples > 1 else {})},
        dtype=np.dtype(np.uint16 if bits == 16 else np.uint8),
        is_colour=samples > 1,
        pixel_size_um=None,
        bits=bits,
        orientation=orientation,
    )


def decode(path: Path, *, kind: str, palette: str) -> np.ndarray:
    """Read all pixels of a PNG or JPEG file.

    Parameters
    ----------
    path : Path
    kind : "PNG" or "JPEG"
        From `identify`.
    palette : "colours" or "indices"
        How to read a PNG with a palette or with fewer than 8 bits: displayed colours, or stored numbers.

    Returns
    -------
    ndarray of uint8 or uint16, shape (rows, columns) or (rows, columns, samples)
        As stored, not turned.
    """
    assert palette in ("colours", "indices")
    if kind == "PNG" and palette == "indices" and has_palette(path):
        with Image.open(path) as image:
            return np.array(image)
    data = path.read_bytes()
    array: np.ndarray = imagecodecs.png_decode(data) if kind == "PNG" else _decode_jpeg(data)
    if kind == "PNG" and palette == "indices" and array.ndim == 2 and (bits := _png_header(path)[3]) < 8:
        # the decoder scales 1, 2 and 4 bits to 8, but labels need the stored numbers
        array = array // (255 // (2**bits - 1))
    return array


def has_palette(path: Path) -> bool:
    """Return whether the numbers stored in a PNG are indices into a colour palette."""
    with path.open("rb") as stream:
        return stream.read(26)[25] == PNG_PALETTE


def _is_raw(head: bytes, form: str) -> bool:
    """Return whether a file may have a raw format, as far as its first bytes say."""
    signatures = [bytes.fromhex(text) for text in RAW_FORMATS[form]["signatures"]]
    return bool(head) and (not signatures or head.startswith(tuple(signatures)))


def _kind_of_bytes(head: bytes) -> str:
    if not head:
        return "an empty file"
    if head.startswith(PNG_SIGNATURE):
        return "PNG"
    if head.startswith(JPEG_SIGNATURE):
        return "JPEG"
    if head.startswith(HDF5_SIGNATURE):
        return "HDF5"
    return "TIFF" if head[:4] in TIFF_SIGNATURES else "something else"


def _png_header(path: Path) -> tuple[int, int, int, int]:
    # SOURCE ISO/IEC 15948, 11.2.2: signature, length and name of IHDR, width, height, depth, colour type
    with path.open("rb") as stream:
        columns, rows, bits, colour = struct.unpack(">IIBB", stream.read(26)[16:])
        if colour not in PNG_SAMPLES:
            raise ValueError(f"unknown colour type {colour}")
        stream.seek(33)
        has_transparency = _find_chunk(stream, b"tRNS")
    return rows, columns, PNG_SAMPLES[colour] + has_transparency, bits


def _png_exif(path: Path) -> bytes:
    """Read the EXIF data of a PNG, which may precede or follow the pixels; empty if there are none."""
    with path.open("rb") as stream:
        stream.seek(len(PNG_SIGNATURE))
        while len(header := stream.read(8)) == 8:
            length, name = struct.unpack(">I4s", header)
            if name == b"eXIf":
                return stream.read(length)
            stream.seek(length + 4, 1)
    return b""


def _find_chunk(stream: BinaryIO, wanted: bytes) -> bool:
    """Return whether a chunk precedes the pixel data; tRNS adds an alpha sample to the decoded pixels."""
    while len(header := stream.read(8)) == 8:
        length, name = struct.unpack(">I4s", header)
        if name in (wanted, b"IDAT"):
            return bool(name == wanted)
        stream.seek(length + 4, 1)
    return False


def _jpeg_header(path: Path) -> tuple[int, int, int, int, bytes]:
    # SOURCE ITU-T T.81, annex B: segments of marker and length; start-of-frame holds precision, rows, columns
    exif = b""
    with path.open("rb") as stream:
        stream.seek(2)
        while True:
            marker, length = struct.unpack(">HH", stream.read(4))
            # SOURCE EXIF 2.3, 4.5.4: segment APP1, which also holds XMP
            if marker == 0xFFE1 and not exif:
                segment = stream.read(length - 2)
                exif = segment if segment.startswith(b"Exif\0\0") else b""
                continue
            if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
                bits, rows, columns, components = struct.unpack(">BHHB", stream.read(6))
                break
            stream.seek(length - 2, 1)
    if components not in (1, 3):
        raise ValueError(
            f"{path}: expected a grey or RGB JPEG, found {components} colour components. "
            "Save it as RGB, preferably as PNG or TIFF."
        )
    return rows, columns, components, bits, exif


def _decode_jpeg(data: bytes) -> np.ndarray:
    # libjpeg fills missing data with grey, so require an end-of-image marker after the last scan
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        raise EOFError("the file ends before the image is complete")
    return imagecodecs.jpeg_decode(data)
