"""Run the unit tests of what changed since the merge base with main, uncommitted files included.

`make test-fast` runs this file after the checks of style and types. Arguments are passed on to pytest. Tests outside of
tests/unit are not run, because they start pipelines; `make test` runs them.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
UNIT = PurePosixPath("tests/unit")
LIBRARY = PurePosixPath("workflow/cellmill")
# Branches with which the common ancestor is looked for, in this order
MAIN = ("main", "origin/main")
# Start of a path -> tests of all files below it
OTHERS = {
    "docs/generate/scenes.py": ("tests/unit/docs/test_scenes.py",),
    "docs/scenes.md": ("tests/unit/docs/test_scenes.py",),
    "docs/generate/systems.py": ("tests/unit/docs/test_systems_table.py", "tests/unit/config/test_config.py"),
    "workflow/cellmill/reports/templates/": ("tests/unit/stages/test_report.py",),
    "docs/": ("tests/unit/docs/test_readme.py", "tests/unit/config/test_config.py"),
    "resources/models/": ("tests/unit/config/test_presets.py",),
    "resources/weights/": ("tests/unit/planning/test_shipped_names.py",),
    "resources/scenes/": ("tests/unit/docs/test_scenes.py",),
    "resources/studies/": ("tests/unit/docs/test_systems_table.py",),
    "resources/papers/": ("tests/unit/reports/test_papers.py",),
    "requirements": ("tests/unit/config/test_config.py",),
    "envs/": ("tests/unit/config/test_config.py",),
    "config.yaml": ("tests/unit/config/test_config.py",),
}
PAGES = ("tests/unit/docs/test_readme.py",)


def changed_files(root: Path) -> list[str]:
    """List the files that differ from the merge base with main: committed, uncommitted, new and deleted ones.

    Parameters
    ----------
    root : Path
        A git checkout. Without a branch main only uncommitted changes are found.

    Returns
    -------
    list of str
        Paths relative to `root`, sorted.

    Raises
    ------
    ValueError
        If `root` is not in a git checkout.
    """
    commands = [*(("merge-base", "HEAD", branch) for branch in MAIN), ("rev-parse", "HEAD")]
    bases = [commit for command in commands for commit in _git(root, *command)]
    if not bases:
        raise ValueError(f"{root}: expected a git checkout with a commit, found none. Run make test instead.")
    differing = _git(root, "diff", "--name-only", "-z", "--no-renames", "--relative", bases[0], "--")
    return sorted({*differing, *_git(root, "ls-files", "-z", "--others", "--exclude-standard")})


def _git(root: Path, *words: str) -> list[str]:
    """Return the answer of git, split at line ends or zero bytes; empty if git fails."""
    answer = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    return [word for word in re.split("[\0\n]", answer.stdout) if word] if answer.returncode == 0 else []


def select_tests(changed: Iterable[str], *, root: Path) -> list[str]:
    """Select the unit tests of changed files.

    Parameters
    ----------
    changed : iterable of str
        Paths relative to `root`.
    root : Path
        The project. Only tests that exist there are returned.

    Returns
    -------
    list of str
        Test files and folders relative to `root`, sorted. A file inside a folder that is listed is left out.
    """
    found = {test for path in changed for test in _tests_of(PurePosixPath(path), root) if (root / test).exists()}
    return sorted(
        test for test in found if not any(parent.as_posix() in found for parent in PurePosixPath(test).parents)
    )


def _tests_of(path: PurePosixPath, root: Path) -> Iterable[str]:
    if path.is_relative_to(LIBRARY) and path.suffix == ".py":
        package = UNIT / path.relative_to(LIBRARY).parent
        return _tests_named(path.stem, package, root)
    if path.parent.as_posix() == "workflow/scripts":
        return _tests_named(path.stem, UNIT / "stages", root)
    if path.is_relative_to(UNIT) and path.name.startswith("test_"):
        return [path.as_posix()]
    if path.is_relative_to("tests") and path.suffix == ".py":
        return _tests_importing(path.stem, root)
    if path.is_relative_to(UNIT):
        return [path.parent.as_posix()]
    if path.suffix in (".md", ".cff") and not path.is_relative_to("docs"):
        return PAGES
    return next((tests for start, tests in OTHERS.items() if path.as_posix().startswith(start)), ())


def _tests_named(stem: str, folder: PurePosixPath, root: Path) -> list[str]:
    """List the tests of a module by its name, or else the folder of its package."""
    named = [path.relative_to(root).as_posix() for path in (root / folder).glob(f"test_{stem}*.py")]
    return named or ([] if folder == UNIT else [folder.as_posix()])


def _tests_importing(stem: str, root: Path) -> list[str]:
    """List the unit tests that import a module of tests/."""
    imported = re.compile(rf"^\s*(?:from|import) (?!cellmill)(?:[\w.]+\.)?{re.escape(stem)}\b", re.MULTILINE)
    tests = sorted((root / UNIT).rglob("test_*.py"))
    return [path.relative_to(root).as_posix() for path in tests if imported.search(path.read_text(encoding="utf-8"))]


def main(arguments: list[str]) -> int:
    """Run the tests and return pytest's exit code; 0 if nothing changed."""
    changed = changed_files(ROOT)
    if not changed:
        print("cellmill: no file differs from main, so no test was run. make test runs all tests.")
        return 0
    tests = select_tests(changed, root=ROOT)
    if not tests:
        print(f"cellmill: no unit test belongs to the {len(changed)} changed files. make test runs all tests.")
        return 0
    print(f"cellmill: {len(changed)} changed files, testing {' '.join(tests)}", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not long", "--dist", "loadfile", *arguments, *tests]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
