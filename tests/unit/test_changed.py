"""`make test-fast`: which files changed, and which unit tests belong to them."""

import subprocess

import pytest

import changed
from changed import changed_files, select_tests
from project import ROOT

FILES = (
    "workflow/cellmill/objects/flows.py", "workflow/cellmill/objects/necks.py", "workflow/cellmill/matching/otsu.py",
    "workflow/cellmill/shards.py", "tests/unit/objects/test_flows.py", "tests/unit/objects/test_flows_of_cells.py",
    "tests/unit/test_shards.py", "tests/unit/stages/test_predict.py", "tests/unit/training/golden_losses.json",
    "tests/unit/training/test_losses.py", "tests/unit/docs/test_readme.py", "tests/pipeline/test_kill.py",
)  # fmt: skip


@pytest.fixture
def project(tmp_path):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "tests/unit/training/test_losses.py").write_text("from shapes import circle\n")
    (tmp_path / "tests/unit/test_shards.py").write_text("from cellmill.simulation.shapes import draw\n")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "tests"),
    [
        (
            "workflow/cellmill/objects/flows.py",
            ["tests/unit/objects/test_flows.py", "tests/unit/objects/test_flows_of_cells.py"],
        ),
        ("workflow/cellmill/objects/necks.py", ["tests/unit/objects"]),
        ("workflow/cellmill/matching/otsu.py", []),
        ("workflow/cellmill/shards.py", ["tests/unit/test_shards.py"]),
        ("workflow/cellmill/device.py", []),
        ("workflow/scripts/predict.py", ["tests/unit/stages/test_predict.py"]),
        ("tests/unit/objects/test_flows.py", ["tests/unit/objects/test_flows.py"]),
        ("tests/unit/objects/test_deleted.py", []),
        ("tests/unit/training/golden_losses.json", ["tests/unit/training"]),
        ("tests/unit/shapes.py", ["tests/unit/training/test_losses.py"]),
        ("tests/pipeline/test_kill.py", []),
        ("README.md", ["tests/unit/docs/test_readme.py"]),
        ("docs/glossary.md", ["tests/unit/docs/test_readme.py"]),
        (".gitignore", []),
    ],
)
def test_a_changed_file_is_tested_by(project, path, tests):
    assert select_tests([path], root=project) == tests


def test_a_file_in_a_folder_that_is_tested_is_not_named_again(project):
    paths = ["workflow/cellmill/objects/flows.py", "workflow/cellmill/objects/necks.py"]
    assert select_tests(paths, root=project) == ["tests/unit/objects"]


def test_tests_of_other_files_exist():
    assert [test for tests in changed.OTHERS.values() for test in tests if not (ROOT / test).exists()] == []


@pytest.fixture
def checkout(tmp_path):
    """Checkout with a branch main of two files, a branch at work, and a function that runs git in it."""

    def git(*words):
        names = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *names, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "--initial-branch=main")
    for name in ("kept.py", "deleted.py"):
        (tmp_path / name).write_text("x = 1\n")
    git("add", ".")
    git("commit", "--message", "first")
    git("checkout", "-b", "work")
    return tmp_path, git


def test_without_a_change_there_is_no_file(checkout):
    assert changed_files(checkout[0]) == []


def test_committed_uncommitted_new_and_deleted_files_are_found(checkout):
    folder, git = checkout
    (folder / "committed name.py").write_text("y = 1\n")
    git("add", ".")
    git("commit", "--message", "second")
    (folder / "kept.py").write_text("x = 2\n")
    (folder / "deleted.py").unlink()
    (folder / "new.py").touch()
    assert changed_files(folder) == ["committed name.py", "deleted.py", "kept.py", "new.py"]


def test_what_main_changed_in_the_meantime_is_no_change(checkout):
    folder, git = checkout
    git("checkout", "main")
    (folder / "kept.py").write_text("x = 3\n")
    git("commit", "--all", "--message", "of others")
    git("checkout", "work")
    assert changed_files(folder) == []


def test_outside_of_git_the_other_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(ValueError, match=r"expected a git checkout with a commit, found none\. Run make test instead"):
        changed_files(tmp_path)


def test_without_a_change_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(changed, "changed_files", lambda root: [])
    assert changed.main([]) == 0
    assert "no file differs from main" in capsys.readouterr().out
