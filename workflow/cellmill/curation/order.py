"""The order in which images are worth annotating: where the model is unsure of many images that are alike.

Near copies, such as neighbouring frames of a time-lapse, are equally unsure, and annotating all of them teaches little.
The least sure image of all is often a stray one, which teaches nothing about the others. So each image is compared with
those that are annotated or come before it, and with all others.

Axes  n images, d descriptors
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

# Names of the descriptors, all of which come from tables
DESCRIPTORS = ("grey level", "contrast", "focus", "objects per area", "size of objects", "cover")
# Most images that are compared in pairs
MOST_COMPARED = 4000


def describe_images(
    *,
    mean: np.ndarray,
    minimum: np.ndarray,
    maximum: np.ndarray,
    contrast: np.ndarray,
    focus: np.ndarray,
    pixels: np.ndarray,
    objects: np.ndarray,
    area_px: np.ndarray,
) -> np.ndarray:
    """Describe images by numbers whose differences tell how alike they are.

    Parameters
    ----------
    mean, minimum, maximum, contrast, focus : ndarray of float64, shape (images,)
        Columns of check/images.csv.
    pixels : ndarray of float64, shape (images,)
        Number of pixels.
    objects, area_px : ndarray of float64, shape (images,)
        Number of predicted objects, and of the pixels that they cover.

    Returns
    -------
    ndarray of float64, shape (images, descriptors)
        As in DESCRIPTORS, each divided by its standard deviation; 0 where it does not differ or is unknown.
    """
    span = np.maximum(maximum - minimum, 1e-12)
    columns_nd = np.stack(
        [
            (mean - minimum) / span,
            np.log1p(np.maximum(contrast, 0)),
            focus,
            np.log(1e6 * objects / pixels + 1),
            np.log(np.maximum(area_px, 1) / np.maximum(objects, 1)),
            area_px / pixels,
        ],
        axis=1,
    )
    known = np.ma.masked_invalid(columns_nd)
    deviations = known.std(axis=0).filled(0.0)
    centred_nd = (known - known.mean(axis=0)).filled(0.0)
    result: np.ndarray = centred_nd / np.where(deviations > 1e-9, deviations, 1)
    return result


class Pick(NamedTuple):
    """An image to annotate: its number, its novelty, and the number of other images that it stands for."""

    number: int
    novelty: float
    similar: int


def order_images(doubt: np.ndarray, described_nd: np.ndarray, *, is_known: np.ndarray, picks: int) -> list[Pick]:
    """Order images by how much doubt an annotation covers, in the image itself and in those like it.

    Parameters
    ----------
    doubt : ndarray of float64, shape (images,)
        1 minus the confidence of the image.
    described_nd : ndarray of float64, shape (images, descriptors)
        From `describe_images`.
    is_known : ndarray of bool, shape (images,)
        Which images are annotated; they are not in the order.
    picks : int
        Number of places that are chosen one after the other; the images behind are ordered by doubt times novelty.

    Returns
    -------
    list of Pick
        Each other image, the first to annotate first. Ties are in the order of the images.

    Notes
    -----
    Novelty is d / (d + s), with the distance d to the nearest image that is annotated or before it in the order, and
    the median s of the distances to annotated images; without annotated images it starts at 1. The next image is the
    one that lowers the sum of doubt times novelty over all images most: facility location, the greedy order of a
    submodular function (Wei, Iyer and Bilmes 2015, "Submodularity in data subset selection and active learning"). An
    unsure image unlike all others lowers its own novelty only. `similar` counts the images that are closer to this one
    than to those before.
    """
    waiting = np.flatnonzero(~is_known)
    doubt_w, waiting_wd = doubt[waiting], described_nd[waiting]
    nearest = np.full(len(waiting), np.inf)
    for number in np.flatnonzero(is_known):
        nearest = np.minimum(nearest, _distances(waiting_wd, described_nd[number]))
    usual = nearest if is_known.any() else _distances(waiting_wd, np.zeros(described_nd.shape[1]))
    scale = max(float(np.median(usual)), 1e-9) if len(waiting) else 1.0
    # Of a larger dataset, images at equal intervals stand for the others.
    seen = np.unique(np.linspace(0, len(waiting) - 1, min(len(waiting), MOST_COMPARED)).round().astype(int))
    novelty_ss = _novelty(cdist(waiting_wd[seen], waiting_wd[seen]).astype(np.float32), scale)
    order: list[Pick] = []
    is_left = np.ones(len(waiting), dtype=bool)
    for _ in range(min(picks, len(seen))):
        novelty = _novelty(nearest, scale)
        gains_s = np.maximum(novelty[seen] - novelty_ss, 0) @ doubt_w[seen]
        chosen = int(seen[np.argmax(np.where(is_left[seen], gains_s, -1.0))])
        reached = _distances(waiting_wd, waiting_wd[chosen])
        is_closer = is_left & (reached < nearest)
        is_closer[chosen] = False
        order.append(Pick(int(waiting[chosen]), float(novelty[chosen]), int(is_closer.sum())))
        is_left[chosen] = False
        nearest = np.minimum(nearest, reached)
    left, novelty = np.flatnonzero(is_left), _novelty(nearest, scale)
    behind = left[np.argsort(-(doubt_w * novelty)[left], kind="stable")]
    return [*order, *(Pick(int(waiting[place]), float(novelty[place]), 0) for place in behind)]


def _novelty(nearest: np.ndarray, scale: float) -> np.ndarray:
    novelty: np.ndarray = 1 - scale / (nearest + scale)
    return novelty


def _distances(described_nd: np.ndarray, one_d: np.ndarray) -> np.ndarray:
    distances: np.ndarray = np.sqrt(((described_nd - one_d) ** 2).sum(axis=1))
    return distances
