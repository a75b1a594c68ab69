"""Record of a run: when each job began, ended or failed, for `snakemake status` in another terminal."""

import atexit
import json
import logging
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellmill.planning.terminal import event_of, name_of

# SOURCE message of snakemake-executor-plugin-slurm 2.8.0
SUBMITTED = re.compile(r"Job (\d+) has been submitted with SLURM jobid (\d+) \(log: (.*)\)")
# One line of JSON for each event
RECORD = "progress.jsonl"


class Recorder(logging.Handler):
    """Handler of Snakemake's logger that appends its events to a file.

    Parameters
    ----------
    path : Path
        The file; a run replaces that of the run before.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._is_begun = False

    def emit(self, record: logging.LogRecord) -> None:
        """Append an event; nothing before the jobs are counted."""
        event, facts = event_of(record), record.__dict__
        if event == "run_info":
            counts = dict(facts.get("stats") or {})
            self._begin(counts.pop("total", sum(counts.values())), counts)
        elif event == "job_info":
            self._write(
                event="start", job=facts["jobid"], name=name_of(record), rule=facts["rule_name"],
                logs=[str(log) for log in facts["log"] or ()],
            )  # fmt: skip
        elif event == "job_finished":
            self._write(event="end", job=facts.get("job_id"))
        elif event == "job_error":
            self._write(event="fail", job=facts["jobid"])
        elif found := SUBMITTED.match(record.getMessage()):
            self._write(event="submit", job=int(found[1]), slurm=found[2], log=found[3])

    def _begin(self, total: int, counts: Mapping[str, int]) -> None:
        if self._is_begun:
            return
        self._is_begun = True
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
        except OSError:
            self._is_begun = False
            return
        self._write(event="begin", total=total, rules=counts, process=os.getpid(), host=socket.gethostname())
        atexit.register(self._write, event="close")

    def _write(self, **facts: Any) -> None:
        if not self._is_begun:
            return
        try:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"time": round(time.time(), 1), **facts}) + "\n")
        except OSError:  # a full disk: the run itself will say so
            self._is_begun = False


def record_progress(logger: logging.Logger, settings: Any, *, folder: Path) -> None:
    """Record the jobs of a run from now on, except of a dry run.

    Parameters
    ----------
    logger : logging.Logger
        Snakemake's logger.
    settings : OutputSettings
        Snakemake's settings of the option --dry-run.
    folder : Path
        Folder of the record.
    """
    if not settings.dryrun:
        logger.addHandler(Recorder(folder / RECORD))
