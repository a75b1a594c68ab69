"""The statistics measured on an image, each with its label in the report, unit and method."""

from typing import NamedTuple


class Statistic(NamedTuple):
    """A statistic: label, unit, method of measurement, and whether a simulation setting is fitted to it."""

    label: str
    unit: str
    method: str
    is_primary: bool = True


STATISTICS = {
    "foreground_fraction": Statistic("Covered area", "", "labelled pixels over all known pixels"),
    "objects_per_mpx": Statistic("Objects", "1/Mpx", "objects over known pixels"),
    "radius_px": Statistic("Radius", "px", "median radius of a disc of an object's area; whole objects only"),
    "radius_spread": Statistic(
        "Spread of radius", "", "90 % less 10 % quantile of these radii over their median; 5 objects or more"
    ),
    "solidity": Statistic(
        "Solidity", "", "median share of an object's convex hull that it covers; whole objects of 30 px or more"
    ),
    "elongation": Statistic("Elongation", "", "median ratio of an object's axes, from its second moments"),
    "touching_fraction": Statistic("Touching", "", "share of objects within 2 px of another", is_primary=False),
    "clustering": Statistic(
        "Clustering", "", "Clark-Evans ratio of the centroids: 1 random, lower clustered; 5 objects or more"
    ),
    "background_level": Statistic("Background", "counts", "median of the pixels away from objects"),
    "background_unevenness": Statistic(
        "Unevenness",
        "",
        "sd of background medians on an 8 x 8 grid, less the noise, over the contrast or, if larger, the noise",
    ),
    "contrast": Statistic(
        "Contrast", "counts", "median over objects of their median above the background around; below 0 dark"
    ),
    "contrast_spread": Statistic(
        "Spread of contrast",
        "",
        "90 % less 10 % quantile of the objects' contrasts over their median or, if larger, the noise; 5 or more",
    ),
    "texture": Statistic(
        "Texture",
        "",
        "median over objects of the sd inside, less the background's noise, over the contrast or, if larger, the noise",
    ),
    "noise": Statistic("Noise", "counts", "sd of the background's finest detail (difference of Laplacians)"),
    "edge_width_px": Statistic("Edge width", "px", "sd of the blur that makes a step as steep as the outlines"),
    "autocorrelation_px": Statistic(
        "Correlation length", "px", "lag at which the image less its background is correlated by 1/e"
    ),
}
