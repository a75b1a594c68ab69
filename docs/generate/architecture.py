"""Draw the packages of the library and their imports into docs/architecture.md.

The text of that page is written by hand; only the drawing between the two marks is made from the code.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from generate.marks import replace_marked

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/architecture.md"
LIBRARY = ROOT / "workflow/cellmill"
BEGIN = "<!-- Drawn from the imports by `make reference`; do not edit. -->"
END = "<!-- End of the drawing. -->"
# Folders outside of the library that import it, and the files in them
USERS = {"scripts": ("workflow/scripts", "*.py"), "rules": ("workflow/rules", "*.smk")}
# A package or module that a line of a file imports; rule files are not Python.
IMPORT = re.compile(r"^\s*(?:from|import) cellmill\.(\w+)", re.MULTILINE)


def architecture_page() -> str:
    """Return the text of docs/architecture.md with the drawing of the present code.

    Raises
    ------
    ValueError
        If the page does not have both marks.
    """
    return replace_marked(PAGE, f"\n\n{draw_packages(read_imports())}\n", begin=BEGIN, end=END)


def draw_packages(imports: Mapping[str, set[str]]) -> str:
    """Draw packages as a Mermaid flowchart, from the top to the packages that import no other.

    Parameters
    ----------
    imports : mapping
        Package -> packages that it imports; without circles. Arrows that follow from others are left out.

    Returns
    -------
    str
        A fenced block.
    """
    reduced = reduce_arrows(imports)
    lines = ["```mermaid", "flowchart TD"]
    for package in sorted(reduced, key=lambda name: (-count_floors(name, reduced), name)):
        lines.append(f'    {package}["{_label(package)}"]')
    for package in sorted(reduced, key=lambda name: (-count_floors(name, reduced), name)):
        lines += [f"    {package} --> {other}" for other in sorted(reduced[package])]
    return "\n".join([*lines, "```"]) + "\n"


def read_imports() -> dict[str, set[str]]:
    """Read which package of the library imports which others.

    Returns
    -------
    dict
        Name -> names that it imports. A name is a package, a module beside the packages, or a key of USERS.
    """
    imports: dict[str, set[str]] = {}
    for path in sorted(LIBRARY.rglob("*.py")):
        name = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
        if name != "__init__":
            imports.setdefault(name, set()).update(_imported(path))
    for user, (folder, files) in USERS.items():
        texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / folder).glob(files))]
        imports[user] = {name for text in texts for name in IMPORT.findall(text)}
    return {name: others - {name} for name, others in imports.items()}


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("cellmill."):
                yield name.split(".")[1]


def reduce_arrows(imports: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Remove each import of a package that is also reached through another import."""
    reached = {name: _reach(name, imports) for name in imports}
    return {
        name: {other for other in others if not any(other in reached[between] for between in others - {other})}
        for name, others in imports.items()
    }


def _reach(name: str, imports: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    for other in imports[name]:
        found |= {other} | _reach(other, imports)
    return found


def count_floors(name: str, imports: Mapping[str, set[str]]) -> int:
    """Return the length of the longest chain of imports below a package: 0 if it imports no other."""
    return max((1 + count_floors(other, imports) for other in imports[name]), default=0)


def _label(name: str) -> str:
    if name in USERS:
        return USERS[name][0]
    return f"{name}/" if (LIBRARY / name).is_dir() else f"{name}.py"
