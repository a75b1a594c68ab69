"""An order in which to annotate images: where the model is unsure, and unlike the images before them.

Near copies, such as neighbouring frames of a time-lapse, are equally unsure. Annotating all of them teaches little, so
each image is also compared with those that are annotated or come before it.

Axes  n images, d descriptors
"""

import numpy as np

# Names of the descriptors, all of which come from tables
DESCRIPTORS = ("grey level", "contrast", "focus", "objects per area", "size of objects", "cover")


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


def order_images(
    doubt: np.ndarray, described_nd: np.ndarray, *, is_known: np.ndarray, picks: int
) -> list[tuple[int, float]]:
    """Order images by doubt times novelty, each compared with the annotated images and those before it.

    Parameters
    ----------
    doubt : ndarray of float64, shape (images,)
        1 minus the confidence of the image.
    described_nd : ndarray of float64, shape (images, descriptors)
        From `describe_images`.
    is_known : ndarray of bool, shape (images,)
        Which images are annotated; they are not in the order.
    picks : int
        Number of places for which novelty is computed anew; the images behind are ordered by the last values.

    Returns
    -------
    list of (int, float)
        Number and novelty of each other image, the first to annotate first. Ties are in the order of the images.

    Notes
    -----
    Novelty is d / (d + s), with the distance d to the nearest image that is annotated or before it in the order, and
    the median s of the distances to annotated images; without annotated images it starts at 1.
    """
    waiting = np.flatnonzero(~is_known)
    nearest = np.full(len(waiting), np.inf)
    for number in np.flatnonzero(is_known):
        nearest = np.minimum(nearest, _distances(described_nd[waiting], described_nd[number]))
    usual = nearest if is_known.any() else _distances(described_nd[waiting], np.zeros(described_nd.shape[1]))
    scale = max(float(np.median(usual)), 1e-9) if len(waiting) else 1.0
    order: list[tuple[int, float]] = []
    is_left = np.ones(len(waiting), dtype=bool)
    for _ in range(min(picks, len(waiting))):
        novelty = _novelty(nearest, scale)
        chosen = int(np.argmax(np.where(is_left, doubt[waiting] * novelty, -1.0)))
        order.append((int(waiting[chosen]), float(novelty[chosen])))
        is_left[chosen] = False
        nearest = np.minimum(nearest, _distances(described_nd[waiting], described_nd[waiting[chosen]]))
    left, novelty = np.flatnonzero(is_left), _novelty(nearest, scale)
    behind = left[np.argsort(-(doubt[waiting] * novelty)[left], kind="stable")]
    return [*order, *((int(waiting[place]), float(novelty[place])) for place in behind)]


def _novelty(nearest: np.ndarray, scale: float) -> np.ndarray:
    novelty: np.ndarray = 1 - scale / (nearest + scale)
    return novelty


def _distances(described_nd: np.ndarray, one_d: np.ndarray) -> np.ndarray:
    distances: np.ndarray = np.sqrt(((described_nd - one_d) ** 2).sum(axis=1))
    return distances
