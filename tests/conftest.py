"""What holds for every test: warnings are errors, silent floating-point errors too."""

import os
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def strict_numerics():
    with np.errstate(all="raise", under="ignore"):
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; tests that need it skip where it is missing."""
    folder = Path(os.environ.get("CELLMILL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real images are not at {folder}; set CELLMILL_DATA to their folder")
    return folder
