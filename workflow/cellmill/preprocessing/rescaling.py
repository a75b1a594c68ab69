"""Factors by which images are rescaled: from pixel sizes, or from the diameter of the objects."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellmill.images.rasters import open_raster

logger = logging.getLogger(__name__)

# Outside this range, a mistake in a unit is more likely than a microscope.
SMALLEST_FACTOR, LARGEST_FACTOR = 1 / 16, 16.0
# Outside this range, objects of 4 x 4 px are lost, or most of the computation is spent on interpolated pixels.
SMALL_FACTOR, LARGE_FACTOR = 1 / 4, 4.0
# Largest relative difference between the factors of the frames of a sequence
FACTOR_TOLERANCE = 1e-3

Factors = tuple[float, float]  # along rows and columns


def plan_factors(
    samples: Sequence[Mapping[str, Any]], *, rescale: Mapping[str, Any] | None
) -> tuple[dict[str, Factors], dict[str, str]]:
    """Choose the factors by which the images of a shard are rescaled.

    Parameters
    ----------
    samples : sequence of mappings
        Rows of the sample table; `sample`, `image`, `plane`, `sequence` and `frame` are read.
    rescale : mapping or None
        As in `choose_factors`.

    Returns
    -------
    factors : dict
        Sample -> factors along rows and columns; empty without `rescale`. All frames of a sequence have the same.
    problems : dict
        Sample -> message, where no factor could be chosen.
    """
    factors: dict[str, Factors] = {}
    problems: dict[str, str] = {}
    if rescale is None:
        return factors, problems
    first_of: dict[str, tuple[str, Factors]] = {}
    without_edges = 0
    for row in sorted(samples, key=lambda row: (row["sequence"], int(row["frame"]))):
        try:
            edges_um = open_raster(row["image"], palette="colours", plane=row.get("plane", ())).pixel_size_um
            found = choose_factors(rescale, edges_um=edges_um, where=row["image"])
            if row["sequence"]:
                image, chosen = first_of.setdefault(row["sequence"], (row["image"], found))
                _check_same(found, chosen, row=row, first=image)
                found = chosen
        except ValueError as error:
            problems[row["sample"]] = str(error)
            continue
        factors[row["sample"]] = found
        without_edges += edges_um is None and rescale["given_um"] is None
    if without_edges and rescale["object_pixel_um"] is not None:
        logger.warning(
            "%d of %d images have no pixel size and are rescaled by the factor of the model's training images",
            *(without_edges, len(samples)),
        )
    if strong := [sample for sample, found in factors.items() if is_strong(found)]:
        logger.warning(
            "%d of %d images are rescaled by a factor below 1/4 or above 4, such as %s by %s",
            *(len(strong), len(samples), strong[0], say_factors(factors[strong[0]])),
        )
    return factors, problems


def _check_same(found: Factors, chosen: Factors, *, row: Mapping[str, Any], first: str) -> None:
    """Check that a frame has the pixel size of the first frame of its sequence, from their factors."""
    if not np.allclose(found, chosen, rtol=FACTOR_TOLERANCE, atol=0):
        raise ValueError(
            f"{row['image']}: expected the pixel size of {first}, the first frame of sequence {row['sequence']}, found "
            f"one that leads to a factor of {say_factors(found)} instead of {say_factors(chosen)}. Set pixel_size_um "
            "of the dataset, or use a separate sequence for each acquisition."
        )


def choose_factors(rescale: Mapping[str, Any], *, edges_um: tuple[float, float] | None, where: str) -> Factors:
    """Return the factors by which an image is resampled along its rows and columns.

    Parameters
    ----------
    rescale : mapping
        pixel_size_um: edge of a pixel after rescaling, um; or diameter_px and object_px: diameter of the objects after
        and before, px. The other keys are None. With object_pixel_um, the edge of the pixels in which object_px was
        measured, an image with other pixels is resampled by them as well. given_um: edge of a raw pixel from the
        config, which takes precedence over the metadata, or None.
    edges_um : tuple of float or None
        Edges (row, column) of a raw pixel from the metadata of the image.
    where : str
        Image, for messages.

    Returns
    -------
    tuple of float
        (rows, columns): size of an object after and before.

    Raises
    ------
    ValueError
        If the pixel size is needed and unknown, or if a factor is outside 1/16 to 16.
    """
    given_um = rescale["given_um"]
    edges_um = edges_um if given_um is None else (given_um, given_um)
    if rescale["pixel_size_um"] is not None:
        if edges_um is None:
            raise ValueError(
                f"{where}: expected a pixel size for preprocess.rescale.pixel_size_um, found none in its metadata. "
                "Set pixel_size_um of the dataset, or rescale by diameter_px and object_px."
            )
        factors = edges_um[0] / rescale["pixel_size_um"], edges_um[1] / rescale["pixel_size_um"]
        how = f"pixels of {_say_edges(edges_um)} um and rescale.pixel_size_um {rescale['pixel_size_um']:g}"
    else:
        factor = rescale["diameter_px"] / rescale["object_px"]
        factors = factor, factor
        how = f"objects of {rescale['object_px']:.3g} px and rescale.diameter_px {rescale['diameter_px']:g}"
        if edges_um is not None and rescale["object_pixel_um"] is not None:
            factors = tuple(factor * edge_um / rescale["object_pixel_um"] for edge_um in edges_um)
            how += f", measured in pixels of {rescale['object_pixel_um']:.4g} um, here {_say_edges(edges_um)} um"
    check_factors(factors, where=where, how=how)
    return factors


def check_factors(factors: Factors, *, where: str, how: str) -> None:
    """Check that factors are between 1/16 and 16.

    Parameters
    ----------
    factors : tuple of float
        Along rows and columns.
    where : str
        Image or key, for the message.
    how : str
        The numbers behind the factors, for the message.

    Raises
    ------
    ValueError
        If one of them is outside this range.
    """
    if not all(SMALLEST_FACTOR <= factor <= LARGEST_FACTOR for factor in factors):
        raise ValueError(
            f"{where}: expected to rescale by a factor from 1/16 to 16, found {say_factors(factors)} ({how}). "
            "Correct the pixel size or the diameter; check their units."
        )


def is_strong(factors: Factors) -> bool:
    """Return whether a factor is below 1/4 or above 4."""
    return not all(SMALL_FACTOR <= factor <= LARGE_FACTOR for factor in factors)


def say_factors(factors: Factors) -> str:
    """Return factors as text: a single number if both are equal."""
    down, across = (f"{factor:.3g}" for factor in factors)
    return down if down == across else f"{down} along rows and {across} along columns"


def _say_edges(edges_um: tuple[float, float]) -> str:
    down, across = (f"{edge:.4g}" for edge in edges_um)
    return down if down == across else f"{down} x {across}"
