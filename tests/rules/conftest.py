"""A copy of a finished project for each test that changes it."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """Copy of the project that the module's fixture `finished` has run, with its time stamps."""
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy, symlinks=True)
    return copy
