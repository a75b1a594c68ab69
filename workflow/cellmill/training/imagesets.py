"""Sets of images with their ground truth, opened on demand.

Images are memory-mapped. Labels, and maps computed from the labels of a whole image, are cached in memory up to
CACHE_MB. Beyond that, labels are read again. Maps, which take about a second to compute for 2048 x 2048 px, are then
kept in a temporary file in TMPDIR that disappears with the process.
"""

import logging
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from cellmill.images.stored import IGNORE_LABEL, read_labels, sample_paths
from cellmill.inference.views import Frames, InputSettings, SettledInput, View, class_planes
from cellmill.preprocessing.geometry import fit_labels
from cellmill.preprocessing.stored_images import StoredImage, find_images
from cellmill.training.losses import IGNORED_TARGET, LossSettings
from cellmill.training.targets import Target, foreground_classes, image_maps, make_target

logger = logging.getLogger(__name__)

CACHE_MB = 512

# Separates this random stream from those of batches.py.
SUBSET_STREAM = 3


class ImageSet:
    """Training or validation images, with each image's input and target."""

    def __init__(
        self,
        images: Sequence[StoredImage],
        *,
        around: Sequence[StoredImage],
        input: InputSettings,
        output: str,
        loss: LossSettings,
        passages: Sequence[Sequence[str]] | None,
        classes: Mapping[str, str] | None,
    ) -> None:
        self.images = list(images)
        self.output = output
        self.loss = loss
        self.frames_seen = int(input["frames"])
        self.channels = int(input.get("channels", 1))
        self._planes = [
            class_planes((classes or {}).get(image.sample, ""), classes=input["class_planes"], sample=image.sample)
            for image in images
        ]
        stored = {image.sample: image for image in (*around, *images)}
        # `auto` is settled later, see `settle`.
        min_contrast = 0.0 if input["min_contrast"] == "auto" else float(input["min_contrast"])
        self._frames = Frames(
            stored,
            normalise=input["normalise"],
            polarity=input["polarity"],
            min_contrast=min_contrast,
            passages=passages,
            kept=None,
        )
        # A mask takes half the memory of labels and suffices for these outputs.
        self._is_mask = output in ("foreground", "two_classes") and loss["distance"] is None
        self._kept: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}
        self._room = CACHE_MB * 2**20
        self._stored_maps = _StoredMaps()
        numbers = {image.sample: number for number, image in enumerate(self.images)}
        # Passages restricted to images of this set (numbers) and around it (names), without frames of other sets.
        self.passages = [
            [numbers.get(sample, sample) for sample in passage if sample in stored]
            for passage in passages or ()
            if any(sample in numbers for sample in passage)
        ]

    def __len__(self) -> int:
        return len(self.images)

    def view(self, index: int) -> View:
        """Return the input planes of an image."""
        return self._frames.view(self.images[index].sample, count=self.frames_seen, planes=self._planes[index])

    def view_around(self, sample: str) -> View:
        """Return the input planes of a frame without labels."""
        return self._frames.view(sample, count=self.frames_seen, planes=())

    def read_fitted_labels(self, index: int) -> np.ndarray:
        """Read the labels of an image in the geometry of the preprocessed image."""
        image = self.images[index]
        assert image.labels_path is not None
        return fit_labels(read_labels(image.labels_path), image.geometry)

    def settle(self, *, input: SettledInput, factors: Mapping[str, float]) -> None:
        """Set polarity and least contrast, and the working scale of images: sample -> factor of the sides.

        Call this before inputs and targets are read.
        """
        assert not self._kept
        self._frames.settle(polarity=input["polarity"], min_contrast=float(input["min_contrast"]), factors=factors)

    def settle_by_dataset(self, *, input: SettledInput, pixel_size_um: float | None) -> None:
        """Set polarity, least contrast and the working scale of all images as in prediction.

        See `Frames.settle_by_dataset` for the working scale.

        Call this before inputs and targets are read.
        """
        self.settle(input=input, factors={})
        self._frames.settle_by_dataset(input=input, pixel_size_um=pixel_size_um)

    def normalise_by(self, normalise: str) -> None:
        """Change the normalisation of all images, see `normalise.measure_input`; views opened before keep theirs."""
        self._frames.settle(factors={}, normalise=normalise)

    def truth(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the labels of one image at its working scale, and the maps computed from them.

        Returns
        -------
        labels_yx : ndarray of uint8 or uint16
            uint8 if the network is trained on a mask: 0, 1 or IGNORED_TARGET; otherwise uint16: labels, IGNORE_LABEL.
        maps_cyx : ndarray of float32 or None
            From `targets.image_maps`.
        """
        if index in self._kept:
            return self._kept[index]
        image = self.images[index]
        labels_yx = fit_labels(self.read_fitted_labels(index), self._frames.working_size(image.sample))
        maps_cyx = self._stored_maps.find(index)
        if maps_cyx is None:
            maps_cyx = image_maps(labels_yx, output=self.output)
        found = (foreground_classes(labels_yx) if self._is_mask else labels_yx, maps_cyx)
        # Never evict: in a shuffled epoch every image is equally likely to be needed next.
        size = found[0].nbytes + (0 if maps_cyx is None else maps_cyx.nbytes)
        if size <= self._room:
            self._room -= size
            self._kept[index] = found
        elif maps_cyx is not None:
            self._stored_maps.keep(index, maps_cyx)
        return found

    def foreground(self, index: int) -> np.ndarray:
        """Return the foreground mask, the pixels of all objects, bool YX."""
        labels_yx, _ = self.truth(index)
        ignored = IGNORED_TARGET if labels_yx.dtype == np.uint8 else IGNORE_LABEL
        found: np.ndarray = (labels_yx > 0) & (labels_yx != ignored)
        return found

    def target(self, index: int) -> Target:
        """Return the target of a whole image."""
        labels_yx, maps_cyx = self.truth(index)
        return make_target(as_labels(labels_yx), maps_cyx, output=self.output, loss=self.loss, context_px=0)


class _StoredMaps:
    """Store for float32 maps in one temporary file, until the disk is full; safe for use by several threads."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._places: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._lock = threading.Lock()
        self._is_full = False

    def find(self, index: int) -> np.ndarray | None:
        """Memory-map the stored maps of an image; return None if there are none."""
        if index not in self._places:
            return None
        offset, shape = self._places[index]
        with self._lock:  # numpy seeks to the end of the file to measure it
            assert self._file is not None
            return np.memmap(self._file, dtype=np.float32, mode="r", offset=offset, shape=shape)

    def keep(self, index: int, maps_cyx: np.ndarray) -> None:
        """Append the maps of an image to the file if there is space."""
        with self._lock:
            if index in self._places or self._is_full:
                return
            try:
                if self._file is None:
                    # The file has no name, so that nothing is left behind however the process ends.
                    self._file = tempfile.TemporaryFile(prefix="cellmill-", buffering=0)  # noqa: SIM115
                offset = self._file.seek(0, 2)
                rest = np.ascontiguousarray(maps_cyx).data.cast("B")
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError as error:
                self._is_full = True
                logger.warning(
                    "%s: %s; maps of further label images are recomputed for each patch", tempfile.gettempdir(), error
                )
                return
            self._places[index] = (offset, maps_cyx.shape)

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()


def as_labels(labels_yx: np.ndarray) -> np.ndarray:
    """Convert a mask to a label image with a single object; return a label image unchanged."""
    if labels_yx.dtype != np.uint8:
        return labels_yx
    wide_yx = labels_yx.astype(np.uint16)
    wide_yx[labels_yx == IGNORED_TARGET] = IGNORE_LABEL
    return wide_yx


def find_labelled_images(images_dirs: Sequence[str | Path], labels_dirs: Sequence[str | Path]) -> list[StoredImage]:
    """Pair the images of some shards with their labels.

    Parameters
    ----------
    images_dirs, labels_dirs : sequences of paths
        Shard folders of the stages preprocess and rasterize.

    Returns
    -------
    list of StoredImage
        Sorted by sample, independent of the order of the shards.

    Raises
    ------
    ValueError
        If a folder is incomplete, or an image has no labels.
    """
    labels = {sample: path for folder in labels_dirs for sample, path in sample_paths(folder).items()}
    found = [replace(image, labels_path=labels.get(image.sample)) for image in find_images(images_dirs)]
    if missing := [image for image in found if image.labels_path is None]:
        shards = {image.image_path.parent.name for image in missing}
        rooms = sorted(str(folder) for folder in (*images_dirs, *labels_dirs) if Path(folder).name in shards)
        raise ValueError(
            f"{missing[0].image_path.parent}: expected a label image for each image, found none for {len(missing)}: "
            f"{', '.join(image.sample for image in missing[:5])}. Remove {' and '.join(rooms)} and run snakemake "
            "again: it makes them from the current sample table."
        )
    return found


def choose_images(images: list[StoredImage], *, limit: int | None, seed: int) -> list[StoredImage]:
    """Draw at most `limit` images, the same for the same seed; return all of them if `limit` is None."""
    if limit is None or len(images) <= limit:
        return images
    rng = np.random.default_rng(np.random.SeedSequence([seed, SUBSET_STREAM]))
    return [images[index] for index in sorted(rng.permutation(len(images))[:limit])]


def open_images(
    *,
    train_images: Sequence[str | Path],
    train_labels: Sequence[str | Path],
    validation_images: Sequence[str | Path],
    validation_labels: Sequence[str | Path],
    around_images: Sequence[str | Path],
    input: InputSettings,
    output: str,
    loss: LossSettings,
    needs_validation: bool,
    limit: int | None,
    passages: Sequence[Sequence[str]] | None,
    classes: Mapping[str, str] | None,
    seed: int,
) -> tuple[ImageSet, ImageSet]:
    """Open the training images and the validation images of a training.

    Parameters
    ----------
    train_images, train_labels, validation_images, validation_labels : sequences of paths
        Shard folders of preprocess and rasterize.
    around_images : sequence of paths
        Shard folders with further frames of the same sequences.
    input, loss : mappings
        Sections `input` and `train.loss` of a preset.
    output : str
        `network.output` of the preset.
    needs_validation : bool
        Whether the training cannot do without validation images.
    limit : int or None
        Most validation images that are used; None for all.
    passages : sequence of sequences of str, or None
        Unbroken runs of frames in order.
    classes : mapping or None
        Class of each image.
    seed : int
        Determines which validation images are used if `limit` leaves some out.

    Returns
    -------
    images, validation : ImageSet
        Validation images that the limit leaves out are still context of those that are used.

    Raises
    ------
    ValueError
        If there are no training images, or no validation images although they are needed.
    """
    found = find_labelled_images(train_images, train_labels)
    labelled = find_labelled_images(validation_images, validation_labels)
    if not found:
        raise ValueError(
            "train: expected labelled training images, found none. Annotate images, or raise split.train in the config."
        )
    if not labelled and needs_validation:
        raise ValueError(
            "train: expected validation images for choosing the best epoch, found none. "
            "Raise split.validation, or set train.select: last and remove train.patience in the config."
        )
    around = find_images(around_images)
    chosen = choose_images(labelled, limit=limit, seed=seed)
    names = {image.sample for image in chosen}
    others = [image for image in labelled if image.sample not in names]
    open_set = partial(ImageSet, input=input, output=output, loss=loss, passages=passages, classes=classes)
    return open_set(found, around=around), open_set(chosen, around=[*around, *others])
