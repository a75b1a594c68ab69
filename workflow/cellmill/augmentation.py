"""Random changes of a training patch: the same geometry for image and target, the image's values alone.

Order   affine (rotation, zoom, shift), quarter turns, flips, then sign, contrast, brightness, noise
Image   float32, normalised: values in standard deviations of the image, 0 its mean
Target  uint8, copied from the nearest pixel, never interpolated; what lies outside the image is ignored
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from cellmill.losses import IGNORED_TARGET


@dataclass(frozen=True)
class Augmentation:
    """What was drawn for one patch."""

    affine: bool
    rotation_deg: float
    zoom: float
    shift_yx_px: tuple[float, float]
    quarter_turns: int
    flip_rows: bool
    flip_columns: bool
    gain: float
    offset: float
    noise: float


def margin_px(settings: dict[str, Any], *, patch: tuple[int, int]) -> int:
    """Give how much further than the patch an affine change may reach, on each side.

    Parameters
    ----------
    settings : dict
        Section `train.augmentation` of a preset.
    patch : (rows, columns)
        In px.

    Returns
    -------
    int
        0 where no affine change is drawn.
    """
    if settings["affine_probability"] == 0:
        return 0
    margins = []
    for along, across in (patch, patch[::-1]):
        angle = min(math.radians(settings["rotation_deg"]), math.atan2(across, along))
        reach = (along * math.cos(angle) + across * math.sin(angle)) / 2 / settings["zoom"][0]
        margins.append(reach + along * settings["translation"] - along / 2)
    return math.ceil(max(0.0, *margins)) + 1


def draw_augmentation(settings: dict[str, Any], *, patch: tuple[int, int], rng: np.random.Generator) -> Augmentation:
    """Draw the changes of one patch; every draw takes the same numbers from the stream.

    Parameters
    ----------
    settings : dict
        Section `train.augmentation` of a preset.
    patch : (rows, columns)
        In px.
    rng : Generator
        The stream of this patch.
    """
    coins = rng.random(5)
    rotation, shift_y, shift_x, zoom, contrast, brightness = rng.uniform(-1, 1, size=6)
    low, high = np.log(settings["zoom"])
    affine = bool(coins[0] < settings["affine_probability"])
    sign = -1.0 if coins[3] < settings["invert_probability"] else 1.0
    return Augmentation(
        affine=affine,
        rotation_deg=float(rotation * settings["rotation_deg"]),
        # Drawn on a logarithmic scale: half the size is as likely as double the size.
        zoom=float(np.exp((low + high) / 2 + zoom * (high - low) / 2)),
        shift_yx_px=(
            float(shift_y * settings["translation"] * patch[0]),
            float(shift_x * settings["translation"] * patch[1]),
        ),
        quarter_turns=int(coins[4] * 4) if settings["rotate_90"] else 0,
        flip_rows=bool(settings["flip"] and coins[1] < 0.5),
        flip_columns=bool(settings["flip"] and coins[2] < 0.5),
        gain=sign * float(np.exp(contrast * np.log1p(settings["contrast"]))),
        offset=float(brightness * settings["brightness"]),
        noise=float(settings["noise"]),
    )


def augment(
    image_yx: np.ndarray,
    target_yx: np.ndarray,
    *,
    drawn: Augmentation,
    patch: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Apply the changes that were drawn.

    Parameters
    ----------
    image_yx, target_yx : ndarray of float32 and of uint8, one shape
        A window: the patch with the margin of `margin_px` on each side.
    drawn : Augmentation
        From `draw_augmentation`.
    patch : (rows, columns)
        Shape of the result; square where quarter turns are drawn.
    rng : Generator
        The stream of this patch, for the noise.

    Returns
    -------
    image_yx, target_yx : ndarray of float32 and of uint8, of the patch's shape
    """
    if drawn.affine:
        image_yx, target_yx = _warp(image_yx, target_yx, drawn=drawn, patch=patch)
    else:
        inner = tuple(
            slice((length - part) // 2, (length - part) // 2 + part)
            for length, part in zip(image_yx.shape, patch, strict=True)
        )
        image_yx, target_yx = image_yx[inner], target_yx[inner]
    image_yx = _turn(image_yx, drawn) * np.float32(drawn.gain) + np.float32(drawn.offset)
    if drawn.noise > 0:
        image_yx = image_yx + drawn.noise * rng.standard_normal(image_yx.shape, dtype=np.float32)
    return np.ascontiguousarray(image_yx, dtype=np.float32), np.ascontiguousarray(_turn(target_yx, drawn))


def _turn(plane_yx: np.ndarray, drawn: Augmentation) -> np.ndarray:
    plane_yx = np.rot90(plane_yx, drawn.quarter_turns)
    return plane_yx[:: -1 if drawn.flip_rows else 1, :: -1 if drawn.flip_columns else 1]


def _warp(
    image_yx: np.ndarray, target_yx: np.ndarray, *, drawn: Augmentation, patch: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    angle = math.radians(drawn.rotation_deg)
    # From a pixel of the patch, measured from its centre, to the place in the window it is taken from.
    back = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) / drawn.zoom
    patch_centre = (np.array(patch) - 1) / 2
    window_centre = (np.array(image_yx.shape) - 1) / 2
    offset = window_centre + np.array(drawn.shift_yx_px) - back @ patch_centre
    warped_yx = ndimage.affine_transform(image_yx, back, offset, output_shape=patch, order=1, mode="nearest")
    moved_yx = ndimage.affine_transform(
        target_yx, back, offset, output_shape=patch, order=0, mode="constant", cval=IGNORED_TARGET
    )
    return warped_yx, moved_yx
