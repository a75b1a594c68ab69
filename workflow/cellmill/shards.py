"""Shards: the unit of work, and how its folder reaches the disk.

A shard is about `images_per_job` images of one part (train, validation, test, a fold, unlabelled).
Whole sequences stay together. Linear hashing places a stable key, so that growth moves the images of
one shard at a time: see workflow/decisions/0002-shards-by-linear-hashing.md.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cellmill.runlog import package_versions

RESULTS = "results"
MANIFEST = "manifest.json"
# Said in the report where they differ between shards; no part of the manifest, since an upgrade of a
# package that leaves the pixels alone must leave the seal alone.
VERSIONS = "versions.json"


def stable_hash(key: str, *, purpose: str) -> int:
    """Give the same 64-bit number for the same key on every machine and in every process.

    Parameters
    ----------
    key : str
        What is hashed: a sample, a sequence, a group.
    purpose : str
        Keeps two uses of the same key independent (the split must not decide the shard).

    Returns
    -------
    int
        In [0, 2**64).
    """
    return int.from_bytes(hashlib.sha256(f"{purpose}\0{key}".encode()).digest()[:8], "big")


def shard_index(key: str, *, shards: int) -> int:
    """Place a key in one of `shards` buckets so that one more bucket takes keys from one bucket only.

    Linear hashing (Litwin 1980, VLDB): with 2**level <= shards < 2**(level + 1), the first
    shards - 2**level buckets have been split already and use one more bit of the hash.

    Parameters
    ----------
    key : str
        Stable key of an image or of a whole sequence.
    shards : int, > 0
        Number of buckets.

    Returns
    -------
    int
        In [0, shards).
    """
    assert shards > 0
    number = stable_hash(key, purpose="shard")
    level = shards.bit_length() - 1
    bucket = number % (1 << level)
    if bucket < shards - (1 << level):
        bucket = number % (1 << (level + 1))
    return bucket


def shards_needed(images: int, *, images_per_job: int) -> int:
    """Give the number of shards of a part: one for each full or begun `images_per_job`."""
    return max(1, -(-images // images_per_job))


def assign_shards(part: str, keys: Iterable[str], *, images_per_job: int) -> dict[str, str]:
    """Name the shard of each key of one part.

    Parameters
    ----------
    part : str
        train, validation, test, unlabelled or a fold; the first half of the shard's name.
    keys : iterable of str
        One entry an image: its sample, or the key of the sequence that must stay whole.
    images_per_job : int, > 0
        Mean number of images of a shard.

    Returns
    -------
    dict
        key -> shard name such as ``train-0003``.
    """
    keys = list(keys)
    count = shards_needed(len(keys), images_per_job=images_per_job)
    return {key: f"{part}-{shard_index(key, shards=count):04d}" for key in keys}


def file_digest(path: str | Path) -> str:
    """Give the SHA-256 of a file's bytes, read in pieces."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal_path(folder: str | Path) -> Path:
    """Give the file beside a shard folder that holds the digest of its manifest.

    Snakemake compares files by content but folders by time stamp only; the seal stands for the folder.
    """
    folder = Path(folder)
    return folder.with_name(f".{folder.name}.sha256")


def read_manifest(folder: str | Path) -> dict[str, str]:
    """Read which files a shard folder holds, with the digest of each.

    Raises
    ------
    ValueError
        If the folder has no manifest: it was not written to its end.
    """
    path = Path(folder) / MANIFEST
    if not path.exists():
        raise ValueError(
            f"{folder}: expected a shard folder with {MANIFEST}, found none. "
            "The job that writes it did not finish: run snakemake again."
        )
    manifest: dict[str, str] = json.loads(path.read_text())
    return manifest


@contextmanager
def shard_folder(output_dir: str | Path) -> Iterator[Path]:
    """Fill a shard folder under a temporary name and put it in place whole, with its manifest.

    Parameters
    ----------
    output_dir : path
        Final folder; what stood there before is gone afterwards, so that no image of an earlier
        table survives.

    Yields
    ------
    Path
        An empty folder beside the final one. On an error it is removed and the final one stays as it was.
    """
    output_dir = Path(output_dir)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    for leftover in output_dir.parent.glob(f".{output_dir.name}.partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{output_dir.name}.partial-", dir=output_dir.parent))
    try:
        yield partial
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        manifest = {path.relative_to(partial).as_posix(): file_digest(path) for path in files}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        (partial / VERSIONS).write_text(json.dumps(package_versions(), indent=1) + "\n")
        partial.chmod(0o777 & ~_umask())
        if output_dir.exists():
            shutil.rmtree(output_dir)
        partial.rename(output_dir)
        with atomic_path(seal_path(output_dir)) as seal:
            seal.write_text(file_digest(output_dir / MANIFEST) + "\n")
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it on success, remove it on an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _umask() -> int:
    # mkdtemp makes folders for its owner only; results are for the lab.
    mask = os.umask(0)
    os.umask(mask)
    return mask
