"""`snakemake status`: what the record of a run tells about its jobs, also while the run goes on or after it was killed."""

import json
import logging
import os
import socket
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from cellmill.planning.progress import RECORD, record_progress
from cellmill.planning.status import describe_run, last_line, read_run, say_time

HEAD = "2026-01-01 00:00:00 INFO cellmill.runlog: rule train\n"
CRASH = (
    f"{HEAD}Traceback (most recent call last):\n  File\nValueError: x\n\nError: a.tif: expected an image, found text.\n"
)


class Record:
    """Snakemake's logger with a recorder that writes into a folder."""

    def __init__(self, folder, *, dryrun=False):
        self.folder = folder
        self.logger = logging.Logger("snakemake")
        record_progress(self.logger, SimpleNamespace(dryrun=dryrun), folder=folder)

    def begin(self, **rules):
        stats = {**rules, "total": sum(rules.values())}
        self.logger.info("Job stats", extra={"event": LogEvent.RUN_INFO, "stats": stats})

    def start(self, job, rule="check_shard", shard="train-0001"):
        facts = {
            "jobid": job,
            "rule_name": rule,
            "log": [f"logs/{job}.log"],
            "wildcards": {"dataset": "d", "shard": shard},
        }
        self.logger.info("", extra={"event": LogEvent.JOB_INFO, **facts})

    def submit(self, job, slurm):
        self.logger.info(f"Job {job} has been submitted with SLURM jobid {slurm} (log: logs/slurm/{slurm}.log).")

    def finish(self, job):
        self.logger.info(f"Finished jobid: {job}", extra={"event": LogEvent.JOB_FINISHED, "job_id": job})

    def fail(self, job, rule="check_shard"):
        self.logger.error("Error", extra={"event": LogEvent.JOB_ERROR, "jobid": job, "rule_name": rule, "log": []})

    def change(self, **facts):
        """Change the first line of the record."""
        path = self.folder / RECORD
        first, *others = path.read_text().splitlines()
        path.write_text("\n".join([json.dumps({**json.loads(first), **facts}), *others]) + "\n")

    def lines(self, *, after=60.0):
        return describe_run(self.folder, now=read_run(self.folder).begun + after).splitlines()


@pytest.fixture
def record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # no squeue
    (tmp_path / "logs").mkdir()
    return Record(tmp_path)


def test_done_running_failed_and_waiting_jobs_are_counted_and_named(record, tmp_path):
    record.begin(check_shard=3, train=1, all=1)
    for job in (1, 2):
        record.start(job)
    record.finish(1)
    (tmp_path / "logs/2.log").write_text(CRASH)
    record.fail(2)
    record.start(4, "train", shard="")
    (tmp_path / "logs/4.log").write_text(f"{HEAD}2026-01-01 00:00:00 INFO cellmill.stages.train: epoch 2/3, 9 s left\n")
    lines = record.lines()
    assert lines[0] == "1 of 5 jobs done, 1 running, 1 failed, 2 waiting."
    assert lines[1].endswith(", 60 s ago.")
    assert lines[2:] == [
        "", "Running", "  train d/, 60 s, epoch 2/3, 9 s left", "    Log: logs/4.log",
        "", "Failed", "  check_shard d/train-0001", "    Error: a.tif: expected an image, found text.",
        "    Log: logs/2.log", "", "Waiting", "  1 check_shard, 1 all",
    ]  # fmt: skip


def test_the_rest_is_forecast_from_the_rate(record):
    record.begin(check_shard=20)
    for job in range(5):
        record.start(job)
        record.finish(job)
    assert record.lines(after=100.0)[1].endswith("ago. At the rate so far, 5 min are left.")


def test_a_retry_that_succeeds_is_no_failure(record):
    record.begin(check_shard=2)
    record.start(1)
    record.fail(1)
    record.start(1)
    record.finish(1)
    assert record.lines()[0] == "1 of 2 jobs done, 0 running, 0 failed, 1 waiting."


def test_a_run_that_was_killed_says_how_to_go_on(record):
    record.begin(check_shard=2)
    record.start(1)
    record.change(process=2**22 + 7)  # above the largest number of a process
    lines = record.lines()
    assert lines[0] == "0 of 2 jobs done, 0 running, 0 failed, 1 waiting."
    assert lines[1].endswith("Run the same command again to go on.")
    assert lines[2:5] == ["", "Interrupted", "  check_shard d/train-0001"]


def test_a_run_on_another_machine_is_believed(record):
    record.begin(check_shard=1)
    record.start(1)
    record.change(host="login2", process=1)
    assert "by snakemake on login2" in record.lines()[1]
    assert record.lines()[0].startswith("0 of 1 jobs done, 1 running")


def test_jobs_of_slurm_have_their_number_state_and_log(record, tmp_path, monkeypatch):
    monkeypatch.setattr("cellmill.planning.status.shutil.which", lambda program: f"/bin/{program}")
    answer = SimpleNamespace(stdout="345|PENDING|Resources\n346|RUNNING|None\n")
    asked = []
    monkeypatch.setattr("cellmill.planning.status.subprocess.run", lambda command, **_: asked.append(command) or answer)
    record.begin(train=2)
    for job, slurm in ((1, "345"), (2, "346")):
        record.start(job, "train", shard="a")
        record.submit(job, slurm)
    lines = record.lines()
    assert "  train d/a, 60 s, SLURM job 345 pending (Resources)" in lines
    assert "  train d/a, 60 s, SLURM job 346 running" in lines
    assert "    Log: logs/2.log, logs/slurm/346.log" in lines
    assert asked == [["squeue", "--noheader", "--format", "%i|%T|%r", "--jobs", "345,346"]]


def test_a_long_list_is_shortened(record):
    record.begin(check_shard=30)
    for job in range(30):
        record.start(job)
    assert "  and 10 more" in record.lines()


def test_a_dry_run_leaves_the_record_of_the_last_run(record, tmp_path):
    record.begin(check_shard=2)
    before = (tmp_path / RECORD).read_bytes()
    Record(tmp_path, dryrun=True).begin(train=9)
    assert (tmp_path / RECORD).read_bytes() == before


def test_a_new_run_replaces_the_record(record, tmp_path):
    record.begin(check_shard=2)
    Record(tmp_path).begin(train=9)
    assert read_run(tmp_path).rules == {"train": 9}


def test_the_line_that_is_being_written_is_not_read(record, tmp_path):
    record.begin(check_shard=2)
    record.start(1)
    with (tmp_path / RECORD).open("a") as stream:
        stream.write('{"time": 3, "eve')
    assert len(read_run(tmp_path).running) == 1


def test_a_folder_that_cannot_be_written_stops_no_run(tmp_path):
    (tmp_path / "file").write_text("")
    Record(tmp_path / "file").begin(check_shard=2)
    assert read_run(tmp_path / "file") is None


def test_a_folder_without_a_run_is_told(tmp_path):
    assert describe_run(tmp_path, now=0.0).endswith("expected the record of a run, found none. Start one: snakemake")


def test_a_process_of_this_machine_is_alive(record):
    record.begin(check_shard=1)
    assert read_run(record.folder).is_alive
    record.change(process=os.getpid(), host=socket.gethostname() + "x")
    assert read_run(record.folder).is_alive is None


def test_the_last_line_of_a_log_is_found_without_the_facts_around_it(tmp_path):
    assert last_line(tmp_path / "none.log") == ""
    (tmp_path / "a.log").write_text(f"{HEAD}2026-01-01 00:00:01 WARNING cellmill.x: told\n{HEAD}")
    assert last_line(tmp_path / "a.log") == "told"
    (tmp_path / "b.log").write_text(HEAD)
    assert last_line(tmp_path / "b.log") == ""


@pytest.mark.parametrize(
    ("seconds", "said"), [(-3, "0 s"), (89, "89 s"), (90, "2 min"), (3599, "60 min"), (12000, "3 h 20 min")]
)
def test_durations_are_short(seconds, said):
    assert say_time(seconds) == said.replace("60 min", "1 h 0 min")
