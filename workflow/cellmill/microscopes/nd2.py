"""ND2 files of Nikon NIS-Elements: positions, time, z, channels; uncompressed frames are mapped into memory."""

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from cellmill.images.raw_files import Scene, plausible_size_um

# Declaration, see images/raw_files.py
RAW_FORMATS = {
    "ND2": {
        "opener": "Nd2File",
        "suffixes": (".nd2",),
        "signatures": ("dacebe0a", "0000000c6a502020"),  # since 2007, and JPEG 2000 before
        "is_whole": False,
        "library": "nd2",
        "imports": "nd2",
        "licence": "BSD-3-Clause",
        "content": "grey and RGB, 8 and 16 bits and floats; uncompressed, lossless zip, JPEG 2000 of old files",
        "scenes": "positions",
        "tested": "NIS-Elements, time-lapse, z-stack, four channels",
    },
}
# Axes of a frame, which is stored as a whole
IN_FRAME = "CYXS"


class Nd2File:
    """An open ND2 file; see `cellmill.images.raw_files.RawFile`."""

    members: tuple[Path, ...] = ()

    def __init__(self, path: Path) -> None:
        import nd2

        self._file = nd2.ND2File(path)
        sizes = {str(axis): int(size) for axis, size in self._file.sizes.items()}
        self._loops = {axis: size for axis, size in sizes.items() if axis not in IN_FRAME}
        frames = int(self._file.attributes.sequenceCount)
        if prod(self._loops.values()) > frames:
            raise EOFError(f"{prod(self._loops.values())} frames expected from the header, {frames} recorded")
        self._in_frame = {axis: sizes[axis] for axis in IN_FRAME if sizes.get(axis, 1) > 1}
        kept = {axis: size for axis, size in sizes.items() if axis != "P" and (size > 1 or axis in "YX")}
        order = [axis for axis in kept if axis not in "YXS"] + [axis for axis in "YXS" if axis in kept]
        names = self._position_names(self._loops.get("P", 1))
        bits = self._file.attributes.bitsPerComponentSignificant
        self.scenes = [
            Scene(
                name=name,
                sizes={axis: kept[axis] for axis in order},
                dtype=np.dtype(self._file.dtype).newbyteorder("="),
                channels=self._channel_names(),
                pixel_size_um=self._pixel_size_um(),
                bits=int(bits),
            )
            for name in names
        ]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _position_names(self, count: int) -> list[str]:
        names = [""] * count
        for loop in self._file.experiment:
            if loop.type == "XYPosLoop":
                names = [point.name or "" for point in loop.parameters.points][:count]
        return names + [""] * (count - len(names))

    def _channel_names(self) -> tuple[str, ...]:
        channels = getattr(self._file.metadata, "channels", None) or []
        return tuple(one.channel.name or "" for one in channels)

    def _pixel_size_um(self) -> tuple[float, float] | None:
        channels = getattr(self._file.metadata, "channels", None)
        if not channels:
            return None
        volume = channels[0].volume
        across, down, *_ = volume.axesCalibration
        is_calibrated = all(volume.axesCalibrated[:2])
        return plausible_size_um(down, across) if is_calibrated else None

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane; see `cellmill.images.raw_files.RawFile`."""
        places = [scene if axis == "P" else index.get(axis, 0) for axis in self._loops]
        number = int(np.ravel_multi_index(places, tuple(self._loops.values()))) if places else 0
        frame = self._file.read_frame(number)
        if frame.shape != tuple(self._in_frame.values()):
            raise EOFError(f"{tuple(self._in_frame.values())} expected from the header, a frame of {frame.shape} found")
        if "C" in self._in_frame:
            frame = frame[index.get("C", 0)]
        rows, columns = self.scenes[scene].sizes["Y"], self.scenes[scene].sizes["X"]
        # axes of size 1 are left out of a frame
        frame = frame.reshape((rows, columns, *([self._in_frame["S"]] if "S" in self._in_frame else [])))
        return np.array(frame[first:last])
