"""How often are sound images flagged as unlike the training images of a model, and how often unlike ones?

``python tests/experiments/flags.py`` prints a table in a few minutes, without training a network.

- Data: the sets below, preprocessed and rasterised by the pipeline. Of up to 60 images of a set, drawn by a fixed seed,
  two thirds take the part of the training images. The rest are held out.
- Sound: the held-out images unchanged, with twice the counts, and with a fifth of the counts and an offset of 1000.
- Unlike: the held-out images at half and at twice their size, and inverted.
- Objects: the annotated ones, resized with their image, in place of those that a network finds; and none at all.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  after the number of threads is set
import tifffile  # noqa: E402
from skimage.transform import resize  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from cellmill.checks.unlike_training import (  # noqa: E402
    find_unlike,
    measure_image,
    measure_labels,
    summarize_images,
)
from real_runs import find_data, read_section, run_pipeline  # noqa: E402  the module is found here

DATASETS = ("bbbc039", "ctc_fluo_n2dl_hela", "dsb2018", "isbi2012_em", "livecell", "yeast_timelapse")
IMAGES, SEED = 60, 1
# Larger images are cut to this, to save time.
CROP = (slice(0, 520), slice(0, 704))
Example = tuple[np.ndarray, np.ndarray]


def rescale(example: Example, factor: float) -> Example:
    """Resize an image by averaging or linear interpolation, and its labels by nearest neighbour."""
    image_yx, labels_yx = example
    shape = [round(side * factor) for side in image_yx.shape]
    image_yx = resize(image_yx, shape, order=1, anti_aliasing=factor < 1, preserve_range=True)
    return image_yx, resize(labels_yx, shape, order=0, anti_aliasing=False, preserve_range=True).astype(labels_yx.dtype)


CHANGES: dict[str, Callable[[Example], Example]] = {
    "unchanged": lambda example: example,
    "twice the counts": lambda example: (2 * example[0], example[1]),
    "dim, offset": lambda example: (0.2 * example[0] + 1000, example[1]),
    "half the size": lambda example: rescale(example, 0.5),
    "twice the size": lambda example: rescale(example, 2),
    "inverted": lambda example: (example[0].max() - example[0], example[1]),
}


def read_examples(folder: Path) -> list[Example]:
    """Read the preprocessed images of a dataset that have labels, in an order drawn by the seed."""
    paths = [path for path in sorted(folder.glob("images/*/*.tif")) if _labels_of(path).exists()]
    drawn = np.random.default_rng(SEED).permutation(len(paths))[:IMAGES]
    return [
        (tifffile.imread(paths[i])[CROP].astype(np.float64), tifffile.imread(_labels_of(paths[i]))[CROP]) for i in drawn
    ]


def _labels_of(path: Path) -> Path:
    return path.parents[2] / "labels" / path.parent.name / path.name


def count_flagged(examples: list[Example]) -> tuple[int, dict[str, tuple[int, int]]]:
    """Count the held-out images, and those flagged after each change: by the image alone, and with its objects."""
    images = [measure_image(image_yx, pixel_size_um=None) for image_yx, _ in examples]
    rows = [image | measure_labels([labels]) for image, (_, labels) in zip(images, examples, strict=True)]
    training = len(rows) * 2 // 3
    seen = summarize_images(rows[:training], normalise="zscore")
    flagged = {}
    for name, change in CHANGES.items():
        counts = [0, 0]
        for image_yx, labels_yx in map(change, examples[training:]):
            image = measure_image(image_yx, pixel_size_um=None)
            counts[0] += bool(find_unlike(image, seen))
            counts[1] += bool(find_unlike(image | measure_labels([labels_yx]), seen))
        flagged[name] = (counts[0], counts[1])
    return len(rows) - training, flagged


def main() -> None:
    """Preprocess the images, and print the table."""
    folder = ROOT / "flags"
    sections = {name: read_section(name) | {"models": ["default"]} for name in DATASETS}
    run_pipeline(folder, find_data(), {"datasets": sections}, until=("preprocess", "rasterize"))
    print("Flagged by the image alone / with its objects.\n")
    print(f"| dataset | held out | {' | '.join(CHANGES)} |")
    print("|---|---|" + "---|" * len(CHANGES))
    for name in DATASETS:
        held_out, flagged = count_flagged(read_examples(folder / "results" / name))
        cells = " | ".join(f"{image} / {both}" for image, both in flagged.values())
        print(f"| {name} | {held_out} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
