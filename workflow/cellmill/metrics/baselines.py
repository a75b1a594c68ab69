"""Trivial baseline predictors to compare a network's scores with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

# ASSUME a light blur removes the camera noise, which would otherwise decide single pixels.
BLUR_SIGMA_PX = 1.0
LARGEST_GREY = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class GreyCounts:
    """Pixel counts of both classes by grey value: ascending `values`, and for each value a count of each class."""

    values: np.ndarray
    background: np.ndarray
    foreground: np.ndarray


@dataclass(frozen=True)
class GreyThreshold:
    """Grey threshold: foreground is at least as bright as `value` if `is_bright`, otherwise darker than `value`."""

    value: float
    is_bright: bool


def count_greys(image_yx: np.ndarray, truth_yx: np.ndarray, *, valid_yx: np.ndarray) -> GreyCounts:
    """Count the valid pixels of each class by the grey value of the slightly blurred image.

    Parameters
    ----------
    image_yx : ndarray of float, shape (rows, columns)
        Preprocessed image.
    truth_yx, valid_yx : ndarray of bool, shape (rows, columns)
        True where an object is; True where the truth is known.

    Returns
    -------
    GreyCounts
        Values are rounded to eleven binary digits (float16), so that any image has at most a few thousand values.
    """
    blurred_yx = ndimage.gaussian_filter(image_yx.astype(np.float32), BLUR_SIGMA_PX)
    greys = np.clip(blurred_yx[valid_yx], -LARGEST_GREY, LARGEST_GREY).astype(np.float16)
    values, place = np.unique(greys, return_inverse=True)
    is_foreground = truth_yx[valid_yx]
    return GreyCounts(
        values=values.astype(np.float64),
        background=np.bincount(place[~is_foreground], minlength=len(values)),
        foreground=np.bincount(place[is_foreground], minlength=len(values)),
    )


def choose_grey_threshold(counts: Sequence[GreyCounts]) -> GreyThreshold:
    """Find the grey threshold that classifies most pixels of some images correctly.

    Parameters
    ----------
    counts : sequence of GreyCounts
        One entry per image, at least one.

    Returns
    -------
    GreyThreshold
        Ties go to bright objects, then to the lowest threshold.
    """
    values, place = np.unique(np.concatenate([image.values for image in counts]), return_inverse=True)
    below = [
        np.cumsum(np.bincount(place, weights=np.concatenate(numbers), minlength=len(values)))
        for numbers in ([image.background for image in counts], [image.foreground for image in counts])
    ]
    background, foreground = (np.concatenate([[0.0], sums]) for sums in below)
    bright = background + foreground[-1:] - foreground
    right = np.stack([bright, background[-1:] + foreground[-1:] - bright])
    kind, step = np.unravel_index(int(right.argmax()), right.shape)
    thresholds = np.concatenate([values, [np.inf]])
    return GreyThreshold(value=float(thresholds[step]), is_bright=bool(kind == 0))


def count_with_grey(image: GreyCounts, threshold: GreyThreshold) -> tuple[int, int, int, int]:
    """Count tp, fp, fn and tn (pixels) of one image under a grey threshold."""
    is_foreground = (image.values >= threshold.value) == threshold.is_bright
    tp, fp = (int(numbers[is_foreground].sum()) for numbers in (image.foreground, image.background))
    return tp, fp, int(image.foreground.sum()) - tp, int(image.background.sum()) - fp
