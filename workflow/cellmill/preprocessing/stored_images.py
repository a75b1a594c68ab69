"""Preprocessed images in their shard folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellmill.images.stored import sample_paths
from cellmill.preprocessing.geometry import Geometry, read_geometry


@dataclass(frozen=True, kw_only=True)
class StoredImage:
    """Paths of a preprocessed image and of its label image (geometry of the raw image; None without labels)."""

    sample: str
    image_path: Path
    geometry: Geometry
    labels_path: Path | None = None


def find_images(images_dirs: Sequence[str | Path]) -> list[StoredImage]:
    """List the images of shard folders without labels, sorted by sample."""
    found = []
    for folder in images_dirs:
        geometries = read_geometry(Path(folder) / "geometry.csv")
        found += [
            StoredImage(sample=sample, image_path=path, geometry=geometries[sample])
            for sample, path in sample_paths(folder).items()
        ]
    return sorted(found, key=lambda image: image.sample)
