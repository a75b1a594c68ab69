"""Random streams: the random numbers of an image depend only on the seed, its name and a purpose.

An image is therefore the same in any shard, order or process, and the ground truth does not change with the camera or
illumination settings.
"""

import numpy as np

from cellmill.shards import stable_hash

# Every image depends on these numbers: append new purposes, never renumber.
PURPOSES = {
    "population": 0,
    "shape": 1,
    "nucleus": 2,
    "texture": 3,
    "focus": 4,
    "autofluorescence": 5,
    "background_noise": 6,
    "camera": 7,
    "organelle": 8,
    "organelle_texture": 9,
    "setting": 10,
    "dirt": 11,
    "motion": 12,
    "reference": 13,
    "elongation": 14,
    "fading": 15,
}


def open_stream(name: str, purpose: str, *, seed: int, part: tuple[int, ...] = ()) -> np.random.Generator:
    """Open one stream.

    Parameters
    ----------
    name : str
        Name of the image or sequence.
    purpose : str
        A key of `PURPOSES`.
    seed : int, >= 0
        The config's seed.
    part : tuple of int
        Number of a cell or a frame, if each has a separate stream.

    Returns
    -------
    numpy.random.Generator
        A new generator that always starts at the beginning of the stream.
    """
    key = [seed, stable_hash(name, purpose="simulate")]
    return np.random.default_rng(np.random.SeedSequence(key, spawn_key=(PURPOSES[purpose], *part)))


def open_streams(name: str, *, seed: int) -> dict[str, np.random.Generator]:
    """Open the streams of all purposes."""
    return {purpose: open_stream(name, purpose, seed=seed) for purpose in PURPOSES}
