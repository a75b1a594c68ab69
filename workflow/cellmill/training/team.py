"""Data-parallel training on several GPUs: each process of a team computes its part of every batch.

A single process is a team of size 1 and exchanges nothing.
"""

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from cellmill.device import choose_device

logger = logging.getLogger(__name__)

# The others wait while the leader validates, which may take hours. Dead members are detected in other ways.
WAIT_AT_MOST = timedelta(days=7)

# Grace period for the members to end once one of them has ended.
FAREWELL_S = 20.0


@dataclass(frozen=True)
class Team:
    """A team of processes and the number of this process within it."""

    member: int = 0
    size: int = 1
    kind: str = "cpu"

    @property
    def leads(self) -> bool:
        """Whether this process validates and writes files."""
        return self.member == 0

    def part_of(self, numbers: range) -> range:
        """Return this member's part of a batch; with fewer patches than members, some members get the same patch."""
        if self.size == 1:
            return numbers
        first = min(len(numbers) * self.member // self.size, len(numbers) - 1)
        return numbers[first : max(first + 1, len(numbers) * (self.member + 1) // self.size)]

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of the values of all members, computed in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def largest(self, number: float) -> float:
        """Return the largest number among all members."""
        if self.size == 1:
            return number
        found = torch.tensor(float(number), device=self.kind)
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return float(found)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all members, in their order."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found

    def share(self, value: Any) -> Any:
        """Return the leader's value to all members."""
        if self.size == 1:
            return value
        found = [value]
        distributed.broadcast_object_list(found, src=0)
        return found[0]

    def wrap(self, model: nn.Module, *, device: torch.device) -> nn.Module:
        """Wrap a network so that its gradients are averaged over the team."""
        if self.size == 1:
            return model
        # Only gradients are exchanged, not running statistics: only the leader validates, with its statistics.
        ids = [device] if device.type == "cuda" else None
        # Without memory the hidden-to-hidden convolution exists but is unused.
        has_idle = any(getattr(module, "has_memory", True) is False for module in model.modules())
        return nn.parallel.DistributedDataParallel(
            model, device_ids=ids, forward_sync_buffers=False, find_unused_parameters=has_idle
        )

    def no_exchange(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Return a context in which gradients are not exchanged, for accumulating parts of a batch."""
        if isinstance(model, nn.parallel.DistributedDataParallel):
            return model.no_sync()
        return nullcontext()


def plan_team(*, gpu: int, batch: int) -> tuple[int, str]:
    """Return the number of processes of a team and the kind of device that they use.

    Parameters
    ----------
    gpu : int
        The rule's resource: each GPU has its own process. Without a GPU there is a single process on the CPU.
    batch : int, > 0
        Patches per batch, of which each process needs at least one.

    Returns
    -------
    size, kind : int, "cuda" or "cpu"
        Arguments of `form_team`.

    Raises
    ------
    ValueError
        If more GPUs are requested than exist, or than a batch has patches.
    """
    kind = choose_device(gpu=gpu).type
    size = gpu if kind == "cuda" else 1
    if kind == "cuda" and size > torch.cuda.device_count():
        raise ValueError(
            f"resource gpu={size}: expected at least {size} GPUs, found {torch.cuda.device_count()}. "
            "Request more GPUs from the cluster, or lower the resource."
        )
    if size > batch:
        raise ValueError(
            f"resource gpu={size}: expected a batch of at least {size} patches, one per GPU, found {batch}. "
            "Raise train.batch, or request fewer GPUs."
        )
    return size, kind


@contextmanager
def form_team(size: int, work: Callable[..., None], keywords: dict[str, Any], *, kind: str) -> Iterator[Team]:
    """Start the other members of a team and make this process its leader.

    Parameters
    ----------
    size : int, > 0
        Number of processes, including this one, which is the first.
    work : callable
        Called as `work(team=team, **keywords)` in the other processes; must be a module-level function. The caller
        must call it in this process.
    keywords : dict
        Keyword arguments that can be pickled.
    kind : "cuda" or "cpu"
        Each member uses the GPU of its number, or all share the CPU.

    Yields
    ------
    Team
        The team as seen by this process.
    """
    if size == 1:
        yield Team()
        return
    with tempfile.TemporaryDirectory(prefix="cellmill-team-") as room:
        meeting = f"file://{Path(room) / 'meeting'}"
        context = multiprocessing.get_context("spawn")
        others = [
            context.Process(target=_follow, args=(member, size, meeting, kind, work, keywords), daemon=True)
            for member in range(1, size)
        ]
        for other in others:
            other.start()
        is_over = threading.Event()
        if kind == "cuda":  # on the CPU a broken connection raises an error
            threading.Thread(target=_end_with, args=(others, is_over), daemon=True).start()
        try:
            yield _join(0, size, meeting, kind)
        except Exception:
            is_over.set()
            if kind == "cuda":  # a member that waits for an exchange would keep the process group from closing
                _dismiss(others)
            raise
        finally:
            is_over.set()
            if distributed.is_initialized():
                distributed.destroy_process_group()
            _dismiss(others)


def _dismiss(others: list[SpawnProcess]) -> None:
    """Wait up to FAREWELL_S for each process to end, then kill it; it could wait for a failed leader for ever."""
    for other in others:
        other.join(timeout=FAREWELL_S)
        other.kill()
        other.join()


def _end_with(others: list[SpawnProcess], is_over: threading.Event) -> None:
    """End this process if another member has died, because an exchange between GPUs would wait for ever."""
    while not is_over.wait(timeout=1.0):
        # 1 is an error, below zero a signal; a member that obeys a stop signal exits with 128 or more.
        ends = enumerate((other.exitcode for other in others), start=1)
        dead = [member for member, status in ends if status is not None and (status < 0 or status == 1)]
        if dead and not is_over.wait(FAREWELL_S):
            logger.error("the process of GPU %d has died; the next run continues from the checkpoint", dead[0])
            os._exit(1)


def _end_with_leader() -> None:
    """End this process as soon as the leader has ended, for whatever reason."""
    leader = multiprocessing.parent_process()
    if leader is not None:
        leader.join()
        os._exit(1)


def _join(member: int, size: int, meeting: str, kind: str) -> Team:
    if kind == "cuda":
        torch.cuda.set_device(member)
    distributed.init_process_group(
        "nccl" if kind == "cuda" else "gloo",
        init_method=meeting,
        rank=member,
        world_size=size,
        timeout=WAIT_AT_MOST,
    )
    return Team(member, size, kind)


def _follow(
    member: int, size: int, meeting: str, kind: str, work: Callable[..., None], keywords: dict[str, Any]
) -> None:
    threading.Thread(target=_end_with_leader, daemon=True).start()
    team = _join(member, size, meeting, kind)
    try:
        work(team=team, **keywords)
    finally:
        distributed.destroy_process_group()
