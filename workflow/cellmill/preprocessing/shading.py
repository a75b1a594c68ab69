"""Estimate the illumination profile that the images of a dataset share.

The model is that of BaSiC (Peng et al. 2017, Nat. Commun. 8:14836): an image is `dark + profile * (ground + objects)`,
with one profile for all images, a brightness of the ground for each, and objects that are sparse. Where BaSiC keeps the
profile smooth by a penalty, it is a polynomial here, and where it penalises the objects, they are weighted down as
outliers (Tukey's biweight). Decision 0026 compares the two.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cellmill.preprocessing.flat_field import TERMS, FlatField, evaluate, places

# Longest side of the reduced images that the profile is fitted to, px
SIDE = 128
# Fewest images that are fitted at all, and that are fitted without a remark
FEWEST, ENOUGH = 3, 10
# Rounds with weights of least absolute deviations, which find the ground; the rounds after them leave outliers out.
FIRST_ROUNDS, MOST_ROUNDS = 8, 30
# Residuals without weight, in standard deviations: 95 % of the precision of a mean for normal noise
TUKEY = 4.685
# A profile below this, relative to its mean, divides by noise.
LOWEST_PROFILE = 0.05
# A dark level is accepted if its standard error is below this share of the light of the ground.
MOST_DARK_ERROR = 0.1
SETTLED = 1e-4
# A ground that deviates less at the borders, relative to the centre, is even.
FLAT_ENOUGH = 0.01


class Fit(NamedTuple):
    """Fitted profile: its coefficients, its values at the reduced pixels, and the weights of all pixels."""

    coefficients: np.ndarray
    profile_p: np.ndarray
    weights_np: np.ndarray


def estimate_profile(
    images_nyx: np.ndarray, *, shape: tuple[int, int], dark: float | str, where: str
) -> tuple[FlatField, list[str]]:
    """Estimate the profile of images of one size.

    Parameters
    ----------
    images_nyx : ndarray of float32, shape (images, rows, columns)
        Camera counts at a reduced size.
    shape : (rows, columns)
        Size of the raw images, px.
    dark : float or "auto"
        Counts without light; "auto" estimates them.
    where : str
        For messages.

    Returns
    -------
    FlatField
    list of str
        Remarks on the estimate.

    Raises
    ------
    ValueError
        If fewer than three images are brighter than the dark level, the profile falls to nearly zero, or the images do
        not determine a dark level that is to be estimated.
    """
    level = 0.0 if dark == "auto" else float(dark)
    lit_nyx = images_nyx[_lit(images_nyx, level)]
    if len(lit_nyx) < FEWEST:
        medians = np.median(images_nyx, axis=(1, 2))
        raise ValueError(
            f"{where}: expected at least {FEWEST} images that are brighter than the dark level of {level:g} counts, "
            f"found {len(lit_nyx)} of {len(images_nyx)} with medians of {medians.min():g} to {medians.max():g} counts. "
            "Set background.dark to the counts of an image without light, or another method."
        )
    if dark == "auto":
        level = find_dark(lit_nyx, where=where)
        lit_nyx = lit_nyx[_lit(lit_nyx, level)]
    fit = fit_profile(lit_nyx - np.float32(level))
    flat_field = FlatField(
        rows=shape[0],
        columns=shape[1],
        dark=_round(level),
        coefficients=tuple(_round(value) for value in fit.coefficients),
        images=len(lit_nyx),
        **_judge(lit_nyx - np.float32(level)),
    )
    lowest = float(flat_field.shown(SIDE).min())
    if lowest < LOWEST_PROFILE:
        raise ValueError(
            f"{where}: expected a profile above {LOWEST_PROFILE:g} of its mean, found {lowest:.2g}. The ground of the "
            "images is hardly brighter than the dark level. Lower background.dark, or set another method."
        )
    return flat_field, _remarks(flat_field, left_out=len(images_nyx) - len(lit_nyx))


def fit_profile(images_nyx: np.ndarray) -> Fit:
    """Fit one profile and the brightness of the ground of each image, by least squares that outliers do not enter.

    Parameters
    ----------
    images_nyx : ndarray of float32, shape (images, rows, columns)
        Counts above the dark level; the median of each image is positive.

    Returns
    -------
    Fit
        The coefficients are those of `FlatField`; the first is 1, which is the mean.
    """
    pixels_np = images_nyx.reshape(len(images_nyx), -1).astype(np.float32)
    terms_pk = _terms(images_nyx.shape[1:])
    ground_n: np.ndarray = np.median(pixels_np, axis=1)
    profile_p: np.ndarray = np.ones(pixels_np.shape[1], dtype=np.float32)
    coefficients: np.ndarray = np.zeros(0)
    weights_np: np.ndarray = np.zeros(0)
    for number in range(MOST_ROUNDS):
        residuals_np = np.abs(pixels_np - ground_n[:, np.newaxis] * profile_p)
        # 1.4826 times the median absolute residual is the standard deviation of normal noise.
        sigma_n = np.maximum(1.4826 * np.median(residuals_np, axis=1), 1e-6 * ground_n)
        residuals_np /= sigma_n[:, np.newaxis]
        if number < FIRST_ROUNDS:
            weights_np = 1 / np.maximum(residuals_np, np.float32(0.1))
        else:
            weights_np = np.clip(1 - (residuals_np / TUKEY) ** 2, 0, None) ** 2
        ground_n = (weights_np * pixels_np) @ profile_p / np.maximum(weights_np @ profile_p**2, 1e-6)
        ground_n = np.maximum(ground_n, sigma_n * 1e-3)
        # An image counts by the precision of its relative ground, but none for more than a typical one: a blank
        # image would outweigh all others.
        noise_n = sigma_n / ground_n
        noise_n = np.maximum(noise_n, np.median(noise_n))
        shares_n = 1 / (noise_n * ground_n) ** 2
        squares_p = (shares_n * ground_n**2) @ weights_np
        products_p = (shares_n * ground_n) @ (weights_np * pixels_np)
        normal_kk = terms_pk.T @ (squares_p[:, np.newaxis] * terms_pk)
        # The faintest penalty keeps the fit defined where no pixel has a weight.
        normal_kk += 1e-9 * np.trace(normal_kk) * np.eye(len(normal_kk))
        coefficients = np.linalg.solve(normal_kk, terms_pk.T @ products_p)
        coefficients /= coefficients[0]
        before_p, profile_p = profile_p, (terms_pk @ coefficients).astype(np.float32)
        if number > FIRST_ROUNDS and np.abs(profile_p - before_p).max() < SETTLED:
            break
    return Fit(coefficients, profile_p, weights_np)


def find_dark(images_nyx: np.ndarray, *, where: str) -> float:
    """Estimate the counts without light from images whose ground differs in brightness.

    Parameters
    ----------
    images_nyx : ndarray of float32, shape (images, rows, columns)
        Camera counts.
    where : str
        For the message.

    Raises
    ------
    ValueError
        If brightness or shading vary too little for an estimate.

    Notes
    -----
    Shading multiplies the light alone. Over images, its amplitude in counts is therefore proportional to the brightness
    above the dark level: it vanishes at the dark level.
    """
    fit = fit_profile(images_nyx)
    pattern_p = fit.profile_p - 1
    pixels_np = images_nyx.reshape(len(images_nyx), -1)
    # Level and amplitude of the pattern in each image, by weighted least squares
    total_n = fit.weights_np.sum(axis=1)
    pattern_n = fit.weights_np @ pattern_p / total_n
    level_n = (fit.weights_np * pixels_np).sum(axis=1) / total_n
    centred_np = pattern_p - pattern_n[:, np.newaxis]
    spread_n = np.maximum((fit.weights_np * centred_np**2).sum(axis=1), 1e-12)
    amplitude_n = (fit.weights_np * centred_np * (pixels_np - level_n[:, np.newaxis])).sum(axis=1) / spread_n
    level_n = level_n - amplitude_n * pattern_n
    dark, error = _crossing(level_n, amplitude_n)
    light = float(np.median(level_n)) - dark
    if len(images_nyx) < ENOUGH or not (0 <= dark < level_n.min() and error < MOST_DARK_ERROR * light):
        low, high = np.percentile(level_n, [5, 95])
        found = "no level that fits" if not math.isfinite(error) else f"{dark:.3g} +- {error:.2g} counts"
        raise ValueError(
            f"{where}: expected images that determine a dark level for background.dark auto: {ENOUGH} or more, uneven, "
            f"and of different brightness; found {len(images_nyx)} with a ground of {low:.4g} to {high:.4g} counts, "
            f"from which follows {found}. Set background.dark to the counts of an image without light, or to 0."
        )
    return dark


def _crossing(level_n: np.ndarray, amplitude_n: np.ndarray) -> tuple[float, float]:
    """Return the level at which the amplitude vanishes, by a robust line, and its standard error by the jackknife."""

    def cross(weights_n: np.ndarray) -> float:
        middle, height = np.average(level_n, weights=weights_n), np.average(amplitude_n, weights=weights_n)
        slope = np.average((level_n - middle) * (amplitude_n - height), weights=weights_n)
        squares = np.average((level_n - middle) ** 2, weights=weights_n)
        return float(middle - height * squares / slope) if slope > 0 else -math.inf

    weights_n = np.ones(len(level_n))
    dark = cross(weights_n)
    for _ in range(20):
        if not math.isfinite(dark):
            return dark, math.inf
        slope = np.average(amplitude_n / np.maximum(level_n - dark, 1e-6), weights=weights_n)
        residuals_n = np.abs(amplitude_n - slope * (level_n - dark))
        scale = max(1.4826 * float(np.median(residuals_n)), 1e-9)
        weights_n = 1 / np.maximum(residuals_n / scale, 1)
        dark = cross(weights_n)
    without = [cross(np.where(np.arange(len(level_n)) == i, 0, weights_n)) for i in range(len(level_n))]
    if not np.isfinite([dark, *without]).all():
        return dark, math.inf
    return dark, float(np.sqrt((len(without) - 1) / len(without) * np.square(np.array(without) - dark).sum()))


def _judge(lit_nyx: np.ndarray) -> dict[str, float | None]:
    """Measure how uneven images are, before and after a correction by the profile of the other half of the images."""
    if len(lit_nyx) < 2 * FEWEST:
        return {}
    halves = (lit_nyx[::2], lit_nyx[1::2])
    fits = [fit_profile(half_nyx) for half_nyx in halves]
    before, after = [], []
    for half_nyx, own, other in zip(halves, fits, fits[::-1], strict=True):
        weights_nyx = own.weights_np.reshape(half_nyx.shape)
        before += [_border(image_yx, weights_yx) for image_yx, weights_yx in zip(half_nyx, weights_nyx, strict=True)]
        flat_nyx = half_nyx / np.maximum(other.profile_p, LOWEST_PROFILE).reshape(half_nyx.shape[1:])
        after += [_border(image_yx, weights_yx) for image_yx, weights_yx in zip(flat_nyx, weights_nyx, strict=True)]
    # Halves of independent images differ by twice the error of the whole.
    error = float(np.std(fits[0].profile_p - fits[1].profile_p)) / 2
    return {
        "border_before": _round(float(np.nanmedian(before))),
        "border_after": _round(float(np.nanmedian(after))),
        "error": _round(error),
    }


def _border(image_yx: np.ndarray, weights_yx: np.ndarray) -> float:
    """Return the brightness of the ground in the outer eighth of an image, relative to its middle."""
    rows, columns = image_yx.shape
    is_middle_yx = np.zeros(image_yx.shape, dtype=bool)
    is_middle_yx[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4] = True
    is_border_yx = np.ones(image_yx.shape, dtype=bool)
    is_border_yx[rows // 8 : rows - rows // 8, columns // 8 : columns - columns // 8] = False
    totals = [float(weights_yx[part].sum()) for part in (is_border_yx, is_middle_yx)]
    if min(totals) <= 0:
        return math.nan
    border, middle = (
        float((weights_yx * image_yx)[part].sum()) / total
        for part, total in zip((is_border_yx, is_middle_yx), totals, strict=True)
    )
    return border / middle if middle > 0 else math.nan


def _remarks(flat_field: FlatField, *, left_out: int) -> list[str]:
    remarks = []
    if left_out:
        remarks.append(f"{left_out} images are not brighter than the dark level of {flat_field.dark:g} counts")
    unevenness = float(np.std(flat_field.shown(SIDE)))
    if flat_field.error is not None and flat_field.error > unevenness / 2:
        remarks.append(
            f"the profile is uncertain: two halves of the images differ by about {2 * flat_field.error:.1%}, and the "
            f"shading is {unevenness:.1%}. Use more images, or no flat field"
        )
    before, after = flat_field.border_before, flat_field.border_after
    if before is not None and after is not None and abs(after - 1) > max(abs(before - 1), FLAT_ENOUGH):
        remarks.append(
            f"the ground is less even after the division than before: {before:.1%} of the centre's brightness at the "
            f"borders before it, {after:.1%} after it. The images share no profile, for example because the contrast "
            "of each was stretched by itself. Use the raw images, or no flat field"
        )
    return remarks


def _lit(images_nyx: np.ndarray, dark: float) -> np.ndarray:
    is_lit_n: np.ndarray = np.median(images_nyx, axis=(1, 2)) > dark
    return is_lit_n


def _terms(shape: Sequence[int]) -> np.ndarray:
    """Return the terms of the polynomial at the reduced pixels: float64, shape (pixels, terms)."""
    rows, columns = (places(length) for length in shape)
    one_hot = np.eye(len(TERMS))
    return np.stack([evaluate(one_hot[k], rows, columns).ravel() for k in range(len(TERMS))], axis=1).astype(np.float64)


def _round(value: float) -> float:
    """Round to six significant digits, so that another processor gives the same file."""
    return float(f"{value:.6g}")
