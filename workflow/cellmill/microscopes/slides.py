"""Slides: SVS of Aperio and NDPI of Hamamatsu, of which the config chooses a level."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile

from cellmill.images.raw_files import Scene, plausible_size_um
from cellmill.images.tiff import read_series
from cellmill.microscopes.tiff_series import SeriesFile, describe_series

# Declaration, see images/raw_files.py
RAW_FORMATS = {
    "SVS": {
        "opener": "SlideFile",
        "suffixes": (".svs",),
        "signatures": ("49492a00", "4d4d002a", "49492b00", "4d4d002b"),
        "is_whole": False,
        "library": "tifffile",
        "imports": "tifffile",
        "licence": "BSD-3-Clause",
        "content": "RGB; labels, overviews and thumbnails are left out",
        "scenes": "levels",
        "tested": "Aperio, one level",
    },
    "NDPI": {
        "opener": "SlideFile",
        "suffixes": (".ndpi",),
        "signatures": ("49492a00", "4d4d002a"),
        "is_whole": False,
        "library": "tifffile",
        "imports": "tifffile",
        "licence": "BSD-3-Clause",
        "content": "RGB; labels and overviews are left out",
        "scenes": "levels",
        "tested": "Hamamatsu, four levels",
    },
}
UM_PER_CM = 1e4


class SlideFile(SeriesFile):
    """An open slide, with a scene for each level of the first series; see `cellmill.images.raw_files.RawFile`."""

    def __init__(self, path: Path) -> None:
        tif = tifffile.TiffFile(path)
        levels = list(tif.series[0].levels)
        super().__init__(tif, levels)
        size_um = _pixel_size_um(tif)
        full = describe_series(levels[0], channels=(), pixel_size_um=size_um)
        for number, level in enumerate(levels):
            scene = describe_series(level, channels=(), pixel_size_um=None)
            # a level has the same extent as the full resolution
            factors = tuple(full.sizes[axis] / scene.sizes[axis] for axis in "YX")
            edges = (None, None) if size_um is None else (size_um[0] * factors[0], size_um[1] * factors[1])
            name = "full resolution" if number == 0 else f"{scene.sizes['Y']} x {scene.sizes['X']} px"
            self.scenes.append(Scene(**{**vars(scene), "name": name, "pixel_size_um": plausible_size_um(*edges)}))

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one level; see `cellmill.images.raw_files.RawFile`."""
        return read_series(self._series[scene], index=index, first=first, last=last)


def _pixel_size_um(tif: tifffile.TiffFile) -> tuple[float, float] | None:
    """Return the pixel size of a slide: in the description of Aperio, or as a resolution in cm."""
    page = tif.pages.first
    if match := re.search(r"\|MPP\s*=\s*([\d.]+)", page.description):
        return plausible_size_um(float(match[1]), float(match[1]))
    if page.tags.valueof("ResolutionUnit") != tifffile.RESUNIT.CENTIMETER:
        return None
    edges = []
    for name in ("YResolution", "XResolution"):
        above, below = page.tags.valueof(name, default=(0, 1))
        edges.append(UM_PER_CM * below / above if above else 0.0)
    return plausible_size_um(*edges)
