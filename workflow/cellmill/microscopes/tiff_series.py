"""Microscope files that are TIFF: LSM, STK, sets of STK with their .nd, sets of OME-TIFF.

A series of tifffile is a scene. Its planes are read from the strips or tiles that contain them.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import tifffile

from cellmill.images.axes import unit_in_um
from cellmill.images.raw_files import Scene, plausible_size_um, refuse_missing
from cellmill.images.tiff import read_series

# Declaration, see images/raw_files.py
RAW_FORMATS = {
    "LSM": {
        "opener": "LsmFile",
        "suffixes": (".lsm",),
        "signatures": ("49492a00", "4d4d002a", "49492b00", "4d4d002b"),
        "is_whole": False,
        "library": "tifffile",
        "imports": "tifffile",
        "licence": "BSD-3-Clause",
        "content": "grey, 8, 12 and 16 bits and floats; channels of a spectral scan are named by their wavelength",
        "scenes": "images",
        "tested": "LSM 510, one channel and 28 spectral channels",
    },
    "STK": {
        "opener": "StkFile",
        "suffixes": (".stk",),
        "signatures": ("49492a00", "4d4d002a"),
        "is_whole": False,
        "library": "tifffile",
        "imports": "tifffile",
        "licence": "BSD-3-Clause",
        "content": "grey stacks of MetaMorph, one file for each channel, position and time point",
        "scenes": "images",
        "tested": "MetaMorph, z-stacks",
    },
    "ND": {
        "opener": "NdFile",
        "suffixes": (".nd",),
        "signatures": ("224e44496e666f46696c65",),  # "NDInfoFile
        "is_whole": False,
        "library": "tifffile",
        "imports": "tifffile",
        "licence": "BSD-3-Clause",
        "content": "the STK and TIFF files of a MetaMorph acquisition, joined as their .nd file lists them",
        "scenes": "stage positions",
        "tested": "MetaMorph, two wavelengths, four positions or time points",
    },
    "OME-TIFF": {
        "opener": "OmeTiffFile",
        "suffixes": (".companion.ome",),
        "signatures": (),
        "is_whole": False,
        "library": "tifffile",
        "imports": "tifffile",
        "licence": "BSD-3-Clause",
        "content": "sets of files: a companion file, or, with `stack.scene`, a .tif whose metadata name other files or "
        "several images",
        "scenes": "images",
        "tested": "a companion file with five sections, a Bruker set of three sequences",
    },
}
# SOURCE OME-XML schema 2016-06: pixel types
OME_TYPES = {
    "int8": "i1", "int16": "i2", "int32": "i4", "uint8": "u1", "uint16": "u2", "uint32": "u4", "float": "f4",
    "double": "f8",
}  # fmt: skip
MAX_PLANES = 2**24


class SeriesFile:
    """Series of TIFF files as scenes; see `cellmill.images.raw_files.RawFile`."""

    def __init__(self, tif: tifffile.TiffFile, series: Sequence[tifffile.TiffPageSeries]) -> None:
        self._tif = tif
        self._series = list(series)
        self.scenes: list[Scene] = []
        self.members: list[Path] = []

    def close(self) -> None:
        """Close the file."""
        self._tif.close()

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane; see `cellmill.images.raw_files.RawFile`."""
        return read_series(self._series[scene], index=index, first=first, last=last)


class LsmFile(SeriesFile):
    """An open LSM file, without the thumbnails that follow its pages."""

    def __init__(self, path: Path) -> None:
        tif = tifffile.TiffFile(path)
        metadata = tif.lsm_metadata or {}
        super().__init__(tif, [one for one in tif.series if not one.keyframe.is_reduced][:1])
        names = (metadata.get("ChannelColors") or {}).get("ColorNames") or []
        # UNIT voxels are in m
        size_um = plausible_size_um(
            float(metadata.get("VoxelSizeY") or 0) * 1e6, float(metadata.get("VoxelSizeX") or 0) * 1e6
        )
        self.scenes = [describe_series(one, channels=names, pixel_size_um=size_um) for one in self._series]


class StkFile(SeriesFile):
    """An open STK file."""

    def __init__(self, path: Path) -> None:
        tif = tifffile.TiffFile(path)
        super().__init__(tif, tif.series[:1])
        size_um = stk_pixel_size_um(tif)
        self.scenes = [describe_series(one, channels=(), pixel_size_um=size_um) for one in self._series]


def describe_series(
    series: tifffile.TiffPageSeries, *, channels: Sequence[str], pixel_size_um: tuple[float, float] | None
) -> Scene:
    """Describe a series as a scene, with rows and columns before the samples of a colour."""
    sizes = {axis: int(size) for axis, size in zip(series.axes, series.shape, strict=True)}
    kept = {axis: size for axis, size in sizes.items() if axis in "YX" or size > 1}
    order = [axis for axis in kept if axis not in "YXS"] + [axis for axis in "YXS" if axis in kept]
    count = kept.get("C", 1)
    return Scene(
        name=series.name or "",
        sizes={axis: kept[axis] for axis in order},
        dtype=np.dtype(series.dtype).newbyteorder("="),
        channels=tuple(map(str, channels[:count])) if len(channels) >= count else ("",) * count,
        pixel_size_um=pixel_size_um,
        bits=int(series.keyframe.bitspersample),
    )


def stk_pixel_size_um(tif: tifffile.TiffFile) -> tuple[float, float] | None:
    """Return the pixel size of a file of MetaMorph, whose flag for a calibration may be wrong."""
    metadata = tif.stk_metadata or {}
    unit_um = unit_in_um(str(metadata.get("CalibrationUnits") or ""))
    edges = (metadata.get(name) for name in ("YCalibration", "XCalibration"))
    down, across = (float(edge or 0) * unit_um for edge in edges)
    return plausible_size_um(down, across)


class NdFile:
    """The files of a MetaMorph acquisition; see `cellmill.images.raw_files.RawFile`.

    Members are named {stem}_w{number}{wave}_s{position}_t{time}, each part only if the acquisition has it. Their
    headers count: the .nd file states what was planned. Of a wavelength without z, its one plane is read at every z.
    """

    def __init__(self, path: Path) -> None:
        facts = _read_nd(path)
        waves = [facts.get(f"WaveName{n + 1}", "") for n in range(_number(facts, "NWavelengths", "DoWave"))]
        positions = [facts.get(f"Stage{n + 1}", "") for n in range(_number(facts, "NStagePositions", "DoStage"))]
        times = _number(facts, "NTimePoints", "DoTimelapse")
        has_name = facts.get("WaveInFileName", "TRUE") == "TRUE"
        self._files: dict[tuple[int, int, int], Path] = {}
        self._opened: dict[Path, StkFile] = {}
        missing = []
        for wave, position, time in product(range(len(waves) or 1), range(len(positions) or 1), range(times or 1)):
            name = path.stem
            if waves:
                name += f"_w{wave + 1}{re.sub(r'[<>:/|?*]', '_', waves[wave]) if has_name else ''}"
            name += f"_s{position + 1}" if positions else ""
            name += f"_t{time + 1}" if times else ""
            found = [file for end in (".stk", ".tif", ".STK", ".TIF") if (file := path.with_name(name + end)).is_file()]
            if not found:
                missing.append(name + ".stk")
                continue
            self._files[wave, position, time] = found[0]
        refuse_missing(path, missing, advice=", or set images to the .stk files that are there")
        self.members = list(dict.fromkeys(self._files.values()))
        members = [[self._open(self._files[w, s, 0]).scenes[0] for w in range(len(waves) or 1)]
                   for s in range(len(positions) or 1)]  # fmt: skip
        self.scenes = [
            _join_waves(path, of_position, name=name, waves=waves, times=times)
            for of_position, name in zip(members, positions or [""], strict=True)
        ]

    def _open(self, path: Path) -> "StkFile":
        """Open a member; the last one of each wavelength stays open."""
        if path not in self._opened:
            if len(self._opened) > 8:
                self.close()
            self._opened[path] = StkFile(path)
        return self._opened[path]

    def close(self) -> None:
        """Close the members."""
        for opened in self._opened.values():
            opened.close()
        self._opened.clear()

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane; see `cellmill.images.raw_files.RawFile`."""
        member = self._open(self._files[index.get("C", 0), scene, index.get("T", 0)])
        [stack] = member.scenes
        place = {axis: index["Z"] for axis in stack.sizes if axis not in "YX"}
        return member.read(0, place, first, last)


def _join_waves(path: Path, members: Sequence[Scene], *, name: str, waves: Sequence[str], times: int) -> Scene:
    shapes = {(one.sizes["Y"], one.sizes["X"]) for one in members}
    if len(shapes) > 1:
        sizes = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(shapes))
        raise ValueError(
            f"{path}: expected wavelengths of one size, found {sizes} px. Set images to the .stk files of one "
            "wavelength."
        )
    depth = max(int(np.prod([size for axis, size in one.sizes.items() if axis not in "YX"])) for one in members)
    counts = {axis: size for axis, size in (("T", times), ("C", len(waves)), ("Z", depth)) if size > 1}
    return Scene(
        name=name,
        sizes={**counts, "Y": members[0].sizes["Y"], "X": members[0].sizes["X"]},
        dtype=np.result_type(*(one.dtype for one in members)),
        channels=tuple(waves) or ("",),
        pixel_size_um=members[0].pixel_size_um,
        bits=max(one.bits for one in members),
    )


def _read_nd(path: Path) -> dict[str, str]:
    """Read the keys of an .nd file: lines of a quoted key and a value."""
    facts: dict[str, str] = {}
    for line in path.read_text(encoding="latin-1").splitlines():
        if match := re.match(r'\s*"([^"]+)"\s*,\s*(.*)', line):
            facts[match[1]] = match[2].strip().strip('"')
    return facts


def _number(facts: Mapping[str, str], key: str, switch: str) -> int:
    """Return a count of the acquisition, or 0 if it does not vary; more are no acquisition but damage."""
    count = int(facts.get(key) or 0) if facts.get(switch) == "TRUE" else 0
    if not 0 <= count <= MAX_PLANES:
        raise ValueError(f"{key} is {count}")
    return count


class OmeTiffFile:
    """Images of OME metadata, whose planes may be in several TIFF files; see `cellmill.images.raw_files.RawFile`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: dict[Path, tifffile.TiffFile] = {}
        root = ET.fromstring(_read_ome(path))
        self._planes: list[dict[tuple[int, int, int], tuple[Path, int]]] = []
        self.scenes: list[Scene] = []
        for image in _children(root, "Image"):
            pixels = next(_children(image, "Pixels"), None)
            if pixels is not None:
                self._planes.append(self._list_planes(pixels))
                self.scenes.append(_describe_ome(path, image, pixels))
        files = {file for planes in self._planes for file, _ in planes.values()}
        self.members = sorted(files - {path})
        missing = sorted(file.name for file in self.members if not file.is_file())
        refuse_missing(path, missing, source="its metadata name")

    def _list_planes(self, pixels: ET.Element) -> dict[tuple[int, int, int], tuple[Path, int]]:
        """List the file and page of each plane: (c, z, t) -> path, page."""
        order = pixels.get("DimensionOrder", "XYZCT")[2:]
        sizes = {axis: int(pixels.get(f"Size{axis}", 1)) for axis in "CZT"}
        samples = max((int(one.get("SamplesPerPixel", 1)) for one in _children(pixels, "Channel")), default=1)
        sizes["C"] //= samples
        if np.prod(list(sizes.values()), dtype=float) > MAX_PLANES:
            raise ValueError(f"{sizes} planes")
        # planes in their order in the file: the first axis varies fastest
        places = [
            dict(zip(reversed(order), at, strict=True)) for at in product(*(range(sizes[a]) for a in reversed(order)))
        ]
        number = {tuple(place[axis] for axis in "CZT"): i for i, place in enumerate(places)}
        planes: dict[tuple[int, int, int], tuple[Path, int]] = {}
        for data in _children(pixels, "TiffData"):
            start = tuple(int(data.get(f"First{axis}", 0)) for axis in "CZT")
            page = data.get("IFD")
            count = int(data.get("PlaneCount") or (len(places) if page is None else 1))
            uuid = next(_children(data, "UUID"), None)
            file = self._path if uuid is None or not uuid.get("FileName") else self._member(str(uuid.get("FileName")))
            if start not in number:
                raise ValueError(f"a plane at {start}")
            for step, place in enumerate(places[number[start] : number[start] + count]):
                planes[place["C"], place["Z"], place["T"]] = (file, int(page or 0) + step)
        return planes

    def _member(self, name: str) -> Path:
        if PurePath(name).name != name or "\\" in name:
            raise ValueError(
                f"{self._path}: expected files beside it, found the path {name!r} in its metadata. Put all "
                "files of the set into one folder, and write their names without a folder."
            )
        return self._path.with_name(name)

    def _open(self, path: Path) -> tifffile.TiffFile:
        if path not in self._opened:
            if len(self._opened) > 8:
                self.close()
            self._opened[path] = tifffile.TiffFile(path, _multifile=False)
        return self._opened[path]

    def close(self) -> None:
        """Close the members."""
        for opened in self._opened.values():
            opened.close()
        self._opened.clear()

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane; see `cellmill.images.raw_files.RawFile`."""
        place = (index.get("C", 0), index.get("Z", 0), index.get("T", 0))
        if place not in self._planes[scene]:
            shown = ", ".join(f"{axis} {at}" for axis, at in index.items())
            raise ValueError(
                f"{self._path}: expected a plane at {shown}, found none in its metadata. Leave it out with "
                "stack.time or stack.z."
            )
        path, number = self._planes[scene][place]
        page = self._open(path).pages[number].aspage()
        found = self.scenes[scene]
        samples = found.sizes.get("S", 1)
        # a page is decoded as a whole, since most sets are of single planes
        plane = page.asarray()
        if samples > 1 and plane.ndim == 3 and plane.shape[0] == samples and plane.shape[2] != samples:
            plane = np.moveaxis(plane, 0, 2)
        return plane[first:last]


def _read_ome(path: Path) -> str:
    """Return the OME metadata of a companion file or of a TIFF."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return path.read_text(encoding="utf-8")
    with tifffile.TiffFile(path, _multifile=False) as tif:
        text = tif.ome_metadata
    if text is None:
        raise ValueError(
            f"{path}: expected OME metadata, because stack.scene is set, found none. Remove stack.scene, or save each "
            "image of the file as a separate file."
        )
    return text


def _children(element: ET.Element, name: str) -> Any:
    """Yield the children of a name, in any version of the schema."""
    return (child for child in element if child.tag.rpartition("}")[2] == name)


def _describe_ome(path: Path, image: ET.Element, pixels: ET.Element) -> Scene:
    kind = str(pixels.get("Type", "")).lower()
    if kind not in OME_TYPES:
        raise ValueError(
            f"{path}: expected pixels of type {', '.join(OME_TYPES)}, found {kind or 'none'}. Save the image again."
        )
    channels = list(_children(pixels, "Channel"))
    samples = max((int(one.get("SamplesPerPixel", 1)) for one in channels), default=1)
    sizes = {axis: int(pixels.get(f"Size{axis}", 1)) for axis in "TCZYX"}
    sizes["C"] //= samples
    # the order of the axes in the file, from the slowest to the fastest
    order = [axis for axis in reversed(pixels.get("DimensionOrder", "XYZCT")) if axis not in "YX"] + ["Y", "X"]
    dtype = np.dtype(OME_TYPES[kind])
    edges = [
        float(pixels.get(f"PhysicalSize{axis}", 0)) * unit_in_um(pixels.get(f"PhysicalSize{axis}Unit", "um"))
        for axis in "YX"
    ]
    names = [one.get("Name") or "" for one in channels][: sizes["C"]]
    return Scene(
        name=image.get("Name") or "",
        sizes={
            **{axis: sizes[axis] for axis in order if sizes[axis] > 1 or axis in "YX"},
            **({"S": samples} if samples > 1 else {}),
        },
        dtype=dtype,
        channels=tuple(names + [""] * (sizes["C"] - len(names))),
        pixel_size_um=plausible_size_um(*edges),
        bits=int(pixels.get("SignificantBits") or 8 * dtype.itemsize),
    )
