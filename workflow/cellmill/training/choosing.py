"""Choices that a preset leaves to the training images: polarity, least contrast and working scale of the input.

A preset may set these keys of `input` to `auto`. What is chosen, from which measurements, is written to choices.json
of the run and shown in the report. Only training images and their annotations are measured.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellmill.images.stored import IGNORE_LABEL, list_bands, open_plane
from cellmill.inference.normalise import has_bright_ground, measure_contrast
from cellmill.inference.scaling import limit_factor, limit_scale
from cellmill.inference.views import InputSettings, SettledInput
from cellmill.models.choices import Choice
from cellmill.preprocessing.diameters import measure_diameter
from cellmill.preprocessing.geometry import valid_box
from cellmill.training.imagesets import ImageSet

logger = logging.getLogger(__name__)

# Median diameters of the training images within this factor of each other are one working scale for all images. The
# network is trained with random zooms of about this size.
ALIKE_FACTOR = 1.5
# Percentiles of these medians that are compared: single images may be unusual.
SPREAD_PERCENTILES = (10, 90)
# Share of the training images with bright ground in which objects have to be dark, and the other way round
AGREEMENT = 0.9
# Least contrast: this share of the lowest one of the training images, at most the second number. On BBBC039, images
# of a tenth of the exposure lose nothing by it, and the noise of an image without objects does not look like objects.
CONTRAST_SHARE, MOST_CONTRAST = 0.25, 6.0


@dataclass(frozen=True)
class Example:
    """What is measured in one training image; None if it cannot be measured."""

    sample: str
    objects: int
    diameter_px: float | None  # median, in px of the preprocessed image
    pixel_size_um: float | None  # of the preprocessed image
    has_dark_objects: bool | None  # the mean of the objects is below that of the ground
    has_bright_ground: bool  # by the rule that works without annotations
    contrast: float | None  # see `measure_contrast`


def settle_input(
    images: ImageSet,
    validation: ImageSet,
    *,
    input: InputSettings,
    pixel_size_um: float | None,
    is_sequential: bool,
    can_look: bool,
) -> tuple[SettledInput, list[Choice]]:
    """Choose what `input` leaves open from the training images, and set the working scale of all images.

    Parameters
    ----------
    images, validation : ImageSet
        Images to train and to validate on, whose inputs and targets have not been read. The scale of validation images
        follows from their own annotations, as the training validates the network and not the scale that a first look
        finds.
    pixel_size_um : float or None
        Edge length of a pixel of the raw images; None: from the metadata of each image.
    input, is_sequential, can_look
        As for `choose_input`.

    Returns
    -------
    input, choices
        From `choose_input`; the section as it is if it leaves nothing open.
    """
    if input["diameter_px"] is None and "auto" not in (input["polarity"], input["scale"], input["min_contrast"]):
        return {**input}, []
    examples = measure_examples(images, pixel_size_um=pixel_size_um)
    settled, choices = choose_input(examples, input=input, is_sequential=is_sequential, can_look=can_look)
    for choice in choices:
        logger.info("%s: %s, because %s", choice.key, choice.value, choice.because)
    if settled["scale"] == "image":
        others = measure_examples(validation, pixel_size_um=pixel_size_um)
        for part, measured in ((images, examples), (validation, others)):
            part.settle(input=settled, factors=choose_factors(measured, input=settled))
    else:
        for part in (images, validation):
            part.settle_by_dataset(input=settled, pixel_size_um=pixel_size_um)
    return settled, choices


def measure_examples(images: ImageSet, *, pixel_size_um: float | None) -> list[Example]:
    """Measure all images, sorted by sample; a given pixel size of the raw images overrides that of the files."""
    return [_measure_example(images, index, pixel_size_um=pixel_size_um) for index in range(len(images))]


def choose_input(
    examples: Sequence[Example],
    *,
    input: InputSettings,
    is_sequential: bool,
    can_look: bool,
) -> tuple[SettledInput, list[Choice]]:
    """Choose what `input` leaves open.

    Parameters
    ----------
    examples : sequence of Example
        All training images.
    input : InputSettings
        Section `input` of the preset.
    is_sequential : bool
        Whether the network receives several frames, which must have the same size.
    can_look : bool
        Whether the size of objects in a new image can be found with this network, which needs its output `flow`.

    Returns
    -------
    input : dict
        The section without `auto`, and with object_px and object_um: the median diameter of the objects of the
        training images, in px and in um, or None.
    choices : list of Choice
        Empty if the preset leaves nothing open.
    """
    chosen: SettledInput = {**input}
    choices: list[Choice] = []
    if input["polarity"] == "auto":
        chosen["polarity"], because = _choose_polarity(examples)
        choices.append(Choice("input.polarity", chosen["polarity"], because))
    if input["min_contrast"] == "auto":
        chosen["min_contrast"], because = _choose_min_contrast(examples)
        choices.append(Choice("input.min_contrast", chosen["min_contrast"], because))
    chosen["object_px"], chosen["object_um"] = _typical_diameters(examples)
    if input["diameter_px"] is not None:
        if input["scale"] == "auto":
            chosen["scale"], because = _choose_scale(examples, is_sequential=is_sequential, can_look=can_look)
            if (typical_px := chosen["object_px"]) is not None:
                because += f". {_explain_factor(input['diameter_px'], typical_px=typical_px)}"
            choices.append(Choice("input.scale", chosen["scale"], because))
    elif input["scale"] == "auto":
        chosen["scale"] = "dataset"
    return chosen, choices


def choose_factors(examples: Sequence[Example], *, input: SettledInput) -> dict[str, float]:
    """Compute a working scale for each image from its annotations: sample -> factor of the sides.

    Parameters
    ----------
    examples : sequence of Example
        The images; those without objects get the factor of the training set.
    input : dict
        From `choose_input`.
    """
    wanted, typical = input["diameter_px"], input["object_px"]
    if wanted is None or typical is None:
        return {}
    common = limit_factor(wanted / typical)
    return {
        example.sample: common if example.diameter_px is None else limit_factor(wanted / example.diameter_px)
        for example in examples
    }


def _measure_example(images: ImageSet, index: int, *, pixel_size_um: float | None) -> Example:
    image = images.images[index]
    labels_yx = images.read_fitted_labels(index)
    image_yx = open_plane(image.image_path)
    (top, bottom), (left, right) = valid_box(image.geometry)
    sums = np.zeros((2, 2))
    for rows in list_bands(image.geometry.shape):
        part_yx, labels = np.asarray(image_yx[rows], dtype=np.float64), labels_yx[rows]
        for is_object in (False, True):
            chosen = (labels > 0) == is_object
            chosen &= labels != IGNORE_LABEL
            sums[int(is_object)] += part_yx[chosen].sum(), np.count_nonzero(chosen)
    (ground, ground_px), (inside, inside_px) = sums
    is_known = ground_px > 0 and inside_px > 0
    return Example(
        sample=image.sample,
        objects=len(np.unique(labels_yx[(labels_yx > 0) & (labels_yx != IGNORE_LABEL)])),
        diameter_px=measure_diameter([labels_yx]),
        pixel_size_um=image.geometry.edge_um(pixel_size_um),
        has_dark_objects=bool(inside / inside_px < ground / ground_px) if is_known else None,
        has_bright_ground=has_bright_ground(image_yx[top:bottom, left:right]),
        contrast=measure_contrast(image_yx[top:bottom, left:right]),
    )


def _choose_polarity(examples: Sequence[Example]) -> tuple[str, str]:
    known = [example for example in examples if example.has_dark_objects is not None]
    dark = sum(bool(example.has_dark_objects) for example in known)
    right = sum(example.has_dark_objects == example.has_bright_ground for example in known)
    if not known:
        return "keep", "no training image contains both objects and ground"
    if dark in (0, len(known)):
        word = "darker" if dark else "brighter"
        polarity = "invert" if dark else "keep"
        return polarity, f"objects are {word} than the ground in all {len(known)} training images"
    counts = f"objects are darker than the ground in {dark} of {len(known)} training images"
    if right >= AGREEMENT * len(known):
        return "bright", f"{counts}, and the brightness of the ground tells which in {right} of them"
    return "keep", f"{counts}, but the brightness of the ground tells which in only {right}"


def _choose_min_contrast(examples: Sequence[Example]) -> tuple[float, str]:
    known = [example.contrast for example in examples if example.objects and example.contrast is not None]
    if not known:
        return 0.0, "no training image contains both objects and noise"
    lowest = min(known)
    value = float(f"{min(CONTRAST_SHARE * lowest, MOST_CONTRAST):.3g}")
    found = (
        f"the lowest contrast of a training image with objects is {lowest:.3g} times its noise, and a quarter of this"
    )
    if value <= 1:
        return 0.0, f"{found} is not above the 1 of nothing but noise"
    if value == MOST_CONTRAST:
        return value, f"{found} is more than {MOST_CONTRAST:g}"
    return value, f"{found} is the limit"


def _choose_scale(examples: Sequence[Example], *, is_sequential: bool, can_look: bool) -> tuple[str, str]:
    diameters = [example.diameter_px for example in examples if example.diameter_px is not None]
    if not diameters:
        return "dataset", "no training image contains objects"
    low, high = np.percentile(diameters, SPREAD_PERCENTILES)
    found = f"the median diameter of objects is {_say_range(low, high)} px in most training images"
    if is_sequential:
        return "dataset", f"{found}, and all frames of a sequence need one scale"
    if high <= ALIKE_FACTOR * low:
        return "dataset", found
    if not can_look:
        return "dataset", f"{found}, and sizes in new images can be found only with network.output flow"
    return "image", found


def _explain_factor(wanted_px: float, *, typical_px: float) -> str:
    """Return by how much an image with objects of the typical diameter is resampled."""
    scale = limit_scale(
        wanted_px / typical_px, because=f"objects have {typical_px:.3g} px and {wanted_px:g} px are wanted"
    )
    return f"The typical factor is {scale.factor:.3g}, because {scale.because}"


def _say_range(low: float, high: float) -> str:
    first, last = f"{low:.3g}", f"{high:.3g}"
    return first if first == last else f"{first} to {last}"


def _typical_diameters(examples: Sequence[Example]) -> tuple[float | None, float | None]:
    """Return the typical diameter in px, and in um if all images with objects have a pixel size."""
    measured = [example for example in examples if example.diameter_px is not None]
    if not measured:
        return None, None
    typical_px = _geometric_median([example.diameter_px for example in measured if example.diameter_px])
    sizes = [example.pixel_size_um or 0.0 for example in measured]
    if not all(sizes):
        return typical_px, None
    diameters = [example.diameter_px or 0.0 for example in measured]
    return typical_px, _geometric_median([px * um for px, um in zip(diameters, sizes, strict=True)])


def _geometric_median(values: Sequence[float]) -> float:
    return math.exp(float(np.median(np.log(values))))
