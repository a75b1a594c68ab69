"""Diameter of the annotated objects of a dataset, from which a factor of rescaling follows."""

import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cellmill.images.stored import IGNORE_LABEL

# Significant digits of a measured diameter. A corrected outline that changes it by less changes no image.
DIGITS = 3


def measure_diameter(bands: Iterable[np.ndarray]) -> float | None:
    """Compute the median diameter of the objects of a label image.

    Parameters
    ----------
    bands : iterable of ndarray of integers
        The label image from top to bottom.

    Returns
    -------
    float or None
        Diameter of the circle of the object's area, px; None without objects.
    """
    areas = np.zeros(0, dtype=np.int64)
    for labels_yx in bands:
        counts = np.bincount(labels_yx.ravel(), minlength=len(areas))
        counts[: len(areas)] += areas
        areas = counts
    areas[:1] = 0
    areas[IGNORE_LABEL : IGNORE_LABEL + 1] = 0
    found = areas[areas > 0]
    return float(np.median(2 * np.sqrt(found / math.pi))) if found.size else None


def round_diameter(diameter_px: float) -> float:
    """Round a diameter to three significant digits."""
    return float(f"{diameter_px:.{DIGITS}g}")


def read_diameter(path: str | Path) -> float:
    """Read the diameter in px that the rule measure_objects wrote."""
    return float(json.loads(Path(path).read_text(encoding="utf-8"))["object_px"])
