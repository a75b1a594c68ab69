"""Facts that a module declares about itself as literals, read from its source without importing it.

The config must know, for example, the stride of a network, but importing a network loads torch, which takes seconds in
every job. So a module states such facts as plain literals at its top level, and this file reads them.
"""

import ast
import functools
from pathlib import Path
from typing import Any

LIBRARY_DIR = Path(__file__).resolve().parent


def read_declaration(path: str | Path, name: str) -> Any:
    """Return the literal that a module assigns to a name at its top level; None if it assigns none.

    Parameters
    ----------
    path : path
        The module's file, relative to the library or absolute.
    name : str
        Such as ``DATA_FILES``.

    Raises
    ------
    ValueError
        If the value is not a literal.
    """
    for node in read_tree(LIBRARY_DIR / path).body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return ast.literal_eval(value)
    return None


def modules_that_declare(folder: str, name: str) -> dict[str, Any]:
    """Return the modules of a package that declare a name, sorted: module name -> literal."""
    found = {
        path.stem: read_declaration(path, name) for path in sorted((LIBRARY_DIR / folder).glob("[a-z]*.py"))
    }  # fmt: skip
    return {module: value for module, value in found.items() if value is not None}


def read_tree(path: Path) -> ast.Module:
    """Parse a Python file, once until it changes."""
    stat = path.stat()
    return _parse(path, (stat.st_size, stat.st_mtime_ns))


@functools.cache
def _parse(path: Path, stamp: tuple[int, int]) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
