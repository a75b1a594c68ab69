"""First look: find the size of the objects in an image without annotations, to choose its working scale.

The network predicts the image, or the most structured part of a large one, at trial sizes a factor of two apart. Where
a trial size is right, the objects found have the diameter that the network works at, and their flows agree with their
shapes. The trial with the lowest cost decides, and the diameter of its objects gives the factor.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from cellmill.images.windows import sampling_step
from cellmill.inference.normalise import InputScale
from cellmill.inference.scaling import WorkingScale, limit_factor, limit_scale, plan_working_size, scale_box
from cellmill.inference.tiling import predict_tiled
from cellmill.inference.views import ScaledPlane, View
from cellmill.objects.flow_tracking import measure_flow_errors, track_objects
from cellmill.preprocessing.geometry import resample

logger = logging.getLogger(__name__)

# Trial sizes in units of the typical size of the training images; the most likely ones come first.
TRIALS = (1.0, 0.5, 2.0, 0.25)
# A part of an image that has more pixels than this at a trial size is looked at instead of the whole.
SIDE_PX = 640
# Trial sizes at which the shorter side is below this are left out.
SHORTEST_PX = 16
# Objects that count: of at least this area at the trial size, and consistent with their flows
SMALLEST_PX, LARGEST_ERROR = 12, 0.6
# The cost of a trial: |log(diameter / working diameter)| + ERROR_WEIGHT mean flow error + DISTANCE_WEIGHT |log(trial)|.
# Chosen on 57 training images of the 2018 Data Science Bowl with diameters of 8 to 55 px (decision 0015): all factors
# within 1.35 of the truth. Without the last two terms four are wrong by 2.9 to 4.2.
ERROR_WEIGHT, DISTANCE_WEIGHT = 2.0, 0.35
# No further size is tried once a trial costs less than this. On the same 57 images, and the same at half and twice
# their size, a quarter of the trials is saved and no factor becomes worse; from 0.8 on some do.
CONVINCING = 0.6
# In crowded images this many objects are measured, evenly spread in reading order.
MOST_OBJECTS = 64
THRESHOLD = 0.5


@dataclass(frozen=True)
class Trial:
    """What was found at one trial size: median diameter (px of the image), number of objects, mean flow error."""

    factor: float
    diameter_px: float
    objects: int
    error: float


def find_factor(
    network: nn.Module,
    channels: Sequence[ScaledPlane],
    *,
    planes: Sequence[float],
    diameter_px: float,
    typical_px: float,
    device: torch.device,
) -> WorkingScale:
    """Find the working scale of an image.

    Parameters
    ----------
    network : nn.Module
        From `cellmill.inference.ensemble.Averaged`, with the output `flow`.
    channels : sequence of (ndarray of float32, shape (rows, columns), InputScale)
        The channels of the preprocessed image, which may be memory maps, with their normalisations.
    planes : sequence of float
        Values of the constant planes of the input.
    diameter_px : float
        Diameter that the network works at.
    typical_px : float
        Median diameter of the objects of the training images, in px of their preprocessed images.
    device : torch.device
        Device of the network.

    Returns
    -------
    WorkingScale
        The typical factor of the training images if no object is found at any trial size.
    """
    typical = diameter_px / typical_px
    lowest, best = math.inf, None
    for step in TRIALS:
        factor, least = limit_factor(typical * step), DISTANCE_WEIGHT * abs(math.log(step))
        # The other terms of the cost are not negative.
        if lowest < max(least, CONVINCING) or (factor * min(channels[0][0].shape) < SHORTEST_PX and step < 1):
            continue
        trial = _try_size(network, cut_part(channels, factor=factor), factor=factor, planes=planes, device=device)
        if trial is not None:
            cost = abs(math.log(trial.diameter_px * factor / diameter_px)) + ERROR_WEIGHT * trial.error + least
            if cost < lowest:
                lowest, best = cost, trial
    if best is None:
        return limit_scale(typical, because="no object was found; the factor of the training images is used")
    measured = f"{best.diameter_px:.3g} px at a first look ({best.objects} measured)"
    return limit_scale(diameter_px / best.diameter_px, because=f"objects have a median diameter of {measured}")


def cut_part(channels: Sequence[ScaledPlane], *, factor: float) -> list[ScaledPlane]:
    """Cut the part with the largest variance in the first channel out of an image too large for a first look.

    Parameters
    ----------
    channels : sequence of (ndarray of float32, shape (rows, columns), InputScale)
        The channels of the image with their normalisations.
    factor : float
        Of the trial size.

    Returns
    -------
    list of (ndarray of float32, InputScale)
        At most SIDE_PX / factor rows and columns, the whole of a smaller image; with the valid rows and columns of the
        part.
    """
    image_yx = channels[0][0]
    sides = [min(side, math.ceil(SIDE_PX / factor)) for side in image_yx.shape]
    step = sampling_step(image_yx.shape, max_pixels=1 << 20)
    firsts = [
        sorted({*range(0, side - part + 1, max(1, part // 2)), side - part})
        for side, part in zip(image_yx.shape, sides, strict=True)
    ]
    best, corner = -1.0, (0, 0)
    for row in firsts[0]:
        for column in firsts[1]:
            sampled = np.asarray(image_yx[row : row + sides[0] : step, column : column + sides[1] : step], np.float64)
            if (variance := float(sampled.var())) > best:
                best, corner = variance, (row, column)
    part = tuple(slice(first, first + side) for first, side in zip(corner, sides, strict=True))
    return [(np.array(plane_yx[part]), _scale_of_part(scale, corner, sides)) for plane_yx, scale in channels]


def _scale_of_part(scale: InputScale, corner: Sequence[int], sides: Sequence[int]) -> InputScale:
    rows, columns = (
        (min(max(low - first, 0), side), min(max(high - first, 0), side))
        for (low, high), first, side in zip((scale.valid_rows, scale.valid_columns), corner, sides, strict=True)
    )
    return InputScale(scale.offset, scale.scale, rows, columns)


def _try_size(
    network: nn.Module,
    channels: Sequence[ScaledPlane],
    *,
    factor: float,
    planes: Sequence[float],
    device: torch.device,
) -> Trial | None:
    """Predict a part of an image at a trial size and measure its objects; None if none is found."""
    first_yx, first_scale = channels[0]
    working = plan_working_size(first_yx.shape, factor=factor)
    rows = scale_box(first_scale.valid_rows, old=working.raw_rows, new=working.rows)
    columns = scale_box(first_scale.valid_columns, old=working.raw_columns, new=working.columns)
    scaled = (
        (resample(part_yx, working.shape), InputScale(scale.offset, scale.scale, rows, columns))
        for part_yx, scale in channels
    )
    view = View(tuple(scaled), tuple(planes))
    maps_cyx = predict_tiled(network, view, tile=working.shape, batch=1, device=device, finish=torch.Tensor.float)
    labels_yx = track_objects(maps_cyx[1:3], maps_cyx[0] >= THRESHOLD, max_flow_error=None)
    labels_yx = _pick_objects(labels_yx, count=MOST_OBJECTS)
    areas = np.bincount(labels_yx.ravel())[1:]
    if not len(areas):
        return None
    errors = measure_flow_errors(labels_yx, maps_cyx[1:3])
    counted = areas[(errors <= LARGEST_ERROR) & (areas > SMALLEST_PX)]
    if not len(counted):
        return None
    diameter_px = 2 * math.sqrt(float(np.median(counted)) / math.pi) / factor
    return Trial(factor, diameter_px, len(counted), float(np.average(errors, weights=areas)))


def _pick_objects(labels_yx: np.ndarray, *, count: int) -> np.ndarray:
    """Keep at most `count` of the objects 1 .. n, evenly spread, and number them anew."""
    n_objects = int(labels_yx.max(initial=0))
    if n_objects <= count:
        return labels_yx
    numbers = np.zeros(n_objects + 1, dtype=labels_yx.dtype)
    numbers[np.linspace(1, n_objects, count).round().astype(np.int64)] = np.arange(1, count + 1)
    picked_yx: np.ndarray = numbers[labels_yx]
    return picked_yx
