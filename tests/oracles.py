"""Load single files of packages that the project does not need, to compare with them."""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from project import ROOT

ORACLES = ROOT / ".venv/oracles"


def load_oracle(path: str | Path, **stubs: dict[str, Any]) -> types.ModuleType:
    """Import one file of a package, with stand-ins for modules that only other parts of it need."""
    path = ORACLES / path
    if not path.is_file():
        pytest.skip(f"{path} is missing: `make test` installs requirements-oracles.txt")
    name = "oracles." + ".".join(path.relative_to(ORACLES).with_suffix("").parts)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for stub, contents in stubs.items():
            made = types.ModuleType(stub.replace("__", "."))
            made.__dict__.update(contents)
            patch.setitem(sys.modules, made.__name__, made)
        module.__package__ = name.rpartition(".")[0]
        spec.loader.exec_module(module)
    return module
