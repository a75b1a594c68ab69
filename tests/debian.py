"""Debian programs that some checks need: installed if permitted, otherwise the check is skipped with instructions."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest


def need(program: str, packages: Sequence[str]) -> Path:
    """Return the path of a program, after installing it if permitted and necessary, or skip the test.

    Parameters
    ----------
    program : str
        Name or path.
    packages : sequence of str
        Debian packages that contain it.

    Returns
    -------
    Path
    """
    if found := shutil.which(program):
        return Path(found)
    install = f"apt-get install -y {' '.join(packages)}"
    may_install = os.geteuid() == 0 or bool(os.environ.get("CI"))
    if not may_install or shutil.which("apt-get") is None:
        pytest.skip(f"{program} is missing; install it with: sudo {install}")
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in ("apt-get update", install):
        done = subprocess.run(
            [*prefix, *command.split()], env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        if done.returncode:
            pytest.skip(f"{program} is missing, and {command!r} failed: {done.stderr.strip()[-300:]}")
    found = shutil.which(program)
    assert found is not None, f"{program} is not in {', '.join(packages)}"
    return Path(found)
