"""Jobs notice raw files that were changed since the run was planned, and record those that the plan did not read."""

import os
import time

import pytest

from cellmill.images.content import (
    explain_changes,
    files_of_annotation,
    files_of_image,
    join_digests,
    record_files,
)
from cellmill.shards import file_digest


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.tif", "b.tif", "mask.png"):
        (tmp_path / name).write_text(name)
    return tmp_path


def digest(*paths):
    return join_digests({path: file_digest(path) for path in paths})


def row(**changes):
    return {
        "sample": "a",
        "image": "a.tif",
        "members": ["b.tif"],
        "annotations": ["mask.png"],
        "image_digest": digest("a.tif", "b.tif"),
        "annotation_digest": digest("mask.png"),
        **changes,
    }


def test_the_digest_of_several_files_depends_on_each_and_not_on_their_order():
    one, two = "1" * 64, "2" * 64
    joined = join_digests({"a": one, "b": two})
    assert joined == join_digests({"b": two, "a": one})
    assert joined != join_digests({"a": two, "b": one})
    assert len(joined) == len(join_digests({"a": one})) == 32
    assert join_digests({"a": one, "b": ""}) == join_digests({}) == ""


def test_a_digest_with_a_file_that_was_not_read_is_marked():
    assert join_digests({"a": "1" * 32, "b": "t" + "2" * 31}).startswith("t")
    assert len(join_digests({"a": "1" * 32, "b": "t" + "2" * 31})) == 32


def test_files_of_image_and_annotation_are_listed_once():
    assert files_of_image(row(members=["b.tif", "a.tif"])) == ["a.tif", "b.tif"]
    parts = row(extra={"ignore": "i.png", "tracks": "mask.png"}, correction="c.tif")
    assert files_of_annotation(parts) == ["mask.png", "i.png", "c.tif"]
    assert files_of_annotation({"image": "a.tif"}) == []


def test_unchanged_and_touched_files_are_no_change():
    planned = row()
    os.utime("a.tif", (time.time() - 99,) * 2)
    assert explain_changes([planned, planned]) == []


@pytest.mark.parametrize("name", ["a.tif", "b.tif", "mask.png"])
def test_a_changed_file_is_named(folder, name):
    planned = row()
    (folder / name).write_text(name.upper())
    messages = explain_changes([planned, {**planned, "sample": "second plane"}])
    assert any(message.startswith(f"{name}: expected the content that the file had") for message in messages)
    assert len(messages) == (1 if name == "mask.png" else 2)


def test_files_that_cannot_be_read_are_left_to_their_readers(folder):
    planned = row()
    (folder / "mask.png").unlink()
    assert explain_changes([planned]) == []


def test_results_of_the_simulation_and_files_that_were_not_read_are_passed_over(folder):
    planned = [row(image_digest="", annotation_digest=""), row(image_digest="t" + "0" * 31, annotation_digest="")]
    (folder / "a.tif").write_text("else")
    assert explain_changes(planned) == []


def test_only_files_that_the_plan_did_not_read_are_recorded(folder):
    status = (folder / "a.tif").stat()
    stamped = row(image_digest="t" + "0" * 31, members=[])
    assert record_files([row(), stamped]) == {"a.tif": (5, status.st_mtime_ns, file_digest("a.tif"))}
