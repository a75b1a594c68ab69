"""Images that the stages exchange: preprocessed images, label images and probability maps, written and read by rows."""

import itertools
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import imagecodecs
import numpy as np
import tifffile

from cellmill.images.damage import explain
from cellmill.shards import listed_files

# Marks pixels whose class is unknown; never the label of an object.
IGNORE_LABEL = 65535
# Pixels of a band, in which large images are read and computed: 8 MiB of 16-bit pixels, enough rows to keep the
# overhead of reading small
BAND_PIXELS = 2**22
# Side of the central part of larger images in which details and noise are measured.
CENTRE_PX = 1024
# Size of a strip in a compressed image: small enough to decode individually, large enough to compress well
STRIP_BYTES = 2**18
SCALE_IN_UM = "ImageJ=1.54f\nunit=micron\n"
# Pixel data above this size is written as BigTIFF: offsets of a classic TIFF end at 4 GiB, and the compressed size is
# not known in advance when writing strip by strip.
MAX_PLAIN_BYTES = 2**32 - 2**26
# Bytes per strip of an uncompressed image, which only sets how much is written at once.
IMAGE_STRIP_BYTES = 2**23


def write_image_bands(
    path: str | Path, bands: Iterable[np.ndarray], *, shape: tuple[int, int], channels: int = 1
) -> None:
    """Write a preprocessed image from top to bottom, uncompressed, so that `tifffile.memmap` can open it.

    Parameters
    ----------
    path : path
        Ends in ``.tif``.
    bands : iterable of ndarray of float32, shape (rows of the band, columns)
        Together of size `shape`; counts, signed where a background was subtracted. The bands of each channel follow
        those of the one before.
    shape : tuple of int
        (rows, columns) of the image.
    channels : int
        Number of channels, each a page of the file.
    """
    rows = min(max(1, IMAGE_STRIP_BYTES // (4 * shape[1])), shape[0])
    _write_strips(path, bands, shape=shape, dtype=np.dtype(np.float32), rows=rows, compression=None, channels=channels)


def open_planes(path: str | Path) -> np.ndarray:
    """Memory-map the channels of a preprocessed image: float32, shape (channels, rows, columns)."""
    mapped: np.ndarray = tifffile.memmap(path, mode="r")
    return mapped[None] if mapped.ndim == 2 else mapped


def open_plane(path: str | Path) -> np.ndarray:
    """Memory-map the first channel of a preprocessed image, which shows the objects: float32, shape (rows, columns)."""
    return open_planes(path)[0]


def write_labels(path: str | Path, labels_yx: np.ndarray) -> None:
    """Write a label image, compressed without loss.

    Parameters
    ----------
    path : path
        Ends in ``.tif``.
    labels_yx : ndarray of integers, shape (rows, columns)
        0 is background, 65535 marks ignored pixels, any other number is an object. Stored as uint16, or as
        uint32 if a label exceeds 65535.

    Raises
    ------
    ValueError
        If a label is negative or beyond uint32.
    """
    assert labels_yx.ndim == 2
    lowest, highest = int(labels_yx.min()), int(labels_yx.max())
    if lowest < 0 or highest >= 2**32:
        raise ValueError(
            f"{path}: expected labels from 0 to {2**32 - 1}, found {lowest} to {highest}. Renumber the objects."
        )
    write_label_bands(path, [labels_yx], shape=labels_yx.shape, highest=highest)


def write_label_bands(
    path: str | Path,
    bands: Iterable[np.ndarray],
    *,
    shape: tuple[int, int],
    highest: int,
    pixel_size_um: float | None = None,
) -> None:
    """Write a label image band by band, compressed without loss, with the same bytes as `write_labels`.

    Parameters
    ----------
    path : path
        Ends in ``.tif``.
    bands : iterable of ndarray of integers, shape (rows of the band, columns)
        Together of size `shape`.
    shape : tuple of int
        (rows, columns) of the image.
    highest : int
        Largest possible label: stored as uint16, or as uint32 if that is too small.
    pixel_size_um : float or None
        Edge length of a pixel, written so that Fiji and napari open the labels to scale; None if unknown.
    """
    dtype = np.dtype(np.uint16 if highest <= IGNORE_LABEL else np.uint32)
    rows = min(max(1, STRIP_BYTES // (dtype.itemsize * shape[1])), shape[0])
    _write_strips(path, bands, shape=shape, dtype=dtype, rows=rows, compression="zlib", pixel_size_um=pixel_size_um)


def _write_strips(
    path: str | Path, bands: Iterable[np.ndarray], *, shape: tuple[int, int], dtype: np.dtype, rows: int,
    compression: str | None, pixel_size_um: float | None = None, channels: int = 1,
) -> None:  # fmt: skip
    # tifffile accepts an iterator of strips only as encoded bytes.
    stored = (
        strip.tobytes()
        for plane in _split_planes(bands, height=shape[0])
        for strip in _strips(plane, rows=rows, dtype=dtype)
    )
    encoded = stored if compression is None else map(_deflate, stored)
    # Store no program name or date, so that equal pixels produce equal bytes.
    scale: dict[str, Any] = {}
    if pixel_size_um is not None:
        # SOURCE ImageJ, TiffDecoder: pixels per unit, and the unit in the description
        scale = {"description": SCALE_IN_UM, "resolution": (1 / pixel_size_um,) * 2, "resolutionunit": 1}
    whole = shape if channels == 1 else (channels, *shape)
    tifffile.imwrite(
        path, encoded, shape=whole, dtype=dtype, rowsperstrip=rows, compression=compression,
        photometric="minisblack", metadata=None, software=False, bigtiff=_is_big(whole, dtype), **scale,
    )  # fmt: skip


def _deflate(strip: bytes) -> bytes:
    # libdeflate: the ratio of zlib in half the time
    return bytes(imagecodecs.deflate_encode(strip, level=6))


def _split_planes(bands: Iterable[np.ndarray], *, height: int) -> Iterator[Iterator[np.ndarray]]:
    """Yield the bands of each plane; a band does not reach into the next plane."""
    waiting = iter(bands)

    def rest_of_plane(band: np.ndarray) -> Iterator[np.ndarray]:
        done = len(band)
        yield band
        while done < height:
            band = next(waiting)
            done += len(band)
            yield band

    for band in waiting:
        yield rest_of_plane(band)


def _is_big(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    return math.prod(shape) * dtype.itemsize > MAX_PLAIN_BYTES


def _strips(bands: Iterable[np.ndarray], *, rows: int, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Recut bands of shape (..., rows, columns) into strips of `rows` rows; the last may be smaller."""
    rest: np.ndarray | None = None
    for band in bands:
        band = band.astype(dtype, copy=False)
        if rest is not None and rest.size:
            band = np.concatenate((rest, band), axis=-2)
        full = band.shape[-2] - band.shape[-2] % rows
        for first in range(0, full, rows):
            yield band[..., first : first + rows, :]
        rest = band[..., full:, :]
    if rest is not None and rest.size:
        yield rest


def read_labels(path: str | Path) -> np.ndarray:
    """Read a label image that `write_labels` wrote: uint16 or uint32, shape (rows, columns)."""
    labels_yx = _read_own(path)
    assert labels_yx.ndim == 2, path
    assert labels_yx.dtype in (np.uint16, np.uint32), path
    return labels_yx


def write_probability_bands(path: str | Path, bands: Iterable[np.ndarray], *, shape: tuple[int, int]) -> None:
    """Write probability maps band by band as compressed float16, in steps of at most 1/2048 (near 1).

    Parameters
    ----------
    path : path
        Ends in ``.tif``. Channels are stored in sequence, so all but the first are kept in compressed temporary files
        in the same folder until they are written.
    bands : iterable of ndarray of float, shape (channels, rows of the band, columns)
        Together of size `shape`; not thresholded. The bytes of the file do not depend on the height of the bands.
    shape : tuple of int
        (rows, columns) of the image.
    """
    bands = iter(bands)
    first = next(bands)
    channels, columns = len(first), shape[1]
    rows = min(max(1, STRIP_BYTES // (2 * columns)), shape[0])
    with ExitStack() as stack:
        waiting = [stack.enter_context(tempfile.TemporaryFile(dir=Path(path).parent)) for _ in range(channels - 1)]
        tifffile.imwrite(
            path, _encode_channels(itertools.chain([first], bands), rows=rows, waiting=waiting),
            shape=(channels, *shape), dtype=np.float16, rowsperstrip=rows, compression="zlib",
            photometric="minisblack", metadata=None, software=False,
            bigtiff=_is_big((channels, *shape), np.dtype(np.float16)),
        )  # fmt: skip


def _encode_channels(bands: Iterable[np.ndarray], *, rows: int, waiting: Sequence[IO[bytes]]) -> Iterator[bytes]:
    """Yield the strips of the first channel as they arrive, then those of the other channels."""
    lengths: list[list[int]] = [[] for _ in waiting]
    for strip_cyx in _strips(bands, rows=rows, dtype=np.dtype(np.float16)):
        encoded = [_deflate(strip_yx.tobytes()) for strip_yx in strip_cyx]
        for file, sizes, data in zip(waiting, lengths, encoded[1:], strict=True):
            file.write(data)
            sizes.append(len(data))
        yield encoded[0]
    for file, sizes in zip(waiting, lengths, strict=True):
        file.seek(0)
        for size in sizes:
            yield file.read(size)


def list_bands(shape: tuple[int, int], *, pixels: int = BAND_PIXELS) -> list[slice]:
    """Split the rows of an image into bands of at most `pixels`, or of one row if a row has more.

    Parameters
    ----------
    shape : tuple of int
        (rows, columns) of the image.
    pixels : int
        Pixels that a band may hold.
    """
    rows, columns = shape
    height = max(1, pixels // columns)
    return [slice(first, min(first + height, rows)) for first in range(0, rows, height)]


def central_part(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the slices of the central 1024 x 1024 px of an image, or of the whole of a smaller one."""
    return tuple(slice(max(0, (size - CENTRE_PX) // 2), min(size, (size + CENTRE_PX) // 2)) for size in shape)


def pick_rows(read: Callable[[int, int], np.ndarray], rows: slice | np.ndarray, *, height: int) -> np.ndarray:
    """Return a slice of the rows of an image, or the rows at ascending indices.

    Parameters
    ----------
    read : callable
        Takes the first row and the end row (excluded); returns the rows between.
    rows : slice or ndarray of int
    height : int
        Number of rows of the image.
    """
    if isinstance(rows, slice):
        first, last, _ = rows.indices(height)
        return read(first, max(first, last))
    if not len(rows):
        return read(0, 0)
    first = int(rows[0])
    return read(first, int(rows[-1]) + 1)[rows - first]


class StoredRows:
    """An image written by `write_probability_bands` or `write_labels`, read by rows.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        try:
            with tifffile.TiffFile(self._path) as tiff:
                self.channels = len(tiff.pages)
                self._dtype = tiff.pages.first.dtype
                rows, columns = tiff.pages.first.shape
        except Exception as error:  # the decoder raises errors of many kinds
            raise explain(error, path=self._path, kind="TIFF") from error
        self.shape: tuple[int, int] = (int(rows), int(columns))

    def bands(self, max_pixels: int = BAND_PIXELS) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield the first channel from top to bottom, as slices of rows and their pixels."""
        for rows in list_bands(self.shape, pixels=max_pixels):
            yield rows, self[rows]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return a slice of the rows of the first channel, or its rows at ascending indices."""
        return pick_rows(lambda first, last: self.read(first, last)[0], rows, height=self.shape[0])

    def read(self, first: int, last: int) -> np.ndarray:
        """Read rows from `first` up to `last`: the dtype of the file, shape (channels, rows, columns)."""
        result_cyx = np.empty((self.channels, last - first, self.shape[1]), dtype=self._dtype)
        try:
            with tifffile.TiffFile(self._path) as tiff:
                for page, result_yx in zip(tiff.pages, result_cyx, strict=True):
                    _read_strips(tiff, page, result_yx, first=first)
        except Exception as error:
            raise explain(error, path=self._path, kind="TIFF") from error
        return result_cyx


def _read_strips(tiff: tifffile.TiffFile, page: Any, result_yx: np.ndarray, *, first: int) -> None:
    height, last = int(page.rowsperstrip), first + len(result_yx)
    for number in range(first // height, -(-last // height)):
        tiff.filehandle.seek(page.dataoffsets[number])
        data = tiff.filehandle.read(page.databytecounts[number])
        strip_yx = page.decode(data, number)[0].reshape(-1, result_yx.shape[1])
        top = number * height
        low, high = max(first, top), min(last, top + len(strip_yx))
        result_yx[low - first : high - first] = strip_yx[low - top : high - top]


def sample_paths(folder: str | Path) -> dict[str, Path]:
    """List the images of a shard folder: sample -> path of its ``.tif``, sorted by sample.

    Raises
    ------
    ValueError
        If the folder is incomplete: without a manifest, or without files that its manifest lists.
    """
    paths = [path for path in listed_files(folder) if path.suffix == ".tif" and path.parent == Path(folder)]
    return {path.name.removesuffix(".tif"): path for path in paths}


def _read_own(path: str | Path) -> np.ndarray:
    try:
        return tifffile.imread(path)
    except Exception as error:  # the decoder raises errors of many kinds
        raise explain(error, path=Path(path), kind="TIFF") from error
