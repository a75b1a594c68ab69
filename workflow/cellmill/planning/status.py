"""What `snakemake status` shows: what of a run is done, running, waiting and failed, and why."""

import json
import os
import re
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cellmill.planning.progress import RECORD
from cellmill.planning.terminal import read_crash

# Target of the command
STATUS = "status"
# Jobs of one kind that are listed by name
LISTED = 20
# Jobs that must be done before their rate is worth a forecast
ENOUGH = 5
LOG_LINE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+ (?!cellmill\.runlog: )[\w.]+: (.*)$")
# Bytes at the end of a log in which its last line is
TAIL = 4096


@dataclass
class Job:
    """A job of the run that is recorded."""

    name: str
    rule: str
    logs: Sequence[str]
    begun: float
    slurm: str = ""


@dataclass
class Run:
    """A run as it is recorded; times are in seconds since 1970."""

    begun: float
    total: int
    rules: Mapping[str, int]
    process: int
    host: str
    done: int = 0
    last: float = 0.0
    is_closed: bool = False
    running: dict[int, Job] = field(default_factory=dict)
    failed: dict[int, Job] = field(default_factory=dict)
    started: Counter[str] = field(default_factory=Counter)

    @property
    def is_alive(self) -> bool | None:
        """Whether its snakemake still runs; None if that is on another machine."""
        if self.is_closed:
            return False
        if self.host != socket.gethostname():
            return None
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


def read_run(folder: Path) -> Run | None:
    """Read the record of the last run; None without one."""
    events = list(_events(folder / RECORD))
    if not events or events[0].get("event") != "begin":
        return None
    first = events[0]
    run = Run(first["time"], first["total"], first["rules"], first["process"], first["host"], last=first["time"])
    for event in events[1:]:
        kind, number = event["event"], event.get("job", -1)
        run.last = event["time"]
        if kind == "start":
            job = Job(event["name"], event["rule"], event["logs"], event["time"])
            # A job that failed is started again where retries are allowed.
            run.started[job.rule] += 0 if run.failed.pop(number, None) else 1
            run.running[number] = job
        elif kind == "submit" and number in run.running:
            run.running[number].slurm = event["slurm"]
            run.running[number].logs = [*run.running[number].logs, event["log"]]
        elif kind == "end":
            run.done += run.running.pop(number, None) is not None
        elif kind == "fail" and number in run.running:
            run.failed[number] = run.running.pop(number)
        run.is_closed |= kind == "close"
    return run


def _events(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:  # the line that is being written
            return


def describe_run(folder: Path, *, now: float) -> str:
    """Return the text of `snakemake status`.

    Parameters
    ----------
    folder : Path
        Folder of the record.
    now : float
        Seconds since 1970.
    """
    run = read_run(folder)
    if run is None:
        return f"{folder / RECORD}: expected the record of a run, found none. Start one: snakemake"
    is_alive = run.is_alive
    running = {} if is_alive is False else run.running
    waiting = {rule: count - run.started[rule] for rule, count in run.rules.items() if count > run.started[rule]}
    lines = [
        f"{run.done} of {run.total} jobs done, {len(running)} running, {len(run.failed)} failed, "
        f"{sum(waiting.values())} waiting.",
        _say_when(run, is_alive, now),
    ]
    states = _ask_slurm([job.slurm for job in running.values() if job.slurm])
    lines += _list("Running", [_say_running(job, states, now) for job in running.values()])
    lines += _list("Failed", [_say_failed(job) for job in run.failed.values()])
    if is_alive is False and run.running:
        lines += _list("Interrupted", [job.name for job in run.running.values()])
    if waiting:
        lines += ["", "Waiting", "  " + ", ".join(f"{count} {rule}" for rule, count in waiting.items())]
    return "\n".join(lines)


def _say_when(run: Run, is_alive: bool | None, now: float) -> str:
    begun = f"Begun {datetime.fromtimestamp(run.begun):%Y-%m-%d %H:%M}"
    if is_alive is False:
        end = f"ended {datetime.fromtimestamp(run.last):%Y-%m-%d %H:%M}"
        is_whole = run.done == run.total
        return f"{begun}, {end}." + ("" if is_whole else " Run the same command again to go on.")
    where = "" if is_alive else f", by snakemake on {run.host}, from which nothing else is known here"
    text = f"{begun}, {say_time(now - run.begun)} ago{where}."
    if run.done >= ENOUGH and run.done < run.total:
        per_job = (now - run.begun) / run.done
        text += f" At the rate so far, {say_time(per_job * (run.total - run.done))} are left."
    return text


def _list(heading: str, entries: Sequence[str]) -> list[str]:
    if not entries:
        return []
    more = [f"  and {len(entries) - LISTED} more"] if len(entries) > LISTED else []
    return ["", heading, *(f"  {entry}" for entry in entries[:LISTED]), *more]


def _say_running(job: Job, states: Mapping[str, str], now: float) -> str:
    words = [job.name, say_time(now - job.begun)]
    if job.slurm:
        words.append(f"SLURM job {job.slurm}{f' {states[job.slurm]}' if job.slurm in states else ''}")
    words += [said for log in job.logs[:1] if (said := last_line(log))]
    return ", ".join(words) + _say_logs(job)


def _say_failed(job: Job) -> str:
    crash = next((text for log in job.logs if (text := read_crash(log))), "")
    told = crash.splitlines() if "Traceback" not in crash else crash.splitlines()[-1:]
    return "\n    ".join([job.name, *told]) + _say_logs(job)


def _say_logs(job: Job) -> str:
    return f"\n    Log: {', '.join(job.logs)}" if job.logs else ""


def last_line(path: str | Path) -> str:
    """Return what the last line of a log says, apart from the facts at its head and end; "" without one."""
    try:
        with Path(path).open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL))
            lines = stream.read().decode("utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""
    return next((found[1] for line in reversed(lines) if (found := LOG_LINE.match(line))), "")


def say_time(seconds: float) -> str:
    """Write a duration in words, such as 40 s, 12 min or 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _ask_slurm(jobs: Sequence[str]) -> dict[str, str]:
    """Return the states of SLURM jobs with the reason why they wait; empty where SLURM does not answer."""
    if not jobs or shutil.which("squeue") is None:
        return {}
    command = ["squeue", "--noheader", "--format", "%i|%T|%r", "--jobs", ",".join(jobs)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    found = (line.strip().split("|") for line in answer.splitlines())
    return {
        words[0]: words[1].lower() + (f" ({words[2]})" if words[1] == "PENDING" else "")
        for words in found
        if len(words) == 3
    }
