"""Checkpoints, from which an interrupted training resumes, and handling of stop signals.

A checkpoint is not an output of the rule, because Snakemake deletes the outputs of a failed job. It is stored next to
the weights. Its name contains a digest of everything that determines the result, so that a retry finds it but a run
with changed settings does not.
"""

import hashlib
import json
import logging
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

from cellmill.shards import atomic_path, read_manifest
from cellmill.training.team import Team

logger = logging.getLogger(__name__)

# SLURM sends SIGTERM before it kills a job (or SIGUSR1 if the user requested it); SIGINT is Ctrl-C.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


# An epoch may last hours. After a power failure at most this much work is lost.
SAVE_EVERY_S = 600.0


class Stopped(SystemExit):
    """Exit after a stop signal; the exit status is 128 plus the signal's number, as in the shell."""


# Set by the snakemake that started the job: the file that it creates when it is told to stop, and its process id
VARIABLE = "CELLMILL_STOP"


class Starter:
    """The snakemake that started this job, which signals sent to it alone do not reach."""

    def __init__(self) -> None:
        path, _, process = os.environ.get(VARIABLE, "").rpartition(":")
        self._file = Path(path) if path else None
        self._process = int(process) if process.isdigit() else 0
        # In a container or on another machine the process is not visible, and its end is not either.
        self._is_visible = self._process > 0 and _is_running(self._process)

    def has_stopped(self) -> bool:
        """Return whether snakemake was told to stop, or has ended: nobody waits for the result of this job then."""
        is_told = self._file is not None and self._file.exists()
        return is_told or (self._is_visible and not _is_running(self._process))


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@dataclass
class StopRequest:
    """The stop signal that the process has received; None if it has received none.

    Snakemake's own stop counts as SIGTERM.
    """

    number: int | None = None
    starter: Starter = field(default_factory=Starter)

    def is_made(self) -> bool:
        """Return whether this process has received a stop signal, or the snakemake that started it has stopped."""
        if self.number is None and self.starter.has_stopped():
            self.number = int(signal.SIGTERM)
        return self.number is not None

    def agree(self, team: Team) -> bool:
        """Return whether any member of a team has received a stop signal, and pass the signal on to all members."""
        self.is_made()
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
        with atomic_path(self.path, needed=_count_bytes(state)) as partial, partial.open("wb") as stream:
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
                raise EOFError("the file is truncated")
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            logger.warning("%s cannot be read (%s): training starts from the beginning", self.path, error)
            return None
        return state


def _count_bytes(value: Any) -> int:
    """Return the size of all tensors in nested dicts and lists."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return sum(_count_bytes(item) for item in items)


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
