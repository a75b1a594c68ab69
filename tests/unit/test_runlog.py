"""The log of a job contains a crash in full."""

import subprocess
import sys
from pathlib import Path

import cellmill

WORKFLOW = Path(cellmill.__file__).parents[1]


def run(tmp_path, body):
    program = (
        f"import sys; sys.path.insert(0, {str(WORKFLOW)!r})\n"
        "import logging\nfrom cellmill.runlog import start_log\n"
        f"start_log({str(tmp_path / 'logs' / 'job.log')!r}, rule='train', params={{}})\n{body}"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return finished, (tmp_path / "logs" / "job.log").read_text()


def test_a_crash_is_whole_in_the_log_whatever_is_logged_after_it(tmp_path):
    message = "first line of the message, " + "x" * 3000 + ", its end"
    finished, log = run(tmp_path, f"raise ValueError({message!r})")
    assert finished.returncode == 1
    assert f"ValueError: {message}\n" in log
    # The list of loaded modules ends the log, after the crash.
    assert log.index("its end") < log.index("loaded [")
    assert log.index("rule train") < log.index("Traceback")


def test_a_second_run_starts_its_log_anew(tmp_path):
    run(tmp_path, "logging.getLogger('cellmill').info('of the first run')")
    _, log = run(tmp_path, "logging.getLogger('cellmill').info('of the second run')")
    assert "of the first run" not in log
    assert "of the second run" in log
