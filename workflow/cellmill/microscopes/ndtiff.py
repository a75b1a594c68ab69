"""NDTiff acquisitions of Micro-Manager: an index, and TIFF files beside it that hold the planes in any order.

SOURCE the description of the format, versions 2 and 3: https://github.com/micro-manager/NDTiffStorage
"""

import json
import os
import string
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import tifffile

from cellmill.images.raw_files import Scene, plausible_size_um, refuse_missing

# Declaration, see images/raw_files.py
RAW_FORMATS = {
    "NDTiff": {
        "opener": "NdTiffFile",
        "suffixes": ("ndtiff.index",),
        "signatures": (),
        "is_whole": False,
        "library": "tifffile",
        "imports": "tifffile",
        "licence": "BSD-3-Clause",
        "content": "acquisitions of Micro-Manager 2 and Pycro-Manager in full resolution, named by their NDTiff.index",
        "scenes": "stage positions",
        "tested": "versions 2 and 3.2 and 3.3: channels by name and by number, time, sections",
    },
}
# Type of the pixels in the index -> bits that a sample uses; type 2 are colours
BITS = {0: 8, 1: 16, 2: 8, 3: 10, 4: 12, 5: 14, 6: 11}
COLOUR = 2
POSITION = "position"
LETTERS = {"time": "T", "channel": "C", "z": "Z"}

# Positions along the axes of an acquisition, in the order of `NdTiffFile._axes`
Place = tuple[int | str, ...]


class Plane(NamedTuple):
    """Where the pixels of a plane are."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    kind: int


class NdTiffFile:
    """An open acquisition; see `cellmill.images.raw_files.RawFile`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._planes: dict[Place, Plane] = {}
        entries = list(tifffile.read_ndtiff_index(path))
        if not entries:
            raise EOFError("no plane in the index")
        self._axes = list(dict.fromkeys(axis for axes, *_ in entries for axis in axes if axis != POSITION))
        places = []
        for axes, name, offset, columns, rows, kind, *_ in entries:
            if kind not in BITS or min(rows, columns) < 1:
                raise ValueError(f"a plane of {rows} x {columns} px of type {kind}")
            shape = (rows, columns, 3) if kind == COLOUR else (rows, columns)
            place = (axes.get(POSITION, 0), *(axes.get(axis, 0) for axis in self._axes))
            self._planes[place] = Plane(_member(path, name), offset, shape, kind)
            places.append(place)
        self.members = sorted({plane.path for plane in self._planes.values()})
        refuse_missing(path, [member.name for member in self.members if not member.is_file()])
        self._scenes, *self._positions = (_in_order(values) for values in zip(*places, strict=True))
        self._letters = _letters(self._axes)
        size_um = _pixel_size_um(entries[0], self.members)
        self.scenes = [self._describe(scene, size_um) for scene in self._scenes]

    def _describe(self, scene: int | str, size_um: tuple[float, float] | None) -> Scene:
        planes = [plane for place, plane in self._planes.items() if place[0] == scene]
        if len(kinds := {(plane.shape, plane.kind) for plane in planes}) > 1:
            found = ", ".join(f"{shape[0]} x {shape[1]} px of {BITS[kind]} bits" for shape, kind in sorted(kinds))
            raise ValueError(
                f"{self._path}: expected planes of one size and type, found {found}. Save each kind as a separate "
                "acquisition."
            )
        [(shape, kind)] = kinds
        counts = dict(zip(self._letters, map(len, self._positions), strict=True))
        names = next((each for letter, each in zip(self._letters, self._positions, strict=True) if letter == "C"), [0])
        return Scene(
            name=str(scene) if len(self._scenes) > 1 else "",
            sizes={
                **{letter: count for letter, count in counts.items() if count > 1},
                "Y": shape[0], "X": shape[1], **({"S": 3} if kind == COLOUR else {}),
            },
            dtype=np.dtype(np.uint8 if BITS[kind] == 8 else np.uint16),
            channels=tuple(name if isinstance(name, str) else "" for name in names),
            pixel_size_um=size_um,
            bits=BITS[kind],
        )  # fmt: skip

    def close(self) -> None:
        """Close the acquisition, of which no file stays open."""

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane; see `cellmill.images.raw_files.RawFile`."""
        at = (index.get(letter, 0) for letter in self._letters)
        place = (self._scenes[scene], *(each[number] for each, number in zip(self._positions, at, strict=True)))
        if place not in self._planes:
            shown = ", ".join(f"{axis} {value}" for axis, value in zip([POSITION, *self._axes], place, strict=True))
            raise ValueError(
                f"{self._path}: expected a plane at {shown}, found none in the index. Leave it out with stack.time, "
                "stack.z or stack.others."
            )
        plane = self._planes[place]
        with plane.path.open("rb") as stream:
            dtype = self.scenes[scene].dtype.newbyteorder(">" if stream.read(2) == b"MM" else "<")
            size = int(np.prod(plane.shape[1:])) * dtype.itemsize
            stream.seek(plane.offset + first * size)
            content = stream.read((last - first) * size)
        if len(content) < (last - first) * size:
            raise EOFError("the pixels of a plane end early")
        return np.frombuffer(content, dtype).reshape(last - first, *plane.shape[1:])


def _member(path: Path, name: str) -> Path:
    if PurePath(name).name != name or "\\" in name or "\0" in name:
        raise ValueError(f"a file called {name!r}")
    return path.with_name(name)


def _in_order(values: Sequence[int | str]) -> list[int | str]:
    """Return the positions along an axis: numbers in order, names as the acquisition took them."""
    found = list(dict.fromkeys(values))
    return sorted(found, key=int) if all(isinstance(value, int) for value in found) else found


def _letters(axes: Sequence[str]) -> list[str]:
    """Return a letter for each axis: T, C, Z, and for others the first free letter of their name."""
    letters: list[str] = []
    for axis in axes:
        taken = {*letters, *LETTERS.values(), *"YXS"}
        free = (letter for letter in axis.upper() + string.ascii_uppercase if letter not in taken and letter.isalpha())
        letters.append(LETTERS.get(axis) or next(free))
    return letters


def _pixel_size_um(entry: Sequence[Any], members: Sequence[Path]) -> tuple[float, float] | None:
    """Read the pixel size from the metadata of a plane."""
    *_, offset, size, _ = entry
    path = next(member for member in members if member.name == entry[1])
    with path.open("rb") as stream:
        stream.seek(offset)
        content = stream.read(min(max(size, 0), os.fstat(stream.fileno()).st_size))
    try:
        edge_um = float(json.loads(content).get("PixelSizeUm") or 0)
    except (ValueError, TypeError, AttributeError):  # metadata are not needed for the pixels
        return None
    return plausible_size_um(edge_um, edge_um)
