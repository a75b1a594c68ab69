"""Digests of raw files: a change is found, a touch is none, and large files are read only when they are touched."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from cellmill.planning import file_digests
from cellmill.planning.file_digests import FILE, FileDigests

LONG_AGO = time.time() - 1000


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # otherwise files of a test are too new for their digests to be kept
    monkeypatch.setattr(file_digests, "SETTLED_S", -1.0)
    return tmp_path


def write(name, content=b"abc", *, at=LONG_AGO):
    Path(name).write_bytes(content)
    os.utime(name, (at, at))
    return name


def read(folder, *names, **options):
    records = options.pop("records", dict)
    return FileDigests(folder, **options).read(names, records=records)


def count_reads(monkeypatch):
    """Count the files whose content is read."""
    seen = []

    def digest(path):
        seen.append(str(path))
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()

    monkeypatch.setattr(file_digests, "file_digest", digest)
    return seen


def read_nothing_new(monkeypatch):
    monkeypatch.setattr(file_digests, "READ_AT_ONCE", -1)


def test_the_digest_of_a_file_is_that_of_its_content(folder):
    # SHA-256 of "abc": FIPS 180-2, appendix B.1
    assert read(folder, write("a")) == {"a": "ba7816bf8f01cfea414140de5dae2223"}


def test_a_file_is_read_once(folder, monkeypatch):
    seen = count_reads(monkeypatch)
    write("a")
    assert read(folder, "a") == read(folder, "a")
    assert seen == ["a"]


def test_a_touched_file_is_read_once_more_and_keeps_its_digest(folder, monkeypatch):
    seen = count_reads(monkeypatch)
    before = read(folder, write("a"))
    os.utime("a", (LONG_AGO + 5, LONG_AGO + 5))
    assert [read(folder, "a"), read(folder, "a")] == [before, before]
    assert seen == ["a", "a"]


def test_another_content_of_the_same_size_and_time_is_found(folder):
    before = read(folder, write("a", b"abc"))
    time.sleep(0.05)  # of the resolution of ctime
    assert read(folder, write("a", b"abd")) != before


def test_a_file_that_has_just_been_written_is_read_again(folder, monkeypatch):
    monkeypatch.setattr(file_digests, "SETTLED_S", 2.0)
    seen = count_reads(monkeypatch)
    write("a")
    assert read(folder, "a") == read(folder, "a")
    assert seen == ["a", "a"]


def test_a_file_from_the_future_is_like_any_other(folder):
    before = read(folder, write("a"))
    assert read(folder, write("a", at=time.time() + 86400)) == before


def test_many_new_bytes_are_not_read_but_stand_for_size_and_time(folder, monkeypatch):
    read_nothing_new(monkeypatch)
    seen = count_reads(monkeypatch)
    first = read(folder, write("a"))
    assert seen == []
    assert first["a"].startswith("t")
    assert len(first["a"]) == 32
    assert read(folder, "a") == first
    assert read(folder, write("a", at=LONG_AGO + 1)) != first
    assert seen == []


def test_a_large_file_that_a_job_has_recorded_keeps_its_digest_when_it_is_touched(folder, monkeypatch):
    read_nothing_new(monkeypatch)
    first = read(folder, write("a"))
    recorded = {"a": (3, Path("a").stat().st_mtime_ns, hashlib.sha256(b"abc").hexdigest())}
    os.utime("a", (LONG_AGO + 5, LONG_AGO + 5))
    assert read(folder, "a", records=lambda: recorded) == first
    # by now the SHA-256 is kept
    os.utime("a", (LONG_AGO + 9, LONG_AGO + 9))
    assert read(folder, "a") == first
    write("a", b"xyz", at=LONG_AGO + 12)
    assert read(folder, "a") != first


def test_a_record_of_a_file_that_was_replaced_before_it_was_recorded_does_not_count(folder, monkeypatch):
    read_nothing_new(monkeypatch)
    first = read(folder, write("a", b"abc"))
    write("a", b"xyz", at=LONG_AGO + 5)
    recorded = {"a": (3, Path("a").stat().st_mtime_ns, hashlib.sha256(b"xyz").hexdigest())}
    assert read(folder, "a", records=lambda: recorded) != first


def test_a_recheck_reads_all_files_and_changes_no_digest(folder, monkeypatch):
    small = read(folder, write("a"))
    read_nothing_new(monkeypatch)
    large = read(folder, write("b", b"xyz"))
    seen = count_reads(monkeypatch)
    assert read(folder, "a", "b", recheck=True) == {**small, **large}
    assert sorted(seen) == ["a", "b"]


def test_a_recheck_finds_what_the_disk_has_changed(folder):
    before = read(folder, write("a"))
    path = folder / FILE
    kept = json.loads(path.read_text())
    kept["a"][1:] = ["0" * 32, "0" * 64]  # as if the file had been another
    path.write_text(json.dumps(kept))
    assert read(folder, "a") != before
    assert read(folder, "a", recheck=True) == before


def test_unreadable_files_have_no_digest_and_damaged_caches_are_made_again(folder):
    before = read(folder, write("a"))
    (folder / FILE).write_text("{")
    assert read(folder, "a", "missing") == {**before, "missing": ""}
    (folder / "room").mkdir()
    assert read(folder, "room") == {"room": ""}


def test_results_do_not_depend_on_the_number_of_threads(folder, monkeypatch):
    names = [write(f"n{number}", str(number).encode()) for number in range(100)]
    many = read(folder / "one", *names)
    monkeypatch.setattr(file_digests, "THREADS", 1)
    assert read(folder / "two", *names) == many
    assert list(many) == names
