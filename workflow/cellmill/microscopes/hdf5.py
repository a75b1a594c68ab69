"""HDF5 files: IMS of Imaris, and arrays of ilastik and other programs, each a dataset that the config chooses."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.images.raw_files import UNKNOWN_AXIS, Scene, plausible_size_um

# Declaration, see images/raw_files.py
RAW_FORMATS = {
    "IMS": {
        "opener": "ImsFile",
        "suffixes": (".ims",),
        "signatures": ("894844460d0a1a0a",),
        "is_whole": False,
        "library": "h5py",
        "imports": "h5py",
        "licence": "BSD-3-Clause",
        "content": "grey, any type; full resolution",
        "scenes": "images",
        "tested": "the smallest file of the format's description",
    },
    "HDF5": {
        "opener": "Hdf5File",
        "suffixes": (".h5", ".hdf5"),
        "signatures": ("894844460d0a1a0a",),
        "is_whole": False,
        "library": "h5py",
        "imports": "h5py",
        "licence": "BSD-3-Clause",
        "content": "arrays of rows and columns, also with colours, or with planes, which need `stack.axis`; axes of "
        "ilastik are read",
        "scenes": "datasets",
        "tested": "ilastik, BigDataViewer",
    },
}
# Letters of ilastik -> axes
AXES_OF_TAGS = {"t": "T", "z": "Z", "y": "Y", "x": "X", "c": "C"}
MAX_DATASETS = 10_000
COLOURS = (3, 4)
# A smaller array is a table
MIN_PX = 8


class ImsFile:
    """An open IMS file; see `cellmill.images.raw_files.RawFile`."""

    members: tuple[Path, ...] = ()

    def __init__(self, path: Path) -> None:
        import h5py

        self._file = h5py.File(path, "r")
        level = self._file["DataSet/ResolutionLevel 0"]
        info = self._file["DataSetInfo/Image"]
        times, channels = len(level), len(level["TimePoint 0"])
        pixels = level["TimePoint 0/Channel 0/Data"]
        # Imaris pads its arrays, so the size is that of the description if there is one
        padded = dict(zip("ZYX", map(int, pixels.shape), strict=True))
        shape = {axis: min(int(_text(info, axis) or padded[axis]), padded[axis]) for axis in "ZYX"}
        extent_um = {
            axis: float(_text(info, f"ExtMax{number}") or 0) - float(_text(info, f"ExtMin{number}") or 0)
            for number, axis in enumerate("XYZ")
        }
        counts = {"T": times, "C": channels, "Z": shape["Z"]}
        self.scenes = [
            Scene(
                name=_text(info, "Name"),
                sizes={**{a: size for a, size in counts.items() if size > 1}, "Y": shape["Y"], "X": shape["X"]},
                dtype=np.dtype(pixels.dtype).newbyteorder("="),
                channels=tuple(_text(self._file.get(f"DataSetInfo/Channel {n}"), "Name") for n in range(channels)),
                pixel_size_um=plausible_size_um(extent_um["Y"] / shape["Y"], extent_um["X"] / shape["X"]),
                bits=8 * pixels.dtype.itemsize,
            )
        ]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane; see `cellmill.images.raw_files.RawFile`."""
        place = f"TimePoint {index.get('T', 0)}/Channel {index.get('C', 0)}/Data"
        pixels = self._file[f"DataSet/ResolutionLevel 0/{place}"]
        return np.asarray(pixels[index.get("Z", 0), first:last, : self.scenes[scene].sizes["X"]])


class Hdf5File:
    """An open HDF5 file, of which each array with rows and columns is a scene."""

    members: tuple[Path, ...] = ()

    def __init__(self, path: Path) -> None:
        import h5py

        self._file = h5py.File(path, "r")
        found: list[tuple[str, Any, str]] = []
        others: list[str] = []

        def add(name: str, node: Any) -> int | None:
            if isinstance(node, h5py.Dataset):
                axes = _axes_of(node)
                if axes is None or node.dtype.kind not in "uifb" or _smallest_side(node, axes) < MIN_PX:
                    others.append(f"{name} {node.shape}")
                else:
                    found.append((name, node, axes))
            return 1 if len(found) + len(others) > MAX_DATASETS else None

        self._file.visititems(add)
        if not found:
            listed = ", ".join(others[:12]) or "nothing"
            raise ValueError(
                f"{path}: expected a dataset with rows and columns, found {listed}. Write the images with "
                "tifffile.imwrite('image.tif', array)."
            )
        self._axes = [axes for _, _, axes in found]
        self._arrays = [node for _, node, _ in found]
        self.scenes = [_describe(name, node, axes) for name, node, axes in found]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane; see `cellmill.images.raw_files.RawFile`."""
        whole = {"Y": slice(first, last), "X": slice(None), "S": slice(None)}
        place = tuple(whole.get(axis, index.get(axis, 0)) for axis in self._axes[scene])
        plane = np.asarray(self._arrays[scene][place])
        kept = [axis for axis in self._axes[scene] if axis in whole]
        return plane.transpose([kept.index(axis) for axis in "YXS" if axis in kept])


def _axes_of(node: Any) -> str | None:
    """Return the axes of an array from the tags of ilastik or its shape; None if it is no image."""
    tags = node.attrs.get("axistags")
    if tags is not None:
        keys = [one["key"] for one in json.loads(tags)["axes"]]
        axes = "".join(AXES_OF_TAGS.get(key, "") for key in keys)
        return axes if len(axes) == len(node.shape) and {"Y", "X"} <= set(axes) else None
    shape: tuple[int, ...] = node.shape or ()
    is_colour = len(shape) == 3 and shape[2] in COLOURS and min(shape[:2]) > max(COLOURS)
    return {2: "YX", 3: "YXS" if is_colour else f"{UNKNOWN_AXIS}YX"}.get(len(shape))


def _smallest_side(node: Any, axes: str) -> int:
    return min(int(size) for axis, size in zip(axes, node.shape, strict=True) if axis in "YX")


def _describe(name: str, node: Any, axes: str) -> Scene:
    sizes = dict(zip(axes, map(int, node.shape), strict=True))
    kept = {axis: size for axis, size in sizes.items() if size > 1 or axis in "YX"}
    order = [axis for axis in kept if axis not in "YXS"] + [axis for axis in "YXS" if axis in kept]
    return Scene(
        name=name,
        sizes={axis: kept[axis] for axis in order},
        dtype=np.dtype(node.dtype).newbyteorder("="),
        channels=("",) * sizes.get("C", 1),
        pixel_size_um=None,
        bits=8 * node.dtype.itemsize,
    )


def _text(group: Any, name: str) -> str:
    """Return an attribute of IMS, an array of single characters; empty if there is none."""
    value = None if group is None else group.attrs.get(name)
    if value is None:
        return ""
    return b"".join(np.asarray(value, dtype="S1").tolist()).decode("utf-8", "replace").strip("\0 ")
