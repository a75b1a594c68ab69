"""Compare images with the training images of a model: size, pixel size, brightness and contrast."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tifffile

from cellmill.images.windows import sample_pixels
from cellmill.objects.frames import Frame

# Sample larger images: every n-th row and column is enough.
MAX_PIXELS = 1 << 20
PERCENTILES = (1, 50, 99)
# ASSUME a network tolerates factors of 2 in side length, 1.5 in pixel size and 3 in contrast, slightly more than the
# zoom and contrast augmentation of the presets
SIZE_FACTOR, PIXEL_FACTOR, CONTRAST_FACTOR = 2.0, 1.5, 3.0
ADVICE = (
    "Check these images first: the model was not trained on similar images. "
    "Match their scale and exposure to the training images, or annotate a few of them and train on both."
)


def measure_image(image_yx: np.ndarray, *, pixel_size_um: float | None) -> dict[str, float | None]:
    """Measure the size, brightness and contrast of one image.

    Parameters
    ----------
    image_yx : ndarray of float, shape (rows, columns)
        Preprocessed image without padding; may be a memory map.
    pixel_size_um : float or None
        Edge of a pixel.

    Returns
    -------
    dict
        short_side_px, long_side_px, pixel_size_um, brightness (median) and contrast (99th minus 1st percentile).
    """
    sampled = sample_pixels(image_yx, max_pixels=MAX_PIXELS)
    low, median, high = np.percentile(sampled.astype(np.float64), PERCENTILES)
    return {
        "short_side_px": min(image_yx.shape),
        "long_side_px": max(image_yx.shape),
        "pixel_size_um": pixel_size_um,
        "brightness": float(median),
        "contrast": float(high - low),
    }


def summarize_images(measured: Iterable[Mapping[str, float | None]]) -> dict[str, Any]:
    """Return the range of each measure over the training images.

    Returns
    -------
    dict
        images (their number), and for each measure [smallest, largest], or None if no image has a value.
    """
    rows = list(measured)
    summary: dict[str, Any] = {"images": len(rows)}
    for name in ("short_side_px", "long_side_px", "pixel_size_um", "brightness", "contrast"):
        values = [value for row in rows if (value := row[name]) is not None]
        summary[name] = [min(values), max(values)] if values else None
    return summary


def find_unlike(measured: Mapping[str, float | None], seen: Mapping[str, Any]) -> list[str]:
    """List the ways in which an image differs from the training images.

    Parameters
    ----------
    measured : mapping
        From `measure_image`.
    seen : mapping
        From `summarize_images`.

    Returns
    -------
    list of str
        Empty if the image is similar, or if no training images were measured.
    """
    if not seen["images"]:
        return []
    found = []
    for name, text, factor in (
        ("short_side_px", "its shorter side is {:g} px", SIZE_FACTOR),
        ("long_side_px", "its longer side is {:g} px", SIZE_FACTOR),
        ("pixel_size_um", "its pixels are {:.3g} um wide", PIXEL_FACTOR),
        ("contrast", "its contrast is {:.3g}", CONTRAST_FACTOR),
    ):
        value, ends = measured[name], seen[name]
        if value is not None and ends is not None and not ends[0] / factor <= value <= ends[1] * factor:
            found.append(text.format(value) + _say_range(ends))
    # Brightness has no natural zero, so ratios are meaningless: compare its difference with the contrast.
    value, (low, high), contrast = measured["brightness"], seen["brightness"], seen["contrast"][1]
    if value is not None and not low - contrast <= value <= high + contrast:
        found.append(f"its brightness is {value:.3g}" + _say_range(seen["brightness"]))
    return found


def _say_range(ends: list[float]) -> str:
    low, high = (f"{end:.3g}" for end in ends)
    return f", compared with {low}{'' if low == high else f' to {high}'} in the training images"


def measure_frame(frame: Frame, *, pixel_size_um: float | None) -> dict[str, float | None]:
    """Measure a frame's preprocessed image without its padding; a given pixel size overrides that of the file."""
    image_yx = tifffile.memmap(frame.image_path, mode="r")
    inside_yx = image_yx[tuple(slice(*ends) for ends in frame.box)]
    edge_um = frame.geometry.pixel_size_um if pixel_size_um is None else pixel_size_um
    return measure_image(inside_yx, pixel_size_um=edge_um)
