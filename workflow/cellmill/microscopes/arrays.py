"""Arrays of numpy in .npy and .npz files. Pickled objects are never loaded, because they could run code."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from cellmill.images.axes import MAX_DECODED_BYTES
from cellmill.images.raw_files import UNKNOWN_AXIS, Scene

# Declaration, see images/raw_files.py
RAW_FORMATS = {
    "NPY": {
        "opener": "NpyFile",
        "suffixes": (".npy",),
        "signatures": ("934e554d5059",),
        "is_whole": False,
        "library": "numpy",
        "imports": "numpy",
        "licence": "BSD-3-Clause",
        "content": "an array of rows and columns, also with colours, or with planes, which need `stack.axis`",
        "scenes": "images",
        "tested": "arrays of every type",
    },
    "NPZ": {
        "opener": "NpzFile",
        "suffixes": (".npz",),
        "signatures": ("504b0304",),
        "is_whole": True,
        "library": "numpy",
        "imports": "numpy",
        "licence": "BSD-3-Clause",
        "content": "arrays as in NPY, compressed or not",
        "scenes": "arrays",
        "tested": "two arrays, compressed",
    },
}
# An axis of that many entries behind two longer ones is one of colours.
COLOURS = (3, 4)


class NpyFile:
    """An open .npy file; see `cellmill.images.raw_files.RawFile`."""

    members: tuple[Path, ...] = ()

    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            if _read_header(stream)[1].hasobject:
                raise ValueError(
                    f"{path}: expected an array of numbers, found Python objects, which may contain code and are never "
                    "loaded. Write each image with tifffile.imwrite('image.tif', array)."
                )
        self._pixels: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        scene = _describe("", self._pixels.shape, self._pixels.dtype)
        if scene is None:
            raise ValueError(
                f"{path}: expected an array of rows and columns, possibly with planes or colours, found the shape "
                f"{self._pixels.shape}. Write each image with tifffile.imwrite('image.tif', array)."
            )
        self.scenes = [scene]

    def close(self) -> None:
        """Close the file."""
        self._pixels = None

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane; see `cellmill.images.raw_files.RawFile`."""
        return _rows(self._pixels, self.scenes[scene], index, first, last)


class NpzFile:
    """An open .npz file; see `cellmill.images.raw_files.RawFile`. Arrays that are no images are left out."""

    members: tuple[Path, ...] = ()

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)
        self.scenes: list[Scene] = []
        self._members: list[str] = []
        self._read: tuple[int, np.ndarray] | None = None
        for name in self._archive.namelist():
            if not name.endswith(".npy"):
                continue
            with self._archive.open(name) as stream:
                shape, dtype = _read_header(stream)
            scene = _describe(name.removesuffix(".npy"), shape, dtype)
            if scene is None or dtype.hasobject:
                continue
            if np.prod(shape, dtype=float) * dtype.itemsize > MAX_DECODED_BYTES:
                raise ValueError(
                    f"{path}: expected arrays of at most {MAX_DECODED_BYTES >> 30} GiB, because they are decoded as a "
                    f"whole, found {name} of the shape {shape}. Write it as .npy, or as a tiled TIFF."
                )
            self.scenes.append(scene)
            self._members.append(name)

    def close(self) -> None:
        """Close the file."""
        self._archive.close()
        self._read = None

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane; see `cellmill.images.raw_files.RawFile`."""
        if self._read is None or self._read[0] != scene:
            with self._archive.open(self._members[scene]) as stream:
                self._read = scene, np.lib.format.read_array(stream, allow_pickle=False)
        return _rows(self._read[1], self.scenes[scene], index, first, last)


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


def _describe(name: str, shape: tuple[int, ...], dtype: np.dtype) -> Scene | None:
    """Describe an array as a scene; None if it is no image."""
    is_colour = len(shape) == 3 and shape[2] in COLOURS and min(shape[:2]) > max(COLOURS)
    axes = {2: "YX", 3: "YXS" if is_colour else f"{UNKNOWN_AXIS}YX"}.get(len(shape))
    if axes is None:
        return None
    return Scene(
        name=name,
        sizes={axis: size for axis, size in zip(axes, shape, strict=True) if size > 1 or axis in "YX"},
        dtype=dtype.newbyteorder("="),
        channels=("",),
        pixel_size_um=None,
        bits=8 * dtype.itemsize,
    )


def _rows(pixels: np.ndarray, scene: Scene, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
    """Read rows of an array; a leading axis of size 1 is no axis of the scene."""
    is_stacked = pixels.ndim == 3 and "S" not in scene.sizes
    plane = pixels[index.get(UNKNOWN_AXIS, 0)] if is_stacked else pixels
    return np.array(plane[first:last])
