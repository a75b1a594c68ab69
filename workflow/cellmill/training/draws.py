"""Which image each patch of an epoch is drawn from."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Separates the random streams of the order from those of batches.py, imagesets.py and streams.py.
ORDER_STREAM = 1


@dataclass(frozen=True)
class Draws:
    """Patches of an epoch: their numbers, the image of each number, and the name of their random streams."""

    numbers: range
    image_of: Callable[[int], int]
    stream: int


def draw_pass(images: int, *, patches_per_image: int, seed: int, epoch: int) -> Draws:
    """Draw an epoch that is a pass over the images: the same number of patches of each, in a random order.

    Parameters
    ----------
    images, patches_per_image : int, > 0
    seed, epoch : int
        Determine the order.
    """
    order = np.repeat(np.arange(images), patches_per_image)
    np.random.default_rng(np.random.SeedSequence([seed, ORDER_STREAM, epoch])).shuffle(order)
    return Draws(range(len(order)), lambda number: int(order[number]), stream=epoch)


def draw_interval(images: int, *, numbers: range, seed: int) -> Draws:
    """Draw an epoch that is an interval of a training, whose patches are numbered from its beginning.

    Parameters
    ----------
    images : int, > 0
    numbers : range
        Numbers of the patches of the epoch within the training.
    seed : int
        Determines the order.

    Returns
    -------
    Draws
        The training goes through shuffles of the images. At each moment, no image has been used more than once more
        than another. The patch of a number depends neither on the length of the training nor on that of its epochs.
    """

    @functools.lru_cache(maxsize=2)  # successive batches use the same shuffle or the next
    def shuffle(turn: int) -> np.ndarray:
        return np.random.default_rng(np.random.SeedSequence([seed, ORDER_STREAM, turn])).permutation(images)

    return Draws(numbers, lambda number: int(shuffle(number // images)[number % images]), stream=0)
