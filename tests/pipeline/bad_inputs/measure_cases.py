"""Cases of bad input: features of objects that cannot be measured."""

from pathlib import Path
from typing import Any

from pipeline.bad_inputs.cases import case, images

KNOWN = (
    "area_convex, aspect_ratio, channel_correlation, colocalisation, euler_number, extent, feret_diameter_max, "
    "form_factor, holes, intensity, intensity_integrated, intensity_max, intensity_mean, intensity_median, "
    "intensity_min, intensity_std, orientation, perimeter, shape, texture, texture_contrast, texture_correlation, "
    "texture_energy, texture_homogeneity"
)


def measured(folder: Path, *features: str, **more: Any) -> dict[str, Any]:
    """Return the section of three grey images whose objects are measured."""
    return images(folder, measure={"features": list(features), **more})


@case(
    "Config",
    "plan",
    "datasets.{name}.measure.features: expected names of features or groups, found 'perimetre'. Did you mean perimeter? "
    f"Known: {KNOWN}.",
)
def a_misspelt_feature(folder):
    return measured(folder, "intensity", "perimetre")


@case(
    "Config",
    "plan",
    "datasets.{name}.measure.features: expected each feature once, found perimeter more than once in shape, perimeter. "
    "Remove the duplicates.",
)
def a_feature_that_its_group_contains(folder):
    return measured(folder, "shape", "perimeter")


@case(
    "Config",
    "plan",
    "datasets.{name}.measure.features: expected features to add, found area, which objects.csv always contains "
    "(area_px). Remove area.",
)
def a_feature_that_is_always_there(folder):
    return measured(folder, "area")


@case(
    "Config",
    "plan",
    "datasets.{name}.measure: {folder}/images/bad.png: expected several channels for channel_correlation, found one. "
    "Remove channel_correlation from measure.features.",
    is_judged_last=True,
)
def a_correlation_of_the_channels_of_a_grey_image(folder):
    return measured(folder, "colocalisation")


@case(
    "Config",
    "plan",
    "datasets.{name}.measure: {folder}/images/bad.png: expected at least 2 channels, found one. Set measure.channels to "
    "all.",
    is_judged_last=True,
)
def a_channel_that_the_images_lack(folder):
    return measured(folder, "intensity", channels={"dapi": 1})


@case(
    "Config",
    "plan",
    "datasets.{name}.measure.channels: expected all, numbers from 0 to 63 such as [0, 2], or names with numbers such as "
    "{dapi: 0}, found 'dapi'. Change it to one of the three.",
)
def a_channel_by_its_name_only(folder):
    return measured(folder, "intensity", channels="dapi")
