"""Formatting, linting and type checks; a failure prints the command that repairs it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from project import ROOT, copy_project

BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    ("command", "repair"),
    [
        (["ruff", "format", "--check", "."], "make format"),
        (["ruff", "check", "."], "make format, and by hand what is left"),
        (["snakefmt", "--check", "Snakefile", "workflow/rules"], "make format"),
        (["mypy"], "make lint shows the places"),
    ],
    ids=["ruff-format", "ruff-check", "snakefmt", "mypy"],
)
def test_the_code_is_in_order(command, repair):
    finished = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"repair: {repair}\n{finished.stdout}{finished.stderr}"


def test_snakemake_has_no_remark_on_the_workflow(tmp_path):
    project = copy_project(tmp_path / "project")
    finished = subprocess.run(
        [sys.executable, "-m", "snakemake", "--lint"], cwd=project, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_rule_files_keep_their_size():
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        limit = 240 if path.name in ("common.smk", "inputs.smk") else 120
        assert len(path.read_text().splitlines()) <= limit, path.name


def documented(path):
    """Yield the docstrings of a module, of its classes and of its functions."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield text


def test_docstrings_open_with_what_is_done():
    """Functions return, report or raise; they do not give, say or tell."""
    sources = [*(ROOT / "workflow").rglob("*.py"), *(ROOT / "docs").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    wrong = [
        f"{path.relative_to(ROOT)}: {text.splitlines()[0]}"
        for path in sources for text in documented(path) if re.match(r"(Give|Say|Tell|Name)s?\b", text)
    ]  # fmt: skip
    assert wrong == []
