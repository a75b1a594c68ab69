"""Checks for contradictory settings in a preset. Each message suggests a setting that would work."""

import math
import typing

from cellmill.config.augmentation import Augmentation
from cellmill.config.networks import RECURRENT, NetworkSection, Output, stride_px
from cellmill.config.training import Input, Loss, Predict, Train
from cellmill.declared import read_declaration

_OUTPUTS_OF_LOSS: dict[str, tuple[str, ...]] = read_declaration("training/losses.py", "OUTPUTS_OF_LOSS")
# Losses that each output can be trained with; messages suggest the first.
LOSSES: dict[str, tuple[str, ...]] = {
    output: tuple(loss for loss, outputs in _OUTPUTS_OF_LOSS.items() if output in outputs)
    for output in typing.get_args(Output)
}
# A displacement of standard deviation d, smoothed over s, has a slope of standard deviation d / (sqrt(2) s). At
# s = 2.8 d this is 1/4, so that a slope of 1, which folds the image, is four standard deviations away.
FOLDS_BELOW = 2.8
CLASSES = {"two_classes": 2, "contour": 3}
# A change of gamma is defined between black and white, which only this normalisation maps to fixed values.
GAMMA_NEEDS = "percentile"
# Outputs of recurrent networks. The others need distance or flow maps, which would have to be made for each frame.
RECURRENT_OUTPUTS = ("foreground", "two_classes", "contour")


def contradictions_of(*, network: NetworkSection, input: Input, train: Train, predict: Predict) -> list[str]:
    """List the contradictory settings of a preset, one message for each."""
    return [
        *_wrong_patch(network, train),
        *_wrong_loss(network, train.loss),
        *_wrong_frames(network, input, train.augmentation),
        *_wrong_bends(train),
        *_wrong_gamma(input, train.augmentation),
        *_wrong_averages(network, predict),
        *_wrong_scales(network, input),
        *_wrong_times(train),
    ]


def _wrong_patch(network: NetworkSection, train: Train) -> list[str]:
    stride, patch = stride_px(network), train.patch
    mistakes = []
    if any(side % stride or side < 2 * stride for side in patch):
        near = [max(2, round(side / stride)) * stride for side in patch]
        key = "levels" if hasattr(network, "levels") else "architecture"
        mistakes.append(
            f"train.patch: expected multiples of {stride} px, at least {2 * stride}, for the pooling layers of "
            f"{network.architecture}, found {list(patch)}. Set it to {near}, or change network.{key}"
        )
    if train.augmentation.rotate_90 and patch[0] != patch[1]:
        mistakes.append(
            f"train.augmentation.rotate_90: expected a square patch, found {list(patch)}. "
            "Set train.patch to a square or rotate_90 to false"
        )
    return mistakes


def _wrong_loss(network: NetworkSection, loss: Loss) -> list[str]:
    output = network.output
    mistakes = []
    is_impossible = network.architecture in RECURRENT and output not in RECURRENT_OUTPUTS
    if loss.name not in LOSSES[output] and not is_impossible:
        mistakes.append(
            f"train.loss.name: expected {' or '.join(LOSSES[output])} for network.output {output}, found {loss.name}. "
            f"Set train.loss.name to {LOSSES[output][0]}, or change network.output"
        )
    for key in ("class_weights", "distance"):
        if getattr(loss, key) is not None and loss.name != "ce":
            mistakes.append(
                f"train.loss.{key}: expected train.loss.name ce, the only loss that uses it, found {loss.name}. Remove "
                "it, or set network.output to two_classes and train.loss.name to ce"
            )
    wanted = CLASSES.get(output, 0)
    if loss.class_weights is not None and loss.name == "ce" and wanted and len(loss.class_weights) != wanted:
        mistakes.append(
            f"train.loss.class_weights: expected {wanted} numbers for network.output {output}, found "
            f"{loss.class_weights}. Set one weight per class, background first"
        )
    return mistakes


def _wrong_frames(network: NetworkSection, input: Input, augmentation: Augmentation) -> list[str]:
    mistakes = []
    architecture = network.architecture
    is_recurrent = architecture in RECURRENT
    if is_recurrent and input.frames > 1:
        mistakes.append(
            f"input.frames: expected 1 for {architecture}, which reads a sequence frame by frame, found "
            f"{input.frames}. Set it to 1"
        )
    if is_recurrent and network.output not in RECURRENT_OUTPUTS:
        mistakes.append(
            f"network.output: expected {', '.join(RECURRENT_OUTPUTS)} for {architecture}, found "
            f"{network.output}. Set it to two_classes and train.loss.name to ce"
        )
    if is_recurrent and input.class_planes:
        mistakes.append(
            f"input.class_planes: expected none for {architecture}, found {input.class_planes}. Remove it, "
            "or use an architecture for single images"
        )
    if augmentation.reverse_time and input.frames == 1:
        instead = "set train.streams.reverse, which reverses whole sequences" if is_recurrent else "raise input.frames"
        mistakes.append(
            f"train.augmentation.reverse_time: expected input.frames above 1, found 1. Remove it, or {instead}"
        )
    if getattr(network, "conditioning", "planes") == "film" and not input.class_planes:
        mistakes.append(
            "network.conditioning: expected input.class_planes for film, found none. List the classes in "
            "input.class_planes, or set network.conditioning to planes"
        )
    return mistakes


def _wrong_scales(network: NetworkSection, input: Input) -> list[str]:
    is_sequential = network.architecture in RECURRENT or input.frames > 1
    if input.scale != "image":
        return []
    if is_sequential:
        return [
            "input.scale: expected dataset for a network that receives several frames, which must have one scale, "
            "found image. Set it to dataset"
        ]
    if network.output != "flow":
        return [
            "input.scale: expected network.output flow for image, because flows show the sizes of objects in new "
            f"images, found {network.output}. Set scale to dataset, or network.output to flow"
        ]
    if input.diameter_px is None:
        return ["input.scale: expected input.diameter_px with scale image, found none. Set the diameter to work at"]
    return []


def _wrong_averages(network: NetworkSection, predict: Predict) -> list[str]:
    if predict.average == "none" or network.output != "flow_gray":
        return []
    return [
        f"predict.average: expected none for network.output flow_gray, whose grey values change when "
        f"the image is mirrored or rotated, found {predict.average}. Set it to none, or set network.output to flow"
    ]


def _wrong_bends(train: Train) -> list[str]:
    """Check that the elastic displacement is smooth enough for its size, so that it does not fold cells."""
    elastic = train.augmentation.elastic
    if elastic is None:
        return []
    sigma_px = elastic.smoothness * min(train.patch)
    if sigma_px >= FOLDS_BELOW * elastic.displacement_px:
        return []
    # Rounded down, because the suggested number must not fold cells either.
    largest_px = math.floor(100 * sigma_px / FOLDS_BELOW) / 100
    return [
        f"train.augmentation.elastic.displacement_px: expected at most {largest_px:g} px for a "
        f"displacement smoothed over {sigma_px:.3g} px (smoothness of a patch of {list(train.patch)}), found "
        f"{elastic.displacement_px:g}, which would fold cells. Lower it, or raise smoothness"
    ]


def _wrong_gamma(input: Input, augmentation: Augmentation) -> list[str]:
    """Check that the values of a patch have the fixed black and white that a change of gamma needs."""
    if augmentation.gamma == 0 or str(input.normalise) == GAMMA_NEEDS:
        return []
    return [
        f"train.augmentation.gamma: expected input.normalise {GAMMA_NEEDS}, which defines black and white, found "
        f"{input.normalise}. Set input.normalise to {GAMMA_NEEDS}, or remove gamma"
    ]


def _wrong_times(train: Train) -> list[str]:
    mistakes = []
    if train.schedule.warmup_epochs > train.epochs:
        mistakes.append(
            f"train.schedule.warmup_epochs: expected at most {train.epochs} epochs, "
            f"found {train.schedule.warmup_epochs:g}. Lower it, or raise train.epochs"
        )
    return mistakes
