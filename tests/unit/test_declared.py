"""Declarations are read from the source of a module, without importing it."""

import subprocess
import sys
import typing

import pytest

from cellmill.config.networks import NetworkSection
from cellmill.declared import LIBRARY_DIR, modules_that_declare, read_declaration


def test_literals_are_read_and_other_values_refused(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("A = (1, 'x')\nB: int = 3\nC = print()\nD: int\ndef f():\n    E = 1\n")
    assert read_declaration(path, "A") == (1, "x")
    assert read_declaration(path, "B") == 3
    assert [read_declaration(path, name) for name in ("D", "E", "missing")] == [None, None, None]
    with pytest.raises(ValueError, match="malformed node or string"):
        read_declaration(path, "C")


def test_a_module_that_changes_is_read_again(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("A = 1\n")
    assert read_declaration(path, "A") == 1
    path.write_text("A = 10\n")
    assert read_declaration(path, "A") == 10


def test_planning_loads_no_torch():
    program = "import sys; import cellmill.planning.make; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=LIBRARY_DIR.parent)


def test_every_architecture_declares_what_config_and_exports_need():
    sections = typing.get_args(NetworkSection)
    names = {typing.get_args(section.model_fields["architecture"].annotation)[0] for section in sections}
    for name in ("IS_RECURRENT", "HALVINGS", "CITATIONS"):
        assert set(modules_that_declare("models", name)) == names
