"""The statistics measured on an image, each with its label in the report, unit and method."""

from typing import NamedTuple


class Statistic(NamedTuple):
    """A statistic: label, unit, method of measurement, and whether a simulation setting is fitted to it."""

    label: str
    unit: str
    method: str
    is_primary: bool = True


STATISTICS = {
    "foreground_fraction": Statistic("Covered area", "", "labelled pixels divided by all known pixels"),
    "objects_per_mpx": Statistic("Objects", "1/Mpx", "objects divided by known pixels"),
    "radius_px": Statistic("Radius", "px", "median radius of a disc with the area of an object; whole objects only"),
    "radius_spread": Statistic(
        "Spread of radius", "", "90 % minus 10 % quantile of these radii, divided by their median; at least 5 objects"
    ),
    "solidity": Statistic(
        "Solidity", "", "median of object area divided by convex-hull area; whole objects of at least 30 px"
    ),
    "elongation": Statistic(
        "Elongation", "", "median ratio of major to minor axis, from second moments; whole objects only"
    ),
    "touching_fraction": Statistic("Touching", "", "fraction of objects within 2 px of another", is_primary=False),
    "clustering": Statistic(
        "Clustering", "", "Clark-Evans ratio of the centroids: 1 if random, lower if clustered; at least 5 objects"
    ),
    "background_level": Statistic("Background", "counts", "median of the pixels away from objects"),
    "background_unevenness": Statistic(
        "Unevenness",
        "",
        "standard deviation of background medians on an 8 x 8 grid, without the noise, divided by the contrast or the "
        "noise, whichever is larger",
    ),
    "contrast": Statistic(
        "Contrast",
        "counts",
        "median over objects of their median minus the local background; negative for dark objects",
    ),
    "contrast_spread": Statistic(
        "Spread of contrast",
        "",
        "90 % minus 10 % quantile of the objects' contrasts, divided by the contrast or the noise, whichever is "
        "larger; at least 5 objects",
    ),
    "texture": Statistic(
        "Texture",
        "",
        "median over objects of the standard deviation inside, without the background's noise, divided by the contrast "
        "or the noise, whichever is larger",
    ),
    "noise": Statistic(
        "Noise", "counts", "standard deviation of the background's finest detail (difference of Laplacians)"
    ),
    "edge_width_px": Statistic(
        "Edge width", "px", "standard deviation of the blur that makes a step as steep as the outlines"
    ),
    "autocorrelation_px": Statistic(
        "Correlation length", "px", "lag at which the autocorrelation of the background-subtracted image falls to 1/e"
    ),
}
