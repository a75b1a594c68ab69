"""State of a training: everything that a checkpoint holds, and the batches that are left of its epoch."""

import csv
import logging
import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cellmill.models.weights import load_matching, load_weights, read_one_network
from cellmill.training.batches import Batch, TrainSettings, count_workers, iterate_batches, steps_per_epoch
from cellmill.training.imagesets import ImageSet
from cellmill.training.lengths import Length, plan_length
from cellmill.training.stepping import Stepper
from cellmill.training.streams import iterate_windows, windows_per_epoch

logger = logging.getLogger(__name__)

Row = dict[str, float | None]


@dataclass
class Training:
    """The complete state of a training, as stored in a checkpoint."""

    stepper: Stepper
    epoch: int = 0
    step: int = 0
    steps_done: int = 0
    loss_sum: float = 0.0
    patches: int = 0
    seconds: float = 0.0
    measuring_s: float = 0.0
    best_loss: float = math.inf
    best_epoch: int = 0
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)
    start: dict[str, Any] | None = None  # choice whether the training started from the offered model
    has_start: bool = False  # whether the first weights are those of another training
    _clock: float = field(default_factory=time.monotonic)

    NUMBERS = (
        "epoch", "step", "steps_done", "loss_sum", "patches", "seconds", "measuring_s", "best_loss", "best_epoch",
        "history", "start",
    )  # fmt: skip

    @property
    def model(self) -> nn.Module:
        """The network itself, not wrapped for a team."""
        return self.stepper.bare_model

    @property
    def kept_model(self) -> nn.Module:
        """The network that is validated and saved: the one with averaged weights if there is one."""
        return self.model if self.stepper.averaged is None else self.stepper.averaged

    def state(self) -> dict[str, Any]:
        """Return the state that `restore` needs to continue exactly; all members of a team must call this together."""
        self.read_clock()
        stepper = self.stepper
        own = {
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
            "memory": stepper.memory,
        }
        return {
            **{name: getattr(self, name) for name in self.NUMBERS},
            "best_weights": self.best_weights,
            "model": self.model.state_dict(),
            "averaged": None if stepper.averaged is None else stepper.averaged.state_dict(),
            "optimiser": stepper.optimiser.state_dict(),
            "scaler": stepper.scaler.state_dict(),
            "parts": stepper.parts,
            "precision": stepper.precision,
            # The training keeps the length that was found for a time; `restore` is called with these settings.
            "steps": stepper.train["steps"],
            "members": stepper.team.gather(own),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a state on the device of the model."""
        for name in (*self.NUMBERS, "best_weights"):
            setattr(self, name, state[name])
        stepper = self.stepper
        self.model.load_state_dict(state["model"])
        if stepper.averaged is not None:
            stepper.averaged.load_state_dict(state["averaged"])
        stepper.optimiser.load_state_dict(state["optimiser"])
        if state["scaler"]:
            stepper.scaler.load_state_dict(state["scaler"])
        stepper.parts = state["parts"]
        if state["precision"] != stepper.precision:
            logger.warning(
                "the checkpoint was saved on a device that computes in %s, this one computes in %s: "
                "the result differs from that of an uninterrupted training",
                state["precision"], stepper.precision,
            )  # fmt: skip
        if len(state["members"]) == stepper.team.size:
            own = state["members"][stepper.team.member]
            torch.set_rng_state(own["random"])
            if own["random_cuda"] is not None and torch.cuda.is_initialized():
                torch.cuda.set_rng_state(own["random_cuda"])
            if own["memory"] is not None:
                stepper.memory = [
                    (hidden.to(stepper.device), cell.to(stepper.device)) for hidden, cell in own["memory"]
                ]
        else:
            logger.warning(
                "the checkpoint was saved with %d GPUs, this run uses %d: dropout is redrawn, "
                "and hidden states are reset",
                len(state["members"]), stepper.team.size,
            )  # fmt: skip
        logger.info("continuing in epoch %d after step %d", self.epoch + 1, self.step)

    def read_clock(self) -> float:
        """Return the seconds spent so far, including those before an interruption."""
        now = time.monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        return self.seconds

    def plan_length(self, images: ImageSet) -> Length:
        """Return the epochs and steps of the training."""
        train, is_recurrent = self.stepper.train, bool(self.model.is_recurrent)
        return plan_length(train, pass_steps=count_pass_steps(images, train=train, is_recurrent=is_recurrent))

    def remaining_batches(self, images: ImageSet, *, seed: int, threads: int) -> Generator[Batch, None, None]:
        """Yield the batches of the current epoch, from the first step that is not done.

        Parameters
        ----------
        images : ImageSet
            The training images.
        seed : int
            Seed of the training.
        threads : int, > 0
            Threads of the rule; the batches do not depend on it.

        Yields
        ------
        Batch
            Random patches, or windows of frames for a recurrent network.
        """
        iterate = iterate_windows if self.model.is_recurrent else iterate_batches
        yield from iterate(
            images,
            train=self.stepper.train,
            seed=seed,
            epoch=self.epoch,
            first_step=self.step,
            workers=count_workers(threads, has_gpu=self.stepper.device.type == "cuda"),
            team=self.stepper.team,
        )

    def add_step(self, loss: float, *, patches: int) -> None:
        """Record a finished step with its loss, the mean over the patches of the batch."""
        self.step += 1
        self.steps_done += 1
        self.loss_sum += loss * patches
        self.patches += patches

    def close_epoch(self, *, rate: float, validation: tuple[float, float] | None) -> Row:
        """Record a finished epoch, keep its weights if it is the best so far, and start the next epoch."""
        train_loss = self.loss_sum / self.patches
        self.epoch, self.step, self.loss_sum, self.patches = self.epoch + 1, 0, 0.0, 0
        self.stepper.memory = None
        return self._record(rate=rate, train_loss=train_loss, validation=validation)

    def lacks_scores_of_start(self) -> bool:
        """Return whether no step is done and the weights of the start are still to be validated."""
        return self.has_start and self.steps_done == 0 and not self.history

    def record_start(self, validation: tuple[float, float]) -> Row:
        """Record the scores of the weights that the training starts from, and keep these weights as the best so far."""
        return self._record(rate=None, train_loss=None, validation=validation)

    def _record(self, *, rate: float | None, train_loss: float | None, validation: tuple[float, float] | None) -> Row:
        row: Row = {
            "epoch": self.epoch,
            "step": self.steps_done,
            "learning_rate": rate,
            "train_loss": train_loss,
            "validation_loss": None if validation is None else validation[0],
            "validation_dice": None if validation is None else validation[1],
            "seconds": self.read_clock() - sum(float(row["seconds"] or 0) for row in self.history),
        }
        self.history.append(row)
        if validation is not None and validation[0] < self.best_loss:
            self.best_loss, self.best_epoch = validation[0], self.epoch
            self.best_weights = copy_weights(self.kept_model)
        return row

    def is_done(self, *, epochs: int, patience: int | None) -> bool:
        """Return whether all epochs are done, or the last `patience` epochs brought no lower validation loss."""
        return self.epoch >= epochs or (patience is not None and self.epoch - self.best_epoch >= patience)


def count_pass_steps(images: ImageSet, *, train: TrainSettings, is_recurrent: bool) -> int:
    """Count the steps of a pass over the training images."""
    return windows_per_epoch(images, train=train) if is_recurrent else steps_per_epoch(len(images), train=train)


def copy_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of the current weights on the CPU."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def load_initial_weights(model: nn.Module, path: str | Path, *, init_weights: str) -> None:
    """Load the weights that the training starts from: all of them, or those that match the network."""
    state = read_one_network(path)
    if init_weights == "all":
        load_weights(model, state, source=path)
        logger.info("initial weights: all from %s", path)
        return
    taken, left = load_matching(model, state, source=path)
    logger.info("initial weights: %d from %s; initialised at random: %s", len(taken), path, "; ".join(left) or "none")


def write_history(path: Path, history: Sequence[Row]) -> None:
    """Write a table with one row per epoch, and one with the epoch 0 for validated weights of a start."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(history[0]))
        writer.writeheader()
        writer.writerows(history)
