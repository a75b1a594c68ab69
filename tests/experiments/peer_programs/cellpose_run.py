"""Train Cellpose 3 from random weights on the images of a folder for some minutes, then write masks of all images.

``python cellpose_run.py IMAGES MASKS MINUTES`` runs in an environment of its own, made by peers.py. Settings are those of
its command line for training from scratch; images are resampled to its diameter of 30 px by the median diameter of the
training objects, which is also given for the prediction. Its published weights are not used: they may not be used
commercially, and other images made them.
"""

import itertools
import sys
import time
from pathlib import Path

import numpy as np
import tifffile
from cellpose import models, train, utils

PROBE_EPOCHS = 4


def read_parts(folder: Path) -> dict[str, list[tuple[str, np.ndarray, np.ndarray]]]:
    """Read the images: part -> (name, image, labels)."""
    parts: dict[str, list[tuple[str, np.ndarray, np.ndarray]]] = {"train": [], "validation": [], "test": []}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as found:
            parts[str(found["part"])].append((path.stem, found["image"].astype(np.float32), found["labels"]))
    return parts


def fit(
    model: models.CellposeModel, parts: dict[str, list[tuple[str, np.ndarray, np.ndarray]]], *, epochs: int, save: Path
) -> None:
    """Train for a number of epochs of at least eight images."""
    images, labels = ([found[place] for found in parts["train"]] for place in (1, 2))
    train.train_seg(
        model.net, train_data=images, train_labels=labels, channels=[0, 0], n_epochs=epochs, learning_rate=0.2,
        weight_decay=1e-5, SGD=True, batch_size=8, nimg_per_epoch=max(8, len(images)), min_train_masks=1,
        save_path=str(save), model_name="model",
    )  # fmt: skip


def main(images: Path, masks: Path, minutes: float) -> None:
    """Measure the time of an epoch, train anew for as many as fit, and predict."""
    parts = read_parts(images)
    masks.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    fit(models.CellposeModel(gpu=False, pretrained_model=False), parts, epochs=PROBE_EPOCHS, save=masks)
    seconds = (time.monotonic() - started) / PROBE_EPOCHS
    model = models.CellposeModel(gpu=False, pretrained_model=False)
    fit(model, parts, epochs=max(PROBE_EPOCHS, int(60 * minutes / seconds)), save=masks)
    diameter_px = float(np.median([utils.diameters(labels_yx)[0] for _, _, labels_yx in parts["train"]]))
    for name, image_yx, _ in itertools.chain.from_iterable(parts.values()):
        labels_yx, *_ = model.eval(image_yx, channels=[0, 0], diameter=diameter_px)
        tifffile.imwrite(masks / f"{name}.tif", labels_yx.astype(np.uint16))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
