"""Images of shards, or windows of large images, together with their probabilities, truth and geometry."""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

import numpy as np

from cellmill.images.stored import IGNORE_LABEL, StoredRows, open_plane, sample_paths
from cellmill.images.windows import Window, plan_windows
from cellmill.objects.boundary import measure_grey
from cellmill.preprocessing.geometry import fit_label_rows, read_geometry, valid_box
from cellmill.preprocessing.stored_images import StoredImage
from cellmill.shards import stable_hash

logger = logging.getLogger(__name__)

# Number of windows that represent a large image when parameters are fitted.
WINDOWS_DRAWN = 8


@dataclass(frozen=True, kw_only=True)
class Scene(StoredImage):
    """Paths of one preprocessed image and, for fitting, of its truth.

    With a `window` (rows, columns in px of the fitted image), only that part of the image is read.
    """

    window: tuple[slice, slice] | None = None

    @property
    def name(self) -> str:
        """Sample name, followed by the position of the window if there is one."""
        if self.window is None:
            return self.sample
        rows, columns = self.window
        return f"{self.sample}[{rows.start}:{rows.stop}, {columns.start}:{columns.stop}]"

    @property
    def box(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(first row, end), (first column, end) of the raw frame in px of the window; may extend beyond the window."""
        (top, bottom), (left, right) = valid_box(self.geometry)
        rows, columns = self.extent
        return (top - rows.start, bottom - rows.start), (left - columns.start, right - columns.start)

    def read_image(self) -> np.ndarray:
        """Read the preprocessed image: float32, fitted geometry."""
        image_yx = open_plane(self.image_path)
        self.check_shape(self.image_path, image_yx.shape)
        return np.array(image_yx[self.extent])

    def measure_grey(self) -> tuple[float, float]:
        """Measure the robust range of the whole preprocessed image without its padding."""
        image_yx = open_plane(self.image_path)
        inside_yx = image_yx[tuple(slice(*ends) for ends in valid_box(self.geometry))]
        return measure_grey(inside_yx, valid_yx=np.broadcast_to(np.True_, inside_yx.shape))

    def read_truth(self) -> np.ndarray:
        """Read the true labels in fitted geometry, 65535 where unknown or padded."""
        assert self.labels_path is not None
        rows, columns = self.extent
        read = StoredRows(self.labels_path).__getitem__
        return np.ascontiguousarray(fit_label_rows(read, self.geometry, rows)[:, columns])

    def find_valid(self) -> np.ndarray:
        """Mark the pixels inside the raw frame: False where it was padded; fitted geometry."""
        rows, columns = self.extent
        valid_yx = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
        valid_yx[tuple(slice(max(0, low), max(0, high)) for low, high in self.box)] = True
        return valid_yx

    def check_shape(self, path: Path, shape: tuple[int, ...]) -> None:
        """Check that a file has the size of the fitted image; raise ValueError otherwise."""
        if shape != self.geometry.shape:
            raise ValueError(
                f"{path}: expected {self.geometry.rows} x {self.geometry.columns} px as in geometry.csv, found "
                f"{' x '.join(map(str, shape))}. Run snakemake again with --forcerun preprocess predict."
            )

    def at(self, window: Window) -> Self:
        """Return the part of the image inside a window."""
        return replace(self, window=(window.rows, window.columns))

    @property
    def extent(self) -> tuple[slice, slice]:
        """Rows and columns of the window, or of the whole image."""
        return self.window or (slice(0, self.geometry.rows), slice(0, self.geometry.columns))


@dataclass(frozen=True, kw_only=True)
class Frame(Scene):
    """A scene with the path of its probabilities."""

    probability_path: Path

    def read_maps(self) -> np.ndarray:
        """Read the network output: float32, shape (channels, rows, columns); channel 0 is the foreground."""
        reader = StoredRows(self.probability_path)
        self.check_shape(self.probability_path, reader.shape)
        rows, columns = self.extent
        return reader.read(rows.start, rows.stop)[:, :, columns].astype(np.float32)

    def read_probability(self) -> np.ndarray:
        """Read the foreground probability: float32, fitted geometry."""
        foreground_yx: np.ndarray = self.read_maps()[0]
        return foreground_yx


AnyScene = TypeVar("AnyScene", bound=Scene)


def match_samples(folders: Mapping[str, str | Path]) -> list[str]:
    """List the samples of a shard after checking that all its folders contain the same samples.

    Parameters
    ----------
    folders : mapping
        Content of a folder ("images", "labels", ...) -> its path; the first folder defines the expected samples.

    Returns
    -------
    list of str
        Names of the samples, sorted.

    Raises
    ------
    ValueError
        If a folder is incomplete, lacks a sample or has an extra sample.
    """
    contents = {}
    for name, folder in folders.items():
        contents[name] = set(sample_paths(folder))
    (first, expected), *others = contents.items()
    for name, found in others:
        differences = [("missing", expected - found), ("extra", found - expected)]
        said = "; ".join(f"{kind} {_shown(samples)}" for kind, samples in differences if samples)
        if said:
            raise ValueError(
                f"{folders[name]}: expected {name} for the {len(expected)} samples in {first}, found differences "
                f"({said}). Remove {folders[first]} and {folders[name]} and run snakemake again: it makes both "
                "from the current sample table."
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


def list_scenes(images: str | Path, *, labels: str | Path) -> list[Scene]:
    """List the images of one shard without probabilities, sorted by sample; see `match_samples` for the errors."""
    samples = match_samples({"images": images, "labels": labels})
    geometries = read_geometry(Path(images) / "geometry.csv")
    return [
        Scene(
            sample=sample,
            image_path=Path(images) / f"{sample}.tif",
            labels_path=Path(labels) / f"{sample}.tif",
            geometry=geometries[sample],
        )
        for sample in samples
    ]


def draw_frames(frames: Sequence[AnyScene], *, count: int, seed: int) -> list[AnyScene]:
    """Draw images by a hash of their names, so that adding an image replaces at most one."""
    return sorted(frames, key=lambda frame: stable_hash(f"{seed}/{frame.name}", purpose="postprocess"))[:count]


def cut_frames(frames: Sequence[AnyScene], *, seed: int) -> Iterator[AnyScene]:
    """Select the images for fitting, with windows in place of images that are too large for memory.

    Parameters
    ----------
    frames : sequence of Scene or of Frame
        Images with their truth.
    seed : int
        Seed for drawing the windows.

    Yields
    ------
    Scene or Frame
        Images up to 3072 x 3072 px unchanged. For a larger image, non-overlapping windows with known truth: up to eight
        drawn by a hash of their position, and another with an object if these contain none.
    """
    for frame in frames:
        windows = list(itertools.chain(*plan_windows(frame.geometry.shape, halo_px=0)))
        if len(windows) == 1:
            yield frame
            continue
        parts = sorted(
            (frame.at(window) for window in windows),
            key=lambda part: stable_hash(f"{seed}/{part.name}", purpose="window"),
        )
        drawn, has_object = 0, False
        for part in parts:
            if drawn >= WINDOWS_DRAWN and has_object:
                break
            truth_yx = part.read_truth()
            holds_object = bool(((truth_yx > 0) & (truth_yx != IGNORE_LABEL)).any())
            if holds_object or (drawn < WINDOWS_DRAWN and (truth_yx != IGNORE_LABEL).any()):
                drawn, has_object = drawn + 1, has_object or holds_object
                yield part
        logger.info("%s: large image, fitted on %d of its %d windows", frame.sample, drawn, len(windows))


def _shown(samples: set[str]) -> str:
    names = sorted(samples)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
