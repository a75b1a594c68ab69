"""Settings of all tests: floating-point errors are raised (warnings too, by pyproject.toml), examples are fixed."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from left_out import closing_lines, is_ci, not_allowed_in_ci, without_data

ROOT = Path(__file__).resolve().parents[1]

# The same examples in every run, so that a failure comes from a change of ours. HYPOTHESIS_PROFILE=explore draws new
# ones. No deadline: a shared machine may be slow at any time.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("explore", print_blob=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture(autouse=True)
def strict_numerics():
    with np.errstate(all="raise", under="ignore"):
        yield


@pytest.fixture(autouse=True)
def precision_of_before():
    """Restore what a prediction sets for the process: the export of a graph refuses it."""
    torch = sys.modules.get("torch")
    before = None if torch is None else torch.backends.cudnn.conv.fp32_precision
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.backends.cudnn.conv.fp32_precision = before or "tf32"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images; tests that need it are skipped if it is missing."""
    folder = Path(os.environ.get("CELLMILL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        without_data(f"real images are not at {folder}; set CELLMILL_DATA to their folder")
    return folder


def pytest_addoption(parser):
    parser.addoption(
        "--regenerate-golden",
        action="store_true",
        help="write tests/unit/training/golden_losses.json anew and print the change",
    )


def skip_reasons(config: pytest.Config) -> list[str]:
    """Return the reason of every skipped test, as the process knows it that prints the result."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = reporter.stats.get("skipped", []) if reporter else []
    return [str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports]


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("left out")
    for line in closing_lines(skip_reasons(terminalreporter.config)):
        terminalreporter.write_line(line)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    """Fail a CI run in which a test was skipped for want of anything but data."""
    if is_ci() and not_allowed_in_ci(skip_reasons(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
