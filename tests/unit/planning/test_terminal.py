"""The terminal: few lines of progress, each error once, and nothing lost that is not an error of a job."""

import logging
import os
from types import SimpleNamespace

import pytest
from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent

from cellmill.planning.terminal import SNAKEMAKE_HANDLER, choose_reporter, shorten_terminal
from cellmill.runlog import REPORTER

CRASH = "2026-01-01 00:00:00 INFO cellmill: rule\nTraceback (most recent call last):\n  File\nValueError: x\n"


class Screen:
    """Snakemake's logger with its own handler, filter and formatter, writing into a list."""

    def __init__(self, **settings):
        options = {"dryrun": False, "verbose": False, "printshellcmds": False, "debug_dag": False, "quiet": None}
        chosen = SimpleNamespace(**{**options, **settings})
        self.text = ""
        self.logger = logging.Logger("snakemake")
        handler = ColorizingTextHandler(stream=self)
        handler.name = SNAKEMAKE_HANDLER
        handler.addFilter(
            DefaultFilter(chosen.quiet, chosen.debug_dag, chosen.verbose, chosen.dryrun, chosen.printshellcmds)
        )
        handler.setFormatter(DefaultFormatter(chosen.quiet))
        self.logger.addHandler(handler)
        self.terminal = shorten_terminal(self.logger, chosen)

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    @property
    def lines(self):
        return [line for line in self.text.splitlines() if line]

    def start(self, job, rule="check_shard", shard="train-0001"):
        words = {"dataset": "d", "shard": shard}
        facts = {
            "jobid": job, "rule_name": rule, "rule_msg": None, "log": [f"logs/{job}.log"], "wildcards": words,
            "local": True, "is_checkpoint": False, "input": ["a.tif"], "output": ["a.json"], "benchmark": None,
            "reason": "Missing output files: a.json", "priority": 0, "threads": 1, "resources": {}, "indent": False,
        }  # fmt: skip
        self.logger.info("Execute 1 jobs...", extra={"event": LogEvent.JOB_STARTED, "jobs": [job]})
        self.logger.info("", extra={"event": LogEvent.JOB_INFO, **facts})

    def finish(self, job, done, total):
        self.logger.info(f"Finished jobid: {job}", extra={"event": LogEvent.JOB_FINISHED, "job_id": job})
        self.logger.info(None, extra={"event": LogEvent.PROGRESS, "done": done, "total": total})

    def fail(self, job, how="returned non-zero exit status 1.", rule="check_shard"):
        text = f"RuleException:\nCalledProcessError in file x, line 1:\nCommand 'python' {how}"
        self.logger.error(text, extra={"event": LogEvent.ERROR, "exception": "RuleException"})
        facts = {
            "jobid": job, "rule_name": rule, "rule_msg": None, "msg_of": None, "input": [], "output": ["a.json"],
            "log": [f"logs/{job}.log"], "conda_env": None, "aux": {}, "shellcmd": None, "indent": False,
        }  # fmt: skip
        self.logger.error(f"Error in rule {rule}", extra={"event": LogEvent.JOB_ERROR, **facts})

    def end(self):
        self.logger.info("Shutting down, this might take some time.")
        self.logger.error("Exiting because a job execution failed. Look above for error messages")
        self.logger.info("Complete log(s): here")
        text = "WorkflowError:\nAt least one job did not complete successfully."
        self.logger.error(text, extra={"event": LogEvent.ERROR, "exception": "WorkflowError"})


@pytest.fixture(autouse=True)
def logs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(REPORTER, raising=False)
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


def test_a_run_of_a_thousand_jobs_prints_tens_of_lines():
    screen = Screen()
    stats = {"check_shard": 600, "preprocess": 400, "total": 1000}
    screen.logger.info("Job stats:\njob  count\n", extra={"event": LogEvent.RUN_INFO, "stats": stats})
    for job in range(1000):
        screen.start(job, "check_shard" if job < 600 else "preprocess")
        screen.finish(job, job + 1, 1000)
    assert screen.lines[0] == "1000 jobs: 600 check_shard, 400 preprocess"
    assert screen.lines[1] == "0 of 1000 jobs done; running: check_shard d/train-0001"
    assert "600 of 1000 jobs done; running: preprocess d/train-0001" in screen.lines
    assert screen.lines[-1] == "1000 of 1000 jobs done"
    assert 10 <= len(screen.lines) <= 20


def test_the_jobs_that_until_leaves_out_are_not_in_the_total():
    screen = Screen()
    stats = {"check_shard": 1, "total": 1}
    screen.logger.info("Job stats:\njob  count\n", extra={"event": LogEvent.RUN_INFO, "stats": stats})
    screen.start(0, "check_shard")
    screen.finish(0, 1, 18)
    assert screen.lines[-1] == "1 of 1 jobs done"


def test_an_error_of_twenty_shards_is_shown_once(logs):
    screen = Screen()
    for job in range(20):
        screen.start(job, shard=f"train-{job:04d}")
        (logs / f"{job}.log").write_text(CRASH + "\nError: table.csv: expected a column id, found none.\n\n")
        screen.fail(job)
    screen.end()
    assert screen.text.count("table.csv: expected a column id") == 1
    assert screen.text.count("Failed: check_shard d/train-0000. Log: logs/0.log") == 1
    assert "Failed alike: check_shard d/train-0001, check_shard d/train-0002, check_shard d/train-0003" in screen.text
    assert "16 more" in screen.text
    assert "0 of 0 jobs done, 20 failed. Correct the cause, then run the same command again" in screen.text
    assert "Complete log(s): here" in screen.lines
    assert not any(word in screen.text for word in ("RuleException", "Error in rule", "Traceback", "WorkflowError"))


def test_a_job_that_is_tried_again_counts_once(logs):
    screen = Screen()
    for attempt in (1, 2):
        screen.start(1)
        (logs / "1.log").write_text(CRASH + "\nError: a message\n" + "\n" * attempt)
        screen.fail(1)
        screen.logger.info("Trying to restart job 1.")
    screen.end()
    assert screen.text.count("a message") == 1
    assert "1 failed." in screen.text
    assert "Failed alike" not in screen.text


def test_different_messages_are_all_shown(logs):
    screen = Screen()
    for job, name in enumerate(("a.tif", "b.tif", "c.tif")):
        screen.start(job)
        (logs / f"{job}.log").write_text(CRASH + f"\nError: 1 problem with the data:\n  {name}: damaged.\n\n")
        screen.fail(job)
    assert all(f"  {name}: damaged." in screen.lines for name in ("a.tif", "b.tif", "c.tif"))


def test_a_bug_keeps_its_traceback(logs):
    screen = Screen()
    screen.start(1)
    (logs / "1.log").write_text(CRASH.replace("ValueError: x", "KeyError: 'y'") + "2026-01-01 00:00:00 INFO x: end\n")
    screen.fail(1)
    assert screen.lines[1:5] == ["Traceback (most recent call last):", "  File", "KeyError: 'y'",
                                 "  Failed: check_shard d/train-0001. Log: logs/1.log"]  # fmt: skip


@pytest.mark.parametrize("log", [None, "", "2026-01-01 00:00:00 INFO cellmill: rule check_shard\n"])
def test_a_failure_without_a_message_is_shown_as_snakemake_reports_it(logs, log):
    """For example, no Python in the environment, or a job that was killed."""
    screen = Screen()
    screen.start(1)
    if log is not None:
        (logs / "1.log").write_text(log)
    screen.fail(1)
    assert "CalledProcessError" in screen.text
    assert "returned non-zero exit status 1" in screen.text
    assert "Error in rule check_shard:" in screen.lines
    assert any("logs/1.log" in line for line in screen.lines)


@pytest.mark.parametrize("status", [130, 143])
def test_a_job_that_a_signal_ended_has_not_failed(logs, status):
    screen = Screen()
    screen.start(1)
    screen.fail(1, f"returned non-zero exit status {status}.", rule="train")
    assert any(line.startswith("Stopped by a signal: ") for line in screen.lines)
    assert "CalledProcessError" not in screen.text
    assert "Error in rule" not in screen.text


def test_a_message_of_an_earlier_run_is_not_shown(logs):
    (logs / "1.log").write_text(CRASH + "\nError: an old message\n\n")
    screen = Screen()
    screen.start(1)
    screen.fail(1)
    assert "an old message" not in screen.text
    assert "Error in rule check_shard:" in screen.lines


def test_a_killed_job_and_a_missing_file_are_shown_at_once():
    screen = Screen()
    screen.start(1)
    screen.fail(1, how="died with <Signals.SIGKILL: 9>.")
    text = "MissingOutputException in rule check_shard:\nJob 1 completed, but some output files are missing"
    screen.logger.error(text, extra={"event": LogEvent.ERROR, "exception": "MissingOutputException"})
    screen.logger.warning("File system is slow")
    assert "SIGKILL" in screen.text
    assert "MissingOutputException" in screen.text
    assert "File system is slow" in screen.text


def test_a_mistake_of_the_config_is_shown_without_the_lines_of_the_workflow():
    screen = Screen(dryrun=True)
    screen.terminal.mistakes = "The config has 1 mistake; nothing was started:\n  - seed: unknown key."
    text = f'WorkflowError in file "common.smk", line 5:\n{screen.terminal.mistakes}\n  File "common.smk", in <module>'
    screen.logger.error(text, extra={"event": LogEvent.ERROR, "exception": "WorkflowError"})
    assert screen.lines == screen.terminal.mistakes.splitlines()


@pytest.mark.parametrize("option", ["dryrun", "verbose", "printshellcmds", "debug_dag"])
def test_options_that_ask_for_more_change_nothing(option):
    screen = Screen(**{option: True})
    screen.start(1)
    screen.fail(1)
    assert "    reason: Missing output files: a.json" in screen.lines
    assert "RuleException:" in screen.lines
    choose_reporter(screen.terminal)
    assert REPORTER not in os.environ


def test_quiet_runs_show_errors_only(logs):
    screen = Screen(quiet={Quietness.PROGRESS})
    screen.start(1)
    (logs / "1.log").write_text(CRASH + "\nError: a message\n\n")
    screen.fail(1)
    assert screen.lines == ["Error: a message", "  Failed: check_shard d/train-0001. Log: logs/1.log"]
    assert Screen(quiet={Quietness.ALL}).terminal is None


def test_jobs_are_silent_only_if_the_main_process_reports_their_errors():
    choose_reporter(Screen().terminal)
    assert os.environ[REPORTER] == "main"
    choose_reporter(None)
    assert REPORTER not in os.environ


def test_another_handler_of_the_user_is_left_alone():
    logger = logging.Logger("snakemake")
    logger.addHandler(logging.NullHandler())
    settings = SimpleNamespace(quiet=None, dryrun=False, verbose=False, printshellcmds=False, debug_dag=False)
    assert shorten_terminal(logger, settings) is None


def test_the_table_of_a_failed_check_that_has_no_copy_is_not_mentioned():
    screen = Screen()
    screen.logger.warning("Cannot restore results/d/check/summary.csv: no backup found.")
    screen.logger.warning("Cannot write to the cache.")
    assert screen.lines == ["Cannot write to the cache."]
