"""Cases of bad input: slips in the keys and values of a config."""

from pathlib import Path
from typing import Any

from pipeline.bad_inputs.cases import case, images

KNOWN = (
    "annotations, class_column, conditions, corrections, evaluate, exclude, export, images, learning_curve, measure, "
    "models, pixel_size_um, postprocess, preprocess, report, simulate, split, stack, worklist"
)


def trained(folder: Path, **entry: Any) -> dict[str, Any]:
    """Return the section of three images with one model."""
    return images(folder, models=[{"preset": "sartorius_unet", **entry}])


@case(
    "Config",
    "plan",
    f"datasets.{{name}}.pixel-size-um: unknown key. Did you mean pixel_size_um? Known: {KNOWN}.",
)
def a_key_with_hyphens(folder):
    return images(folder, **{"pixel-size-um": 0.5})


@case(
    "Config",
    "plan",
    "datasets.{name}.preprocess.fit: expected at with mode crop_pad only, found [9, 9] with mode none. Set mode to "
    "crop_pad, or remove at.",
)
def a_region_without_its_size(folder):
    return images(folder, preprocess={"fit": {"at": [9, 9]}})


@case(
    "Config",
    "plan",
    "datasets.{name}.models[0].train.optimiser.learning-rate: unknown key. Did you mean learning_rate? Known: "
    "clip_norm, decay, learning_rate, momentum, name, weight_decay.",
)
def a_key_with_a_hyphen_in_a_model(folder):
    return trained(folder, train={"optimiser": {"learning-rate": 0.001}})


@case(
    "Config",
    "plan",
    "datasets.{name}.pixel_size_um: expected a valid number [um], found '0.5 um'. Write the number without its unit: 0.5.",
)
def a_number_with_its_unit(folder):
    return images(folder, pixel_size_um="0.5 um")


@case(
    "Config",
    "plan",
    "datasets.{name}.models[0].name: expected a valid string, found 2018. YAML reads a number without quotes as a "
    "number. Quote the text.",
)
def a_run_whose_name_is_a_number(folder):
    return trained(folder, name=2018)


@case(
    "Config",
    "plan",
    "datasets.{name}.models[0].train: steps, minutes: expected at most one of them, found steps 300 and minutes 5. "
    "Remove one, or set it to null.",
)
def a_training_of_steps_and_minutes(folder):
    return trained(folder, train={"steps": 300, "minutes": 5})


@case(
    "Config",
    "plan",
    "datasets.{name}.models[0].train.minutes: expected greater than 0, found 0. Time for the training with its "
    "validations (min). The number of steps follows from a short measurement and is written to train.json; as `steps` it "
    "gives the same weights. Default: no limit.",
)
def a_training_of_no_time(folder):
    return trained(folder, train={"minutes": 0})


@case(
    "Config",
    "plan",
    "datasets.{name}.models[0]: train.augmentation.gamma: expected input.normalise percentile, which defines black and "
    "white, found zscore. Set input.normalise to percentile, or remove gamma.",
)
def a_gamma_without_black_and_white(folder):
    return trained(folder, train={"augmentation": {"gamma": 0.3}})
