"""Folders of small images as laboratories have them, for the tests of proposed configs."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

SHAPE = (24, 32)


def picture(seed: int, *, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Return an image with camera noise."""
    return np.random.default_rng(seed).integers(100, 4000, shape).astype(np.uint16)


def labels(seed: int, *, count: int = 4, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Return a label image: squares of 4 px that do not touch, numbered from 1."""
    label_yx = np.zeros(shape, np.uint16)
    across = (shape[1] - 2) // 6
    for number in range(1, count + 1):
        row, column = divmod(number - 1 + seed % 2, across)
        label_yx[2 + 6 * row : 6 + 6 * row, 2 + 6 * column : 6 + 6 * column] = number
    return label_yx


def write(path: Path, array: np.ndarray, **options: object) -> None:
    """Write an array in the format of the suffix, and make the folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".tif", ".tiff"):
        tifffile.imwrite(path, array, **options)
    else:
        Image.fromarray(array).save(path)


def write_pictures(folder: Path, names: Iterable[str]) -> None:
    """Write a different noisy image under each name."""
    for seed, name in enumerate(names):
        write(folder / name, picture(seed))


def write_labels(folder: Path, names: Iterable[str]) -> None:
    """Write a label image under each name."""
    for seed, name in enumerate(names):
        write(folder / name, labels(seed))


def write_movie(folder: Path, names: Iterable[str], *, seed: int = 0) -> None:
    """Write images under names in the order of time: a pattern of blocks of 9 px moves by 3 px per frame."""
    rng = np.random.default_rng(seed)
    ground_yx = np.kron(rng.uniform(0, 800, (8, 8)), np.ones((9, 9)))
    for time, name in enumerate(names):
        image_yx = np.roll(ground_yx, 3 * time, axis=0) + rng.uniform(0, 100, ground_yx.shape)
        write(folder / name, image_yx.astype(np.uint16))
