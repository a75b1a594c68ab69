"""VSI files of Olympus and Evident scanners: a header, and the pixels in .ets files in a folder beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.images.raw_files import Scene, plausible_size_um

# Declaration, see images/raw_files.py
RAW_FORMATS = {
    "VSI": {
        "opener": "VsiFile",
        "suffixes": (".vsi",),
        "signatures": ("49492a00", "4d4d002a", "49492b00", "4d4d002b"),
        "is_whole": False,
        "library": "slideio",
        "imports": "slideio",
        "licence": "BSD-3-Clause",
        "content": "grey and colour images in full resolution, whose pixels are in the folder `_name_` beside "
        "`name.vsi`; labels and overviews are left out",
        "scenes": "images",
        "tested": "two channels, eleven sections, JPEG 2000",
    },
}
UM_PER_M = 1e6
COLOURS = 3


class VsiFile:
    """An open VSI file; see `cellmill.images.raw_files.RawFile`."""

    def __init__(self, path: Path) -> None:
        import slideio

        folder = path.with_name(f"_{path.stem}_")
        self.members = sorted(folder.rglob("*.ets"))
        if not self.members:
            raise ValueError(
                f"{path}: expected the folder {folder.name} with .ets files beside it, which has the pixels, found "
                "none. Copy it into the same folder as the file."
            )
        self._slide = slideio.open_slide(str(path), "VSI")
        self._scenes = [self._slide.get_scene(number) for number in range(self._slide.num_scenes)]
        self.scenes = [_describe(scene) for scene in self._scenes]

    def close(self) -> None:
        """Close the file."""
        for scene in self._scenes:
            scene.close()
        self._slide.close()

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane; see `cellmill.images.raw_files.RawFile`."""
        found, sizes = self._scenes[scene], self.scenes[scene].sizes
        section, time = index.get("Z", 0), index.get("T", 0)
        rows_yx: np.ndarray = found.read_block(
            rect=(0, first, sizes["X"], last - first), channel_indices=[] if "S" in sizes else [index.get("C", 0)],
            slices=(section, section + 1), frames=(time, time + 1),
        )  # fmt: skip
        return rows_yx


def _describe(scene: Any) -> Scene:
    columns, rows = scene.size
    dtypes = [np.dtype(scene.get_channel_data_type(number)) for number in range(scene.num_channels)]
    # A camera for colours has three channels of one byte; fluorescence has more bits.
    is_colour = dtypes == [np.dtype(np.uint8)] * COLOURS
    counts = {"T": scene.num_t_frames, "C": 1 if is_colour else scene.num_channels, "Z": scene.num_z_slices}
    across_m, down_m = scene.resolution
    names = [scene.get_channel_name(number) or "" for number in range(scene.num_channels)]
    dtype = np.result_type(*dtypes)
    return Scene(
        name=scene.name,
        sizes={
            **{axis: count for axis, count in counts.items() if count > 1},
            "Y": rows, "X": columns, **({"S": COLOURS} if is_colour else {}),
        },
        dtype=dtype,
        channels=("",) if is_colour else tuple(names),
        pixel_size_um=plausible_size_um(down_m * UM_PER_M, across_m * UM_PER_M),
        bits=8 * dtype.itemsize,
    )  # fmt: skip
