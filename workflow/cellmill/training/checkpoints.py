"""Checkpoints, from which an interrupted training resumes, and handling of stop signals.

A checkpoint is not an output of the rule, because Snakemake deletes the outputs of a failed job. It is stored next to
the weights. Its name contains a digest of everything that determines the result, so that a retry finds it but a run
with changed settings does not.
"""

import hashlib
import json
import logging
import math
import os
import pickle
import signal
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from cellmill.shards import atomic_path, read_manifest
from cellmill.training.stepping import Stepper
from cellmill.training.team import Team

logger = logging.getLogger(__name__)

# SLURM sends SIGTERM before it kills a job (or SIGUSR1 if the user requested it); SIGINT is Ctrl-C.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


Row = dict[str, float | None]

# An epoch may last hours. After a power failure at most this much work is lost.
SAVE_EVERY_S = 600.0


class Stopped(SystemExit):
    """Exit after a stop signal; the exit status is 128 plus the signal's number, as in the shell."""


@dataclass
class StopRequest:
    """The stop signal that the process has received; None if it has received none."""

    number: int | None = None

    def agree(self, team: Team) -> bool:
        """Return whether any member of a team has received a stop signal, and pass the signal on to all members."""
        self.number = int(team.largest(self.number or 0)) or None
        return self.number is not None

    def obey(self) -> None:
        """End the process if a stop signal was received; call this after saving the checkpoint.

        Raises
        ------
        Stopped
        """
        if self.number is not None:
            logger.warning(
                "stopped by %s; the next run continues from the checkpoint", signal.Signals(self.number).name
            )
            raise Stopped(128 + self.number)


class Checkpoint:
    """The checkpoint file of one training."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._saved = time.monotonic()

    def is_due(self, stop: StopRequest, *, team: Team) -> bool:
        """Return whether to save between two steps: after a stop signal, or SAVE_EVERY_S after the last time."""
        is_due = stop.agree(team) or time.monotonic() - self._saved > SAVE_EVERY_S
        return bool(team.largest(is_due))

    def save(self, state: dict[str, Any], *, team: Team) -> None:
        """Write the state atomically: a kill at any moment leaves either the old file or the new one, complete.

        Parameters
        ----------
        state : dict
            Tensors, numbers, strings, lists and dicts of these.
        team : Team
            Only its first member writes.
        """
        self._saved = time.monotonic()
        if not team.leads:
            return
        with atomic_path(self.path) as partial, partial.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())

    def load(self) -> dict[str, Any] | None:
        """Read the state, with tensors on the CPU; return None if there is no readable checkpoint."""
        if not self.path.exists():
            return None
        try:
            # Without this check torch takes the file for one of an old format and may raise any kind of error.
            if not zipfile.is_zipfile(self.path):
                raise EOFError("it is cut short")
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            logger.warning("%s cannot be read (%s): training starts from its beginning", self.path, error)
            return None
        return state


@dataclass
class Training:
    """The complete state of a training, as stored in a checkpoint."""

    stepper: Stepper
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    patches: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf
    best_epoch: int = 0
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    history: list[Row] = field(default_factory=list)
    _clock: float = field(default_factory=time.monotonic)

    NUMBERS = ("epoch", "step", "loss_sum", "patches", "seconds", "best_loss", "best_epoch", "history")

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
                "the checkpoint is of %d GPUs and there are %d: dropout is drawn anew, and sequences begin afresh",
                len(state["members"]), stepper.team.size,
            )  # fmt: skip
        logger.info("continuing in epoch %d after step %d", self.epoch + 1, self.step)

    def read_clock(self) -> float:
        """Return the seconds spent so far, including those before an interruption."""
        now = time.monotonic()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        return self.seconds

    def close_epoch(self, *, rate: float, validation: tuple[float, float] | None) -> Row:
        """Record a finished epoch, keep its weights if it is the best so far, and start the next epoch."""
        row: Row = {
            "epoch": self.epoch + 1,
            "learning_rate": rate,
            "train_loss": self.loss_sum / self.patches,
            "validation_loss": None if validation is None else validation[0],
            "validation_dice": None if validation is None else validation[1],
            "seconds": self.read_clock() - sum(float(row["seconds"] or 0) for row in self.history),
        }
        self.history.append(row)
        self.epoch, self.step, self.loss_sum, self.patches = self.epoch + 1, 0, 0.0, 0
        self.stepper.memory = None
        if validation is not None and validation[0] < self.best_loss:
            self.best_loss, self.best_epoch = validation[0], self.epoch
            self.best_weights = copy_weights(self.kept_model)
        return row

    def is_done(self, *, epochs: int, patience: int | None) -> bool:
        """Return whether all epochs are done, or the last `patience` epochs brought no lower validation loss."""
        return self.epoch >= epochs or (patience is not None and self.epoch - self.best_epoch >= patience)


def copy_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of the current weights on the CPU."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def checkpoint_key(
    *, settings: dict[str, Any], code: dict[str, str], shards: Mapping[str, Sequence[str | Path]]
) -> str:
    """Compute a digest of everything that determines the result of a training.

    Parameters
    ----------
    settings : dict
        Plain values, without settings that do not change the result (threads, device).
    code : dict
        Digest of each module.
    shards : dict
        Shard folders by their role in the training. Their manifests are digested, not their paths or their order.

    Returns
    -------
    str
        SHA-256 in hexadecimal.
    """
    manifests = {
        part: sorted(json.dumps(read_manifest(folder), sort_keys=True) for folder in folders)
        for part, folders in shards.items()
    }
    text = json.dumps({"settings": settings, "code": code, "shards": manifests}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def checkpoint_path(weights_path: str | Path, *, key: str) -> Path:
    """Return the path of a training's checkpoint, a hidden file next to its weights."""
    weights_path = Path(weights_path)
    return weights_path.with_name(f".{weights_path.stem}.checkpoint-{key[:16]}.pt")


def remove_checkpoints(weights_path: str | Path) -> None:
    """Remove the checkpoints of a finished run, including those of earlier settings."""
    weights_path = Path(weights_path)
    # The second pattern matches what `atomic_path` leaves behind if the machine crashes during a write.
    for pattern in (f".{weights_path.stem}.checkpoint-*.pt", f"..{weights_path.stem}.checkpoint-*.partial-*"):
        for path in weights_path.parent.glob(pattern):
            path.unlink(missing_ok=True)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Record SIGTERM, SIGUSR1 and SIGINT instead of ending the process; the training loop checks between two steps.

    Yields
    ------
    StopRequest
        Stays empty outside the main thread, where Python delivers no signals.
    """
    request = StopRequest()

    def note(number: int, _frame: FrameType | None) -> None:
        request.number = number

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    earlier = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
