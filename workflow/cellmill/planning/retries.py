"""No second attempt of a job that failed because of a mistake in the data or in the config.

With `retries`, as in the SLURM profile, Snakemake repeats every failed job. This is right for a job that ran out of
memory or lost its node. A mistake would cost a lab four waits in the queue before its message is the last word.
"""

import errno
import os
from collections.abc import Callable, Iterable
from typing import Any

from cellmill.planning.terminal import read_crash, state_of
from cellmill.runlog import MESSAGE

# Messages about the state of a machine or of a file system, which can be another one in the next attempt. Not every
# system has all of these errors: EREMOTEIO is missing on macOS.
_PASSING = (
    "ENOENT", "EIO", "ESTALE", "ETIMEDOUT", "EAGAIN", "EBUSY", "ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS", "EMFILE",
    "ENFILE", "ENOMEM", "EREMOTEIO", "ENOTCONN",
)  # fmt: skip
PASSING = (
    *(os.strerror(getattr(errno, name)) for name in _PASSING if hasattr(errno, name)),
    "expected a CUDA device",
    "its import fails",
)


def is_mistake(crash: str | None) -> bool:
    """Return whether what a job reported will be the same in every attempt.

    Parameters
    ----------
    crash : str or None
        As from `read_crash`.
    """
    return crash is not None and crash.startswith(MESSAGE) and not any(text in crash for text in PASSING)


class Attempts:
    """The logs of jobs as they were when the jobs started, to know whether a message is that of the failed attempt."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[int, int] | None] = {}

    def note(self, jobs: Iterable[Any]) -> None:
        """Note the logs of jobs that are about to start."""
        for job in jobs:
            for path in _logs_of(job):
                self._before[path] = state_of(path)

    def failed_by_mistake(self, job: Any) -> bool:
        """Return whether a job has written a new message, and one that another attempt would repeat."""
        return any(
            state_of(path) != self._before.get(path, state_of(path)) and is_mistake(read_crash(path))
            for path in _logs_of(job)
        )


def _logs_of(job: Any) -> list[str]:
    # A group of jobs has no log of its own, and is repeated as a whole.
    return [] if job.is_group() else [str(path) for path in job.log]


def spare_attempts(scheduler: Any) -> None:
    """Let Snakemake's scheduler repeat no mistake; leave a scheduler of another version as it is."""
    if not all(hasattr(scheduler, name) for name in ("_handle_error", "run")):
        return
    attempts = Attempts()
    run: Callable[..., Any] = scheduler.run
    handle_error: Callable[..., Any] = scheduler._handle_error

    def run_noted(jobs: Iterable[Any], executor: Any = None) -> None:
        jobs = list(jobs)
        attempts.note(jobs)
        run(jobs, executor=executor)

    def handle(job: Any, postprocess_job: bool = True) -> None:
        if not attempts.failed_by_mistake(job):
            handle_error(job, postprocess_job=postprocess_job)
            return
        # Not by the number of the attempt, of which the resources that are freed depend.
        rule = job.rule
        kept, rule.restart_times = rule._restart_times, 0
        try:
            handle_error(job, postprocess_job=postprocess_job)
        finally:
            rule.restart_times = kept

    scheduler.run, scheduler._handle_error = run_noted, handle
