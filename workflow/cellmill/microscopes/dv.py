"""DV and R3D files of DeltaVision, which are mapped into memory."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cellmill.images.raw_files import Scene, plausible_size_um

# Declaration, see images/raw_files.py
RAW_FORMATS = {
    "DV": {
        "opener": "DvFile",
        "suffixes": (".dv", ".r3d"),
        "signatures": (),
        "is_whole": False,
        "library": "mrc",
        "imports": "mrc",
        "licence": "BSD-3-Clause",
        "content": "grey, 8 and 16 bits and floats; channels are named by their emission wavelength in nm",
        "scenes": "images",
        "tested": "DeltaVision, two channels, a z-stack",
    },
}


class DvFile:
    """An open DV file; see `cellmill.images.raw_files.RawFile`."""

    members: tuple[Path, ...] = ()

    def __init__(self, path: Path) -> None:
        import mrc

        self._file = mrc.DVFile(path)
        sizes = {str(axis): int(size) for axis, size in self._file.sizes.items()}
        self._order = list(sizes)
        header = self._file.hdr
        waves = [getattr(header, f"wave{number}") for number in range(1, 6)]
        dtype = np.dtype(self._file.dtype)
        # mapped now, so that a file that ends too early is refused when it is opened
        self._pixels = self._file.data
        self.scenes = [
            Scene(
                name="",
                sizes={axis: size for axis, size in sizes.items() if size > 1 or axis in "YX"},
                dtype=dtype.newbyteorder("="),
                channels=tuple(
                    str(waves[number]) if number < len(waves) else "" for number in range(sizes.get("C", 1))
                ),
                pixel_size_um=plausible_size_um(float(header.dy), float(header.dx)),
                bits=8 * dtype.itemsize,
            )
        ]

    def close(self) -> None:
        """Close the file."""
        del self._pixels
        self._file.close()

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane; see `cellmill.images.raw_files.RawFile`."""
        rows = {"Y": slice(first, last), "X": slice(None)}
        return np.array(self._pixels[tuple(rows.get(axis, index.get(axis, 0)) for axis in self._order)])
