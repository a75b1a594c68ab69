"""With `retries`, a job is repeated unless its own message is one that each attempt would repeat."""

import errno
import inspect
import os
from types import SimpleNamespace

import pytest
from snakemake.jobs import GroupJob, Job
from snakemake.rules import Rule
from snakemake.scheduling.job_scheduler import JobScheduler

from cellmill.planning.retries import is_mistake, spare_attempts

BEFORE = "2026-01-01 00:00:00 INFO cellmill: rule\nTraceback (most recent call last):\n  File\n"
MISTAKE = f"{BEFORE}ValueError: x\n\nError: table.csv: expected a column id, found none.\n\n"
BUG = f"{BEFORE}KeyError: 'x'\n"


class Scheduler:
    """What is replaced of Snakemake's scheduler: the number of attempts that a failed job has left is noted."""

    def __init__(self):
        self.started, self.left = [], []

    def run(self, jobs, executor=None):
        self.started += jobs

    def _handle_error(self, job, postprocess_job=True):
        self.left.append(job.rule.restart_times)


@pytest.fixture
def scheduler():
    made = Scheduler()
    spare_attempts(made)
    return made


@pytest.fixture
def job(tmp_path):
    rule = SimpleNamespace(_restart_times=3, restart_times=3)
    return SimpleNamespace(rule=rule, log=[tmp_path / "a.log"], is_group=lambda: False)


def fail(scheduler, job, *, before=None, after=None):
    """Run a job and let it fail; return how many attempts Snakemake thinks are left."""
    [log] = job.log
    if before is not None:
        log.write_text(before)
    scheduler.run([job])
    if after is not None:
        log.write_text(after)
    scheduler._handle_error(job)
    assert job.rule.restart_times == 3
    return scheduler.left[-1]


def test_a_mistake_is_not_repeated(scheduler, job):
    assert fail(scheduler, job, after=MISTAKE) == 0
    assert scheduler.started == [job]


@pytest.mark.parametrize("after", [None, "", BUG, BEFORE], ids=["no log", "an empty log", "a bug", "a killed job"])
def test_other_failures_are_repeated(scheduler, job, after):
    assert fail(scheduler, job, after=after) == 3


def test_the_message_of_an_earlier_run_is_not_that_of_this_attempt(scheduler, job):
    assert fail(scheduler, job, before=MISTAKE) == 3


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ESTALE, errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_what_another_node_or_a_later_hour_may_not_meet_is_no_mistake(number):
    assert not is_mistake(f"Error: a.tif: expected a readable file, found: {os.strerror(number)}. Check the path.")
    assert not is_mistake("Error: resource gpu=1: expected a CUDA device, found none (torch 2). Request another node.")
    assert is_mistake("Error: a.tif: expected TIFF, found something else. Rename the file.")


def test_a_group_of_jobs_is_repeated_as_a_whole(scheduler, job):
    job.is_group = lambda: True
    assert fail(scheduler, job, after=MISTAKE) == 3


def test_snakemake_still_has_what_is_replaced():
    """If this fails after an update, see whether mistakes are repeated, and adapt or drop the module."""
    assert "if job.restart_times > job.attempt - 1:" in inspect.getsource(JobScheduler._handle_error)
    assert [*inspect.signature(JobScheduler._handle_error).parameters] == ["self", "job", "postprocess_job"]
    assert [*inspect.signature(JobScheduler.run).parameters] == ["self", "jobs", "executor"]
    assert "self._restart_times" in inspect.getsource(Rule)
    assert callable(Job.is_group)
    assert callable(GroupJob.is_group)
    other = SimpleNamespace()
    spare_attempts(other)
    assert vars(other) == {}
