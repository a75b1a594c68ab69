"""Reduce the channels of an image to one plane: luminance, a single channel, or a weighted sum.

Axes as in `cellmill.images.axes`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

# SOURCE ITU-R BT.601, luma of R, G, B
LUMINANCE_WEIGHTS = (0.299, 0.587, 0.114)

# "luminance", a channel number, or one weight per channel
Channel = str | int | Sequence[float]


def select_channel(array: np.ndarray, *, axes: str, channel: Channel, where: str | Path) -> np.ndarray:
    """Reduce an image, or a band of its rows, to one plane.

    Parameters
    ----------
    array : ndarray of shape (rows, columns) or (rows, columns, channels)
        As returned by `read_array`.
    axes : "YX", "YXS" or "YXC"
        Axes of `array`.
    channel : "luminance", int >= 0, or sequence of float
        As in `read_plane`.
    where : path
        Path of the image, for error messages.

    Returns
    -------
    ndarray of shape (rows, columns)
        A selected channel, or grey stored as three equal colours, is returned unchanged in its own dtype. Luminance of
        other colours and weighted sums are float32.

    Raises
    ------
    ValueError
        If the channel does not exist, alpha varies, the number of weights differs from the number of channels, or
        luminance is requested for channels that are not colours.
    """
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
        raise ValueError(
            f"{where}: expected a grey or RGB image, found {channels} channels that are not colours. "
            f"Set preprocess.channel to a number from 0 to {channels - 1}."
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
