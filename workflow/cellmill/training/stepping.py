"""One training step: forward, backward, update; the batch is split if it does not fit into GPU memory."""

import copy
import logging
import math
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from cellmill.device import choose_autocast, settle_precision
from cellmill.models.memory import State, detach_state, join_states, part_of_state, reset_state
from cellmill.training.batches import Batch, TrainSettings
from cellmill.training.losses import Truth, measure_loss
from cellmill.training.optimisers import build_optimiser
from cellmill.training.team import Team

logger = logging.getLogger(__name__)

# Steps at the end of an epoch over which batch normalisation averages its running statistics.
STATISTICS_STEPS = 200


@dataclass
class Stepper:
    """Network, optimiser and state needed for training steps on one device.

    `model` is `bare_model`, possibly wrapped for a team and compiled. `parts` is the number of pieces into which a
    batch is split: 1 until memory runs out, then 2, 4, and so on. `precision` is the one that the device uses. `memory`
    is the hidden state of a recurrent network for the sequences in the slots of the batch.
    """

    model: nn.Module
    bare_model: nn.Module
    optimiser: torch.optim.Optimizer
    device: torch.device
    output: str
    train: TrainSettings
    averaged: nn.Module | None
    team: Team
    parts: int = 1
    memory: State | None = None
    precision: str = field(init=False)
    scaler: torch.amp.GradScaler = field(init=False)

    def __post_init__(self) -> None:
        self.precision = settle_precision(self.train["precision"], device=self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def take(self, batch: Batch) -> float:
        """Take one step and return the loss of the batch before the update.

        Raises
        ------
        ValueError
            If a single patch does not fit into GPU memory; on several GPUs, if a member's part of the batch does not.
        """
        while True:
            try:
                return self._take(batch)
            except torch.OutOfMemoryError as error:
                size = len(batch.images)
                parts = min(self.parts, size)
                if self.team.size > 1:
                    raise ValueError(
                        f"train: expected {size} patches of {batch.images.shape[-2]} x {batch.images.shape[-1]} px to "
                        f"fit into the memory of each of {self.team.size} GPUs, found too little memory. Lower "
                        "train.batch, or use one GPU, which processes large batches in parts."
                    ) from error
                if parts >= size:
                    raise ValueError(
                        f"train: expected a patch of {batch.images.shape[-2]} x {batch.images.shape[-1]} px to fit "
                        "into the memory of the GPU, found too little memory. Lower train.patch or width."
                    ) from error
                self.parts = min(2 * parts, size)
                logger.warning(
                    "out of memory: a batch of %d is processed in %d parts; their gradients are summed, "
                    "and normalisation is computed separately for each part", size, self.parts,
                )  # fmt: skip
            # Outside the except clause, so that the exception no longer references the failed step's tensors.
            self.optimiser.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _take(self, batch: Batch) -> float:
        self.optimiser.zero_grad()
        memory = None if batch.fresh_b is None else self._recall(batch.fresh_b)
        # The last batch of an epoch may have fewer patches than there are parts.
        pieces = np.array_split(np.arange(len(batch.images)), min(self.parts, len(batch.images)))
        is_whole = len(pieces) == 1 and self.team.size == 1
        usual_weight = self._usual_weight(batch)
        losses, weights, remembered = [], [], []
        for number, piece in enumerate(pieces, start=1):
            part = slice(int(piece[0]), int(piece[-1]) + 1)
            images, truth = self._load(batch, part)
            # Gradients are exchanged with the other GPUs once per step, with the last part.
            with self.team.no_exchange(self.model) if number < len(pieces) else nullcontext():
                with choose_autocast(self.precision, device=self.device):
                    logits_bcyx, state = self._run(images, part_of_state(memory, part))
                loss, weight = measure_loss(logits_bcyx, truth, output=self.output, loss=self.train["loss"])
                # Weight each part's loss. The total weight is known only at the end, so divide by a constant common
                # to all parts and members until then.
                scaled = loss if is_whole else loss * (weight / usual_weight)
                self.scaler.scale(scaled).backward()
            losses.append(loss.detach())
            weights.append(weight.detach())
            remembered.append(state)
        if batch.fresh_b is not None:
            self.memory = join_states(remembered)
        sums = torch.stack([(torch.stack(losses) * torch.stack(weights)).sum(), torch.stack(weights).sum()])
        total, total_weight = self.team.sum(sums).tolist()
        if total == 0 and total_weight == 0:  # all pixels are ignored: the optimiser's momentum would move the weights
            return 0.0
        total_weight = max(total_weight, 1e-12)
        if not is_whole:
            self._stretch_gradients(usual_weight * self.team.size / total_weight)
        if math.isfinite(total):
            self._update()
        return float(total / total_weight)

    def _usual_weight(self, batch: Batch) -> float:
        """Return the approximate weight of a full batch in `measure_loss`: its patches for Dice, else its pixels."""
        truth_byx, size = batch.target.classes_yx, int(self.train["batch"])
        is_dice = self.train["loss"]["name"] in ("dice", "bce_dice")
        return float(size * (len(truth_byx) if is_dice else truth_byx.size) / len(batch.images))

    def _load(self, batch: Batch, part: slice) -> tuple[Tensor, Truth]:
        images = torch.from_numpy(batch.images[part])
        images = images.to(self.device, non_blocking=True)
        if self.train["channels_last"] and images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        target, frames = batch.target, 1 if batch.fresh_b is None else batch.images.shape[1]
        pixels = slice(part.start * frames, part.stop * frames)

        def load(planes: np.ndarray | None) -> Tensor | None:
            return None if planes is None else torch.from_numpy(planes[pixels]).to(self.device, non_blocking=True)

        classes_byx = load(target.classes_yx)
        assert classes_byx is not None
        return images, Truth(classes_byx, load(target.values_cyx), load(target.weights_yx))

    def _run(self, images: Tensor, memory: State | None) -> tuple[Tensor, State | None]:
        """Return logits_bcyx, with batch and time flattened for windows of frames, and the detached hidden state."""
        if images.ndim == 4:
            return self.model(images), None
        logits_btcyx, state = self.model(images, memory)
        return logits_btcyx.flatten(0, 1), detach_state(state)

    def _recall(self, fresh_b: np.ndarray) -> State | None:
        """Return the hidden state of the sequences that continue, reset for those that begin."""
        if self.memory is None or fresh_b.all():
            return None
        return reset_state(self.memory, torch.from_numpy(fresh_b).to(self.device))

    def _update(self) -> None:
        self.scaler.unscale_(self.optimiser)
        if (longest := self.train["optimiser"]["clip_norm"]) is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), float(longest))
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.averaged is not None:
            assert self.train["ema"] is not None
            update_average(self.averaged, self.bare_model, decay=float(self.train["ema"]))

    def _stretch_gradients(self, factor: float) -> None:
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)


def build_stepper(model: nn.Module, *, device: torch.device, output: str, train: TrainSettings, team: Team) -> Stepper:
    """Move a network to its device, and build its optimiser and the other parts of a training step.

    Parameters
    ----------
    model : nn.Module
        With its initial weights.
    device : torch.device
        Device of the training.
    output : str
        `network.output` of the preset.
    train : dict
        Section `train` of the preset.
    team : Team
        The processes that train the network together.
    """
    model.to(device)
    if train["channels_last"]:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    wrapped = team.wrap(model, device=device)
    return Stepper(
        model=torch.compile(wrapped) if train["compile"] and device.type == "cuda" else wrapped,  # type: ignore[arg-type]
        bare_model=model,
        optimiser=build_optimiser(model, optimiser=train["optimiser"]),
        device=device,
        output=output,
        train=train,
        averaged=None if train["ema"] is None else copy.deepcopy(model),
        team=team,
    )


def restart_statistics(model: nn.Module) -> None:
    """Reset the running statistics of batch normalisation, so that they become means over the following steps.

    The usual exponential mean covers about ten steps. With few patches per step, from images that differ, it
    fluctuates so much that scores vary between epochs even at a learning rate of nearly zero. Layers with a momentum,
    set because their paper specifies it, are left alone. # SOURCE Wu and Johnson
    2021, arXiv:2105.07576, section 3, which recomputes them separately; here training steps do so at no extra cost.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.momentum is None:
            module.reset_running_stats()


def update_average(averaged: nn.Module, model: nn.Module, *, decay: float) -> None:
    """Update the exponential moving average of the weights, and copy the running statistics.

    # SOURCE Polyak and Juditsky 1992, doi:10.1137/0330046; with exponential weights, as is common for networks
    """
    with torch.no_grad():
        for mean, value in zip(averaged.parameters(), model.parameters(), strict=True):
            mean.lerp_(value.detach(), 1 - decay)
        for kept, own in zip(averaged.buffers(), model.buffers(), strict=True):
            kept.copy_(own)
