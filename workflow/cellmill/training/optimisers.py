"""Optimisers by name, and the learning rate as a function of progress alone, so that it needs no checkpoint."""

import math
from typing import Any, TypedDict

import torch
from torch import nn

from cellmill.training.lengths import LengthSettings


class OptimiserSettings(TypedDict):
    """Section `train.optimiser` of a preset."""

    name: str
    learning_rate: float
    momentum: float
    weight_decay: float
    decay: str
    clip_norm: float | None


class ScheduleSettings(TypedDict):
    """Section `train.schedule` of a preset."""

    name: str
    every_epochs: int
    factor: float
    warmup_epochs: float


class RateSettings(LengthSettings):
    """Part of the section `train` of a preset that determines the learning rate."""

    optimiser: OptimiserSettings
    schedule: ScheduleSettings


def build_optimiser(model: nn.Module, *, optimiser: OptimiserSettings) -> torch.optim.Optimizer:
    """Build the optimiser of a preset.

    Parameters
    ----------
    model : nn.Module
        On the device where it is trained.
    optimiser : OptimiserSettings
        name (`adam`, `adamw`, `sgd`, `adagrad`, `rmsprop`), learning_rate, momentum (the first beta of adam and
        adamw), weight_decay, decay (`all`, or `weights` for the kernels only).
    """
    rate, momentum = float(optimiser["learning_rate"]), float(optimiser["momentum"])
    decay = float(optimiser["weight_decay"])
    groups: list[Any] = [{"params": list(model.parameters())}]
    if optimiser["decay"] == "weights":
        # Kernels have two axes or more; biases and the gains of normalisation have one.
        kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
        groups = [{"params": kernels}, {"params": others, "weight_decay": 0.0}]
    if optimiser["name"] == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, weight_decay=decay)
    if optimiser["name"] == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, momentum=momentum, weight_decay=decay)
    if optimiser["name"] == "adagrad":
        return torch.optim.Adagrad(groups, lr=rate, weight_decay=decay)
    if optimiser["name"] == "adam":
        return torch.optim.Adam(groups, lr=rate, betas=(momentum, 0.999), weight_decay=decay)
    # Fused, an update takes a third of the time. The presets of papers have adam, whose bytes are not changed for that.
    return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999), weight_decay=decay, fused=True)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def learning_rate_at(progress: float, *, train: RateSettings) -> float:
    """Compute the learning rate at a point of the training.

    Parameters
    ----------
    progress : float, >= 0
        Number of epochs done, including the fraction of the current one: `Length.progress`.
    train : RateSettings
        Section `train` of a preset.

    Returns
    -------
    float
        `step` multiplies by `factor` every `every_epochs` epochs; `cosine` falls from the full rate to 0 over
        all epochs. Over the first `warmup_epochs` it is also multiplied by a factor that rises linearly from 0 to 1.

    Notes
    -----
    # SOURCE cosine: Loshchilov and Hutter 2017, arXiv:1608.03983, one period, applied at each step
    """
    schedule, rate = train["schedule"], float(train["optimiser"]["learning_rate"])
    if schedule["name"] == "step":
        rate *= float(schedule["factor"]) ** (progress // int(schedule["every_epochs"]))
    elif schedule["name"] == "cosine":
        rate *= (1 + math.cos(math.pi * progress / int(train["epochs"]))) / 2
    if progress < schedule["warmup_epochs"]:
        rate *= progress / float(schedule["warmup_epochs"])
    return rate
