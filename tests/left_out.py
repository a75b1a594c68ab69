"""Tests that cannot run on this machine: who may be left out, where, and how the closing lines count them."""

import os
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import pytest

# A data set is never installed, so its absence is no fault of a CI machine. Everything else is.
DATA = "data missing: "


def is_ci() -> bool:
    """Return whether this is a CI run, in which no test may be left out for want of a tool."""
    return os.environ.get("CI", "").lower() in ("1", "true", "yes")


def without_tool(reason: str) -> NoReturn:
    """Skip the running test because a tool is missing; in CI fail it."""
    if is_ci():
        pytest.fail(f"{reason} (CI must run this test)", pytrace=False)
    pytest.skip(reason)


def without_data(reason: str) -> NoReturn:
    """Skip the running test because real images are missing."""
    pytest.skip(DATA + reason)


def closing_lines(reasons: Iterable[str]) -> list[str]:
    """Return how many tests were left out, and a line for each reason with its count."""
    counts = Counter(reasons)
    if not counts:
        return ["left out: no test"]
    lines = [f"  {count} x {reason}" for reason, count in counts.most_common()]
    tests = sum(counts.values())
    return [f"left out: {tests} test{'' if tests == 1 else 's'}", *lines]


def not_allowed_in_ci(reasons: Iterable[str]) -> list[str]:
    """Return the reasons for which CI must fail: all but missing data."""
    return [reason for reason in reasons if not reason.startswith(DATA)]
