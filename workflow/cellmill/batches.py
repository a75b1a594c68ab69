"""Patches of training images, drawn the same whatever the number of workers and wherever training resumes.

Images are memory-mapped; targets are kept as one byte a pixel while TARGET_CACHE_MB lasts, and made again
from the label images beyond that. An image smaller than a patch is mirrored at its edges; what was added is
ignored.
"""

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cellmill.augmentation import augment, draw_augmentation, margin_px
from cellmill.fit import Geometry, fit_labels, read_geometry
from cellmill.images import IGNORE_LABEL, read_labels, sample_paths
from cellmill.losses import IGNORED_TARGET
from cellmill.normalise import InputScale, measure_input, mirror, read_window

TARGET_CACHE_MB = 512

# Numbers that keep the random streams of two purposes apart. None of them is zero: SeedSequence([7, 1]) and
# SeedSequence([7, 1, 0]) are one stream.
ORDER_STREAM, PATCH_STREAM, SUBSET_STREAM = 1, 2, 3


@dataclass(frozen=True)
class LabelledImage:
    """A preprocessed image and its label image, which has the geometry of the raw image."""

    sample: str
    image_path: Path
    labels_path: Path
    geometry: Geometry


@dataclass(frozen=True)
class Batch:
    """Patches that one step of training sees."""

    images_byx: np.ndarray  # float32, normalised
    target_byx: np.ndarray  # uint8: 0, 1, IGNORED_TARGET
    samples: list[str]


class ImageSet:
    """Labelled images that are opened when they are needed."""

    def __init__(self, images: list[LabelledImage], *, normalise: str) -> None:
        self.images = images
        self._normalise = normalise
        self._scales: dict[int, InputScale] = {}
        self._targets: dict[int, np.ndarray] = {}
        self._room = TARGET_CACHE_MB * 2**20

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> np.ndarray:
        """Map one image, float32 YX."""
        image_yx: np.ndarray = tifffile.memmap(self.images[index].image_path, mode="r")
        return image_yx

    def scale(self, index: int) -> InputScale:
        """Give how an image is normalised; measured at its first use."""
        if index not in self._scales:
            geometry = self.images[index].geometry
            self._scales[index] = measure_input(self.image(index), geometry=geometry, normalise=self._normalise)
        return self._scales[index]

    def target(self, index: int) -> np.ndarray:
        """Give the target of one image in its fitted frame: 0, 1 or IGNORED_TARGET."""
        if index in self._targets:
            return self._targets[index]
        image = self.images[index]
        target_yx = foreground_target(read_labels(image.labels_path), image.geometry)
        # What is in stays in: in a shuffled epoch an image is as likely to be needed next as any other.
        if target_yx.nbytes <= self._room:
            self._room -= target_yx.nbytes
            self._targets[index] = target_yx
        return target_yx


def find_labelled_images(images_dirs: list[str | Path], labels_dirs: list[str | Path]) -> list[LabelledImage]:
    """Pair the images of some shards with their labels.

    Parameters
    ----------
    images_dirs, labels_dirs : lists of paths
        Shard folders of the stages preprocess and rasterize.

    Returns
    -------
    list of LabelledImage
        Sorted by sample, so that the order of the shards does not matter.

    Raises
    ------
    ValueError
        If an image has no labels.
    """
    labels = {sample: path for folder in labels_dirs for sample, path in sample_paths(folder).items()}
    found, missing = [], []
    for folder in images_dirs:
        geometries = read_geometry(Path(folder) / "geometry.csv")
        for sample, path in sample_paths(folder).items():
            if sample in labels:
                found.append(LabelledImage(sample, path, labels[sample], geometries[sample]))
            else:
                missing.append(sample)
    if missing:
        raise ValueError(
            f"{images_dirs[0]}: expected a label image for each image, found none for {len(missing)}: "
            f"{', '.join(sorted(missing)[:5])}. Run snakemake again, so that rasterize makes them."
        )
    return sorted(found, key=lambda image: image.sample)


def choose_images(images: list[LabelledImage], *, limit: int | None, seed: int) -> list[LabelledImage]:
    """Keep at most `limit` images, the same ones for the same seed; all of them for None."""
    if limit is None or len(images) <= limit:
        return images
    rng = np.random.default_rng(np.random.SeedSequence([seed, SUBSET_STREAM]))
    return [images[index] for index in sorted(rng.permutation(len(images))[:limit])]


def foreground_target(labels_yx: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Make the target of a network from a label image in raw geometry.

    Returns
    -------
    ndarray of uint8, shape (geometry.rows, geometry.columns)
        1 in any object, 0 in the background, IGNORED_TARGET where labels say ignore and in padding.
    """
    fitted_yx = fit_labels(labels_yx, geometry)
    target_yx = (fitted_yx > 0).astype(np.uint8)
    target_yx[fitted_yx == IGNORE_LABEL] = IGNORED_TARGET
    return target_yx


def steps_per_epoch(images: int, *, train: dict[str, Any]) -> int:
    """Count the batches of an epoch; the last one may be smaller."""
    return -(-images * int(train["patches_per_image"]) // int(train["batch"]))


def draw_patch(
    images: ImageSet, index: int, *, train: dict[str, Any], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one patch of one image.

    Parameters
    ----------
    images : ImageSet
        Where it is drawn from.
    index : int
        Which image.
    train : dict
        Section `train` of a preset: patch, sampling, augmentation.
    rng : Generator
        The stream of this patch.

    Returns
    -------
    image_yx, target_yx : ndarray of float32 and of uint8, of the patch's shape
    """
    patch = (int(train["patch"][0]), int(train["patch"][1]))
    image_yx, target_yx = images.image(index), images.target(index)
    top, left = _draw_origin(target_yx, patch=patch, sampling=train["sampling"], rng=rng)
    drawn = draw_augmentation(train["augmentation"], patch=patch, rng=rng)
    margin = margin_px(train["augmentation"], patch=patch) if drawn.affine else 0
    starts = (top - margin, left - margin)
    lengths = (patch[0] + 2 * margin, patch[1] + 2 * margin)
    rows, columns = (
        mirror(start, length, size) for start, length, size in zip(starts, lengths, image_yx.shape, strict=True)
    )
    window_yx = read_window(image_yx, rows=rows, columns=columns, scale=images.scale(index))
    truth_yx = target_yx[rows[:, None], columns[None, :]]
    for axis in range(2):
        places = np.arange(starts[axis], starts[axis] + lengths[axis])
        outside = (places < 0) | (places >= image_yx.shape[axis])
        truth_yx[(outside, slice(None)) if axis == 0 else (slice(None), outside)] = IGNORED_TARGET
    return augment(window_yx, truth_yx, drawn=drawn, patch=patch, rng=rng)


def iterate_batches(
    images: ImageSet, *, train: dict[str, Any], seed: int, epoch: int, first_step: int, workers: int
) -> Iterator[Batch]:
    """Give the batches of one epoch in order, made ahead by threads.

    Parameters
    ----------
    images : ImageSet
        The training images; each gives `patches_per_image` patches.
    train : dict
        Section `train` of a preset.
    seed, epoch : int
        With the number of the patch within the epoch they decide what is drawn.
    first_step : int
        Steps that were done before: those batches are not made.
    workers : int, > 0
        Threads; their number changes nothing in the batches.

    Yields
    ------
    Batch
    """
    order = np.repeat(np.arange(len(images)), int(train["patches_per_image"]))
    np.random.default_rng(np.random.SeedSequence([seed, ORDER_STREAM, epoch])).shuffle(order)
    size = int(train["batch"])

    def make_batch(step: int) -> Batch:
        numbers = range(step * size, min((step + 1) * size, len(order)))
        patches = [
            draw_patch(
                images,
                order[number],
                train=train,
                rng=np.random.default_rng(np.random.SeedSequence([seed, PATCH_STREAM, epoch, number])),
            )
            for number in numbers
        ]
        return Batch(
            images_byx=np.stack([image_yx for image_yx, _ in patches]),
            target_byx=np.stack([target_yx for _, target_yx in patches]),
            samples=[images.images[order[number]].sample for number in numbers],
        )

    steps = iter(range(first_step, steps_per_epoch(len(images), train=train)))
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="batches") as pool:
        ahead: deque[Future[Batch]] = deque(
            pool.submit(make_batch, step) for step in itertools.islice(steps, workers + 1)
        )
        while ahead:
            batch = ahead.popleft().result()
            ahead.extend(pool.submit(make_batch, step) for step in itertools.islice(steps, 1))
            yield batch


def _draw_origin(
    target_yx: np.ndarray, *, patch: tuple[int, int], sampling: str, rng: np.random.Generator
) -> tuple[int, int]:
    # An image smaller than the patch lies anywhere within it: the origin is then negative.
    lows = [min(0, size - side) for size, side in zip(target_yx.shape, patch, strict=True)]
    highs = [max(0, size - side) for size, side in zip(target_yx.shape, patch, strict=True)]
    foreground = np.flatnonzero(target_yx == 1) if sampling == "balanced" and rng.random() < 0.5 else ()
    if len(foreground):
        chosen = np.unravel_index(foreground[rng.integers(len(foreground))], target_yx.shape)
        lows = [max(low, int(pixel) - side + 1) for low, pixel, side in zip(lows, chosen, patch, strict=True)]
        highs = [min(high, int(pixel)) for high, pixel in zip(highs, chosen, strict=True)]
    top, left = (int(rng.integers(low, high + 1)) for low, high in zip(lows, highs, strict=True))
    return top, left
