"""The page of faults names tests that are there."""

import re

import pytest

from project import ROOT

PAGE = (ROOT / "docs/faults.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)


def test_every_row_names_a_test():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 15
    assert all("`tests/" in row or row.endswith("the same |") for row in rows)


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED)))
def test_the_test_of_a_fault_is_there(path, name):
    text = (ROOT / path).read_text()
    assert re.search(rf"^def {name or 'test'}", text, re.MULTILINE)
