"""Snakemake's scheduler wakes for finished jobs, and by an alarm only where its limit of jobs holds it back."""

import inspect
import threading
import time
from types import SimpleNamespace

import pytest
from snakemake.scheduling.job_scheduler import JobRateLimiter, JobScheduler
from snakemake.settings.types import MaxJobsPerTimespan

from cellmill.planning.waking import calm_scheduler


@pytest.fixture
def scheduler():
    limiter = JobRateLimiter(MaxJobsPerTimespan(2, "100ms"))
    made = SimpleNamespace(_open_jobs=threading.Semaphore(0), job_rate_limiter=limiter, _schedule_reevalutation=None)
    calm_scheduler(made)
    return made


def wakes(scheduler):
    count = 0
    while scheduler._open_jobs.acquire(blocking=False):
        count += 1
    return count


def test_rounds_below_the_limit_set_no_alarm(scheduler):
    for _ in range(20):
        scheduler._schedule_reevalutation(0.01)
    time.sleep(0.2)
    assert wakes(scheduler) == 0


def test_rounds_at_the_limit_set_one_alarm(scheduler):
    scheduler.job_rate_limiter.register_jobs(2)
    for _ in range(20):
        scheduler._schedule_reevalutation(0.05)
    assert scheduler._open_jobs.acquire(timeout=30)
    assert wakes(scheduler) == 0


def test_the_alarm_can_be_set_again(scheduler):
    for _ in range(2):
        scheduler.job_rate_limiter.register_jobs(2)
        scheduler._schedule_reevalutation(0.01)
        assert scheduler._open_jobs.acquire(timeout=30)


def test_snakemake_still_has_what_is_replaced():
    """If this fails after an update, measure the main process while a job runs, and drop the module or adapt it."""
    assert hasattr(JobScheduler, "_schedule_reevalutation")
    assert "self._schedule_reevalutation(self.job_rate_limiter.timespan)" in inspect.getsource(JobScheduler.schedule)
    other = SimpleNamespace()
    calm_scheduler(other)
    assert vars(other) == {}
