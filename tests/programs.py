"""Debian programs that some tests start. They are installed once, before the tests; a test only looks them up.

`make test` and `make test-long` run this file first. It installs packages only as root or in CI. Elsewhere, a test that
needs a missing program is skipped and names the command that installs it. In CI such a test fails.
"""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from left_out import is_ci, without_tool

# Program -> Debian packages that contain it
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "chromium": ("chromium", "fonts-dejavu-core"),
    "slurmctld": ("slurm-wlm",),
    "slurmd": ("slurm-wlm",),
    "sbatch": ("slurm-wlm",),
    "munged": ("munge",),
    "xvfb-run": ("xvfb", "xauth"),
    "imagej": ("imagej", "default-jre"),
}
SLURM = ("slurmctld", "slurmd", "sbatch", "munged")
NEEDED: Mapping[str, tuple[str, ...]] = {"test": ("chromium", *SLURM), "test-long": ("xvfb-run", "imagej")}

# Daemons lie in sbin, which is on root's PATH only.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin", "/sbin", "/bin"])
# Another installation on this machine may hold apt's lock for minutes.
PATIENCE_S = 1800
PAUSE_S = 5


def find(program: str) -> Path | None:
    """Return the path of a program, None if it is not installed."""
    found = shutil.which(program, path=SEARCH_PATH)
    return None if found is None else Path(found)


def need(*programs: str) -> Path:
    """Return the path of the first program; skip the test if any is missing, or fail it in CI."""
    missing = [program for program in programs if find(program) is None]
    if missing:
        without_tool(f"{', '.join(missing)} missing; install with: sudo {install_command(missing)}")
    found = find(programs[0])
    assert found is not None
    return found


def install_command(programs: Iterable[str]) -> str:
    """Return the apt-get command that installs programs."""
    packages = dict.fromkeys(package for program in programs for package in PACKAGES[program])
    return f"apt-get install -y --no-install-recommends {' '.join(packages)}"


def install(programs: Iterable[str]) -> str:
    """Install programs that are missing, where this is allowed.

    Returns
    -------
    str
        Why some are still missing; "" if all are there.
    """
    with _lock():
        missing = [program for program in programs if find(program) is None]
        if not missing:
            return ""
        command = install_command(missing)
        if os.geteuid() != 0 and not is_ci():
            return f"{', '.join(missing)} missing; install with: sudo {command}"
        if find("apt-get") is None:
            return f"{', '.join(missing)} missing, and there is no apt-get to install it with"
        for step in ("apt-get update -qq", command):
            if problem := _run_apt(step):
                return f"{step!r} failed: {problem}"
        missing = [program for program in missing if find(program) is None]
        return f"{', '.join(missing)} still missing after: {command}" if missing else ""


def _run_apt(command: str) -> str:
    """Run apt-get; while another process holds apt's lock, try again. Return the error, "" for none."""
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    deadline = time.monotonic() + PATIENCE_S
    while True:
        done = subprocess.run([*prefix, *command.split()], env=quiet, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return ""
        if "ould not get lock" not in done.stderr or time.monotonic() > deadline:
            return done.stderr.strip()[-500:]
        time.sleep(PAUSE_S)


@contextmanager
def _lock() -> Iterator[None]:
    """Hold a lock of this machine, so that two test runs do not install at the same time."""
    with (Path(tempfile.gettempdir()) / f"cellmill-programs-{os.geteuid()}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Install the programs of a make target. Return 1 in CI if any is missing, else 0."""
    parser = argparse.ArgumentParser(description="Install the Debian programs that tests start.")
    parser.add_argument("targets", nargs="+", choices=sorted(NEEDED))
    targets = parser.parse_args().targets
    problem = install(program for target in targets for program in NEEDED[target])
    if problem:
        print(f"cellmill: {problem}", file=sys.stderr)
        print("cellmill: tests that need it " + ("fail." if is_ci() else "are skipped."), file=sys.stderr)
    return int(bool(problem) and is_ci())


if __name__ == "__main__":
    sys.exit(main())
