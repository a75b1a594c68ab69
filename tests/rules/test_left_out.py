"""No test is left out silently: the closing lines count them, and in CI only missing data may leave a test out."""

import os
import subprocess
import sys

import pytest

import left_out
import programs
from project import ROOT

TESTS = {
    "a tool": "from left_out import without_tool\n\ndef test_a():\n    without_tool('no tool')\n",
    "a bare skip": "import pytest\n\ndef test_a():\n    pytest.skip('no tool')\n",
    "a marker": "import pytest\n\n@pytest.mark.skip(reason='no tool')\ndef test_a():\n    pass\n",
    "data": "from left_out import without_data\n\ndef test_a():\n    without_data('no tool')\n",
    "nothing": "def test_a():\n    pass\n",
}


def run_tests(folder, text, *arguments, ci):
    (folder / "tests").mkdir()
    (folder / "tests/conftest.py").symlink_to(ROOT / "tests/conftest.py")
    (folder / "tests/test_a.py").write_text(text)
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT / 'tests'}\n")
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**surroundings, "CI": ci}
    )


@pytest.mark.parametrize(
    ("cause", "workers"), [*((cause, ()) for cause in TESTS), ("a bare skip", ("-n", "2")), ("data", ("-n", "2"))]
)
def test_in_ci_only_missing_data_leave_a_test_out(tmp_path, cause, workers):
    finished = run_tests(tmp_path, TESTS[cause], *workers, ci="true")
    assert finished.returncode == (0 if cause in ("data", "nothing") else 1), finished.stdout


@pytest.mark.parametrize("cause", ["a tool", "nothing"])
def test_elsewhere_tests_are_skipped_and_counted_in_the_closing_lines(tmp_path, cause):
    finished = run_tests(tmp_path, TESTS[cause], ci="")
    assert finished.returncode == 0, finished.stdout
    if cause == "nothing":
        assert "left out: no test" in finished.stdout
    else:
        assert "left out: 1 test\n" in finished.stdout
        assert "1 x " in finished.stdout
        assert "no tool" in finished.stdout


def test_no_test_installs_a_program_itself():
    callers = {path.name for path in (ROOT / "tests").rglob("*.py") if "apt-get" in path.read_text()}
    assert callers == {"programs.py", "test_left_out.py"}


def test_the_targets_of_the_makefile_install_what_their_tests_need():
    makefile = (ROOT / "Makefile").read_text()
    assert "tests/programs.py test\n" in makefile
    assert "tests/programs.py test test-long\n" in makefile
    assert {name for names in programs.NEEDED.values() for name in names} == set(programs.PACKAGES)


@pytest.fixture
def fake_machine(tmp_path, monkeypatch):
    """A machine whose only programs are an apt-get that finds apt's lock taken twice, and then installs a program."""
    apt = tmp_path / "apt-get"
    apt.write_text(
        f"""#!/bin/sh
count=$(cat {tmp_path}/count 2>/dev/null || echo 0)
echo $((count + 1)) > {tmp_path}/count
if [ "$count" -lt 2 ]; then echo "E: Could not get lock /var/lib/apt/lists/lock." >&2; exit 100; fi
if [ "$1" = install ]; then printf '#!/bin/sh\\n' > {tmp_path}/chromium; /bin/chmod +x {tmp_path}/chromium; fi
"""
    )
    apt.chmod(0o755)
    monkeypatch.setattr(programs, "SEARCH_PATH", str(tmp_path))
    monkeypatch.setattr(programs, "PAUSE_S", 0.01)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


def test_a_lock_that_another_installation_holds_is_waited_for(fake_machine):
    assert programs.find("chromium") is None
    assert programs.install(["chromium"]) == ""
    assert programs.find("chromium") == fake_machine / "chromium"
    assert (fake_machine / "count").read_text().strip() == "4"


def test_without_the_right_to_install_the_command_is_named(fake_machine, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("CI", "")
    expected = (
        "chromium missing; install with: sudo apt-get install -y --no-install-recommends chromium fonts-dejavu-core"
    )
    assert programs.install(["chromium"]) == expected
    assert not (fake_machine / "count").exists()


def test_reasons_are_counted():
    lines = left_out.closing_lines(["a", "data missing: b", "a"])
    assert lines == ["left out: 3 tests", "  2 x a", "  1 x data missing: b"]
    assert left_out.not_allowed_in_ci(["a", "data missing: b"]) == ["a"]
