"""Read planes of image files in bands of rows, so that memory does not grow with the size of a slide.

Axes: Y rows, X columns, S samples of one colour (RGB, RGBA, grey with alpha), C channels of any other kind.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cellmill.images import ome_zarr, png_jpeg, raw_files, tiff
from cellmill.images.axes import MAX_DECODED_BYTES, PROJECTIONS, SCENE, Layout, PlaneIndex, read_place
from cellmill.images.channels import LUMINANCE, Channel, find_channel, select_channel
from cellmill.images.damage import explain
from cellmill.images.png_jpeg import STORE, identify
from cellmill.images.showing import can_invert, exchanges_axes, invert, stored_rows, turn
from cellmill.images.stored import BAND_PIXELS

# Images are computed in 32 bits.
LARGEST_FLOAT = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Raster:
    """One plane of an image file, as viewers show it; it keeps no pixels in memory.

    `axes` is YX, YXS (colours) or YXC (channels); `pixel_size_um` holds the edge lengths (row, column) of a pixel, or
    is None if the metadata lack them; `layout.bits` is the number of bits per sample in the file. `projected` is the
    axis that is projected, how, and its positions.
    """

    path: Path
    kind: str
    layout: Layout
    palette: str
    index: Mapping[str, int]
    projected: tuple[str, str, range] | None
    scene: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns), px."""
        return self.layout.shape

    @property
    def dtype(self) -> np.dtype:
        """Type of the pixels returned by `read`."""
        if self.projected is not None and self.projected[1] == "mean":
            return np.dtype(np.float32)
        if self._table is not None:
            return self._table.dtype
        return np.dtype(np.uint8) if self.layout.dtype == bool else self.layout.dtype

    @property
    def _table(self) -> np.ndarray | None:
        """Grey values or colours that replace the stored numbers of a TIFF."""
        return self.layout.table if self.palette == "colours" else None

    @property
    def _has_indices(self) -> bool:
        return self.palette == "indices" and self.kind == "PNG" and png_jpeg.has_palette(self.path)

    @property
    def axes(self) -> str:
        """YX, YXS or YXC."""
        if self._has_indices:
            return "YX"
        if self._table is not None and self._table.ndim == 2:
            return "YXS"
        return "YXC" if self.projected is not None and self.projected[1] == "channel" else self.layout.axes

    @property
    def channels(self) -> int:
        """Channels or samples of a pixel."""
        if self._has_indices:
            return 1
        if self._table is not None and self._table.ndim == 2:
            return int(self._table.shape[1])
        pages = len(self.projected[2]) if self.projected is not None and self.projected[1] == "channel" else 1
        return pages * self.layout.channels

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """Edge lengths (row, column) of a pixel in um from the metadata, or None."""
        return self.layout.pixel_size_um

    def read(self, first: int, last: int) -> np.ndarray:
        """Read rows from `first` to `last`, excluding `last`.

        Returns
        -------
        ndarray of shape (rows, columns) or (rows, columns, channels)
            Real and finite; one-bit pixels become uint8, a mean over a stack float32.

        Raises
        ------
        ValueError
            If the file is damaged, or holds values that are not finite in 32 bits.
        """
        try:
            array = self._project(first, last) if self.projected is not None else self._decode(self.index, first, last)
        except Exception as error:  # the decoders raise errors of many kinds
            raise explain(error, path=self.path, kind=self.kind) from error
        if array.dtype == bool:
            array = array.astype(np.uint8)
        if array.dtype.kind == "f" and (problem := _describe_infinite(array)):
            raise ValueError(f"{self.path}: expected finite values, found {problem}. Replace these values in the file.")
        return array

    def reader(self) -> Callable[[int, int], np.ndarray]:
        """Return `read`, or an equivalent function from memory if decoding any rows decodes all of them."""
        if not self.is_whole:
            return self.read
        whole = self.read(0, self.shape[0])
        return lambda first, last: whole[first:last]

    def channel_reader(self, channel: Channel) -> Callable[[int, int], np.ndarray]:
        """Return a function that reads rows of one channel, or of a mix of channels, without the other channels.

        Parameters
        ----------
        channel : "luminance", int >= 0, sequence of float, or the name of a channel
            As in `cellmill.images.channels.select_channel`.

        Returns
        -------
        function
            Takes the first row and the end row (excluded); returns an array of shape (rows, columns).
        """
        raster, left = self.choose(channel)
        read = raster.reader()
        return lambda first, last: select_channel(
            read(first, last), axes=raster.axes, channel=left, where=raster.path, names=raster.channel_names
        )

    def choose(self, channel: Channel) -> tuple["Raster", Channel]:
        """Return the raster to read for a channel, and the channel to select in it.

        Of a raw file, a single channel is read without the others, some of which may not be recorded.
        """
        found = find_channel(channel, names=self.channel_names, where=self.path)
        is_separate = self.kind in raw_files.RAW_FORMATS and self.layout.sizes.get("C", 1) > 1
        if not isinstance(found, int) or not is_separate or found >= self.channels:
            return self, found
        layout = replace(self.layout, sizes={axis: size for axis, size in self.layout.sizes.items() if axis != "C"})
        return replace(self, index={**self.index, "C": found}, layout=layout), LUMINANCE

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The channels by name, as in the file; empty if it names none."""
        return self.layout.channel_names

    def bands(self, max_pixels: int = BAND_PIXELS) -> Iterator[tuple[slice, np.ndarray]]:
        """Read the plane from top to bottom.

        Parameters
        ----------
        max_pixels : int
            Pixels of a band, summed over channels. A format that is decoded as a whole is decoded once and then cut.

        Yields
        ------
        slice, ndarray
            Rows, and their pixels as returned by `read`.
        """
        read = self.reader()
        for rows in self.row_bands(max_pixels):
            yield rows, read(rows.start, rows.stop)

    def row_bands(self, max_pixels: int = BAND_PIXELS) -> list[slice]:
        """Split the rows into bands of at most `max_pixels`, aligned with strips or rows of tiles if they fit."""
        rows, columns = self.shape
        height = max(1, max_pixels // (columns * self.channels))
        together = tiff.chunk_rows(self.path) if self.kind == "TIFF" else 1
        if together < height:
            height -= height % together
        return [slice(first, min(first + height, rows)) for first in range(0, rows, height)]

    @property
    def is_whole(self) -> bool:
        """Whether decoding any rows decodes all of them."""
        if self.kind in ("PNG", "JPEG") or raw_files.is_whole(self.kind) or exchanges_axes(self.layout.orientation):
            return True
        return self.kind == "TIFF" and tiff.chunk_rows(self.path) >= self.shape[0]

    def _decode(self, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane as viewers show them; labels keep their stored numbers."""
        layout = self.layout
        low, high = stored_rows(first, last, orientation=layout.orientation, rows=layout.stored_shape[0])
        array = turn(self._decode_stored(index, low, high), layout.orientation)
        if exchanges_axes(layout.orientation):
            array = array[first:last]
        if self.palette == "colours" and layout.is_min_is_white:
            array = invert(array, bits=layout.bits)
        return array if self._table is None else self._table[array]

    def _decode_stored(self, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        if self.kind == "TIFF":
            return tiff.read_rows(self.path, index=index, first=first, last=last)
        if self.kind == STORE:
            return ome_zarr.read_rows(self.path, index=index, first=first, last=last)
        if self.kind in raw_files.RAW_FORMATS:
            return raw_files.read_rows(self.path, scene=self.scene, index=index, first=first, last=last)
        array = png_jpeg.decode(self.path, kind=self.kind, palette=self.palette)
        if array.shape[:2] != self.layout.stored_shape:
            raise ValueError(f"size {self.layout.stored_shape} in the header, {array.shape[:2]} in the pixel data")
        return array[first:last]

    def _project(self, first: int, last: int) -> np.ndarray:
        assert self.projected is not None
        axis, how, places = self.projected
        planes = (self._decode({**self.index, axis: i}, first, last) for i in places)
        if how == "channel":
            return np.stack(list(planes), axis=2)
        total = next(planes)
        if how == "maximum":
            for plane in planes:
                total = np.maximum(total, plane)
            return total
        total = total.astype(np.float64)
        for plane in planes:
            total += plane
        return (total / len(places)).astype(np.float32)


def _describe_infinite(array: np.ndarray) -> str:
    """Count floating-point pixels that are not finite in 32 bits, in words; empty if there are none."""
    is_finite = np.isfinite(array)
    if not is_finite.all():
        return f"{int(np.count_nonzero(~is_finite))} pixels that are NaN or infinite"
    is_large = np.abs(array) > LARGEST_FLOAT if array.dtype.itemsize > 4 else ~is_finite
    return f"{int(np.count_nonzero(is_large))} pixels beyond {LARGEST_FLOAT:.1e}" if is_large.any() else ""


def read_layout(path: str | Path, *, plane: PlaneIndex = ()) -> Layout:
    """Read the axes of an image file from its header only.

    Parameters
    ----------
    path : path
    plane : sequence of [axis, place, size]
        Position in a stack, which chooses a scene of a microscope file.

    Raises
    ------
    ValueError
        If the file is missing, unreadable, implausibly large, does not match its suffix, or contains several images
        that do not form a stack.
    """
    path = Path(path)
    kind = _identify(path, plane)
    try:
        if kind == "TIFF":
            return tiff.read_layout(path)
        if kind == STORE:
            return ome_zarr.read_layout(path)
        if kind in raw_files.RAW_FORMATS:
            return raw_files.read_layout(path, scene=_scene_of(plane))
        return png_jpeg.read_layout(path, kind=kind)
    except Exception as error:  # a broken header raises errors of many kinds
        raise explain(error, path=path, kind=kind) from error


def open_raster(path: str | Path, *, palette: str, plane: PlaneIndex) -> Raster:
    """Open one plane of an image file, reading its header only.

    Parameters
    ----------
    path : path
        PNG, JPEG, TIFF or a folder of OME-Zarr.
    palette : "colours" or "indices"
        "colours": as viewers show the picture, which is right for images. "indices": stored numbers, which is right
        for labels. The two differ in images with a palette or MinIsWhite. Both are turned as their orientation states.
    plane : sequence of [axis, place, size]
        Position in a stack, with a place as in `read_place` for each of its axes. Empty for a single image.

    Raises
    ------
    ValueError
        As `read_layout`; and if the file is a stack and no position is given, the stack does not have the axes of the
        position, its pixels are not real numbers, it is MinIsWhite with pixels that have no white level, or what is
        decoded together exceeds the memory limit.
    """
    path = Path(path)
    kind = _identify(path, plane)
    layout = read_layout(path, plane=plane)
    if layout.dtype.kind not in "uifb":
        raise ValueError(
            f"{path}: expected real numbers, found pixels of type {layout.dtype}. "
            "Save the image as integers or floating-point numbers."
        )
    places = {str(axis): read_place(place, size=int(size)) for axis, place, size in plane if axis != SCENE}
    sizes = {str(axis): int(size) for axis, _, size in plane if axis != SCENE}
    if sizes != layout.stack:
        raise ValueError(_explain_stack(path, layout, sizes))
    projected = next(((axis, how, where) for axis, (how, where) in places.items() if how in PROJECTIONS), None)
    if kind == "TIFF" and tiff.chunk_rows(path) * layout.shape[1] * layout.dtype.itemsize > MAX_DECODED_BYTES:
        raise ValueError(
            f"{path}: expected strips or tiles of at most {MAX_DECODED_BYTES >> 30} GiB, found strips of "
            f"{tiff.chunk_rows(path)} rows. Save the image as a tiled TIFF."
        )
    if palette == "colours":
        _refuse_unknown_colours(path, layout, is_channel=projected is not None and projected[1] == "channel")
    plane_bytes = layout.shape[0] * layout.shape[1] * layout.channels * layout.dtype.itemsize
    if exchanges_axes(layout.orientation) and plane_bytes > MAX_DECODED_BYTES:
        raise ValueError(
            f"{path}: expected at most {MAX_DECODED_BYTES >> 30} GiB of pixels, because the orientation "
            f"{layout.orientation} exchanges rows and columns and the image is decoded as a whole, found "
            f"{layout.describe()}. Save the image upright, without an orientation."
        )
    index = {axis: where[0] for axis, (how, where) in places.items() if how not in PROJECTIONS}
    return Raster(path, kind, layout, palette, index, projected, _scene_of(plane))


def _identify(path: Path, plane: PlaneIndex) -> str:
    """Return the format of a file; a TIFF whose scene is chosen is read as a microscope file."""
    kind = identify(path)
    has_scene = any(axis == SCENE for axis, _, _ in plane)
    return raw_files.SET_OF_TIFF if kind == "TIFF" and has_scene else kind


def _scene_of(plane: PlaneIndex) -> int:
    return next((read_place(place, size=int(size))[1][0] for axis, place, size in plane if axis == SCENE), 0)


def _refuse_unknown_colours(path: Path, layout: Layout, *, is_channel: bool) -> None:
    if layout.is_min_is_white and not can_invert(layout.dtype, layout.bits):
        raise ValueError(
            f"{path}: expected intensities, found MinIsWhite (smaller numbers are brighter) with {layout.dtype}, whose "
            "white level is unknown. Save the image with MinIsBlack, after inverting its values if needed."
        )
    if is_channel and layout.table is not None and layout.table.ndim == 2:
        raise ValueError(
            f"{path}: expected one channel per page, found pages with a table of colours. "
            "Save the channels as grey pages."
        )


def match_plane(path: str | Path, plane: PlaneIndex) -> PlaneIndex:
    """Find the position of an image's plane in the stack of its annotation, whose axes may have other names.

    Parameters
    ----------
    path : path
        The annotation.
    plane : sequence of [axis, position, size]
        Position of the image in its stack. Axes that are projected, or along which one position is read, do not exist
        in the annotation.

    Raises
    ------
    ValueError
        If the annotation is not a stack of the same sizes.
    """
    chosen = [entry for entry in plane if isinstance(entry[1], int)]
    layout = read_layout(path)
    if [int(size) for _, _, size in chosen] != list(layout.stack.values()):
        raise ValueError(_explain_stack(Path(path), layout, {str(axis): int(size) for axis, _, size in chosen}))
    return [[axis, place, size] for axis, (_, place, size) in zip(layout.stack, chosen, strict=True)]


def _explain_stack(path: Path, layout: Layout, sizes: Mapping[str, int]) -> str:
    if not layout.stack:
        wanted = ", ".join(f"{size} planes along {axis}" for axis, size in sizes.items())
        return (
            f"{path}: expected a stack with the planes of the image ({wanted}), found a single plane "
            f"({layout.describe()}). "
            "Annotate every plane: use a stack with the same planes, or one file per plane with {frame} in its path."
        )
    if sizes:
        wanted = ", ".join(f"{size} planes along {axis}" for axis, size in sizes.items())
        return (
            f"{path}: expected {wanted}, found {layout.describe()}. "
            "Use the same planes in all stacks of a dataset and in their annotations."
        )
    return (
        f"{path}: expected one image with axes YX, or YX and channels, found {layout.describe()}. "
        "Set stack.axis of the dataset to time, z or channel, or save every frame or section as a separate file."
    )
