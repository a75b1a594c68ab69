"""Read raw image files: one channel of one plane, whole or by rows.

Axes: Y rows, X columns, S samples of one colour (RGB, RGBA, grey with alpha), C channels of any other kind.
"""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cellmill.images.axes import PlaneIndex
from cellmill.images.channels import Channel
from cellmill.images.rasters import open_raster
from cellmill.images.stored import pick_rows

MAX_PROBLEM_LINES = 20
# Of the files that have the same problem: lines shown, and files named after them
MAX_SAME_PROBLEM, MAX_SAME_PLACES = 3, 10


def raise_together(problems: Sequence[str], *, subject: str) -> None:
    """Raise one ValueError that lists all problems with the files of a shard; do nothing for an empty list.

    Parameters
    ----------
    problems : sequence of str
        One three-part message each; each line of a longer message counts as a problem.
    subject : str
        What the problems concern, such as ``annotations``.
    """
    # a broken stack causes the same problem for each of its planes
    lines = list(dict.fromkeys(line for problem in problems for line in problem.splitlines()))
    if not lines:
        return
    counts: Counter[str] = Counter()
    unlike, same = [], []
    for line in lines:
        place, expected, problem = line.partition(": expected ")
        counts[problem] += bool(expected)
        if counts[problem] <= MAX_SAME_PROBLEM:
            unlike.append(line)
        else:
            same.append(place)
    shown = unlike[:MAX_PROBLEM_LINES]
    if same:
        rest = f"; and {len(same) - MAX_SAME_PLACES} others" if len(same) > MAX_SAME_PLACES else ""
        shown.append(f"... and {len(same)} more with the same message: {'; '.join(same[:MAX_SAME_PLACES])}{rest}.")
    if cut := len(unlike) - min(len(unlike), MAX_PROBLEM_LINES):
        shown.append(f"... and {cut} more in the same shard.")
    plural = "" if len(lines) == 1 else "s"
    raise ValueError(f"{len(lines)} problem{plural} with the {subject}:\n  " + "\n  ".join(shown))


def read_shape(path: str | Path, *, plane: PlaneIndex = ()) -> tuple[int, int]:
    """Read the numbers of rows and columns of an image from its header only.

    Parameters
    ----------
    path : path
    plane : sequence of [axis, position, size]
        Position in a stack, as in `cellmill.images.rasters.open_raster`.

    Returns
    -------
    tuple of int
        (rows, columns) in px.

    Raises
    ------
    ValueError
        As `cellmill.images.rasters.open_raster`.
    """
    return open_raster(path, palette="colours", plane=plane).shape


def read_plane(path: str | Path, *, channel: Channel, plane: PlaneIndex = ()) -> np.ndarray:
    """Read one plane of an image file as a whole.

    Parameters
    ----------
    path : path
        A grey, RGB, RGBA or multi-channel image, or a stack.
    channel : "luminance", int >= 0, sequence of float, or the name of a channel
        "luminance" keeps a grey image unchanged and weights colours by Rec. 601; a number or a name selects a channel;
        a sequence contains one weight per channel.
    plane : sequence of [axis, position, size]
        Position in a stack.

    Returns
    -------
    ndarray of shape (rows, columns)
        The file's dtype; float32 if channels were weighted.

    Raises
    ------
    ValueError
        As `cellmill.images.rasters.open_raster`, and if `channel` does not match the channels of the file.
    """
    raster = open_raster(path, palette="colours", plane=plane)
    return raster.channel_reader(channel)(0, raster.shape[0])


def read_array(path: str | Path, *, palette: str, plane: PlaneIndex = ()) -> tuple[np.ndarray, str]:
    """Read all channels of one plane of an image file as a whole, and return its axes.

    Parameters
    ----------
    path, palette, plane
        As in `cellmill.images.rasters.open_raster`.

    Returns
    -------
    ndarray
        Of any real dtype, finite; one-bit images become uint8.
    str
        "YX", "YXS" (colours) or "YXC" (channels).

    Raises
    ------
    ValueError
        As `cellmill.images.rasters.open_raster`; and if the file is damaged or contains values that are not finite.
    """
    raster = open_raster(path, palette=palette, plane=plane)
    return raster.read(0, raster.shape[0]), raster.axes


class PlaneRows:
    """One channel of one plane of an image file, read by rows; parameters as for `read_plane`.

    A format that is decoded as a whole stays in memory after the first read.
    """

    def __init__(self, path: str | Path, *, channel: Channel, plane: PlaneIndex = ()) -> None:
        self._raster = open_raster(path, palette="colours", plane=plane)
        self._channel = channel
        self.shape = self._raster.shape

    @functools.cached_property
    def _read(self) -> Callable[[int, int], np.ndarray]:
        return self._raster.channel_reader(self._channel)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return a slice of the rows, or the rows at ascending indices."""
        return pick_rows(self._read, rows, height=self.shape[0])
