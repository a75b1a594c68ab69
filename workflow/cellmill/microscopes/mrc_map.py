"""MRC files of electron microscopes: volumes, stacks of images and single images, mapped into memory."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cellmill.images.raw_files import UNKNOWN_AXIS, Scene, plausible_size_um

# Declaration, see images/raw_files.py
RAW_FORMATS = {
    "MRC": {
        "opener": "MrcFile",
        "suffixes": (".mrc", ".map", ".mrcs"),
        "signatures": (),
        "is_whole": False,
        "library": "mrcfile",
        "imports": "mrcfile",
        "licence": "BSD-3-Clause",
        "content": "grey, 8 and 16 bits and floats; a stack of images needs `stack.axis`",
        "scenes": "images",
        "tested": "a map of the EMDB",
    },
}
UM_PER_ANGSTROM = 1e-4


class MrcFile:
    """An open MRC file; see `cellmill.images.raw_files.RawFile`."""

    members: tuple[Path, ...] = ()

    def __init__(self, path: Path) -> None:
        import mrcfile

        with warnings.catch_warnings():
            # many programs write headers with small faults
            warnings.simplefilter("ignore")
            self._file = mrcfile.mmap(path, mode="r", permissive=True)
        if self._file.data is None:
            raise EOFError("fewer bytes than the header declares")
        pixels = self._file.data
        leading = {2: "", 3: UNKNOWN_AXIS if self._file.is_image_stack() else "Z", 4: "VZ"}[pixels.ndim]
        self._order = [*leading, "Y", "X"]
        dtype = np.dtype(pixels.dtype)
        voxel = self._file.voxel_size
        self.scenes = [
            Scene(
                name="",
                sizes={
                    axis: int(size)
                    for axis, size in zip(self._order, pixels.shape, strict=True)
                    if size > 1 or axis in "YX"
                },
                dtype=dtype.newbyteorder("="),
                channels=("",),
                pixel_size_um=plausible_size_um(float(voxel.y) * UM_PER_ANGSTROM, float(voxel.x) * UM_PER_ANGSTROM),
                bits=8 * dtype.itemsize,
            )
        ]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane; see `cellmill.images.raw_files.RawFile`."""
        rows = {"Y": slice(first, last), "X": slice(None)}
        return np.array(self._file.data[tuple(rows.get(axis, index.get(axis, 0)) for axis in self._order)])
