"""Label images for tests."""

import numpy as np


def scattered_objects(shape, *, objects, seed):
    """Draw ellipses, rings and pairs of blobs that touch only at a corner, numbered 1 .. n; some cover others."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    labels = np.zeros(shape, dtype=np.int64)
    for number in range(1, objects + 1):
        row, column, radius = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(2, 7)
        squared = (y - row) ** 2 + (x - column) ** 2
        labels[(squared <= radius**2) & ((number % 3 > 0) | (squared > (radius / 2) ** 2))] = number
    labels[3:6, 3:6] = labels[6:9, 6:9] = objects + 1
    labels[3:6, 6:9] = labels[6:9, 3:6] = 0
    return np.unique(labels, return_inverse=True)[1].reshape(shape)
