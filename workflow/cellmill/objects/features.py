"""Features of objects that a config can add to objects.csv, and the columns that they become.

The config and the documentation read FEATURES without importing this module, so it is a plain literal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

# Feature -> its group, its unit, what it is, and where it is undefined ("" if nowhere), in the order of the columns.
# Lengths (px) and areas (px2) become two columns, one in px and one in um. Features of the groups intensity and texture
# become one column for each channel, those of colocalisation one for each pair of channels.
FEATURES: dict[str, dict[str, str]] = {
    "perimeter": {
        "group": "shape", "unit": "px",
        "meaning": "length of the line through the centres of the border pixels, those of holes included; of a "
        "line of pixels its length once, without its ends; 0 for one pixel",
        "undefined": "",
    },
    "feret_diameter_max": {
        "group": "shape", "unit": "px",
        "meaning": "largest distance between two points of the outline of the convex hull, through the edges of the "
        "pixels",
        "undefined": "",
    },
    "area_convex": {
        "group": "shape", "unit": "px2", "meaning": "area of the convex hull, in whole pixels", "undefined": "",
    },
    "extent": {
        "group": "shape", "unit": "", "meaning": "area divided by the area of the bounding box", "undefined": "",
    },
    "form_factor": {
        "group": "shape", "unit": "",
        "meaning": "4 pi area / perimeter^2 (circularity): 0.9 to 1 for a disc of at least 20 px in diameter, more for "
        "smaller discs (1.1 at 9 px), whose perimeter is underestimated, less for other outlines",
        "undefined": "the perimeter is 0",
    },
    "aspect_ratio": {
        "group": "shape", "unit": "", "meaning": "major axis divided by minor axis",
        "undefined": "the minor axis is 0: one pixel, or a straight line",
    },
    "orientation": {
        "group": "shape", "unit": "deg",
        "meaning": "angle from the vertical to the major axis, counter-clockwise, from -90 to 90",
        "undefined": "both axes are equal, as in a disc, a square and one pixel",
    },
    "euler_number": {
        "group": "shape", "unit": "", "meaning": "number of parts minus number of holes", "undefined": "",
    },
    "holes": {
        "group": "shape", "unit": "",
        "meaning": "number of holes; pixels that touch at a corner belong together, those of a hole do not",
        "undefined": "",
    },
    "intensity_mean": {"group": "intensity", "unit": "counts", "meaning": "mean", "undefined": ""},
    "intensity_std": {
        "group": "intensity", "unit": "counts", "meaning": "standard deviation (divided by the number of pixels)",
        "undefined": "",
    },
    "intensity_median": {"group": "intensity", "unit": "counts", "meaning": "median", "undefined": ""},
    "intensity_min": {"group": "intensity", "unit": "counts", "meaning": "smallest value", "undefined": ""},
    "intensity_max": {"group": "intensity", "unit": "counts", "meaning": "largest value", "undefined": ""},
    "intensity_integrated": {"group": "intensity", "unit": "counts", "meaning": "sum", "undefined": ""},
    "texture_contrast": {
        "group": "texture", "unit": "", "meaning": "mean squared difference of the grey levels of two pixels",
        "undefined": "no two pixels of the object are that far apart in any of the four directions",
    },
    "texture_homogeneity": {
        "group": "texture", "unit": "", "meaning": "mean of 1 / (1 + squared difference)",
        "undefined": "as for texture_contrast",
    },
    "texture_energy": {
        "group": "texture", "unit": "",
        "meaning": "square root of the sum of the squared frequencies of the pairs of levels; 1 for one level",
        "undefined": "as for texture_contrast",
    },
    "texture_correlation": {
        "group": "texture", "unit": "", "meaning": "correlation of the levels of two pixels",
        "undefined": "as for texture_contrast, or all levels are equal",
    },
    "channel_correlation": {
        "group": "colocalisation", "unit": "",
        "meaning": "Pearson correlation of the intensities of two channels over the pixels of the object",
        "undefined": "one of the channels is constant in the object",
    },
}  # fmt: skip
GROUP_OF_PAIRS = "colocalisation"
# Distances of the two pixels of a pair, px; both become columns
DISTANCES_PX = (1, 3)
# Unit of a feature -> suffixes of its columns, in px and in um
SUFFIXES = {"px": ("_px", "_um"), "px2": ("_px", "_um2"), "deg": ("_deg",)}


@dataclass(frozen=True)
class Column:
    """A column of features: its name, its feature, and the places of its channels among those that are measured.

    `distance_px` is that of a texture, else 0; `is_in_um` marks lengths and areas in um and um2.
    """

    name: str
    feature: str
    channels: tuple[int, ...] = ()
    distance_px: int = 0
    is_in_um: bool = False


def list_columns(features: Sequence[str], *, channels: Sequence[str]) -> list[Column]:
    """List the columns of some features.

    Parameters
    ----------
    features : sequence of str
        Keys of FEATURES.
    channels : sequence of str
        Names of the measured channels, the last part of the name of a column.

    Returns
    -------
    list of Column
        In the order of FEATURES, whatever the order of `features` is.
    """
    columns: list[Column] = []
    for feature in (name for name in FEATURES if name in features):
        group, unit = FEATURES[feature]["group"], FEATURES[feature]["unit"]
        if group == GROUP_OF_PAIRS:
            columns += [
                Column(f"{feature}_{channels[first]}_{channels[second]}", feature, (first, second))
                for first, second in combinations(range(len(channels)), 2)
            ]
        elif group == "texture":
            columns += [
                Column(f"{feature}_{distance_px}px_{name}", feature, (place,), distance_px)
                for distance_px in DISTANCES_PX
                for place, name in enumerate(channels)
            ]
        elif group == "intensity":
            columns += [Column(f"raw_{feature}_{name}", feature, (place,)) for place, name in enumerate(channels)]
        else:
            suffixes = SUFFIXES.get(unit, ("",))
            columns += [Column(feature + end, feature, is_in_um="_um" in end) for end in suffixes]
    return columns


def explain_channels(count: int, *, channels: str | Sequence[tuple[str, int]], features: Sequence[str]) -> str:
    """Compare the channels of an image with what a config measures.

    Parameters
    ----------
    count : int
        Channels of the image, without alpha.
    channels : "all" or sequence of (str, int)
        Names and numbers of the channels to measure.
    features : sequence of str
        Keys of FEATURES.

    Returns
    -------
    str
        What was expected and found and what to do, without the place; "" if they fit.
    """
    found = "one" if count == 1 else str(count)
    highest = 0 if isinstance(channels, str) else max(number for _, number in channels)
    if highest >= count:
        advice = "all" if count == 1 else f"numbers from 0 to {count - 1}"
        return f"expected at least {highest + 1} channels, found {found}. Set measure.channels to {advice}."
    pairs = [name for name in FEATURES if name in features and FEATURES[name]["group"] == GROUP_OF_PAIRS]
    if pairs and count < 2:
        return (
            f"expected several channels for {', '.join(pairs)}, found {found}. Remove {', '.join(pairs)} from "
            "measure.features."
        )
    return ""
