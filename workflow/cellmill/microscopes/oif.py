"""OIB and OIF files of Olympus FluoView: one TIFF for each plane, in one file or in a folder beside it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cellmill.images.axes import unit_in_um
from cellmill.images.raw_files import Scene, plausible_size_um

# Declaration, see images/raw_files.py
RAW_FORMATS = {
    "OIB": {
        "opener": "OifFile",
        "suffixes": (".oib",),
        "signatures": ("d0cf11e0a1b11ae1",),
        "is_whole": True,
        "library": "oiffile",
        "imports": "oiffile",
        "licence": "BSD-3-Clause",
        "content": "grey, 8 to 16 bits; channels are named by their dye",
        "scenes": "images",
        "tested": "FluoView FV1000, three channels",
    },
    "OIF": {
        "opener": "OifFile",
        "suffixes": (".oif",),
        "signatures": (),
        "is_whole": True,
        "library": "oiffile",
        "imports": "oiffile",
        "licence": "BSD-3-Clause",
        "content": "as OIB; the folder `.oif.files` has to be beside the file",
        "scenes": "images",
        "tested": "the planes of an OIB in a folder",
    },
}


class OifFile:
    """An open OIB or OIF file; see `cellmill.images.raw_files.RawFile`."""

    def __init__(self, path: Path) -> None:
        import oiffile

        folder = path.with_name(f"{path.name}.files")
        if path.suffix.lower() == ".oif" and not folder.is_dir():
            raise ValueError(
                f"{path}: expected the folder {folder.name} beside it, which has the pixels, found none. Copy the "
                "folder to the same place."
            )
        self._file = oiffile.OifFile(path)
        self.members = [] if path.suffix.lower() == ".oib" else sorted(one for one in folder.iterdir() if one.is_file())
        # thumbnails and reference images are shorter series
        self._planes = self._file.series[0]
        self._names = dict(zip(map(tuple, self._planes.indices), self._planes, strict=True))
        reference = self._file.mainfile["Reference Image Parameter"]
        order = str(self._file.mainfile["Axis Parameter Common"]["AxisOrder"])
        rows = order[1] if len(order) > 1 and order[0] == "X" else "Y"
        self._axes = {axis: int(size) for axis, size in zip(self._planes.axes, self._planes.shape, strict=True)}
        edges = [
            float(reference.get(f"{side}ConvertValue") or 0) * unit_in_um(str(reference.get(f"{side}Unit") or ""))
            for side in ("Height", "Width")
        ]
        bits = int(reference["ValidBitCounts"])
        count = self._axes.get("C", 1)
        self.scenes = [
            Scene(
                name="",
                sizes={
                    **{axis: size for axis, size in self._axes.items() if size > 1},
                    rows: int(reference["ImageHeight"]),
                    "X": int(reference["ImageWidth"]),
                },
                dtype=np.dtype(np.uint16 if bits > 8 else np.uint8),
                channels=tuple(self._dye(number) for number in range(1, count + 1)),
                pixel_size_um=plausible_size_um(*edges),
                bits=bits,
            )
        ]

    def _dye(self, number: int) -> str:
        section = self._file.mainfile.get(f"Channel {number} Parameters") or {}
        return str(section.get("DyeName") or "")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane; see `cellmill.images.raw_files.RawFile`."""
        place = tuple(index.get(axis, 0) for axis in self._axes)
        if place not in self._names:
            raise EOFError(f"no plane at {dict(zip(self._axes, place, strict=True))}")
        return np.asarray(self._file.asarray(self._names[place]))[first:last]
