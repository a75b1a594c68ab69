"""Dependencies of a result: canonical settings, code digests, and the record of a run.

Snakemake reruns a job when the params of its rule change. Every rule with a script has the params `settings`
(its part of the config, in canonical form) and `code` (digests of its script and of every cellmill module that
the script imports). A job therefore reruns when its result could change, and only then.
See workflow/decisions/0001-settings-and-code.md.
"""

import ast
import functools
import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cellmill.declared import read_declaration, read_tree
from cellmill.runlog import package_versions
from cellmill.shards import atomic_path

LIBRARY_DIR = Path(__file__).resolve().parent
PACKAGE = "cellmill"
# Files that compute the digests of sources
METHOD_FILES = ("provenance.py", "declared.py")
# Changes in logging change no result; a test restricts this list to modules of that kind.
EXEMPT_MODULES = frozenset({"cellmill.runlog"})
PLAIN = frozenset({str, int, bool, type(None)})


def canonical(value: Any) -> Any:
    """Convert settings to a canonical form, in which equal settings have equal text.

    Keys sorted, paths as strings, tuples as lists, whole floats as integers (5.0 is 5).

    Raises
    ------
    TypeError
        For a value without a canonical form, which would silently be left out of the comparison.
    """
    # Tables of many images are millions of plain values: a call for each would take longer than all the rest.
    if type(value) is dict or isinstance(value, Mapping):
        ordered = ((key, value[key]) for key in sorted(value, key=str))
        return {str(key): item if type(item) in PLAIN else canonical(item) for key, item in ordered}
    if isinstance(value, list | tuple):
        return [item if type(item) in PLAIN else canonical(item) for item in value]
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"settings: expected plain values, found {type(value).__name__} {value!r}.")


def digest_of(value: Any) -> str:
    """Return the SHA-256 of the canonical form of settings."""
    return hashlib.sha256(json.dumps(canonical(value), sort_keys=True).encode()).hexdigest()


def describe_run(workflow_dir: str | Path) -> dict[str, Any]:
    """Return the facts about the machine and the code that a report must state.

    Parameters
    ----------
    workflow_dir : path
        A folder inside the git checkout, used to look up its commit.

    Returns
    -------
    dict
        date (UTC), commit ("unknown" outside git, "+changes" appended for an edited checkout), versions, python,
        machine, command.
    """

    def git(*words: str) -> str:
        answer = subprocess.run(["git", "-C", str(workflow_dir), *words], capture_output=True, text=True, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else ""

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        edited = bool(commit) and bool(git("status", "--porcelain", "--untracked-files=no"))
    except FileNotFoundError:  # no git on this machine
        commit, edited = "", False
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": "snakemake",
        "python": platform.python_version(),
        "commit": (commit + ("+changes" if edited else "")) or "unknown",
        "versions": package_versions(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


@dataclass
class CodeFacts:
    """What is known of source files: path -> size and time, digest, imported names, and declared data files."""

    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_new: bool = False

    def load(self, path: Path) -> None:
        """Read what an earlier call kept; nothing if it is damaged, or if digests were computed otherwise."""
        try:
            content = json.loads(path.read_text())
            self.known = dict(content["files"]) if content["method"] == _method() else {}
        except (OSError, ValueError, KeyError, TypeError):
            self.known = {}

    def keep(self, path: Path) -> None:
        """Write what is known for the next call, if it is new."""
        if self.is_new:
            with atomic_path(path) as partial:
                partial.write_text(json.dumps({"method": _method(), "files": self.known}))
            self.is_new = False

    def read_all(self, folder: Path) -> None:
        """Read the facts of all source files below a folder."""
        for path in folder.rglob("*.py"):
            self.read(path)

    def read(self, path: Path) -> dict[str, Any]:
        """Return the facts of a source file, which is parsed again only if its size or time has changed."""
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        found = self.known.get(str(path))
        if found is None or found["stamp"] != stamp:
            found = {
                "stamp": stamp,
                "digest": _source_digest(path),
                "imports": _imported_names(path),
                "data_files": list(read_declaration(path, "DATA_FILES") or ()),
            }
            self.known[str(path)] = found
            self.is_new = True
        return found


CODE_FACTS = CodeFacts()


@functools.cache
def _method() -> str:
    """Return a digest of the modules that compute digests."""
    return "".join(hashlib.sha256((LIBRARY_DIR / name).read_bytes()).hexdigest() for name in METHOD_FILES)


def code_digests(script: str | Path, *, also: tuple[str, ...] = ()) -> dict[str, str]:
    """Return a digest of a script and of every cellmill module that it imports, directly or indirectly.

    Parameters
    ----------
    script : path
        The script of a rule.
    also : tuple of str
        Modules that the rule loads by name, such as ``cellmill.models.unet``.

    Returns
    -------
    dict
        Name -> first 16 hex digits of a SHA-256. A name is ``script``, a module's dotted name, or
        ``module:file`` for a data file that the module declares in ``DATA_FILES``.
    """
    own = CODE_FACTS.read(Path(script))
    digests = {"script": own["digest"]}
    todo = [*_modules(own), *also, PACKAGE]
    seen: set[str] = set()
    while todo:
        module = todo.pop()
        if module in seen or module in EXEMPT_MODULES:
            continue
        seen.add(module)
        path = _module_path(module)
        assert path is not None, f"{module} is not a module of {PACKAGE}"
        facts = CODE_FACTS.read(path)
        digests[module] = facts["digest"]
        for file in facts["data_files"]:
            data = (path.parent / file).read_bytes()
            digests[f"{module}:{file}"] = hashlib.sha256(data).hexdigest()[:16]
        todo.extend(_modules(facts))
        if "." in module:
            todo.append(module.rpartition(".")[0])  # importing a.b runs a/__init__.py too
    return dict(sorted(digests.items()))


def _module_path(module: str) -> Path | None:
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return None
    base = LIBRARY_DIR.joinpath(*parts[1:])
    if (base / "__init__.py").is_file():
        return base / "__init__.py"
    file = base.with_suffix(".py")
    return file if len(parts) > 1 and file.is_file() else None


def _modules(facts: Mapping[str, Any]) -> list[str]:
    return [name for name in facts["imports"] if _module_path(name) is not None]


def _imported_names(path: Path) -> list[str]:
    """List the names that a file imports from this package; some are not modules but names in them."""
    found: list[str] = []
    for node in ast.walk(read_tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(
                    f"{path}:{node.lineno}: expected absolute imports, found a relative one. "
                    f"Write `from {PACKAGE}.… import …`, so that the code digest includes it."
                )
            source = node.module or ""
            names = [source, *(f"{source}.{alias.name}" for alias in node.names)]
        else:
            continue
        found.extend(name for name in names if name.partition(".")[0] == PACKAGE)
    return found


def _source_digest(path: Path) -> str:
    parts: list[str] = []
    _write_node(read_tree(path), parts)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


# Fields of the syntax tree that do not affect what the code does.
_SILENT_FIELDS = frozenset({"kind", "type_comment", "type_ignores"})


def _write_node(node: Any, parts: list[str]) -> None:
    """Append the content of a syntax node to `parts`, without docstrings.

    ast.dump is not used because its text differs between Python versions (new fields, empty lists left out).
    """
    if isinstance(node, ast.AST):
        parts.append(type(node).__name__)
        for name, value in ast.iter_fields(node):
            if name in _SILENT_FIELDS or (value is None and not isinstance(node, ast.Constant)):
                continue
            if isinstance(value, list):
                value = _without_docstring(node, name, value)
                if not value:
                    continue
            parts.append(name)
            _write_node(value, parts)
        parts.append(")")
    elif isinstance(node, list):
        parts.append(f"[{len(node)}")
        for item in node:
            _write_node(item, parts)
    else:
        parts.append(f"{type(node).__name__} {node!r}")


def _without_docstring(owner: ast.AST, field: str, body: list[Any]) -> list[Any]:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    if field == "body" and isinstance(owner, documented) and body:
        first = body[0]
        is_constant = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        if is_constant and isinstance(first.value.value, str):
            return body[1:]
    return body
