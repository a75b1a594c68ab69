"""Shards: the unit of work, and how a shard folder is written to disk.

A shard is about `images_per_job` images of one part (train, validation, test, a fold, unlabelled).
Whole sequences stay together. Images are assigned by linear hashing of a stable key, so that an added shard
takes images from one other shard only: see workflow/decisions/0002-shards-by-linear-hashing.md.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from cellmill.runlog import package_versions

# Mean number of images of a shard. "auto": the number grows with the part that is divided.
ShardSize = int | Literal["auto"]
AUTO: Literal["auto"] = "auto"
FEW_IMAGES = 200  # of a shard, as long as a part has at most MOST_IN_FEW images
MOST_IN_FEW = 1600
MANIFEST = "manifest.json"
# Reported where they differ between shards. Not part of the manifest, because a package upgrade that does
# not change the pixels must not change the seal.
VERSIONS = "versions.json"
# Errors of a full disk, a quota or a limited size of files; errors of missing rights
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
# Kept apart from the manifest, whose digests enter results such as postprocess.json.
SIZES = "sizes.json"


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


def shards_needed(images: int, *, images_per_job: ShardSize) -> int:
    """Return the number of shards of a part, at least 1; it never falls when images are added.

    `images` / `images_per_job`, rounded up. With "auto" shards have about 200 images; from 1,600 images of a part on,
    their number grows with the square root of the images, and so does their size: 25 shards of 600 images for 15,000.
    """
    if images_per_job == AUTO and images > MOST_IN_FEW:
        return math.ceil(math.sqrt(images * MOST_IN_FEW) / FEW_IMAGES)
    return max(1, -(-images // (FEW_IMAGES if images_per_job == AUTO else images_per_job)))


def assign_shards(part: str, keys: Iterable[str], *, images_per_job: ShardSize) -> dict[str, str]:
    """Assign each key of one part to a shard.

    Parameters
    ----------
    part : str
        train, validation, test, unlabelled or a fold; the first half of the shard's name.
    keys : iterable of str
        One entry per image: its sample name, or the key of the sequence that must stay whole.
    images_per_job : int, > 0, or "auto"
        Mean number of images of a shard; "auto" as in `shards_needed`.

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
    """Return the path of a shard folder's seal: a file beside it with the digests of its manifest and of its sizes.

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


def file_sizes(folder: str | Path) -> dict[str, int]:
    """Return the sizes in bytes of all files below a folder: relative path with slashes -> size."""
    sizes: dict[str, int] = {}
    todo = [(os.fspath(folder), "")]
    while todo:
        place, prefix = todo.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.is_dir():
                    todo.append((entry.path, f"{prefix}{entry.name}/"))
                    continue
                with suppress(FileNotFoundError):  # a link to a file that is gone
                    sizes[prefix + entry.name] = entry.stat().st_size
    return sizes


def listed_files(folder: str | Path) -> list[Path]:
    """List the files of a shard folder's manifest, sorted, after checking that all of them exist.

    Raises
    ------
    ValueError
        If the folder has no manifest, or lacks files that its manifest lists.
    """
    names = sorted(read_manifest(folder))
    found = file_sizes(folder)
    if missing := [name for name in names if name not in found]:
        raise ValueError(
            f"{folder}: expected the {len(names)} files of {MANIFEST}, found {len(missing)} missing: "
            f"{', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}. Run snakemake again: it makes incomplete "
            "folders again before it starts other jobs."
        )
    return [Path(folder) / name for name in names]


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
    _make_parent(output_dir)
    for leftover in _leftovers(output_dir):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{output_dir.name}.partial-", dir=output_dir.parent))
    except OSError as error:
        _explain_unwritable(error, output_dir, written=0, needed=None)
        raise
    try:
        yield partial
        files = sorted(path for path in partial.rglob("*") if path.is_file())
        manifest = {path.relative_to(partial).as_posix(): file_digest(path) for path in files}
        sizes = {path.relative_to(partial).as_posix(): path.stat().st_size for path in files}
        for name, content in ((MANIFEST, manifest), (SIZES, sizes), (VERSIONS, package_versions())):
            (partial / name).write_text(json.dumps(content, indent=1) + "\n")
        partial.chmod(0o777 & ~_umask())
        _replace_folder(output_dir, partial)
        with atomic_path(seal_path(output_dir)) as seal:
            seal.write_text(seal_text(output_dir))
    except BaseException as error:
        written = _written(partial)
        shutil.rmtree(partial, ignore_errors=True)
        _explain_unwritable(error, output_dir, written=written, needed=None)
        raise


def seal_text(folder: str | Path) -> str:
    """Return the content of a folder's seal: a line with the digest of its manifest, and one with that of its sizes."""
    return "".join(f"{file_digest(Path(folder) / name)}\n" for name in (MANIFEST, SIZES))


def _replace_folder(folder: Path, partial: Path) -> None:
    """Move a complete folder to its final name; until then an earlier folder stays on disk."""
    if not folder.exists():
        partial.rename(folder)
        return
    earlier = folder.with_name(f".{folder.name}.earlier-{os.getpid()}")
    folder.rename(earlier)
    try:
        partial.rename(folder)
    except BaseException:
        earlier.rename(folder)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


def _leftovers(folder: Path) -> list[Path]:
    """List what a killed job left beside a folder; the hidden names are never read as shards."""
    return [path for kind in ("partial", "earlier") for path in folder.parent.glob(f".{folder.name}.{kind}-*")]


@contextmanager
def atomic_path(path: str | Path, *, needed: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename the file to `path` on success, remove it on an error.

    Parameters
    ----------
    path : path
    needed : int or None
        Bytes that the file needs at least, for the message if the disk is full. None: as many as an existing file.

    Raises
    ------
    ValueError
        If the disk or the quota is full, or the folder cannot be written.
    """
    path = Path(path)
    _make_parent(path)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    except BaseException as error:
        written = _written(partial)
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        _explain_unwritable(error, path, written=written, needed=needed)
        raise


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _explain_unwritable(error, path, written=0, needed=None)
        raise


def _written(partial: Path) -> int:
    """Return the bytes below an unfinished file or folder."""
    with suppress(OSError):
        return sum(file_sizes(partial).values()) if partial.is_dir() else partial.stat().st_size
    return 0


def _explain_unwritable(error: BaseException, path: Path, *, written: int, needed: int | None) -> None:
    """Raise a ValueError that names the file if an error means that it cannot be written; return otherwise.

    Parameters
    ----------
    error : exception
        Its causes are searched as well, because writers raise errors of their own after a failed write.
    path : Path
        Final path of the file or folder.
    written, needed : int
        Bytes written before the error, and bytes that are needed at least if known.
    """
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and cause.errno in (*_FULL, *_FORBIDDEN)):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return
    assert isinstance(cause, OSError)
    if cause.errno in _FORBIDDEN:
        # Not the rights of a file that is read while this one is written.
        if cause.filename is None or Path(os.fsdecode(cause.filename)).is_relative_to(path.parent):
            raise ValueError(
                f"{path}: expected to write here, found {cause.strerror}. Make {path.parent} writable, then run the "
                "same command again: it goes on from here."
            ) from error
        return
    if needed is None and path.is_file():
        needed = path.stat().st_size
    place = next(parent for parent in path.absolute().parents if parent.is_dir())
    if needed and needed > written:
        size = f" with at least {_in_mb(needed)}"
    else:
        size = f" with more than {_in_mb(written)}" if written >= 1000 else ""
    raise ValueError(
        f"{path}: expected to write this{size}, found {cause.strerror}: {_in_mb(shutil.disk_usage(place).free)} "
        f"are free in {place}, unless a quota or a limit allows less. Free some space, then run the same command "
        "again: it goes on from here."
    ) from error


def _in_mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"


def _umask() -> int:
    # mkdtemp makes folders that only the owner can read; results are shared in the lab.
    mask = os.umask(0)
    os.umask(mask)
    return mask
