"""Tables in the folder of a shard of objects, and what other stages read in them."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Both have confidences in their last columns
OBJECTS, COUNTS = "objects.csv", "counts.csv"


@dataclass(frozen=True)
class Rating:
    """Confidence of an image, and of its objects by number: float64, shape (highest number + 1,), entry 0 unused."""

    of_image: float
    of_objects: np.ndarray


def read_confidences(folder: str | Path, *, missing: float | None = None) -> dict[str, dict[int, float]]:
    """Read the confidences of the objects of a shard: sample -> object number -> confidence.

    `missing` takes the place of the confidence of objects that have none, as those of masks made elsewhere.
    """
    found: dict[str, dict[int, float]] = {}
    with (Path(folder) / OBJECTS).open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(row["sample"], {})[int(row["object"])] = float(row["confidence"] or missing or "nan")
    return found


def list_counted(folder: str | Path) -> set[str]:
    """List the samples of a shard whose objects are known: all but those that an annotator left out."""
    with (Path(folder) / COUNTS).open(newline="", encoding="utf-8") as stream:
        return {row["sample"] for row in csv.DictReader(stream) if row["objects"]}


def read_image_confidences(folder: str | Path) -> dict[str, float]:
    """Read the confidences of the images of a shard: sample -> confidence; images of masks are missing."""
    with (Path(folder) / COUNTS).open(newline="", encoding="utf-8") as stream:
        return {row["sample"]: float(row["confidence"]) for row in csv.DictReader(stream) if row["confidence"]}
