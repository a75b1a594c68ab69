"""CZI files of ZEISS: scenes, mosaics of overlapping tiles, any compression of ZEN.

The library composes a mosaic; where tiles overlap, the later tile wins. Places without a tile are 0.
"""

import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.images.raw_files import Scene, plausible_size_um

# Declaration, see images/raw_files.py
RAW_FORMATS = {
    "CZI": {
        "opener": "CziFile",
        "suffixes": (".czi",),
        "signatures": ("5a4953524157",),  # ZISRAW
        "is_whole": False,
        "library": "pylibCZIrw",
        "imports": "pylibCZIrw.czi",
        "licence": "LGPL-3.0",
        "content": "grey and RGB, 8 and 16 bits and floats; mosaics are composed; uncompressed, zstd, JPEG XR, JPEG",
        "scenes": "scenes",
        "tested": "ZEN blue, mosaics, zstd, RGB",
    },
}

# Axes in the order of their positions in a plane's name; S is the scene and M the number of a tile
AXES = "VHIRBTCZ"
# SOURCE ZISRAW format 1.2.2: pixel types -> dtype and samples
PIXEL_TYPES = {
    "Gray8": ("u1", 1), "Gray16": ("u2", 1), "Gray32Float": ("f4", 1), "Bgr24": ("u1", 3), "Bgr48": ("u2", 3),
    "Bgr96Float": ("f4", 3),
}  # fmt: skip
# Compressed tiles that are kept decoded while a plane is read by rows
CACHE_BYTES = 2**28
SEGMENT = struct.Struct("<16sqq")


class CziFile:
    """An open CZI file; see `cellmill.images.raw_files.RawFile`."""

    members: tuple[Path, ...] = ()

    def __init__(self, path: Path) -> None:
        from pylibCZIrw import czi

        self._path = path
        _check_segments(path)
        self._file = czi.CziReader(str(path), cache_options=czi.CacheOptions(max_memory_usage=CACHE_BYTES))
        self._has_scenes = False
        self._tiles = self._list_tiles()
        self._numbers = sorted(self._tiles)
        image = ET.fromstring(self._file.raw_metadata).find("./Metadata/Information/Image")
        scaling = ET.fromstring(self._file.raw_metadata).find("./Metadata/Scaling/Items")
        self._names = _channel_names(image)
        self._size_um = _pixel_size_um(scaling)
        scene_names = _scene_names(image)
        self.scenes = [self._describe(number, scene_names.get(number, "")) for number in self._numbers]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _list_tiles(self) -> dict[int, list[tuple[dict[str, int], tuple[int, int, int, int], str]]]:
        """List the tiles of full resolution of each scene: position in the stack, rectangle (x, y, w, h), type."""
        tiles: dict[int, list[tuple[dict[str, int], tuple[int, int, int, int], str]]] = {}

        def add(_: int, tile: Any) -> bool:
            place = dict(tile.coordinate.to_dict())
            rectangle = tile.logicalRect
            box = (rectangle.x, rectangle.y, rectangle.w, rectangle.h)
            tiles.setdefault(int(place.pop("S", 0)), []).append((place, box, tile.pixelType.name))
            self._has_scenes = self._has_scenes or "S" in tile.coordinate.to_dict()
            return True

        self._file.enumerate_subblocks_subset(add, only_layer0=True)
        return tiles

    def _describe(self, number: int, name: str) -> Scene:
        tiles = self._tiles[number]
        kinds = {kind for _, _, kind in tiles}
        if unknown := sorted(kinds - set(PIXEL_TYPES)):
            raise ValueError(
                f"{self._path}: expected pixels of 8 or 16 bits or floating-point numbers, found {', '.join(unknown)}. "
                "Export the image from ZEN as OME-TIFF."
            )
        ranges = {axis: self._range(number, axis) for axis in AXES}
        _x, _y, width, height = self._box(number)
        samples = max(PIXEL_TYPES[kind][1] for kind in kinds)
        dtype = np.result_type(*(np.dtype(PIXEL_TYPES[kind][0]) for kind in kinds))
        sizes = {axis: len(places) for axis, places in ranges.items() if len(places) > 1}
        return Scene(
            name=name,
            sizes={**sizes, "Y": height, "X": width, **({"S": samples} if samples > 1 else {})},
            dtype=dtype,
            channels=tuple(self._names.get(channel, "") for channel in ranges["C"]),
            pixel_size_um=self._size_um,
            bits=8 * dtype.itemsize,
        )

    def _range(self, number: int, axis: str) -> range:
        places = {place[axis] for place, _, _ in self._tiles[number] if axis in place} or {0}
        return range(min(places), max(places) + 1)

    def _box(self, number: int) -> tuple[int, int, int, int]:
        boxes = np.array([box for _, box, _ in self._tiles[number]], dtype=np.int64)
        left, top = boxes[:, :2].min(axis=0)
        right, bottom = (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
        return int(left), int(top), int(right - left), int(bottom - top)

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane; see `cellmill.images.raw_files.RawFile`."""
        number = self._numbers[scene]
        place = {axis: self._range(number, axis)[position] for axis, position in index.items()}
        if not any(all(other.get(axis, 0) == at for axis, at in place.items()) for other, _, _ in self._tiles[number]):
            shown = ", ".join(f"{axis} {at}" for axis, at in index.items())
            raise ValueError(
                f"{self._path}: expected a plane at {shown}, found none, so it was not recorded. Leave it out with "
                "stack.time, stack.z or stack.others, or set preprocess.channel to a channel that has it."
            )
        x, y, width, _ = self._box(number)
        array = self._file.read(
            roi=(x, y + first, width, last - first), plane=place, scene=number if self._has_scenes else None
        )
        # the library returns blue, green, red
        return array[:, :, 0] if array.shape[2] == 1 else array[:, :, ::-1]


def _check_segments(path: Path) -> None:
    """Check that the parts of a file that are read at once lie within it, so that damage cannot fill the memory."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(112)
        # SOURCE ZISRAW format 1.2.2, FileHeaderSegment: positions of the directory and of the metadata
        for position in struct.unpack_from("<qq", head, 84):
            stream.seek(position)
            name, _, used = SEGMENT.unpack(stream.read(SEGMENT.size))
            if not name.startswith(b"ZISRAW") or not 0 <= used <= size - position:
                raise EOFError("the directory or the metadata are missing, as in a file that was not copied whole")


def _channel_names(image: ET.Element | None) -> dict[int, str]:
    """Return the names of the channels; the id of a channel without a name, as ZEN shows it."""
    found = [] if image is None else image.findall("./Dimensions/Channels/Channel")
    return {number: channel.get("Name") or channel.get("Id") or "" for number, channel in enumerate(found)}


def _scene_names(image: ET.Element | None) -> dict[int, str]:
    found: Iterator[ET.Element] = iter(() if image is None else image.findall("./Dimensions/S/Scenes/Scene"))
    return {int(scene.get("Index") or number): scene.get("Name") or "" for number, scene in enumerate(found)}


def _pixel_size_um(scaling: ET.Element | None) -> tuple[float, float] | None:
    edges_m: dict[str, float] = {}
    for distance in [] if scaling is None else scaling.findall("Distance"):
        edges_m[distance.get("Id") or ""] = float(distance.findtext("Value") or 0)
    return plausible_size_um(edges_m.get("Y", 0) * 1e6, edges_m.get("X", 0) * 1e6)
