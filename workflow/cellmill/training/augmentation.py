"""Augmentation of training patches: draw random changes by a preset's settings, compute their margin, apply them.

Order    affine (zoom, shear, rotation, jitter, shift) and elastic in one resampling, quarter turns, flips, order of
         the frames; then blur, gamma, sign, contrast, brightness, noise
Frames   float32, normalised: values in standard deviations of the image, 0 its mean; or between percentiles of it
Axes     c frames, y rows, x columns; labels and maps are handled in `cellmill.training.warping`
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
from scipy import ndimage

from cellmill.training.warping import (
    ELASTIC_REACH,
    NODES_PER_SIGMA,
    SMOOTHING_REACH,
    Elastic,
    Geometry,
    Window,
    back_matrix,
    move,
)

__all__ = [
    "AugmentationSettings", "ElasticSettings", "Geometry", "Values", "Window", "augment", "draw_geometry",
    "draw_values", "margin_px",
]  # fmt: skip

# Values of the normalisation `percentile` at the 1st and the 99.8th percentile of an image. A change of gamma leaves
# both as they are.
BLACK, WHITE = -1.0, 3.0
# Largest random noise level, as a multiple of `noise`.
LARGEST_NOISE = 3.0


class ElasticSettings(TypedDict):
    """Section `train.augmentation.elastic` of a preset."""

    probability: float
    displacement_px: float
    smoothness: float


class AugmentationSettings(TypedDict):
    """Section `train.augmentation` of a preset."""

    flip: bool | str
    rotate_90: bool
    affine_probability: float
    rotation_deg: float
    zoom: Sequence[float]
    zoom_axes: str
    shear_deg: float
    jitter: float
    translation: float
    elastic: ElasticSettings | None
    reverse_time: bool
    contrast: float
    contrast_scale: str
    contrast_about: str
    brightness: float
    per_frame: bool
    invert_probability: float
    gamma: float
    blur_px: float
    blur_probability: float
    noise: float
    noise_draw: str


@dataclass(frozen=True)
class Values:
    """Random change of the grey values of one frame, or of all frames of a patch."""

    gain: float
    offset: float
    noise: float
    is_about_patch: bool  # the gain preserves the mean of each frame of the patch; if false, that of the image (0)
    gamma: float | None = None  # exponent of values between BLACK and WHITE; None: values are left alone
    blur_px: float = 0.0  # sigma of a Gaussian


def margin_px(settings: AugmentationSettings, *, patch: tuple[int, int], context_px: int) -> int:
    """Return how far (px) a change may reach beyond the patch and its context, on each side.

    Parameters
    ----------
    settings : AugmentationSettings
    patch : (rows, columns)
        In px.
    context_px : int, >= 0
        Context of the result around the patch, on each side.

    Returns
    -------
    int
        0 if the settings never resample pixels.
    """
    elastic = settings["elastic"]
    if elastic is not None and elastic["probability"] <= 0:
        elastic = None
    if settings["affine_probability"] == 0 and elastic is None:
        return 0
    halves = tuple(side / 2 + context_px for side in patch)
    reaches = _affine_reaches(settings, patch=patch, halves=halves) if settings["affine_probability"] > 0 else halves
    excess = max(reach - half for reach, half in zip(reaches, halves, strict=True))
    bend = 0.0 if elastic is None else ELASTIC_REACH * elastic["displacement_px"]
    return math.ceil(max(0.0, excess) + bend) + 1


def draw_geometry(settings: AugmentationSettings, *, patch: tuple[int, int], rng: np.random.Generator) -> Geometry:
    """Draw the geometry of one patch; each draw takes equally many random numbers for the same settings.

    Parameters
    ----------
    settings : AugmentationSettings
    patch : (rows, columns)
        In px, without context.
    rng : Generator
        Random stream of this patch; `draw_values` uses it afterwards.
    """
    coins = rng.random(5)
    rotation, shift_y, shift_x, zoom_y = rng.uniform(-1, 1, size=4)
    # A setting that is off draws no numbers, so that adding settings here does not change the patches of a preset.
    zoom_x = rng.uniform(-1, 1) if settings["zoom_axes"] == "independent" else zoom_y
    shear = rng.uniform(-1, 1) if settings["shear_deg"] > 0 else 0.0
    moves = rng.uniform(-1, 1, size=(3, 2)) if settings["jitter"] > 0 else None
    elastic = _draw_elastic(settings["elastic"], patch=patch, rng=rng) if settings["elastic"] is not None else None
    is_reversed = bool(settings["reverse_time"] and rng.random() < 0.5)

    back_yx, shift_yx = None, np.zeros(2)
    if coins[0] < settings["affine_probability"]:
        low, high = np.log(settings["zoom"])
        back_yx = back_matrix(
            rotation_deg=float(rotation * settings["rotation_deg"]),
            # Drawn on a logarithmic scale, so that half the size is as likely as double the size.
            zoom_yx=tuple(float(np.exp((low + high) / 2 + zoom * (high - low) / 2)) for zoom in (zoom_y, zoom_x)),
            shear_deg=float(shear * settings["shear_deg"]),
        )
        shift_yx = np.array((shift_y, shift_x)) * settings["translation"] * np.array(patch)
        if moves is not None:
            linear_yx, moved_yx = _jitter(moves * settings["jitter"], side_px=min(patch))
            back_yx, shift_yx = linear_yx @ back_yx, shift_yx + moved_yx
    return Geometry(
        back_yx=back_yx,
        shift_yx_px=(float(shift_yx[0]), float(shift_yx[1])),
        elastic=elastic,
        quarter_turns=int(coins[4] * 4) if settings["rotate_90"] else 0,
        flip_rows=bool(settings["flip"] in (True, "rows") and coins[1] < 0.5),
        flip_columns=bool(settings["flip"] in (True, "columns") and coins[2] < 0.5),
        reverse_time=is_reversed,
        is_inverted=bool(coins[3] < settings["invert_probability"]),
    )


def draw_values(settings: AugmentationSettings, *, rng: np.random.Generator) -> Values:
    """Draw the change of the grey values of one channel, of one frame, or of all frames of a patch.

    Parameters
    ----------
    settings : AugmentationSettings
        With `per_frame`, call this function once for each frame; with several channels, once for each of them.
    rng : Generator
        Random stream of this patch, after `draw_geometry`.
    """
    contrast, brightness = rng.uniform(-1, 1, size=2)
    if settings["contrast_scale"] == "linear":
        gain = 1 + contrast * settings["contrast"]
    else:
        gain = np.exp(contrast * np.log1p(settings["contrast"]))
    # As for the geometry, a setting that is off draws no numbers.
    gamma, blur_px, noise = None, 0.0, float(settings["noise"])
    if settings["gamma"] > 0:
        gamma = float(np.exp(rng.uniform(-1, 1) * settings["gamma"]))
    if settings["blur_px"] > 0:
        coin, sigma = rng.random(2)
        blur_px = float(sigma * settings["blur_px"]) if coin < settings["blur_probability"] else 0.0
    if noise > 0 and settings["noise_draw"] == "random":
        noise *= min(abs(float(rng.standard_normal())), LARGEST_NOISE)
    return Values(
        gain=float(gain),
        offset=float(brightness * settings["brightness"]),
        noise=noise,
        is_about_patch=settings["contrast_about"] == "patch",
        gamma=gamma,
        blur_px=blur_px,
    )


def augment(
    window: Window, *, geometry: Geometry, values: list[Values], shape: tuple[int, int], rng: np.random.Generator
) -> Window:
    """Apply the drawn changes to a window.

    Parameters
    ----------
    window : Window
        The patch with its context and a margin, equal on each side. The margin is at least `margin_px`, or anything
        if `geometry.is_warped` is false.
    geometry : Geometry
        From `draw_geometry`.
    values : list of Values
        A single item for all frames, or an item for each frame or channel of the result.
    shape : (rows, columns)
        Shape of the result: the patch with its context. Square if the number of quarter turns is odd.
    rng : Generator
        Random stream of this patch, for the noise.

    Returns
    -------
    Window
        Of the given shape, with newly allocated arrays. Resampled maps are 0 outside of objects.
    """
    assert len(values) in (1, len(window.images_cyx))
    moved = move(window, geometry=geometry, shape=shape)
    return replace(
        moved,
        images_cyx=_change_values(moved.images_cyx, values=values, is_inverted=geometry.is_inverted, rng=rng),
        labels_tyx=moved.labels_tyx.copy(),
        maps_cyx=None if moved.maps_cyx is None else moved.maps_cyx.copy(),
    )


def _affine_reaches(
    settings: AugmentationSettings, *, patch: tuple[int, int], halves: tuple[float, ...]
) -> tuple[float, ...]:
    # The bounding box of the patch around its centre grows with each step of the affine map.
    y, x = (half / settings["zoom"][0] for half in halves)
    y += x * math.tan(math.radians(settings["shear_deg"]))
    turned = []
    for along, across in ((y, x), (x, y)):
        angle = min(math.radians(settings["rotation_deg"]), math.atan2(across, along))
        turned.append(along * math.cos(angle) + across * math.sin(angle))
    y, x = turned
    side = min(patch)
    corners = np.array([(1, row, column) for row in (-y, y) for column in (-x, x)])
    # Three displacements within +-jitter move a point at most by the sum of the absolute values of their weights there.
    jitter_px = settings["jitter"] * side * np.abs(corners @ np.linalg.inv(_jitter_places(side))).sum(axis=1).max()
    return tuple(
        float(reach + jitter_px + length * settings["translation"]) for reach, length in zip((y, x), patch, strict=True)
    )


def _jitter_places(side_px: float) -> np.ndarray:
    # SOURCE paper 2, code: three corners of a square around the centre, a third of the shorter side away from it.
    third = side_px / 3
    return np.array([(1, third, third), (1, third, -third), (1, -third, -third)])


def _jitter(moves: np.ndarray, *, side_px: int) -> tuple[np.ndarray, np.ndarray]:
    # Solve for the affine map that moves the three points; moves has shape (3, 2), in fractions of the side.
    places = _jitter_places(side_px)
    solved = np.linalg.solve(places, places[:, 1:] + moves * side_px)
    return solved[1:].T, solved[0]


def _draw_elastic(elastic: ElasticSettings, *, patch: tuple[int, int], rng: np.random.Generator) -> Elastic | None:
    is_bent = rng.random() < elastic["probability"]
    sigma_px = elastic["smoothness"] * min(patch)
    spacing_px = sigma_px / NODES_PER_SIGMA
    nodes = [2 * math.ceil((side / 2 + SMOOTHING_REACH * sigma_px) / spacing_px) + 1 for side in patch]
    nodes_cyx = rng.standard_normal((2, *nodes))
    if not is_bent:
        return None
    return Elastic(nodes_cyx, spacing_px=spacing_px, sigma_px=sigma_px, displacement_px=elastic["displacement_px"])


def _change_values(
    images_cyx: np.ndarray, *, values: list[Values], is_inverted: bool, rng: np.random.Generator
) -> np.ndarray:
    images_cyx = _bend(_blur(images_cyx, values), values)
    sign = -1.0 if is_inverted else 1.0
    gains = np.array([sign * drawn.gain for drawn in values], dtype=np.float32)[:, None, None]
    offsets = np.array([drawn.offset for drawn in values], dtype=np.float32)[:, None, None]
    if values[0].is_about_patch:
        means = images_cyx.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
        offsets = (offsets + means * (1 - gains)).astype(np.float32)
    changed_cyx = images_cyx * gains
    changed_cyx += offsets
    if any(drawn.noise > 0 for drawn in values):
        noise_cyx = rng.standard_normal(changed_cyx.shape, dtype=np.float32)
        noise_cyx *= np.array([drawn.noise for drawn in values], dtype=np.float32)[:, None, None]
        changed_cyx += noise_cyx
    return np.ascontiguousarray(changed_cyx, dtype=np.float32)


def _blur(images_cyx: np.ndarray, values: list[Values]) -> np.ndarray:
    if all(drawn.blur_px == 0 for drawn in values):
        return images_cyx
    blurred_cyx = np.empty_like(images_cyx)
    for frame_yx, kept_yx, drawn in zip(images_cyx, blurred_cyx, _for_each(images_cyx, values), strict=True):
        # Mirrored at the edges, so that a constant stays constant.
        ndimage.gaussian_filter(frame_yx, drawn.blur_px, mode="reflect", output=kept_yx)
    return blurred_cyx


def _bend(images_cyx: np.ndarray, values: list[Values]) -> np.ndarray:
    if all(drawn.gamma is None for drawn in values):
        return images_cyx
    bent_cyx = images_cyx.copy()
    for bent_yx, drawn in zip(bent_cyx, _for_each(images_cyx, values), strict=True):
        if drawn.gamma is not None:
            share_yx = np.maximum((bent_yx - BLACK) / (WHITE - BLACK), 0)
            with np.errstate(under="ignore"):  # a tiny share raised to a power is 0
                bent_yx[:] = BLACK + (WHITE - BLACK) * share_yx**drawn.gamma
    return bent_cyx


def _for_each(images_cyx: np.ndarray, values: list[Values]) -> list[Values]:
    """Return the change of each frame, since a single one is for all frames."""
    return values if len(values) == len(images_cyx) else values * len(images_cyx)
