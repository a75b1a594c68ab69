"""Shards: stable assignment, growth that changes one shard at a time, folders that appear complete or not at all."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cellmill
from cellmill.shards import (
    assign_shards,
    atomic_path,
    listed_files,
    read_manifest,
    seal_path,
    shard_folder,
    shard_index,
    shards_needed,
)


@given(st.integers(1, 300))
@settings(deadline=None, max_examples=60)
def test_one_more_shard_takes_keys_from_one_shard_only(shards):
    keys = [f"image {number}" for number in range(400)]
    before = {key: shard_index(key, shards=shards) for key in keys}
    after = {key: shard_index(key, shards=shards + 1) for key in keys}
    moved = [key for key in keys if before[key] != after[key]]
    assert {after[key] for key in moved} <= {shards}
    assert len({before[key] for key in moved}) <= 1


def test_an_added_image_touches_its_shard_and_at_most_the_one_that_splits():
    for size in range(1, 160):
        keys = [f"s{number}" for number in range(size)]
        before = assign_shards("train", keys, images_per_job=10)
        after = assign_shards("train", [*keys, f"s{size}"], images_per_job=10)
        touched_before = {before[key] for key in keys if before[key] != after[key]}
        assert len(touched_before) <= 1
        changed = {
            shard
            for shard in {*before.values(), *after.values()}
            if {k for k in keys if before[k] == shard} != {k for k in after if after[k] == shard}
        }
        assert len(changed) <= 3  # its own shard, the one that splits, and the one split off


def test_25000_images_make_a_few_hundred_shards_of_even_size():
    keys = [f"plate/{number}" for number in range(25_000)]
    shards = list(assign_shards("train", keys, images_per_job=50).values())
    counts = [shards.count(shard) for shard in set(shards)]
    assert shards_needed(25_000, images_per_job=50) == 500
    assert len(counts) == 500
    assert max(counts) < 3 * 50


def test_without_a_number_shards_grow_with_the_images_and_never_become_fewer():
    numbers = [shards_needed(images, images_per_job="auto") for images in range(1, 20_000)]
    assert all(0 <= after - before <= 1 for before, after in pairwise(numbers))
    assert numbers[:1600] == [shards_needed(images, images_per_job=200) for images in range(1, 1601)]
    assert shards_needed(15_000, images_per_job="auto") == 25
    assert shards_needed(1_000_000, images_per_job="auto") == 200


def test_a_shard_folder_appears_whole_with_a_manifest_of_its_content(tmp_path):
    folder = tmp_path / "images" / "train-0000"
    with shard_folder(folder) as partial:
        (partial / "a.tif").write_bytes(b"abc")
        assert not folder.exists()
    # SHA-256 of "abc": FIPS 180-2, appendix B.1
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert read_manifest(folder) == {"a.tif": digest}
    assert seal_path(folder).is_file()


def test_a_failed_job_leaves_the_old_folder_and_nothing_half_written(tmp_path):
    folder = tmp_path / "train-0000"
    with shard_folder(folder) as partial:
        (partial / "old.tif").write_bytes(b"old")
    with pytest.raises(RuntimeError, match="lights out"), shard_folder(folder) as partial:
        (partial / "new.tif").write_bytes(b"half")
        raise RuntimeError("lights out")
    assert [path.name for path in sorted(tmp_path.iterdir())] == [".train-0000.sha256", "train-0000"]
    assert set(read_manifest(folder)) == {"old.tif"}


def test_what_an_earlier_job_wrote_is_gone_after_the_next(tmp_path):
    folder = tmp_path / "train-0000"
    for name in ("first.tif", "second.tif"):
        with shard_folder(folder) as partial:
            (partial / name).write_bytes(b"x")
    assert set(read_manifest(folder)) == {"second.tif"}
    assert not (folder / "first.tif").exists()


def test_the_seal_follows_the_content_and_not_the_time(tmp_path):
    folder = tmp_path / "train-0000"
    seals = []
    for content in (b"x", b"x", b"y"):
        with shard_folder(folder) as partial:
            (partial / "a.tif").write_bytes(content)
        seals.append(seal_path(folder).read_text())
    assert seals[0] == seals[1] != seals[2]


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a shard folder with manifest\.json, found none"):
        read_manifest(tmp_path)


def test_the_seal_holds_the_digests_of_the_manifest_and_of_the_sizes(tmp_path):
    folder = tmp_path / "train-0000"
    with shard_folder(folder) as partial:
        (partial / "images").mkdir()
        (partial / "images/a.tif").write_bytes(b"abc")
    assert json.loads((folder / "sizes.json").read_text()) == {"images/a.tif": 3}
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("manifest.json", "sizes.json")]
    assert seal_path(folder).read_text().split() == digests


def test_a_folder_that_lacks_files_of_its_manifest_is_never_listed_in_part(tmp_path):
    folder = tmp_path / "train-0000"
    with shard_folder(folder) as partial:
        for name in ("a.tif", "b.tif", "geometry.csv"):
            (partial / name).write_text(name)
    (folder / "notes.txt").write_text("of a person")
    assert [path.name for path in listed_files(folder)] == ["a.tif", "b.tif", "geometry.csv"]
    (folder / "b.tif").unlink()
    with pytest.raises(
        ValueError, match=r"train-0000: expected the 3 files .* found 1 missing: b\.tif\. Run snakemake"
    ):
        listed_files(folder)


def test_an_interrupted_replacement_leaves_the_old_folder_or_the_new_one(tmp_path, monkeypatch):
    folder = tmp_path / "train-0000"
    with shard_folder(folder) as partial:
        (partial / "old.tif").write_bytes(b"old")
    rename = Path.rename

    def stop(path, target):
        if "partial" in path.name:
            raise OSError("stopped")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stop)
    with pytest.raises(OSError, match="stopped"), shard_folder(folder) as partial:
        (partial / "new.tif").write_bytes(b"new")
    monkeypatch.undo()
    assert set(read_manifest(folder)) == {"old.tif"}
    assert [path.name for path in sorted(tmp_path.iterdir())] == [".train-0000.sha256", "train-0000"]


def test_what_a_killed_replacement_left_is_removed_by_the_next(tmp_path):
    folder = tmp_path / "train-0000"
    with shard_folder(folder) as partial:
        (partial / "a.tif").write_bytes(b"x")
    shutil.copytree(folder, tmp_path / ".train-0000.earlier-77")
    shutil.copytree(folder, tmp_path / ".train-0000.partial-abc")
    with shard_folder(folder) as partial:
        (partial / "b.tif").write_bytes(b"x")
    assert [path.name for path in sorted(tmp_path.iterdir())] == [".train-0000.sha256", "train-0000"]


def test_a_file_is_replaced_whole_or_left_alone(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with atomic_path(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


class FullDisk:
    """Stream that raises an error of the system after some bytes, as a write to a full disk does."""

    def __init__(self, stream, number):
        self.stream, self.number = stream, number

    def write(self, data):
        self.stream.write(data[:4])
        self.stream.flush()
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_message_with_file_size_and_free_space(tmp_path, monkeypatch, number):
    path = tmp_path / "weights.pt"
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2_500_000))
    message = (
        rf"weights\.pt: expected to write this with at least 12\.0 MB, found {os.strerror(number)}: 2\.5 MB are free"
    )
    with (
        pytest.raises(ValueError, match=message) as raised,
        atomic_path(path, needed=12_000_000) as partial,
        partial.open("wb") as stream,
    ):
        FullDisk(stream, number).write(b"0123456789")
    assert "run the same command again" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_a_writer_that_follows_a_full_disk_does_not_hide_it(tmp_path):
    folder = tmp_path / "train-0000"
    with (
        pytest.raises(ValueError, match=r"train-0000: expected to write this, found No space"),
        shard_folder(folder) as at,
    ):
        try:
            with (at / "a.tif").open("wb") as stream:
                FullDisk(stream, errno.ENOSPC).write(b"0123456789")
        finally:
            raise RuntimeError("unexpected position")  # as torch does while it closes the archive
    assert list(tmp_path.iterdir()) == []


def test_a_limit_of_file_size_stops_a_real_write_and_leaves_nothing(tmp_path):
    program = (
        "import resource, signal, torch\n"
        "from pathlib import Path\n"
        "from cellmill.training.checkpoints import Checkpoint\n"
        "from cellmill.training.team import Team\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "team = type('Alone', (), {'leads': True})()\n"
        f"Checkpoint(Path({str(tmp_path / 'c.pt')!r})).save({{'weights': torch.ones(500, 500)}}, team=team)\n"
    )
    workflow = str(Path(cellmill.__file__).parents[1])
    ran = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": workflow}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    last = ran.stderr.strip().splitlines()[-1]
    assert last.startswith(
        f"ValueError: {tmp_path / 'c.pt'}: expected to write this with at least 1.0 MB, found File too"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    for write in (atomic_path, shard_folder):
        with (
            pytest.raises(ValueError, match=r"a/b: expected to write here, found Permission denied"),
            write(tmp_path / "a/b"),
        ):
            pass


def test_a_raw_image_that_cannot_be_read_is_no_full_disk(tmp_path):
    with pytest.raises(PermissionError), shard_folder(tmp_path / "results/train-0000"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "images/a.tif"))
