"""Boundary tuning: reclassify the pixels along the borders of a predicted mask with a small classifier.

The features of a pixel are its grey value and the Sobel magnitude of the image at each smoothing scale. A support
vector machine with a cubic kernel is exactly a cubic polynomial in these features; Gaussian naive Bayes is a quadratic
polynomial. Both are stored as coefficients, ten for two features. No pickle is needed, and the cost does not grow with
the number of support vectors.
"""

import functools
import itertools
import warnings
from collections.abc import Mapping, Sequence
from math import comb, factorial, prod
from typing import Any

import numpy as np
from scipy import ndimage
from skimage import filters, segmentation

from cellmill.images.windows import sample_pixels, sampling_step

DEGREE = 3
# Larger images are subsampled to find their range: every n-th row and column is enough.
MAX_RANGE_PIXELS = 1 << 24
# Gaussians are truncated at this many sigmas.
TRUNCATE = 4.0
# ASSUME at most one pixel in a thousand is hot, and at most one in a thousand is dead
GREY_PERCENTILES = (0.1, 99.9)
# libsvm can be very slow on features that do not separate. Stopping here costs no accuracy; the result records it.
MAX_SVM_ITERATIONS = 1_000_000
HELD_OUT_SHARE = 0.2
# Pixels evaluated per block: intermediate arrays fit into the cache of a core, which halves the run time.
BLOCK_PIXELS = 1 << 14


def measure_grey(image_yx: np.ndarray, *, valid_yx: np.ndarray) -> tuple[float, float]:
    """Measure the robust range of an image.

    Parameters
    ----------
    image_yx : ndarray of shape (rows, columns), any real dtype
        Preprocessed image; may be a memory map.
    valid_yx : ndarray of bool, shape (rows, columns)
        False where the frame was padded; padding does not enter the range. May be a broadcast view.

    Returns
    -------
    low, high : float
        The 0.1 and the 99.9 percentile; (0, 0) without a valid pixel. Images above 16 million pixels are subsampled by
        rows and columns.
    """
    step = sampling_step(image_yx.shape, max_pixels=MAX_RANGE_PIXELS)
    values = sample_pixels(image_yx, max_pixels=MAX_RANGE_PIXELS)[valid_yx[::step, ::step]]
    if values.size == 0:
        return 0.0, 0.0
    low, high = np.percentile(values.astype(np.float64), GREY_PERCENTILES)
    return float(low), float(high)


def scale_grey(image_yx: np.ndarray, *, grey: tuple[float, float]) -> np.ndarray:
    """Scale an image to [0, 1] by its robust range.

    Parameters
    ----------
    image_yx : ndarray of shape (rows, columns), any real dtype
        Preprocessed image, or a part of it.
    grey : (low, high)
        Range of the whole image, from `measure_grey`.

    Returns
    -------
    ndarray of float64, shape (rows, columns)
        0 at the low and 1 at the high end, clipped; 0 everywhere for a constant image. The same image in other units
        (8 bits, 16 bits, floats from 0 to 1) gives the same result.
    """
    low, high = grey
    if high <= low:
        return np.zeros(image_yx.shape)
    return np.clip((np.asarray(image_yx, dtype=np.float64) - low) / (high - low), 0.0, 1.0)


def boundary_features(image_yx: np.ndarray, *, grey: tuple[float, float], scales_px: Sequence[float]) -> np.ndarray:
    """Compute the features of each pixel for the classifier.

    Parameters
    ----------
    image_yx, grey
        As for `scale_grey`.
    scales_px : sequence of float, >= 0
        Sigmas (px) of the Gaussian smoothing; 0 is the image itself.

    Returns
    -------
    ndarray of float64, shape (rows, columns, 2 x scales)
        For each scale the grey value in [0, 1] and the Sobel magnitude of that grey image.
    """
    grey_yx = scale_grey(image_yx, grey=grey)
    features = []
    for sigma in scales_px:
        smooth_yx = ndimage.gaussian_filter(grey_yx, sigma, truncate=TRUNCATE) if sigma > 0 else grey_yx
        # A float image: scikit-image would rescale integers, by a factor of 255 for 8 bits.
        features += [smooth_yx, filters.sobel(smooth_yx)]
    return np.stack(features, axis=-1)


def features_reach_px(scales_px: Sequence[float]) -> int:
    """Return the radius (px) of the neighbourhood that the features of a pixel depend on."""
    return 1 + max(int(TRUNCATE * sigma + 0.5) for sigma in scales_px)


@functools.cache
def list_powers(n_features: int) -> tuple[tuple[int, ...], ...]:
    """List the exponents of terms up to degree 3, by degree. For two features: (0, 0), (1, 0), (0, 1), (2, 0), ..."""
    every = itertools.product(range(DEGREE + 1), repeat=n_features)
    return tuple(sorted((p for p in every if sum(p) <= DEGREE), key=lambda p: (sum(p), tuple(-e for e in p))))


def find_boundary(mask_yx: np.ndarray, *, valid_yx: np.ndarray) -> np.ndarray:
    """Mark the pixels on both sides of the borders of a mask, so that tuning can add and remove."""
    return segmentation.find_boundaries(mask_yx, mode="thick") & valid_yx


def fit_classifier(
    features: np.ndarray,
    is_object: np.ndarray,
    *,
    classifier: str,
    standardise: bool,
    coef0: float,
    cost: float,
) -> dict[str, Any]:
    """Train a classifier of boundary pixels and express it as a polynomial.

    Parameters
    ----------
    features : ndarray of float64, shape (pixels, n)
        From `boundary_features`.
    is_object : ndarray of bool, shape (pixels,)
        Ground truth; both values must occur.
    classifier : "svm" or "bayes"
        Cubic support vector machine or Gaussian naive Bayes.
    standardise : bool
        Whether to scale each feature to mean 0 and variance 1 first.
    coef0 : float, >= 0
        Constant of the kernel (gamma u.v + coef0)**3; used by svm only.
    cost : float, > 0
        C of the support vector machine; used by svm only.

    Returns
    -------
    dict
        classifier, mean and scale of the features, powers, coefficients (float64, one for each power; see `decide`),
        support_vectors (their number), converged. Plain values, for JSON.

    Notes
    -----
    With features u, f(u) = b + sum over m of C(3, m) coef0**(3 - m) gamma**m sum over the exponents p of degree m of
    m! / p! M_p u**p with the moments M_p = sum over support vectors k of a_k s_k**p: ten terms for two features.
    """
    assert is_object.any()
    assert not is_object.all()
    n_features = features.shape[1]
    mean = features.mean(axis=0) if standardise else np.zeros(n_features)
    scale = features.std(axis=0) if standardise else np.ones(n_features)
    scale = np.where(scale > 0, scale, 1.0)
    scaled = (features - mean) / scale
    if classifier == "svm":
        coefficients, support_vectors, converged = _fit_svm(scaled, is_object, coef0=coef0, cost=cost)
    else:
        coefficients, support_vectors, converged = _fit_bayes(scaled, is_object), 0, True
    return {
        "classifier": classifier,
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "powers": [list(power) for power in list_powers(n_features)],
        "coefficients": coefficients.tolist(),
        "support_vectors": support_vectors,
        "converged": converged,
    }


def decide(model: Mapping[str, Any], features: np.ndarray) -> np.ndarray:
    """Evaluate a fitted polynomial.

    Parameters
    ----------
    model : mapping
        From `fit_classifier`.
    features : ndarray of float64, shape (..., n)
        From `boundary_features`.

    Returns
    -------
    ndarray of float64, shape (...)
        Positive means object.
    """
    rows = features.reshape(-1, features.shape[-1])
    value = np.zeros(len(rows))
    for first in range(0, len(rows), BLOCK_PIXELS):
        block = slice(first, first + BLOCK_PIXELS)
        _add_polynomial(value[block], rows[block], model=model)
    return value.reshape(features.shape[:-1])


def _add_polynomial(value: np.ndarray, features: np.ndarray, *, model: Mapping[str, Any]) -> None:
    powers = []
    for feature, mean, scale in zip(features.T, model["mean"], model["scale"], strict=True):
        u = (feature - mean) / scale
        powers.append([None, u, u * u, u * u * u])
    for exponents, coefficient in zip(model["powers"], model["coefficients"], strict=True):
        if coefficient:
            factors = [powers[feature][exponent] for feature, exponent in enumerate(exponents) if exponent]
            value += prod(factors[1:], start=coefficient * factors[0]) if factors else coefficient


def tune_boundary(
    mask_yx: np.ndarray,
    image_yx: np.ndarray,
    *,
    model: Mapping[str, Any],
    scales_px: Sequence[float],
    grey: tuple[float, float],
    valid_yx: np.ndarray,
) -> np.ndarray:
    """Reclassify each boundary pixel of a predicted mask.

    Parameters
    ----------
    mask_yx : ndarray of bool, shape (rows, columns)
        Closed prediction.
    image_yx : ndarray of shape (rows, columns), any real dtype
        Preprocessed image, in any unit.
    model : mapping
        From `fit_classifier`.
    scales_px, grey
        As for `boundary_features`.
    valid_yx : ndarray of bool, shape (rows, columns)
        False where the frame was padded.

    Returns
    -------
    ndarray of bool, shape (rows, columns)
        Equal to `mask_yx` away from its borders.
    """
    boundary_yx = find_boundary(mask_yx, valid_yx=valid_yx)
    tuned_yx = mask_yx.copy()
    if boundary_yx.any():
        features = boundary_features(image_yx, grey=grey, scales_px=scales_px)[boundary_yx]
        tuned_yx[boundary_yx] = decide(model, features) > 0
    return tuned_yx


def held_out_accuracy(
    features: np.ndarray,
    is_object: np.ndarray,
    groups: np.ndarray,
    *,
    by: str,
    repeats: int,
    max_points: int,
    rng: np.random.Generator,
    **classifier: Any,
) -> dict[str, Any]:
    """Measure held-out accuracy: train on a random four fifths, score the rest, and repeat.

    Parameters
    ----------
    features, is_object
        As for `fit_classifier`, whose keywords follow in `classifier`.
    groups : ndarray of int, shape (pixels,)
        Image index of each pixel.
    by : "pixel" or "image"
        Unit that is held out. Splits by pixel are optimistic, since pixels of one image are then on both sides.
    repeats : int, >= 0
        Number of random splits.
    max_points : int, > 0
        Maximum number of training pixels; the cost of the support vector machine grows with its square.
    rng : numpy.random.Generator
        Source of the splits.

    Returns
    -------
    dict
        mean and std of the accuracy, and repeats: the number of splits whose training pixels include both classes.
        mean and std are None if there are no such splits.
    """
    units = np.arange(len(features)) if by == "pixel" else np.unique(groups, return_inverse=True)[1]
    n_units = int(units.max()) + 1
    n_held_out = max(1, round(HELD_OUT_SHARE * n_units))
    accuracies = []
    for _ in range(repeats if n_units > 1 else 0):
        is_held_out = np.zeros(n_units, dtype=bool)
        is_held_out[rng.permutation(n_units)[:n_held_out]] = True
        test = is_held_out[units]
        train = rng.permutation(np.flatnonzero(~test))[:max_points]
        if is_object[train].all() or not is_object[train].any():
            continue
        model = fit_classifier(features[train], is_object[train], **classifier)
        accuracies.append(float(np.mean((decide(model, features[test]) > 0) == is_object[test])))
    known = len(accuracies) > 0
    return {
        "mean": float(np.mean(accuracies)) if known else None,
        "std": float(np.std(accuracies)) if known else None,
        "repeats": len(accuracies),
    }


def _fit_svm(scaled: np.ndarray, is_object: np.ndarray, *, coef0: float, cost: float) -> tuple[np.ndarray, int, bool]:
    # Imported here, so that applying a fitted model does not spend a second on importing scikit-learn.
    from sklearn.svm import SVC

    variance = float(scaled.var())
    gamma = 1.0 / (scaled.shape[1] * variance) if variance > 0 else 1.0  # SOURCE scikit-learn, gamma="scale"
    machine = SVC(
        kernel="poly", degree=3, coef0=coef0, gamma=gamma, C=cost, cache_size=500, max_iter=MAX_SVM_ITERATIONS
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ConvergenceWarning: recorded in the result
        machine.fit(scaled, is_object)
    dual = machine.dual_coef_[0]
    powers = list_powers(scaled.shape[1])
    coefficients = np.zeros(len(powers))
    for term, exponents in enumerate(powers):
        m = sum(exponents)
        moment = float(np.sum(dual * np.prod(machine.support_vectors_ ** np.array(exponents), axis=1)))
        ways = factorial(m) // prod(factorial(exponent) for exponent in exponents)
        # Python's 0.0 ** 0 is 1: with coef0 = 0 only the cubic terms and the intercept are left.
        coefficients[term] = comb(DEGREE, m) * float(coef0) ** (DEGREE - m) * gamma**m * ways * moment
    coefficients[0] += float(machine.intercept_[0])
    return coefficients, len(dual), machine.fit_status_ == 0


def _fit_bayes(scaled: np.ndarray, is_object: np.ndarray) -> np.ndarray:
    from sklearn.naive_bayes import GaussianNB

    model = GaussianNB().fit(scaled, is_object)
    n_features = scaled.shape[1]
    term = {exponents: number for number, exponents in enumerate(list_powers(n_features))}
    coefficients = np.zeros(len(term))
    for sign, mean, variance, prior in zip((-1, 1), model.theta_, model.var_, model.class_prior_, strict=True):
        coefficients[0] += sign * float(np.log(prior) - 0.5 * np.sum(np.log(variance) + mean**2 / variance))
        for feature in range(n_features):
            linear, square = (tuple(power * (other == feature) for other in range(n_features)) for power in (1, 2))
            coefficients[term[linear]] += sign * mean[feature] / variance[feature]
            coefficients[term[square]] -= sign * 0.5 / variance[feature]
    return coefficients
