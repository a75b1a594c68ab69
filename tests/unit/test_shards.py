"""Shards: stable assignment, growth that changes one shard at a time, folders that appear complete or not at all."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
