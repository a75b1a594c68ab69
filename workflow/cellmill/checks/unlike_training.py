"""Compare images and their objects with the training images of a model, as the network receives them.

Networks receive normalised images. Bit depth, offset and exposure therefore make no difference, apart from a least
contrast (`input.min_contrast`), which is not applied here. The scale of the
details, the polarity (bright or dark objects), the size of the objects and the area that they cover do.
tests/experiments/flags.py counts how often sound and unlike images are flagged.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from cellmill.images.stored import IGNORE_LABEL, central_part, open_plane
from cellmill.images.windows import sample_pixels
from cellmill.objects.frames import Frame

# Sample larger images for percentiles: every n-th row and column is enough.
MAX_PIXELS = 1 << 20
PERCENTILES = (1, 50, 99)
# The finest octave has details of about 2 px, the last of about 32 px. Small images have fewer octaves.
OCTAVES, FEWEST_OCTAVES, SMALLEST_SIDE_PX = 5, 3, 6
BLUR_PX, POLARITY_BLUR_PX = 1.6, 2.0
# The median of fewer objects is too uncertain.
FEWEST_OBJECTS = 3
# Mean octave of the first three below which an image is noise; white noise has 0.34.
NOISE_OCTAVE = 0.5
# Shares of the training images below and above the range that others are compared with: a few of them may be unusual.
RANGE_PERCENTILES = (2, 98)
# ASSUME a network tolerates these differences from the range of its training images: factors in pixel size, contrast,
# and diameter, octaves of the details, asymmetry of the brightness, and odds of the covered share. Chosen with
# tests/experiments/flags.py: details of half or twice the size differ by 0.6 to 0.8 octaves.
PIXEL_FACTOR, CONTRAST_FACTOR, DIAMETER_FACTOR = 1.5, 3.0, 1.4
DETAIL_OCTAVES, ASYMMETRY_GAP, COVER_ODDS = 0.35, 0.4, 3.0
# Objects that cover less than this share are not most of an image.
MOST = 0.5
RANGES = ("pixel_size_um", "brightness", "contrast", "asymmetry", "diameter_px", "covered")
ADVICE = (
    "Check these images first: the model was not trained on similar images. Match the size of their objects (in px) "
    "and their polarity to the training images, or annotate a few of them and train on both."
)

# Measures of one image: a number, a list of numbers, or None if it cannot be measured
Measures = Mapping[str, Any]


def measure_image(image_yx: np.ndarray, *, pixel_size_um: float | None) -> dict[str, Any]:
    """Measure one image.

    Parameters
    ----------
    image_yx : ndarray of float, shape (rows, columns)
        Preprocessed image without padding; may be a memory map.
    pixel_size_um : float or None
        Edge of a pixel.

    Returns
    -------
    dict
        pixel_size_um; brightness (median) and contrast (99th minus 1st percentile), in counts; details (from
        `measure_details`) and asymmetry, which do not depend on offset and exposure. Asymmetry is 1 if all structures
        are brighter than the median, -1 if all are darker, None for a constant image.
    """
    sampled = sample_pixels(image_yx, max_pixels=MAX_PIXELS).astype(np.float64)
    low, median, high = np.percentile(sampled, PERCENTILES)
    centre_yx = cut_centre(image_yx)
    # Blurred, because noise is symmetric and would hide the asymmetry of faint structures.
    dark, middle, bright = np.percentile(gaussian_filter(centre_yx, POLARITY_BLUR_PX), PERCENTILES)
    return {
        "pixel_size_um": pixel_size_um,
        "brightness": float(median),
        "contrast": float(high - low),
        "details": measure_details(centre_yx),
        "asymmetry": float((bright + dark - 2 * middle) / (bright - dark)) if bright > dark else None,
    }


def cut_centre(image_yx: np.ndarray) -> np.ndarray:
    """Cut the central 1024 x 1024 px, or the whole of a smaller image, scaled to standard deviation 1: float32."""
    centre_yx = np.array(image_yx[central_part(image_yx.shape)], dtype=np.float64)
    centre_yx -= centre_yx.mean()
    deviation = float(centre_yx.std())
    return (centre_yx / (deviation if deviation > 0 else 1.0)).astype(np.float32)


def measure_details(image_yx: np.ndarray) -> list[float]:
    """Measure the scale of the details of an image.

    Parameters
    ----------
    image_yx : ndarray of float32, shape (rows, columns)

    Returns
    -------
    list of float
        The mean octave, weighted by the variance of the image in each octave: of the first three octaves, of the first
        four, and of all five. Shorter for small images, empty for constant and very small ones.

    Notes
    -----
    Octaves are differences of Gaussians in a pyramid (Burt and Adelson 1983, doi:10.1109/TCOM.1983.1095851).
    """
    energies: list[float] = []
    level_yx = gaussian_filter(image_yx, 1.0)
    while len(energies) < OCTAVES and min(level_yx.shape) >= SMALLEST_SIDE_PX:
        blurred_yx = gaussian_filter(level_yx, BLUR_PX)
        energies.append(float(np.var(level_yx - blurred_yx, dtype=np.float64)))
        level_yx = blurred_yx[::2, ::2]
    return [
        float(np.average(np.arange(count), weights=energies[:count]))
        for count in range(FEWEST_OCTAVES, len(energies) + 1)
        if sum(energies[:count]) > 0
    ]


def measure_objects(areas_px: np.ndarray, *, known_px: int) -> dict[str, float | None]:
    """Measure the objects of one image.

    Parameters
    ----------
    areas_px : ndarray of int or float
        Area of each object in px of the image that the network receives.
    known_px : int
        Pixels of the image, without those where the truth is unknown.

    Returns
    -------
    dict
        diameter_px (of a disc with the median area; None for fewer than three objects) and covered (share of the
        pixels; None without pixels).
    """
    enough = len(areas_px) >= FEWEST_OBJECTS
    return {
        "diameter_px": 2 * math.sqrt(float(np.median(areas_px)) / math.pi) if enough else None,
        "covered": float(np.sum(areas_px)) / known_px if known_px else None,
    }


def measure_labels(parts: Iterable[np.ndarray]) -> dict[str, float | None]:
    """Measure the objects of one image from its label image, or from windows of it: see `measure_objects`."""
    areas, known_px = [np.zeros(0, dtype=np.int64)], 0
    for labels_yx in parts:
        known = labels_yx[labels_yx != IGNORE_LABEL]
        counts = np.bincount(known)[1:]
        areas.append(counts[counts > 0])
        known_px += known.size
    return measure_objects(np.concatenate(areas), known_px=known_px)


def summarize_images(measured: Iterable[Measures], *, found: Iterable[Measures] = (), normalise: str) -> dict[str, Any]:
    """Return the range of each measure over the training images.

    Parameters
    ----------
    measured : iterable of mapping
        Training images: from `measure_image` and `measure_objects` of the annotated objects, joined.
    found : iterable of mapping
        From `measure_objects` of the objects that the model found in some validation images. The ranges of the objects
        are widened to theirs, because objects and annotations may differ: a binary mask joins touching objects.
    normalise : str
        `input.normalise` of the network.

    Returns
    -------
    dict
        images (their number) and normalise; for each measure [2nd, 98th percentile], or None if no image has a value;
        and details, a list of such ranges.
    """
    rows, others = list(measured), list(found)
    shown = [row for row in rows if not _is_empty(row)]
    summary: dict[str, Any] = {"images": len(rows), "normalise": normalise}
    for name in RANGES:
        ranges = [_find_range(row.get(name) for row in part) for part in (shown, others)]
        known = [ends for ends in ranges if ends is not None]
        summary[name] = [min(low for low, _ in known), max(high for _, high in known)] if known else None
    # Noise would widen the ranges so far that nothing is finer.
    details = [row["details"] for row in shown if row.get("details")]
    longest = max(map(len, details), default=0)
    summary["details"] = [_find_range(row[i] for row in details if len(row) > i) for i in range(longest)]
    return summary


def _find_range(values: Iterable[float | None]) -> list[float] | None:
    known = [value for value in values if value is not None]
    return np.percentile(known, RANGE_PERCENTILES).tolist() if known else None


def find_unlike(measured: Measures, seen: Mapping[str, Any]) -> list[str]:
    """List the ways in which an image or its objects differ from the training images.

    Parameters
    ----------
    measured : mapping
        From `measure_image` and `measure_objects` of the objects that were found, joined.
    seen : mapping
        From `summarize_images`. What an older model file lacks is not compared.

    Returns
    -------
    list of str
        Empty if the image is similar, or if no training images were measured.
    """
    if not seen.get("images"):
        return []
    found = [] if _is_empty(measured) else [*_compare_details(measured, seen), *_compare_polarity(measured, seen)]
    found += _compare_objects(measured, seen)
    if seen.get("normalise") == "none":
        found += _compare_brightness(measured, seen)
    return found


def _is_empty(measured: Measures) -> bool:
    """Return whether an image is noise and nothing was found in it; that is reported by itself."""
    details = measured.get("details") or [math.inf]
    return measured.get("covered") == 0 and bool(details[0] < NOISE_OCTAVE)


def _compare_details(measured: Measures, seen: Mapping[str, Any]) -> Iterable[str]:
    # Compared over the octaves that both have
    pairs: list[Any] = list(zip(measured.get("details") or [], seen.get("details") or [], strict=False))
    if not pairs:
        return
    value, (low, high) = pairs[-1]
    if low - value > DETAIL_OCTAVES:
        yield "its details are finer than in the training images, as if it had been reduced in size"
    elif value - high > DETAIL_OCTAVES:
        yield "its details are coarser than in the training images, as if it had been enlarged"


def _compare_polarity(measured: Measures, seen: Mapping[str, Any]) -> Iterable[str]:
    value, ends = measured.get("asymmetry"), seen.get("asymmetry")
    if value is None or ends is None:
        return
    low, high = ends
    if value < 0 < low and low - value > ASYMMETRY_GAP:
        yield "its structures are darker than the ground, and brighter in the training images"
    elif value > 0 > high and value - high > ASYMMETRY_GAP:
        yield "its structures are brighter than the ground, and darker in the training images"


def _compare_objects(measured: Measures, seen: Mapping[str, Any]) -> Iterable[str]:
    value, ends = measured.get("diameter_px"), seen.get("diameter_px")
    is_like = False
    if value is not None and ends is not None:
        is_like = _is_within(value, ends, factor=DIAMETER_FACTOR)
        if not is_like:
            yield f"its objects have a median diameter of {value:.3g} px" + _say_range(ends)
    # The network does not receive the pixel size. It counts only where the objects themselves are not comparable.
    value, ends = measured.get("pixel_size_um"), seen.get("pixel_size_um")
    is_other = value is not None and ends is not None and not _is_within(value, ends, factor=PIXEL_FACTOR)
    if is_other and not is_like:
        yield f"its pixels are {value:.3g} um wide" + _say_range(ends or [])
    value, ends = measured.get("covered"), seen.get("covered")
    if value is not None and ends is not None and value > MOST and _odds(value) > COVER_ODDS * _odds(ends[1]):
        yield f"objects cover {value:.0%} of it, compared with at most {ends[1]:.0%} of the training images"


def _compare_brightness(measured: Measures, seen: Mapping[str, Any]) -> Iterable[str]:
    """Compare counts, which matter only to a network whose input is not normalised."""
    value, ends = measured["contrast"], seen["contrast"]
    if not _is_within(value, ends, factor=CONTRAST_FACTOR):
        yield f"its contrast is {value:.3g}" + _say_range(ends)
    # Brightness has no natural zero, so ratios are meaningless: compare its difference with the contrast.
    value, (low, high) = measured["brightness"], seen["brightness"]
    if not low - ends[1] <= value <= high + ends[1]:
        yield f"its brightness is {value:.3g}" + _say_range([low, high])


def _is_within(value: float, ends: Sequence[float], *, factor: float) -> bool:
    return ends[0] / factor <= value <= ends[1] * factor


def _odds(share: float) -> float:
    return share / (1 - share) if share < 1 else math.inf


def _say_range(ends: Sequence[float]) -> str:
    low, high = (f"{end:.3g}" for end in ends)
    return f", compared with {low}{'' if low == high else f' to {high}'} in the training images"


def measure_frame(frame: Frame, *, pixel_size_um: float | None) -> dict[str, Any]:
    """Measure a frame's preprocessed image without its padding; a given pixel size overrides that of the file.

    The pixel size is that of the preprocessed image, which the network receives.
    """
    image_yx = open_plane(frame.image_path)
    inside_yx = image_yx[tuple(slice(*ends) for ends in frame.box)]
    return measure_image(inside_yx, pixel_size_um=frame.geometry.edge_um(pixel_size_um))
