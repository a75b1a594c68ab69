"""The log of a job contains a crash in full."""

import subprocess
import sys
from pathlib import Path

import pytest

import cellmill
from cellmill.planning.terminal import read_crash

WORKFLOW = Path(cellmill.__file__).parents[1]


def run(tmp_path, body, *, name="job"):
    program = (
        f"import sys; sys.path.insert(0, {str(WORKFLOW)!r})\n"
        "import logging\nfrom cellmill.runlog import start_log\n"
        f"start_log({str(tmp_path / 'logs' / f'{name}.log')!r}, rule='train', params={{}})\n{body}"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return finished, (tmp_path / "logs" / f"{name}.log").read_text()


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


@pytest.mark.parametrize(
    "raised", ["ValueError('first line\\n  second line')", "UnicodeError('first line\\n  second line')"]
)
def test_the_message_for_the_user_is_read_back_from_the_log(tmp_path, raised):
    body = f"try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise {raised} from error"
    finished, _ = run(tmp_path, body)
    assert read_crash(tmp_path / "logs/job.log") == "Error: first line\n  second line"
    assert finished.stderr.strip() == "Error: first line\n  second line"


def test_the_traceback_of_a_bug_is_read_back_whole(tmp_path):
    finished, _ = run(
        tmp_path, "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise KeyError('y') from error"
    )
    crash = read_crash(tmp_path / "logs/job.log")
    assert crash == finished.stderr.strip()
    assert "ZeroDivisionError: division by zero" in crash
    assert crash.endswith("KeyError: 'y'")


@pytest.mark.parametrize(
    ("content", "package", "found"),
    [
        (b"raise OSError('libtorch_cpu.so: file too short')", "torch", "OSError: libtorch_cpu.so: file too short"),
        (b"import missing_part", "torch", "ModuleNotFoundError: No module named 'missing_part'"),
        (b"x = \0\0", "that is imported", "SyntaxError: source code string cannot contain null bytes"),
        (b"x = (", "that is imported", "SyntaxError: '(' was never closed"),
        (None, "torchless", "ModuleNotFoundError: No module named 'torchless'"),
    ],
)
def test_a_damaged_package_is_one_message_with_its_environment(tmp_path, content, package, found):
    name = "torchless" if content is None else "torch"
    if content is not None:
        (tmp_path / "torch.py").write_bytes(content)
    body = f"sys.path.insert(0, {str(tmp_path)!r})\nimport {name}"
    finished, log = run(tmp_path, body)
    [line] = finished.stderr.strip().splitlines()
    assert line.startswith(f"Error: {sys.prefix}: expected the package {package} as pinned, found")
    assert found in line
    assert "Traceback" in log


def test_a_mistake_in_an_import_of_our_own_is_a_bug_with_its_traceback(tmp_path):
    finished, _ = run(tmp_path, "from cellmill.shards import nothing_of_this_name")
    assert finished.stderr.startswith("Traceback")


def test_a_log_without_a_crash_has_no_message(tmp_path):
    run(tmp_path, "logging.getLogger('cellmill').error('Error: no crash')")
    assert read_crash(tmp_path / "logs/job.log") is None
    assert read_crash(tmp_path / "none.log") is None


def test_a_job_is_silent_where_the_main_process_reports_its_errors(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLMILL_TERMINAL", "main")
    log = "logging.getLogger('cellmill').warning('a warning')\n"
    finished, _ = run(tmp_path, log + "raise ValueError('a message')")
    assert finished.stderr == "[job] a warning\n"
    assert read_crash(tmp_path / "logs/job.log") == "Error: a message"


@pytest.mark.parametrize(
    ("name", "is_shown"), [("train-0001", False), ("fold3-0012", False), ("unet", True), ("unet-2018", True)]
)
def test_what_a_job_reports_of_each_shard_is_in_its_log_only(tmp_path, monkeypatch, name, is_shown):
    monkeypatch.setenv("CELLMILL_TERMINAL", "main")
    body = "logging.getLogger('cellmill').info('200 images', extra={'progress': True})"
    finished, log = run(tmp_path, body, name=name)
    assert finished.stderr == (f"[{name}] 200 images\n" if is_shown else "")
    assert "200 images" in log
    monkeypatch.delenv("CELLMILL_TERMINAL")
    assert run(tmp_path, body, name=name)[0].stderr == f"[{name}] 200 images\n"
