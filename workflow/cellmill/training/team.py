"""Several GPUs that train one network together: each takes its part of every batch.

A single process is a team of one, for which nothing is exchanged.
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

logger = logging.getLogger(__name__)

# The others wait while the leader validates, which may take hours. A member that died is noticed otherwise.
WAIT_AT_MOST = timedelta(days=7)

# So long the members may take to end once one of them has ended.
FAREWELL_S = 20.0


@dataclass(frozen=True)
class Team:
    """Who works together, and which of them this process is."""

    member: int = 0
    size: int = 1
    kind: str = "cpu"

    @property
    def leads(self) -> bool:
        """Whether this process validates and writes files."""
        return self.member == 0

    def part_of(self, numbers: range) -> range:
        """Give this member's part of a batch; where there are fewer patches than members, some take the same one."""
        if self.size == 1:
            return numbers
        first = min(len(numbers) * self.member // self.size, len(numbers) - 1)
        return numbers[first : max(first + 1, len(numbers) * (self.member + 1) // self.size)]

    def sum(self, values: Tensor) -> Tensor:
        """Add what all have."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def largest(self, number: float) -> float:
        """Give the largest of the numbers that the members have."""
        if self.size == 1:
            return number
        found = torch.tensor(float(number), device=self.kind)
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return float(found)

    def gather(self, value: Any) -> list[Any]:
        """Bring the values of all together, in the order of the members."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found

    def share(self, value: Any) -> Any:
        """Give all what the leader has."""
        if self.size == 1:
            return value
        found = [value]
        distributed.broadcast_object_list(found, src=0)
        return found[0]

    def wrap(self, model: nn.Module, *, device: torch.device) -> nn.Module:
        """Make a network whose gradients are means over the team."""
        if self.size == 1:
            return model
        # Running statistics are the leader's, who alone validates: nothing but gradients is exchanged.
        ids = [device] if device.type == "cuda" else None
        # Without memory the convolution of the hidden state is there and takes no part.
        has_idle = any(getattr(module, "has_memory", True) is False for module in model.modules())
        return nn.parallel.DistributedDataParallel(
            model, device_ids=ids, forward_sync_buffers=False, find_unused_parameters=has_idle
        )

    def no_exchange(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Hold gradients back while parts of a batch are added up."""
        if isinstance(model, nn.parallel.DistributedDataParallel):
            return model.no_sync()
        return nullcontext()


@contextmanager
def form_team(size: int, work: Callable[..., None], keywords: dict[str, Any], *, kind: str) -> Iterator[Team]:
    """Start the other members of a team and lead it.

    Parameters
    ----------
    size : int, > 0
        Processes in all; this one is the first.
    work : callable
        What the others do, `work(team=team, **keywords)`, a function of a module; the caller does the same.
    keywords : dict
        What can be pickled.
    kind : "cuda" or "cpu"
        Each member takes the GPU of its number, or all share the CPU.

    Yields
    ------
    Team
        Of this process.
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
            if kind == "cuda":  # who waits for an exchange keeps the group from closing
                _dismiss(others)
            raise
        finally:
            is_over.set()
            if distributed.is_initialized():
                distributed.destroy_process_group()
            _dismiss(others)


def _dismiss(others: list[SpawnProcess]) -> None:
    """Let the others end by themselves; one that waits for a leader who has failed would wait for ever."""
    for other in others:
        other.join(timeout=FAREWELL_S)
        other.kill()
        other.join()


def _end_with(others: list[SpawnProcess], is_over: threading.Event) -> None:
    """End this process if another one has died: a GPU waits for it for ever."""
    while not is_over.wait(timeout=1.0):
        # 1 is an error, a signal is below zero; who was asked to stop leaves with 128 and more.
        ends = enumerate((other.exitcode for other in others), start=1)
        dead = [member for member, status in ends if status is not None and (status < 0 or status == 1)]
        if dead and not is_over.wait(FAREWELL_S):
            logger.error("member %d has died; the next run continues from the checkpoint", dead[0])
            os._exit(1)


def _end_with_leader() -> None:
    """End this process as soon as the leader is gone, however it went."""
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
