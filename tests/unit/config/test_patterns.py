"""Patterns as users of other programs write them: refused with the valid spelling."""

import pytest

from cellmill.config.annotations import Annotations
from cellmill.config.dataset import Dataset
from cellmill.config.patterns import check_pattern


@pytest.mark.parametrize(
    ("pattern", "found", "advice"),
    [
        ("m/{sample,[0-9]+}.tif", r"\{sample,\[0-9\]\+\} with a constraint", r"Write \{sample\}; "),
        (r"m/{sample,\d{3}}.tif", r"\{sample,\\d\{3\}\} with a constraint", r"Write \{sample\}; "),
        ("m/{frame:03d}.tif", r"\{frame:03d\} with a number format", r"Write \{frame\}; numbers are matched with"),
        ("m/{frame!s}.tif", r"\{frame!s\} with a number format", r"Write \{frame\}; "),
        ("{well-id}/{sample}.tif", r"\{well-id\} in ", r"Write \{well_id\}: the name"),
        ("{ sample }.tif", r"\{ sample \} in ", r"Write \{sample\}: "),
        ("{1st}.tif", r"\{1st\} in ", r"Write \{_1st\}: "),
        ("{{sample}}.tif", r"\{\{sample\}\} in ", r"Write \{sample\}: "),
        ("{}.tif", r"\{\} in ", r"Write \{sample\}: "),
        ("{sample.tif", "unmatched braces", "Close each brace"),
        ("a/x**/{sample}.tif", r"'a/x\*\*/\{sample\}\.tif'", r"Write \*\*/ for folders of any depth"),
        ("a/**", r"'a/\*\*'", r"Write \*\*/ for folders"),
    ],
)
def test_a_pattern_of_another_program_is_refused_with_its_spelling_here(pattern, found, advice):
    with pytest.raises(ValueError, match=rf"^expected .*, found {found}.*\. {advice}"):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", ["a/{sample}.tif", "{a}_{b2}/x*.tif", "a/**/{sample}.tif", "**/{s}/*", "x.png"])
def test_a_valid_pattern_is_returned_as_it_is(pattern):
    assert check_pattern(pattern) == pattern


@pytest.mark.parametrize("key", ["path", "tracks", "markers", "ignore"])
def test_patterns_of_annotations_are_checked_too(key):
    section = {"format": "ctc", "path": "m/{frame}.tif", key: "m/{frame:03d}.tif"}
    with pytest.raises(ValueError, match=r"Write \{frame\}; numbers"):
        Annotations(**section)


def test_exclude_is_one_pattern_or_a_list():
    entry = {"images": "a/{sample}.png", "models": [{"apply": "x/y"}]}
    assert Dataset(**entry, exclude="a/*_masks.png").exclude == ["a/*_masks.png"]
    assert Dataset(**entry, exclude=["a", "b"]).exclude == ["a", "b"]
    assert Dataset(**entry).exclude == []
    with pytest.raises(ValueError, match=r"with a number format"):
        Dataset(**entry, exclude="a/{frame:03d}.png")
