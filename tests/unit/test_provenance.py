"""Settings compare by meaning; the code digest changes with what the code does, and with nothing else."""

import textwrap

import pytest

from cellmill import provenance
from cellmill.provenance import canonical, code_digests, digest_of


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Small stand-in for cellmill: script -> a -> (b, c/), with a data file of b."""
    package = tmp_path / "cellmill"
    (package / "c").mkdir(parents=True)
    files = {
        "__init__.py": "",
        "a.py": "from cellmill.b import number\nimport cellmill.c.d\n",
        "b.py": 'DATA_FILES = ("page.html",)\nnumber = 5\n',
        "page.html": "<p>",
        "c/__init__.py": "",
        "c/d.py": "",
        "unused.py": "",
        "runlog.py": "",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    script = tmp_path / "script.py"
    script.write_text("from cellmill.runlog import start\nfrom cellmill.a import thing\n")
    monkeypatch.setattr(provenance, "LIBRARY_DIR", package)
    return tmp_path


def test_the_digest_names_every_module_that_the_script_reaches(library):
    assert set(code_digests(library / "script.py")) == {
        "script", "cellmill", "cellmill.a", "cellmill.b", "cellmill.b:page.html", "cellmill.c", "cellmill.c.d",
    }  # fmt: skip


def test_a_module_loaded_by_name_is_added(library):
    assert "cellmill.unused" in code_digests(library / "script.py", also=("cellmill.unused",))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("cellmill/b.py", 'DATA_FILES = ("page.html",)\nnumber = 6\n'),
        ("cellmill/page.html", "<b>"),
        ("cellmill/c/__init__.py", "x = 1\n"),
        ("script.py", "from cellmill.a import thing\nthing()\n"),
    ],
)
def test_a_change_of_code_or_data_changes_one_digest(library, file, text):
    before = code_digests(library / "script.py")
    (library / file).write_text(text)
    after = code_digests(library / "script.py")
    assert len({key for key in before if before[key] != after[key]}) == 1


def test_a_change_of_a_module_that_is_not_reached_or_exempt_changes_nothing(library):
    before = code_digests(library / "script.py")
    (library / "cellmill/unused.py").write_text("x = 1\n")
    (library / "cellmill/runlog.py").write_text("x = 1\n")
    assert code_digests(library / "script.py") == before


def _digest(tmp_path, text):
    path = tmp_path / f"m{abs(hash(text))}.py"
    path.write_text(textwrap.dedent(text))
    return provenance._source_digest(path)


def test_comments_docstrings_layout_and_quotes_change_nothing(tmp_path):
    first = '''
        """Module."""
        def f(x, *, y=1):
            """Say."""
            return x + y  # sum
    '''
    second = """
        # other words
        def f(x,
              *, y=1):
            return (x + y)
    """
    assert _digest(tmp_path, first) == _digest(tmp_path, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = None", "x = 'None'"),
        ("f(a, b)", "f(b, a)"),
        ("x = [1, 2]", "x = [[1], 2]"),
        ("def f(): return None", "def f(): return"),
        ("x = 'text'", "x = b'text'"),
        ("def f():\n    'doc'\n    return 1", "def f():\n    x = 'doc'\n    return 1"),
        ("async def f(): pass", "def f(): pass"),
        ("def f(a, /, b): pass", "def f(a, b): pass"),
    ],
)
def test_a_change_of_meaning_changes_the_digest(tmp_path, first, second):
    assert _digest(tmp_path, first) != _digest(tmp_path, second)


def test_the_digest_is_the_same_on_every_python(tmp_path):
    # Golden on purpose: one interpreter cannot test equality across versions, so each must return this number.
    plain = "def f(a, b=2, *c, d, **e):\n    with open(a) as g:\n        return [x for x in g if x] or {**e}\n"
    assert _digest(tmp_path, plain) == "8f11a833cdc4e7da"


def test_relative_imports_are_refused(library):
    (library / "cellmill/a.py").write_text("from . import b\n")
    with pytest.raises(ValueError, match="expected absolute imports, found a relative one"):
        code_digests(library / "script.py")


def test_equal_settings_have_equal_digests():
    assert digest_of({"a": 5, "b": [1, 2.5]}) == digest_of({"b": (1, 2.5), "a": 5.0})


def test_different_settings_have_different_digests():
    settings = [{"a": 1}, {"a": True}, {"a": "1"}, {"a": None}, {"a": [1]}, {"b": 1}]
    assert len({digest_of(value) for value in settings}) == len(settings)


def test_a_value_that_would_drop_out_of_the_comparison_is_refused():
    with pytest.raises(TypeError, match="expected plain values, found set"):
        canonical({"a": {1, 2}})
