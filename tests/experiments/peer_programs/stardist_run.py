"""Train StarDist on the images of a folder for some minutes, then write masks of all images.

``python stardist_run.py IMAGES MASKS MINUTES`` runs in an environment of its own, made by peers.py. Settings are those of
StarDist's 2D example: 32 rays, grid of 2, normalisation by percentiles, its augmentation by flips and intensities; both
thresholds are chosen on the validation images by its own search.
"""

import itertools
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
import tifffile
from csbdeep.utils import normalize
from stardist import fill_label_holes
from stardist.models import Config2D, StarDist2D

RNG = np.random.default_rng(1)


def read_parts(folder: Path) -> dict[str, list[tuple[str, np.ndarray, np.ndarray]]]:
    """Read the images: part -> (name, normalised image, labels)."""
    parts: dict[str, list[tuple[str, np.ndarray, np.ndarray]]] = {"train": [], "validation": [], "test": []}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as found:
            image_yx = normalize(found["image"].astype(np.float32), 1, 99.8)
            parts[str(found["part"])].append((path.stem, image_yx, found["labels"]))
    return parts


def augment(image_yx: np.ndarray, labels_yx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flip, turn and change intensities at random, as in StarDist's example."""
    turns = RNG.integers(4)
    image_yx, labels_yx = np.rot90(image_yx, turns), np.rot90(labels_yx, turns)
    if RNG.random() < 0.5:
        image_yx, labels_yx = image_yx[::-1], labels_yx[::-1]
    image_yx = image_yx * RNG.uniform(0.6, 2) + RNG.uniform(-0.2, 0.2)
    return image_yx + 0.02 * RNG.uniform(0, 1) * RNG.normal(0, 1, image_yx.shape), labels_yx


class Clock(tf.keras.callbacks.Callback):
    """End the training after an epoch when the time is over."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.end = time.monotonic() + seconds

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Stop if the time is over."""
        if time.monotonic() > self.end:
            self.model.stop_training = True


def main(images: Path, masks: Path, minutes: float) -> None:
    """Train and predict."""
    tf.keras.utils.set_random_seed(1)
    parts = read_parts(images)
    train, validation = (
        [[image_yx for _, image_yx, _ in parts[part]], [fill_label_holes(labels_yx) for _, _, labels_yx in parts[part]]]
        for part in ("train", "validation")
    )
    side = min(256, *(min(image_yx.shape) // 16 * 16 for image_yx in train[0]))
    config = Config2D(
        n_rays=32, grid=(2, 2), n_channel_in=1, use_gpu=False, train_patch_size=(side, side), train_batch_size=4,
        train_steps_per_epoch=20, train_epochs=10_000, train_tensorboard=False,
        train_reduce_lr={"factor": 0.5, "patience": 40, "min_delta": 0},
    )  # fmt: skip
    model = StarDist2D(config, name="model", basedir=str(masks))
    model.prepare_for_training()
    model.callbacks.append(Clock(60 * minutes))
    model.train(*train, validation_data=tuple(validation), augmenter=augment)
    model.optimize_thresholds(*validation)
    for name, image_yx, _ in itertools.chain.from_iterable(parts.values()):
        labels_yx, _ = model.predict_instances(image_yx)
        tifffile.imwrite(masks / f"{name}.tif", labels_yx.astype(np.uint16))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
