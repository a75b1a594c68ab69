"""Image files: reading what a lab has, writing what the stages hand to one another.

Axes: Y rows, X columns, S samples of one colour (RGB, RGBA, grey with alpha), C channels of any other kind.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from cellmill.decoding import decode, explain, identify, image_shape

# Never the number of an object: pixels of which nobody knows what they are.
IGNORE_LABEL = 65535
MAX_PROBLEM_LINES = 20
# SOURCE ITU-R BT.601, luma of R, G, B
LUMINANCE_WEIGHTS = (0.299, 0.587, 0.114)


def raise_together(problems: Sequence[str], *, subject: str) -> None:
    """Raise one ValueError that lists what is wrong with the files of a shard; nothing for an empty list.

    Parameters
    ----------
    problems : sequence of str
        One three-part message each; a message of several lines counts as several.
    subject : str
        What they are problems of, such as ``annotations``.
    """
    lines = [line for problem in problems for line in problem.splitlines()]
    if not lines:
        return
    shown = lines[:MAX_PROBLEM_LINES]
    if len(lines) > len(shown):
        shown.append(f"... and {len(lines) - len(shown)} more of the same shard.")
    plural = "" if len(lines) == 1 else "s"
    raise ValueError(f"{len(lines)} problem{plural} with the {subject}:\n  " + "\n  ".join(shown))


def read_shape(path: str | Path) -> tuple[int, int]:
    """Read how many rows and columns an image has, from its header only.

    Returns
    -------
    tuple of int
        (rows, columns) in px.

    Raises
    ------
    ValueError
        If the file is missing, unreadable, of another kind than its suffix says, a stack, or absurdly large.
    """
    path = Path(path)
    return image_shape(path, kind=identify(path))


def read_plane(path: str | Path, *, channel: str | int) -> np.ndarray:
    """Read one plane of a PNG, TIFF or JPEG file.

    Parameters
    ----------
    path : path
        A grey, RGB or RGBA image, or one with several channels; no stack.
    channel : "luminance" or int, >= 0
        "luminance" takes a grey image as it is and weights colours by Rec. 601; a number picks one channel.

    Returns
    -------
    ndarray of shape (rows, columns)
        The file's own dtype; float32 where colours were weighted.

    Raises
    ------
    ValueError
        As `read_array`, and where `channel` does not fit what the file holds.
    """
    array, axes = read_array(path, palette="colours")
    return select_channel(array, axes=axes, channel=channel, where=path)


def read_array(path: str | Path, *, palette: str) -> tuple[np.ndarray, str]:
    """Read a whole image file and say what its axes are.

    Parameters
    ----------
    path : path
        PNG, TIFF or JPEG.
    palette : "colours" or "indices"
        What a PNG with a palette means: the colours that it shows, or the numbers that it stores.

    Returns
    -------
    ndarray
        Of any real dtype, finite; one-bit images become uint8.
    str
        "YX", "YXS" (colours) or "YXC" (channels).

    Raises
    ------
    ValueError
        If the file is missing, unreadable, of another kind than its suffix says, a stack or of several pages,
        absurdly large, or holds values that are not finite.
    """
    path = Path(path)
    kind = identify(path)
    image_shape(path, kind=kind)
    array, axes = decode(path, kind=kind, palette=palette)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "uif":
        raise ValueError(
            f"{path}: expected real numbers, found pixels of type {array.dtype}. "
            "Save the image as integers or floating-point numbers."
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int(np.count_nonzero(~np.isfinite(array)))
        raise ValueError(
            f"{path}: expected finite values, found {count} pixels that are NaN or infinite. "
            "Replace them before the image enters the pipeline."
        )
    return array, axes


def select_channel(array: np.ndarray, *, axes: str, channel: str | int, where: str | Path) -> np.ndarray:
    """Take one plane out of an image.

    Parameters
    ----------
    array : ndarray of shape (rows, columns) or (rows, columns, channels)
        As `read_array` gives it.
    axes : "YX", "YXS" or "YXC"
        Its axes.
    channel : "luminance" or int, >= 0
        As in `read_plane`.
    where : path
        Named in errors.

    Returns
    -------
    ndarray of shape (rows, columns)
        Grey that is stored as three equal colours comes back exactly, in its own dtype.

    Raises
    ------
    ValueError
        If the channel does not exist, alpha varies, or luminance is asked of channels that are no colours.
    """
    if axes == "YX":
        if channel in ("luminance", 0):
            return array
        raise ValueError(
            f"{where}: expected at least {int(channel) + 1} channels, found one. "
            "Set preprocess.channel to luminance or to 0."
        )
    channels = array.shape[2]
    if channel != "luminance":
        if int(channel) < channels:
            return np.ascontiguousarray(array[:, :, int(channel)])
        raise ValueError(
            f"{where}: expected at least {int(channel) + 1} channels, found {channels}. "
            f"Set preprocess.channel to a number from 0 to {channels - 1}."
        )
    if axes == "YXC":
        raise ValueError(
            f"{where}: expected a grey or RGB image, found {channels} channels that are no colours. "
            f"Set preprocess.channel to a number from 0 to {channels - 1}."
        )
    return _luminance(_drop_alpha(array, where=where))


def has_alpha(array: np.ndarray, axes: str) -> bool:
    """Say whether the last sample of a colour image is its transparency."""
    return axes == "YXS" and array.shape[2] in (2, 4)


def write_image(path: str | Path, image_yx: np.ndarray) -> None:
    """Write a preprocessed image as uncompressed float32, so that `tifffile.memmap` can open it.

    Parameters
    ----------
    path : path
        Ends in ``.tif``.
    image_yx : ndarray of float32, shape (rows, columns)
        Counts, signed where a background was subtracted.
    """
    assert image_yx.ndim == 2
    assert image_yx.dtype == np.float32
    _write_tiff(path, image_yx, compression=None)


def write_labels(path: str | Path, labels_yx: np.ndarray) -> None:
    """Write a label image, compressed without loss.

    Parameters
    ----------
    path : path
        Ends in ``.tif``.
    labels_yx : ndarray of integers, shape (rows, columns)
        0 background, 65535 ignored pixels, any other number an object. Stored as uint16, or as uint32
        where an object's number needs it.

    Raises
    ------
    ValueError
        If a label is negative or beyond uint32.
    """
    assert labels_yx.ndim == 2
    lowest, highest = int(labels_yx.min()), int(labels_yx.max())
    if lowest < 0 or highest >= 2**32:
        raise ValueError(
            f"{path}: expected labels from 0 to {2**32 - 1}, found {lowest} to {highest}. Renumber the objects."
        )
    dtype = np.uint16 if highest <= IGNORE_LABEL else np.uint32
    _write_tiff(path, labels_yx.astype(dtype), compression="zlib")


def read_labels(path: str | Path) -> np.ndarray:
    """Read a label image that `write_labels` wrote: uint16 or uint32, shape (rows, columns)."""
    labels_yx = _read_own(path)
    assert labels_yx.ndim == 2, path
    assert labels_yx.dtype in (np.uint16, np.uint32), path
    return labels_yx


def write_probabilities(path: str | Path, prob_cyx: np.ndarray) -> None:
    """Write probability maps as compressed float16, rounded to 1/2048 at worst near 1.

    Parameters
    ----------
    path : path
        Ends in ``.tif``.
    prob_cyx : ndarray of float, shape (channels, rows, columns)
        Not thresholded.
    """
    assert prob_cyx.ndim == 3
    _write_tiff(path, prob_cyx.astype(np.float16), compression="zlib")


def read_probabilities(path: str | Path) -> np.ndarray:
    """Read probability maps that `write_probabilities` wrote: float32, shape (channels, rows, columns)."""
    array = _read_own(path).astype(np.float32)
    return array if array.ndim == 3 else array[np.newaxis]


def sample_paths(folder: str | Path) -> dict[str, Path]:
    """List the images of a shard folder: sample -> path of its ``.tif``, sorted by sample."""
    return {path.name.removesuffix(".tif"): path for path in sorted(Path(folder).glob("*.tif"))}


def _write_tiff(path: str | Path, array: np.ndarray, *, compression: str | None) -> None:
    # No description and no program name, so that equal pixels are equal bytes.
    tifffile.imwrite(path, array, photometric="minisblack", compression=compression, metadata=None, software=False)


def _read_own(path: str | Path) -> np.ndarray:
    try:
        return tifffile.imread(path)
    except Exception as error:  # the decoder raises errors of many kinds
        raise explain(error, path=Path(path), kind="TIFF") from error


def _drop_alpha(array: np.ndarray, *, where: str | Path) -> np.ndarray:
    if not has_alpha(array, "YXS"):
        return array
    alpha_yx = array[:, :, -1]
    if alpha_yx.min() != alpha_yx.max():
        raise ValueError(
            f"{where}: expected an opaque image, found alpha from {alpha_yx.min()} to {alpha_yx.max()}. "
            "Export the image without alpha, or set preprocess.channel to the number of one channel."
        )
    return array[:, :, :-1]


def _luminance(colours: np.ndarray) -> np.ndarray:
    first_yx = colours[:, :, 0]
    if all(np.array_equal(first_yx, colours[:, :, i]) for i in range(1, colours.shape[2])):
        return np.ascontiguousarray(first_yx)
    luminance_yx = np.zeros(first_yx.shape, dtype=np.float32)
    for i, weight in enumerate(LUMINANCE_WEIGHTS):
        luminance_yx += np.float32(weight) * colours[:, :, i].astype(np.float32)
    return luminance_yx
