"""LIF files of Leica LAS X: series of any size, tile scans, sections along z and x."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.images.raw_files import Scene, plausible_size_um

# Declaration, see images/raw_files.py
RAW_FORMATS = {
    "LIF": {
        "opener": "LifFile",
        "suffixes": (".lif",),
        "signatures": ("70000000",),
        "is_whole": True,
        "library": "liffile",
        "imports": "liffile",
        "licence": "BSD-3-Clause",
        "content": "grey and RGB, 8 and 16 bits and floats; the tiles of a scan are separate images",
        "scenes": "series",
        "tested": "LAS AF and LAS X, a tile scan, sections along z and x",
    },
}


class LifFile:
    """An open LIF file; see `cellmill.images.raw_files.RawFile`."""

    members: tuple[Path, ...] = ()

    def __init__(self, path: Path) -> None:
        import liffile

        self._file = liffile.LifFile(path)
        # intensities only: lifetimes are histograms
        self._images: list[Any] = [image for image in self._file.images if not image.is_flim and image.ndim >= 2]
        self.scenes = [_describe(image) for image in self._images]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane; see `cellmill.images.raw_files.RawFile`."""
        found = self.scenes[scene]
        frame = self._images[scene].frame(**index)
        rows, columns = (found.sizes[axis] for axis in found.plane_axes)
        return frame.reshape((rows, columns, *([found.sizes["S"]] if "S" in found.sizes else [])))[first:last]


def _describe(image: Any) -> Scene:
    # UNIT coordinates are in m
    steps_um = {axis: _step(values) * 1e6 for axis, values in image.coords.items()}
    sizes = {str(axis): int(size) for axis, size in image.sizes.items()}
    dtype = np.dtype(image.dtype)
    scene = Scene(
        name=image.path,
        sizes=sizes,
        dtype=dtype.newbyteorder("="),
        channels=_channel_names(image, count=sizes.get("C", 1)),
        pixel_size_um=None,
        bits=8 * dtype.itemsize,
    )
    rows, columns = scene.plane_axes
    size_um = plausible_size_um(steps_um.get(rows, 0.0), steps_um.get(columns, 0.0))
    return Scene(**{**vars(scene), "pixel_size_um": size_um})


def _step(values: np.ndarray) -> float:
    """Return the distance of the first two positions; a stage may move downwards."""
    return abs(float(values[1]) - float(values[0])) if len(values) > 1 else 0.0


def _channel_names(image: Any, *, count: int) -> tuple[str, ...]:
    """Return the names of the dyes or, without them, of the colours in which LAS X shows the channels."""
    described = image.xml_element.findall("./Data/Image/ImageDescription/Channels/ChannelDescription")
    names = [_property(channel, "DyeName") or "" for channel in described]
    colours = [channel.get("LUTName") or "" for channel in described]
    found = names if all(names) else colours
    return tuple(found[:count]) if len(found) >= count else ("",) * count


def _property(channel: Any, key: str) -> str | None:
    for each in channel.findall("ChannelProperty"):
        if each.findtext("Key") == key:
            return each.findtext("Value")
    return None
