"""Terminal output of a run: progress in few lines, and each error once.

Snakemake logs a block of lines for each job, and three blocks for each error. Its own log file keeps all of them. Here
its records are shortened on their way to the terminal; whatever is not known is passed on as it is.
"""

import logging
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellmill.runlog import MESSAGE, REPORTER, TRACEBACK

SNAKEMAKE_HANDLER = "DefaultStreamHandler"
# Events and messages of Snakemake without a meaning for people who run this workflow.
HIDDEN_EVENTS = {"workflow_started", "job_started", "resources_info", "shellcmd"}
HIDDEN_MESSAGES = re.compile(
    r"Assuming unrestricted shared filesystem usage|Building DAG of jobs|Using shell: |Conda environments: ignored|"
    r"Select jobs to execute|Shutting down, this might take some time|Job \d+ has been submitted with SLURM jobid"
)
# The table of findings that a failed check keeps has no copy in its first run.
HIDDEN_WARNINGS = re.compile(r"Cannot restore .*: no backup found")
LAST_MESSAGE = "Exiting because a job execution failed"
FAILED = "At least one job did not complete successfully."
# A line of progress after this share of the jobs, or after this time
SHARE, SECONDS = 0.1, 60.0

# What Snakemake reports of a job that SIGINT or SIGTERM has ended
STOPPED = re.compile(r"returned non-zero exit status (130|143)\b")


class Terminal(logging.Handler):
    """Handler between Snakemake's logger and its own terminal handler.

    Parameters
    ----------
    stream : logging.Handler
        Snakemake's handler, which writes to the terminal and applies `--quiet`.
    is_brief : bool
        Whether to shorten what jobs log. If False, as in a dry run, only mistakes of the config are shortened.
    shows_progress : bool
        Whether to show lines of progress.
    """

    def __init__(self, stream: logging.Handler, *, is_brief: bool, shows_progress: bool) -> None:
        super().__init__()
        self.stream, self.is_brief, self.shows_progress = stream, is_brief, shows_progress
        self.mistakes = ""  # the message of the config, which Snakemake puts between other lines
        self._running: dict[Any, str] = {}
        self._logs_before: dict[Any, dict[str, tuple[int, int] | None]] = {}
        self._begun: set[str] = set()
        self._done, self._total = 0, 0
        self._shown_done, self._shown_at = 0, time.monotonic()
        self._held: dict[int | None, logging.LogRecord] = {}  # exceptions of jobs, by thread
        self._lines_shown: set[str] = set()
        self._failed: set[str] = set()
        self._alike: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record, a shorter form of it, or nothing."""
        event = event_of(record)
        if self.mistakes and self.mistakes in record.getMessage():
            self._show(self.mistakes, logging.ERROR)
        elif not self.is_brief:
            self.stream.handle(record)
        elif event == "run_info":
            counts = dict(record.__dict__.get("stats") or {})
            self._total = counts.pop("total", sum(counts.values()))
            jobs = "1 job" if self._total == 1 else f"{self._total} jobs"
            self._progress(f"{jobs}: " + ", ".join(f"{count} {rule}" for rule, count in counts.items()))
        elif event == "job_info":
            self._start(record)
        elif event == "job_finished":
            self._running.pop(getattr(record, "job_id", None), None)
        elif event == "progress":
            self._count(record)
        elif event == "error" and _is_failed_script(record):
            self._held[record.thread] = record
        elif event == "job_error":
            self._fail(record)
        elif record.getMessage().startswith(LAST_MESSAGE):
            self._end(record)
        elif not self._is_hidden(record, event):
            self.stream.handle(record)

    def _is_hidden(self, record: logging.LogRecord, event: str | None) -> bool:
        is_known_end = event == "error" and record.getMessage().endswith(FAILED) and bool(self._failed)
        is_noise = record.levelno <= logging.INFO and HIDDEN_MESSAGES.match(record.getMessage()) is not None
        is_noise |= record.levelno == logging.WARNING and HIDDEN_WARNINGS.match(record.getMessage()) is not None
        return event in HIDDEN_EVENTS or is_known_end or is_noise

    def _show(self, text: str, level: int = logging.INFO) -> None:
        self.stream.handle(logging.LogRecord("cellmill", level, "", 0, text, None, None))

    # ---- progress ----------------------------------------------------------------------------------

    def _progress(self, text: str) -> None:
        if self.shows_progress:
            self._show(text)

    def _start(self, record: logging.LogRecord) -> None:
        rule, job = record.__dict__["rule_name"], record.__dict__["jobid"]
        self._running[job] = name_of(record)
        self._logs_before[job] = {log: state_of(log) for log in record.__dict__["log"] or ()}
        if rule not in self._begun and rule not in ("all", "check"):
            self._begun.add(rule)
            self._line(self._running[job])

    def _count(self, record: logging.LogRecord) -> None:
        # Snakemake's total of this event also counts what --until leaves out.
        self._done, self._total = record.__dict__["done"], self._total or record.__dict__["total"]
        is_far = self._done - self._shown_done >= SHARE * self._total
        is_late = time.monotonic() - self._shown_at >= SECONDS
        if is_far or is_late or self._done == self._total:
            self._line(", ".join(list(self._running.values())[:3]))

    def _line(self, what: str) -> None:
        self._shown_done, self._shown_at = self._done, time.monotonic()
        count = f"{self._done} of {self._total} jobs done"
        self._progress(f"{count}; running: {what}" if what else count)

    # ---- errors ------------------------------------------------------------------------------------

    def _fail(self, record: logging.LogRecord) -> None:
        """Show the message of a failed job once, or what Snakemake reports if the job has left no message."""
        job, logs = record.__dict__["jobid"], list(record.__dict__["log"] or ())
        held = self._held.pop(record.thread, None)
        name = self._running.pop(job, None) or name_of(record)
        if held is not None and STOPPED.search(held.getMessage()):
            self._show(f"Stopped by a signal: {name}. Run the same command again to go on.", logging.ERROR)
            return
        is_retry = name in self._failed
        self._failed.add(name)
        before = self._logs_before.get(job, {})
        # The log of an earlier run is no message of this job.
        crash = next((text for log in logs if state_of(log) != before.get(log) and (text := read_crash(log))), None)
        if crash is None:
            for other in (held, record):
                if other is not None:
                    self.stream.handle(other)
            return
        lines = [line.strip() for line in crash.splitlines()]
        body = set(lines[1:] if crash.startswith(MESSAGE) and len(lines) > 1 else [crash])
        if body <= self._lines_shown:
            self._alike += [] if is_retry else [name]
            return
        self._lines_shown |= body
        self._show(f"\n{crash}\n  Failed: {name}. Log: {', '.join(logs)}", logging.ERROR)

    def _end(self, record: logging.LogRecord) -> None:
        """Show what failed alike, and how to go on."""
        for held in self._held.values():
            self.stream.handle(held)
        self._held.clear()
        if not self._failed:
            self.stream.handle(record)
            return
        if self._alike:
            shown = ", ".join(self._alike[:3]) + (f" and {len(self._alike) - 3} more" if len(self._alike) > 3 else "")
            self._show(f"Failed alike: {shown}.", logging.ERROR)
        self._show(
            f"\n{self._done} of {self._total} jobs done, {len(self._failed)} failed. Correct the cause, then run the "
            "same command again: finished jobs are not repeated.",
            logging.ERROR,
        )


def event_of(record: logging.LogRecord) -> str | None:
    """Return the event of Snakemake that a record stands for, such as ``job_info``; None for plain messages."""
    event = getattr(record, "event", None)
    return None if event is None else str(getattr(event, "value", event))


def _is_failed_script(record: logging.LogRecord) -> bool:
    """Return whether a record only reports that the script of a rule has ended with an error."""
    text = record.getMessage()
    is_of_rule = getattr(record, "exception", None) == "RuleException"
    return is_of_rule and "CalledProcessError" in text and "returned non-zero exit status" in text


def name_of(record: logging.LogRecord) -> str:
    """Return rule and place of a job, such as ``preprocess nuclei/train-0001``."""
    words: Mapping[str, str] = record.__dict__.get("wildcards") or {}
    place = "/".join(str(words[key]) for key in ("dataset", "run", "shard") if key in words)
    return f"{record.__dict__['rule_name']} {place}".strip()


def state_of(path: str) -> tuple[int, int] | None:
    """Return time and size of a file; None if there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def read_crash(path: str | Path) -> str | None:
    """Return what a job that failed had to report, from its log.

    Returns
    -------
    str or None
        The message for the user after ``Error: ``, or else the traceback of a bug. None if the job did not get so far
        or was killed.
    """
    try:
        log = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    begin = log.rfind(f"\n{TRACEBACK}")
    if begin < 0:
        return None
    crash = re.split(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ ", log[begin + 1 :], maxsplit=1, flags=re.MULTILINE)[0]
    message = crash.rfind(f"\n\n{MESSAGE}")
    if message >= 0:
        return crash[message:].strip()
    # chained exceptions have several tracebacks; the log contains nothing else between its records and the first one
    first = re.search(rf"^{re.escape(TRACEBACK)}", log, re.MULTILINE)
    assert first is not None
    return crash.strip() if first.start() == begin + 1 else log[first.start() : begin + 1 + len(crash)].strip()


def shorten_terminal(logger: logging.Logger, settings: Any) -> Terminal | None:
    """Put a `Terminal` before the terminal handler of Snakemake's logger.

    Parameters
    ----------
    logger : logging.Logger
        Snakemake's logger.
    settings : OutputSettings
        Snakemake's settings of the options --dry-run, --verbose, --printshellcmds, --debug-dag and --quiet.

    Returns
    -------
    Terminal or None
        None if the handler is another one, as with --logger, or if nothing is to be shown.
    """
    quiet = {getattr(choice, "name", str(choice)).lower() for choice in settings.quiet or ()}
    stream = next((handler for handler in logger.handlers if handler.name == SNAKEMAKE_HANDLER), None)
    if stream is None or "all" in quiet:
        return None
    is_brief = not (settings.dryrun or settings.verbose or settings.printshellcmds or settings.debug_dag)
    terminal = Terminal(stream, is_brief=is_brief, shows_progress=not quiet & {"rules", "progress"})
    logger.removeHandler(stream)
    logger.addHandler(terminal)
    return terminal


def choose_reporter(terminal: Terminal | None) -> None:
    """Set in the environment of the jobs whether this process reports their errors."""
    os.environ.pop(REPORTER, None)
    if terminal is not None and terminal.is_brief:
        os.environ[REPORTER] = "main"
