"""Real images that a simulation is fitted to: read their central parts as counts, find objects, and measure them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from cellmill.checks.quality import CAMERA_TOPS
from cellmill.images.channels import Channel
from cellmill.images.files import read_plane
from cellmill.images.stored import IGNORE_LABEL, read_labels
from cellmill.matching.otsu import TOUCHING, otsu_objects
from cellmill.matching.statistics import measure_image
from cellmill.matching.traits import Reference
from cellmill.preprocessing.hot_pixels import replace_defects

logger = logging.getLogger(__name__)

# Only the central part of a larger image is measured, and images of this size are simulated for comparison.
MEASURED_SIDE_PX = 512
LARGEST_TOP = 65535
TOPS = (255, *CAMERA_TOPS, LARGEST_TOP)
SMALLEST_FLOAT_SPAN = 64  # rounding floats of a smaller range to whole counts would degrade the images
SCALED_TOP = 4095  # largest count after rescaling
DARKEST_QUANTILE = 0.001


@dataclass(frozen=True)
class Middle:
    """The central part of an image, at most 512 x 512 px, with the shape of the whole image and its window there."""

    image_yx: np.ndarray
    shape: tuple[int, int]
    window: tuple[slice, slice]


def read_middles(samples: Sequence[Mapping[str, Any]], *, channel: Channel) -> list[Middle]:
    """Read the central part of each image.

    Parameters
    ----------
    samples, channel
        As for `match_dataset`.
    """
    middles = []
    for row in samples:
        # a single hot pixel must not be taken for the largest count of the camera
        image_yx = replace_defects(read_plane(row["image"], channel=channel, plane=row.get("plane", ())))
        shape = (image_yx.shape[0], image_yx.shape[1])
        rows, columns = (
            slice((size - min(size, MEASURED_SIDE_PX)) // 2, (size + min(size, MEASURED_SIDE_PX)) // 2)
            for size in shape
        )
        middles.append(Middle(image_yx[rows, columns].copy(), shape, (rows, columns)))
    return middles


def as_counts(middles: Sequence[Middle]) -> tuple[list[Middle], float]:
    """Convert the images to counts of a simulated camera; return them and the largest count of that camera.

    Notes
    -----
    Values from 0 to 65535 are kept, and the largest count is that of a camera with 8, 10, 12, 14 or 16 bits. Other
    values (below 0, beyond 16 bits, or floats with a range below 64) are scaled to counts from 0 to 4095.
    """
    lowest = min(float(one.image_yx.min()) for one in middles)
    highest = max(float(one.image_yx.max()) for one in middles)
    is_float = any(one.image_yx.dtype.kind == "f" for one in middles)
    if lowest >= 0 and highest <= LARGEST_TOP and not (is_float and highest - lowest < SMALLEST_FLOAT_SPAN):
        return list(middles), float(next(top for top in TOPS if highest <= top))
    scale = SCALED_TOP / (highest - lowest) if highest > lowest else 1.0
    logger.info("counts from 0 to %d represent values from %g to %g", SCALED_TOP, lowest, highest)
    scaled = [replace(one, image_yx=(one.image_yx.astype(np.float64) - lowest) * scale) for one in middles]
    return scaled, float(SCALED_TOP)


def measure_references(
    middles: Sequence[Middle], *, samples: Sequence[Mapping[str, Any]], objects: str
) -> tuple[list[Reference], list[tuple[int, int]]]:
    """Measure the real images; return the references and the shapes of the whole images."""
    references = []
    for row, one in zip(samples, middles, strict=True):
        labels_yx = read_labels(row["labels"])[one.window].astype(np.int32) if objects != "otsu" else None
        objects_yx = find_objects(one.image_yx, labels_yx, objects=objects)
        shape = (one.image_yx.shape[0], one.image_yx.shape[1])
        statistics = measure_image(one.image_yx, labels_yx=objects_yx)
        darkest = float(np.quantile(one.image_yx, DARKEST_QUANTILE))
        references.append(Reference(str(row["sample"]), shape, statistics, darkest))
        logger.info("%s: %.0f objects per megapixel", row["sample"], statistics["objects_per_mpx"])
    return references, [one.shape for one in middles]


def find_objects(image_yx: np.ndarray, labels_yx: np.ndarray | None, *, objects: str) -> np.ndarray:
    """Find the objects of a real or simulated image: its labels, their connected components, or by Otsu's threshold."""
    if objects == "otsu" or labels_yx is None:
        return otsu_objects(image_yx)
    if objects == "components":
        is_ignored_yx = labels_yx == IGNORE_LABEL
        pieces_yx, _ = ndimage.label((labels_yx > 0) & ~is_ignored_yx, structure=TOUCHING)
        return np.where(is_ignored_yx, IGNORE_LABEL, pieces_yx)
    return labels_yx
