"""Read microscope files: their images, channels and pixel sizes, and any plane without the rest.

The formats are those that the modules of `cellmill.microscopes` declare. A module declares a format in a literal
RAW_FORMATS, name -> facts:
  opener       name of its function that opens a file and returns a `RawFile`
  suffixes     ends of the names of its files, lower case, longest first
  signatures   first bytes of its files, in hexadecimal; empty if they vary
  is_whole     True if a plane is decoded as a whole, so that it is kept while its rows are read
  library      package that decodes it, as in requirements-vendor.txt or requirements.txt; "" for none
  imports      module of that package, which is imported only where a file is opened
  licence      licence of the library
  content      kinds of images, for docs/inputs.md
  scenes       what the format calls its images
  tested       files that the tests read
"""

import atexit
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cellmill.declared import modules_that_declare
from cellmill.images.axes import Layout, check_axes

RAW_FORMATS: dict[str, dict[str, Any]] = {
    name: {"module": f"cellmill.microscopes.{module}", **facts}
    for module, formats in modules_that_declare("microscopes", "RAW_FORMATS").items()
    for name, facts in formats.items()
}
FORM_OF_SUFFIX: dict[str, str] = {suffix: form for form, facts in RAW_FORMATS.items() for suffix in facts["suffixes"]}
ALL_SUFFIXES = tuple(FORM_OF_SUFFIX)
INSTALL = "pip install -r requirements-vendor.txt"
# A TIFF whose scene is chosen is read as one of a set.
SET_OF_TIFF = "OME-TIFF"
TIFF_SUFFIXES = (".tif", ".tiff")
# Axis of planes whose meaning the file does not define; `stack.axis` does
UNKNOWN_AXIS = "Q"
# A pixel of a microscope image has an edge of 0.01 nm (electron microscopes) to 1 mm.
PLAUSIBLE_UM = (1e-5, 1e3)


@dataclass(frozen=True)
class Scene:
    """One image of a raw file (a scene, series or position), with planes of equal size.

    `sizes` are its axes in the order of the file, without those of size 1 but with rows and columns, which come last,
    or before S, the samples of a colour (red, green, blue). C are channels, T is time, Z depth. In a scan of sections
    the rows may be Z. `channels` are the names of the channels, "" for one without a name. `pixel_size_um` holds the
    edge lengths (row, column) of a pixel, or is None. `bits` is the number of bits that a sample uses.
    """

    name: str
    sizes: Mapping[str, int]
    dtype: np.dtype
    channels: tuple[str, ...]
    pixel_size_um: tuple[float, float] | None
    bits: int

    @property
    def plane_axes(self) -> tuple[str, str]:
        """The axes of rows and columns, as the file names them."""
        axes = [axis for axis in self.sizes if axis != "S"]
        return axes[-2], axes[-1]

    def axis_in_file(self, axis: str) -> str:
        """Return the name in the file of an axis of the layout, in which rows are Y and depth is Z."""
        rows, columns = self.plane_axes
        if axis in ("Y", "X"):
            return rows if axis == "Y" else columns
        return "Y" if axis == "Z" and rows != "Y" else axis

    def layout(self, *, where: str | Path) -> Layout:
        """Return axes and pixel size of its planes.

        Raises
        ------
        ValueError
            If a plane is empty or implausibly large.
        """
        named = {self.axis_in_file(axis): axis for axis in ("Y", "X", "Z")}
        sizes = {named.get(axis, axis): size for axis, size in self.sizes.items()}
        return Layout(
            sizes=check_axes(sizes, where=where),
            dtype=self.dtype,
            is_colour="S" in sizes,
            pixel_size_um=self.pixel_size_um,
            bits=self.bits,
            channel_names=self.channels if any(self.channels) else (),
        )


class RawFile(Protocol):
    """An open microscope file."""

    scenes: Sequence[Scene]
    # other files that are read
    members: Sequence[Path]

    def read(self, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
        """Read rows of one plane, shape (rows, columns) or (rows, columns, samples).

        `index` has a position for each axis of the scene but those of the plane, named as in the file. A reader of a
        format that is decoded as a whole may read more rows than needed.
        """

    def close(self) -> None:
        """Close the file."""


def raw_format_of(path: str | Path) -> str | None:
    """Return the raw format of a file by its suffix, or None."""
    name = str(path).lower()
    if not name.endswith(ALL_SUFFIXES):
        return None
    found = max((suffix for suffix in FORM_OF_SUFFIX if name.endswith(suffix)), key=len, default=None)
    return None if found is None else FORM_OF_SUFFIX[found]


def is_set(path: str | Path) -> bool:
    """Return whether a file is a TIFF, which may be one of a set, and is read so if its scene is chosen."""
    return raw_format_of(path) is None and str(path).lower().endswith(TIFF_SUFFIXES)


def is_whole(kind: str) -> bool:
    """Return whether any rows of a format are decoded with the whole plane."""
    return kind in RAW_FORMATS and bool(RAW_FORMATS[kind]["is_whole"])


# The file opened last, kept so that its header is read only once while its planes are read in turn.
_opened: dict[tuple[str, int, int], RawFile] = {}


def open_raw(path: Path) -> RawFile:
    """Open a raw file, reading its header only; the file opened last stays open.

    Raises
    ------
    ValueError
        If the library of its format is not installed.
    Exception
        Errors of the library, if the file is damaged.
    """
    stat = path.stat()
    key = (str(path.absolute()), stat.st_size, stat.st_mtime_ns)
    if key not in _opened:
        close_raw()
        form = raw_format_of(path) or SET_OF_TIFF
        facts = RAW_FORMATS[form]
        if facts["imports"]:
            _refuse_missing_library(path, form, facts)
        opened: RawFile = getattr(importlib.import_module(facts["module"]), facts["opener"])(path)
        try:
            _check_scenes(path, form, opened)
        except Exception:
            opened.close()
            raise
        _opened[key] = opened
    return _opened[key]


def _check_scenes(path: Path, form: str, opened: RawFile) -> None:
    if not opened.scenes:
        raise ValueError(
            f"{path}: expected at least one image, found none in this {form} file. Open it in the program of the "
            "microscope to see whether the acquisition was finished."
        )
    if any(len(scene.sizes.keys() - {"S"}) < 2 for scene in opened.scenes):
        raise EOFError("no rows and columns in the header")


def _refuse_missing_library(path: Path, form: str, facts: Mapping[str, Any]) -> None:
    try:
        library = importlib.import_module(facts["imports"])
        if library.__file__ is None:  # a folder of data with the name of the package
            raise ImportError(f"No module named {facts['imports']!r}")
    except ImportError as error:
        raise ValueError(
            f"{path}: expected the package {facts['library']}, which reads {form} files, found: {error}. "
            f"Install it: {INSTALL}"
        ) from error


def close_raw() -> None:
    """Close the file that was opened last."""
    for opened in _opened.values():
        opened.close()
    _opened.clear()


atexit.register(close_raw)


def read_layout(path: Path, *, scene: int) -> Layout:
    """Read the axes of one scene of a raw file from its header only.

    Raises
    ------
    ValueError
        If the file has no such scene, or its planes are empty or implausibly large.
    """
    return _scene(path, scene).layout(where=path)


def _scene(path: Path, number: int) -> Scene:
    scenes = open_raw(path).scenes
    if number >= len(scenes):
        raise ValueError(f"{path}: expected the scene {number}, found {len(scenes)} scenes. Set stack.scene again.")
    return scenes[number]


def read_rows(path: Path, *, scene: int, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
    """Read some rows of one plane.

    Parameters
    ----------
    path : Path
    scene : int
        Number of the scene.
    index : mapping
        Axis of the layout -> position, for every axis of the stack. With C, only that channel is read.
    first, last : int
        Range of rows; `last` is excluded.

    Returns
    -------
    ndarray of shape (rows, columns), (rows, columns, samples) or (rows, columns, channels)
        In native byte order.
    """
    found = _scene(path, scene)
    shape, samples = (last - first, found.sizes[found.plane_axes[1]]), found.sizes.get("S", 1)
    place = {found.axis_in_file(axis): position for axis, position in index.items()}
    channels = [place.pop("C")] if "C" in place else range(found.sizes.get("C", 1))
    planes = []
    for channel in channels:
        chosen = {**place, "C": channel} if "C" in found.sizes else place
        plane = open_raw(path).read(scene, chosen, first, last)
        if plane.shape[: 2 + (samples > 1)] != (*shape, *([samples] if samples > 1 else [])):
            raise EOFError(f"{shape[0]} x {shape[1]} px expected from the header, {plane.shape} read")
        planes.append(plane)
    array = planes[0] if len(planes) == 1 else np.stack(planes, axis=2)
    return np.ascontiguousarray(array.astype(found.dtype, copy=False))


def refuse_missing(path: Path, missing: Sequence[str], *, source: str = "it lists", advice: str = "") -> None:
    """Refuse a set of files of which some are not beside the file that names them.

    Parameters
    ----------
    path : Path
        The file that names the others.
    missing : sequence of str
        Names of the files that are not there; without any, nothing happens.
    source : str
        What names them.
    advice : str
        What could be done instead of copying them.

    Raises
    ------
    ValueError
        If files are missing.
    """
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(
            f"{path}: expected the files that {source} beside it, found no {', '.join(missing[:3])}{more}. Copy them "
            f"into the same folder{advice}."
        )


def plausible_size_um(row_um: float | None, column_um: float | None) -> tuple[float, float] | None:
    """Return the edges of a pixel if both are known and plausible for a microscope, else None."""
    edges = (row_um or 0.0, column_um or 0.0)
    return edges if all(PLAUSIBLE_UM[0] <= edge <= PLAUSIBLE_UM[1] for edge in edges) else None
