"""Reduce the channels of an image to one plane: luminance, a single channel, or a weighted sum.

Axes as in `cellmill.images.axes`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

# SOURCE ITU-R BT.601, luma of R, G, B
LUMINANCE_WEIGHTS = (0.299, 0.587, 0.114)

# "luminance", the name of a channel, its number, or one weight per channel
Channel = str | int | Sequence[float]
LUMINANCE = "luminance"


def find_channel(channel: Channel, *, names: Sequence[str], where: str | Path) -> str | int | Sequence[float]:
    """Return the number of a channel that is given by its name; anything else unchanged.

    Parameters
    ----------
    channel : "luminance", int, sequence of float, or the name of a channel
    names : sequence of str
        Names of the channels in the file; empty if it has none.
    where : path
        Path of the image, for error messages.

    Raises
    ------
    ValueError
        If no channel, or several, have the name.
    """
    if not isinstance(channel, str) or channel == LUMINANCE:
        return channel
    if not any(names):
        raise ValueError(
            f"{where}: expected a channel called {channel!r}, found no names of channels in the file. "
            "Set preprocess.channel to the number of the channel, from 0."
        )
    found = [number for number, name in enumerate(names) if name == channel]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{where}: expected one channel called {channel!r}, found {len(found)} (numbers "
            f"{', '.join(map(str, found))}). Set preprocess.channel to the number of one of them."
        )
    raise ValueError(
        f"{where}: expected a channel called {channel!r}, found {list_choices(names)}. "
        "Set preprocess.channel to one of these names or numbers."
    )


def list_choices(names: Sequence[str], *, most: int = 12) -> str:
    """List numbered choices with their names, as the file has them."""
    shown = [f"{number} {name!r}" if name else str(number) for number, name in enumerate(names[:most])]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def select_channel(
    array: np.ndarray, *, axes: str, channel: Channel, where: str | Path, names: Sequence[str] = ()
) -> np.ndarray:
    """Reduce an image, or a band of its rows, to one plane.

    Parameters
    ----------
    array : ndarray of shape (rows, columns) or (rows, columns, channels)
        As returned by `read_array`.
    axes : "YX", "YXS" or "YXC"
        Axes of `array`.
    channel : "luminance", int >= 0, sequence of float, or the name of a channel
        As in `read_plane`.
    where : path
        Path of the image, for error messages.
    names : sequence of str
        Names of the channels in the file, if it has any.

    Returns
    -------
    ndarray of shape (rows, columns)
        A selected channel, or grey stored as three equal colours, is returned unchanged in its own dtype. Luminance of
        other colours and weighted sums are float32.

    Raises
    ------
    ValueError
        If the channel does not exist, several channels have its name, alpha varies, the number of weights differs from
        the number of channels, or luminance is requested for channels that are not colours.
    """
    channel = find_channel(channel, names=names, where=where)
    if not isinstance(channel, str | int):
        return _mix(array, weights=channel, where=where)
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
        named = f" ({list_choices(names)})" if any(names) else ""
        raise ValueError(
            f"{where}: expected a grey or RGB image, found {channels} channels that are not colours{named}. "
            f"Set preprocess.channel to a {'name or a ' if named else ''}number from 0 to {channels - 1}."
        )
    return _luminance(_drop_alpha(array, where=where))


def _mix(array: np.ndarray, *, weights: Sequence[float], where: str | Path) -> np.ndarray:
    channels = 1 if array.ndim == 2 else array.shape[2]
    if channels != len(weights):
        raise ValueError(
            f"{where}: expected {len(weights)} channels, one for each weight, found {channels}. "
            "Set preprocess.channel to one weight per channel of the image, with 0 for unused channels."
        )
    mixed_yx = np.zeros(array.shape[:2], dtype=np.float32)
    for weight, channel_yx in zip(weights, np.atleast_3d(array).transpose(2, 0, 1), strict=True):
        if weight:
            mixed_yx += np.float32(weight) * channel_yx.astype(np.float32)
    return mixed_yx


def has_alpha(array: np.ndarray, axes: str) -> bool:
    """Return whether the last sample of a colour image is its transparency."""
    return axes == "YXS" and array.shape[2] in (2, 4)


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
    is_grey_yx = np.logical_and.reduce([colours[:, :, i] == first_yx for i in range(1, colours.shape[2])])
    if np.all(is_grey_yx):
        return np.ascontiguousarray(first_yx)
    luminance_yx = np.zeros(first_yx.shape, dtype=np.float32)
    for i, weight in enumerate(LUMINANCE_WEIGHTS):
        luminance_yx += np.float32(weight) * colours[:, :, i].astype(np.float32)
    # Choose per pixel, so that a band of rows has the same values as in the whole image
    return np.where(is_grey_yx, first_yx.astype(np.float32), luminance_yx)
