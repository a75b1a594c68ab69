"""Shards: the unit of work, and how a shard folder is written to disk.

A shard is about `images_per_job` images of one part (train, validation, test, a fold, unlabelled).
Whole sequences stay together. Images are assigned by linear hashing of a stable key, so that an added shard
takes images from one other shard only: see workflow/decisions/0002-shards-by-linear-hashing.md.
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

MANIFEST = "manifest.json"
# Reported where they differ between shards. Not part of the manifest, because a package upgrade that does
# not change the pixels must not change the seal.
VERSIONS = "versions.json"


def stable_hash(key: str, *, purpose: str) -> int:
    """Return a 64-bit hash of a key that is the same on every machine and in every process.

    Parameters
    ----------
    key : str
        Name of a sample, a sequence or a group.
    purpose : str
        Keeps two uses of the same key independent (the split must not decide the shard).

    Returns
    -------
    int
        In [0, 2**64).
    """
    return int.from_bytes(hashlib.sha256(f"{purpose}\0{key}".encode()).digest()[:8], "big")


def shard_index(key: str, *, shards: int) -> int:
    """Assign a key to one of `shards` buckets so that an added bucket takes keys from one other bucket only.

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
    """Return the number of shards of a part: `images` / `images_per_job`, rounded up, and at least 1."""
    return max(1, -(-images // images_per_job))


def assign_shards(part: str, keys: Iterable[str], *, images_per_job: int) -> dict[str, str]:
    """Assign each key of one part to a shard.

    Parameters
    ----------
    part : str
        train, validation, test, unlabelled or a fold; the first half of the shard's name.
    keys : iterable of str
        One entry per image: its sample name, or the key of the sequence that must stay whole.
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
    """Return the SHA-256 of a file's bytes, read in chunks."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal_path(folder: str | Path) -> Path:
    """Return the path of a shard folder's seal: a file beside it with the digest of its manifest.

    Snakemake compares files by content but folders only by time stamp, so rules depend on the seal.
    """
    folder = Path(folder)
    return folder.with_name(f".{folder.name}.sha256")


def read_manifest(folder: str | Path) -> dict[str, str]:
    """Read the manifest of a shard folder: the names of its files with the digest of each.

    Raises
    ------
    ValueError
        If the folder has no manifest because it was not completely written.
    """
    path = Path(folder) / MANIFEST
    if not path.exists():
        raise ValueError(
            f"{folder}: expected a shard folder with {MANIFEST}, found none. "
            "The job that writes it did not finish. Run snakemake again."
        )
    manifest: dict[str, str] = json.loads(path.read_text())
    return manifest


@contextmanager
def shard_folder(output_dir: str | Path) -> Iterator[Path]:
    """Create a shard folder under a temporary name, and rename it once it is complete, with manifest and seal.

    Parameters
    ----------
    output_dir : path
        Final folder. An existing folder is replaced as a whole, so that no image of an earlier table
        remains.

    Yields
    ------
    Path
        An empty folder beside the final folder. On an error it is removed, and the final folder is unchanged.
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
    """Yield a temporary path beside `path`; rename the file to `path` on success, remove it on an error."""
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
    # mkdtemp makes folders that only the owner can read; results are shared in the lab.
    mask = os.umask(0)
    os.umask(mask)
    return mask
