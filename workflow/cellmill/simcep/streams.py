"""Random streams: what is drawn for an image depends on the seed, its name and a purpose, and on nothing else.

So an image is the same in whatever shard, order or process it is made, and the truth is the same under another
camera or lamp.
"""

import numpy as np

from cellmill.shards import stable_hash

# Purposes. The numbers are part of the images: append, never renumber.
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
        Of the image or sequence.
    purpose : str
        A key of `PURPOSES`.
    seed : int, >= 0
        The config's seed.
    part : tuple of int
        Number of a cell or a frame, where each has a stream of its own.

    Returns
    -------
    numpy.random.Generator
        At its beginning, whenever and wherever it is opened.
    """
    key = [seed, stable_hash(name, purpose="simulate")]
    return np.random.default_rng(np.random.SeedSequence(key, spawn_key=(PURPOSES[purpose], *part)))


def open_streams(name: str, *, seed: int) -> dict[str, np.random.Generator]:
    """Open the streams of all purposes."""
    return {purpose: open_stream(name, purpose, seed=seed) for purpose in PURPOSES}
