"""The images of shards with all that belongs to them: probabilities, truth, geometry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from cellmill.fit import Geometry, fit_labels, read_geometry
from cellmill.images import read_labels, read_probabilities, sample_paths
from cellmill.normalise import valid_box
from cellmill.shards import read_manifest, stable_hash


@dataclass(frozen=True)
class Frame:
    """Where one preprocessed image, its probabilities and, for fitting, its truth lie."""

    sample: str
    image_path: Path
    probability_path: Path
    labels_path: Path | None
    geometry: Geometry

    @property
    def box(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(first row, end), (first column, end) of what is inside of the raw frame; fitted geometry."""
        return valid_box(self.geometry)

    def read_image(self) -> np.ndarray:
        """Preprocessed image, float32, fitted geometry."""
        return self._checked(self.image_path, tifffile.imread(self.image_path))

    def read_maps(self) -> np.ndarray:
        """What the network gave, float32, shape (channels, rows, columns); channel 0 is the foreground."""
        maps_cyx = read_probabilities(self.probability_path)
        self._checked(self.probability_path, maps_cyx[0])
        return maps_cyx

    def read_probability(self) -> np.ndarray:
        """Foreground probability, float32, fitted geometry."""
        foreground_yx: np.ndarray = self.read_maps()[0]
        return foreground_yx

    def read_truth(self) -> np.ndarray:
        """True labels in fitted geometry, 65535 where unknown or padded."""
        assert self.labels_path is not None
        return fit_labels(read_labels(self.labels_path), self.geometry)

    def find_valid(self) -> np.ndarray:
        """True inside the raw frame, False where it was padded; fitted geometry."""
        valid_yx = np.zeros(self.geometry.shape, dtype=bool)
        rows, columns = self.box
        valid_yx[slice(*rows), slice(*columns)] = True
        return valid_yx

    def check_shape(self, path: Path, shape: tuple[int, ...]) -> None:
        """Refuse a file of another size than the fitted image."""
        if shape != self.geometry.shape:
            raise ValueError(
                f"{path}: expected {self.geometry.rows} x {self.geometry.columns} px as in geometry.csv, found "
                f"{' x '.join(map(str, shape))}. Run snakemake again with --forcerun preprocess predict."
            )

    def _checked(self, path: Path, array_yx: np.ndarray) -> np.ndarray:
        self.check_shape(path, array_yx.shape)
        return array_yx


def match_samples(folders: Mapping[str, str | Path]) -> list[str]:
    """List the samples of a shard after checking that all its folders hold the same.

    Parameters
    ----------
    folders : mapping
        What a folder holds ("images", "labels", ...) -> its path; the first one decides what is expected.

    Returns
    -------
    list of str
        Sorted.

    Raises
    ------
    ValueError
        If a folder lacks a sample or has one too many.
    """
    contents = {}
    for name, folder in folders.items():
        read_manifest(folder)
        contents[name] = set(sample_paths(folder))
    (first, expected), *others = contents.items()
    for name, found in others:
        differences = [("missing", expected - found), ("extra", found - expected)]
        said = "; ".join(f"{kind} {_shown(samples)}" for kind, samples in differences if samples)
        if said:
            raise ValueError(
                f"{folders[name]}: expected {name} of the {len(expected)} samples in {first}, found {said}. "
                f"Remove {folders[name]} and run snakemake again."
            )
    return sorted(expected)


def list_frames(images: str | Path, probabilities: str | Path, *, labels: str | Path | None = None) -> list[Frame]:
    """List the images of one shard, sorted by sample; see `match_samples` for the errors."""
    folders = {"images": images, "probabilities": probabilities} | ({"labels": labels} if labels else {})
    samples = match_samples(folders)
    geometries = read_geometry(Path(images) / "geometry.csv")
    return [
        Frame(
            sample=sample,
            image_path=Path(images) / f"{sample}.tif",
            probability_path=Path(probabilities) / f"{sample}.tif",
            labels_path=Path(labels) / f"{sample}.tif" if labels else None,
            geometry=geometries[sample],
        )
        for sample in samples
    ]


def draw_frames(frames: Sequence[Frame], *, count: int, seed: int) -> list[Frame]:
    """Draw images by a hash of their names, so that another image displaces at most one."""
    return sorted(frames, key=lambda frame: stable_hash(f"{seed}/{frame.sample}", purpose="postprocess"))[:count]


def _shown(samples: set[str]) -> str:
    names = sorted(samples)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
