"""Digests of the content of images and annotations: what a job depends on in place of thousands of input files.

They are kept with size and times of the files, so that only changed files are read.
See workflow/decisions/0029-digests-of-raw-files.md.
"""

import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cellmill.images.content import DIGITS, STAMPED, Record, files_of_annotation, files_of_image, join_digests
from cellmill.images.damage import explain
from cellmill.images.ome_zarr import digest_store, is_store, stamp_store
from cellmill.images.png_jpeg import STORE
from cellmill.planning.layout import dataset_path
from cellmill.planning.samples import Sample, SampleError
from cellmill.shards import atomic_path, file_digest

FILE = "digests.json"
# New files with more bytes than this together are not read: their size and time stand for their content until then.
READ_AT_ONCE = 10**9
# Files are read by several threads, because a network file system has a delay for each.
THREADS = 8
FILES_OF_TASK = 32
# A file can be changed twice within the resolution of its times. One that was changed just now is read again.
SETTLED_S = 2.0
SAID_EVERY_S = 30.0
MAX_MISTAKES = 20

# size, time of the last change of the content, time of the last change of anything; times in ns
Stamp = list[int]


@dataclass
class Known:
    """What is kept of a file: its stamp, the digest in the settings of its jobs, and its SHA-256, "" if not known."""

    stamp: Stamp
    digest: str
    sha256: str

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.stamp[0]


class FileDigests:
    """Digests of files, of which those with other sizes or times than in the last call are read.

    A touched file keeps its digest. The time of the last change of anything (ctime) cannot be set, so a file that
    another one of its size and time has replaced is read as well.

    Parameters
    ----------
    cache_dir : Path
        Folder of the file that is kept.
    recheck : bool
        Whether to read all files.
    """

    def __init__(self, cache_dir: Path, *, recheck: bool = False) -> None:
        self._path = cache_dir / FILE
        self._recheck = recheck

    @cached_property
    def _known(self) -> dict[str, Known]:
        try:
            return {path: Known(*kept) for path, kept in json.loads(self._path.read_text()).items()}
        except (OSError, ValueError, TypeError):
            return {}

    def read(self, paths: Iterable[str], *, records: Callable[[], Mapping[str, Record]] = dict) -> dict[str, str]:
        """Return the digest of each file, "" for a folder and for a file that cannot be read.

        Parameters
        ----------
        paths : iterable of str
        records : function
            Returns what jobs recorded of files that were too large to be read here: path -> size, time, SHA-256.
        """
        found: dict[str, str] = {}
        changed: dict[str, Stamp] = {}
        with ThreadPoolExecutor(THREADS) as pool:
            for path, stamp in _spread(pool, _stamp, list(dict.fromkeys(paths))):
                kept = self._known.get(path)
                if stamp is None:
                    found[path] = ""
                elif kept is not None and kept.stamp == stamp and not self._recheck:
                    found[path] = kept.digest
                else:
                    changed[path] = stamp
            before = self._contents_before(changed, records)
            others = sum(stamp[0] for path, stamp in changed.items() if path not in before)
            is_all_read = self._recheck or others <= READ_AT_ONCE
            contents = dict(
                _read(pool, {path: stamp for path, stamp in changed.items() if is_all_read or path in before})
            )
        for path, stamp in changed.items():
            sha256 = contents.get(path)
            found[path] = self._digest(path, stamp, before=before.get(path), sha256=sha256)
            self._keep(path, Known(stamp, found[path], sha256 or ""))
        if changed:
            with atomic_path(self._path) as partial:
                partial.write_text(json.dumps({path: list(vars(kept).values()) for path, kept in self._known.items()}))
        return found

    def _contents_before(
        self, changed: Mapping[str, Stamp], records: Callable[[], Mapping[str, Record]]
    ) -> dict[str, str]:
        """Return the SHA-256 before they were touched of files that have kept their size, as far as it is known."""
        touched = [
            path for path, stamp in changed.items() if path in self._known and self._known[path].size == stamp[0]
        ]
        found = {path: self._known[path].sha256 for path in touched}
        if not all(found.values()):
            for path, (*stamp, sha256) in records().items():
                if path in found and stamp == self._known[path].stamp[:2]:
                    found[path] = sha256
        return {path: sha256 for path, sha256 in found.items() if sha256}

    def _digest(self, path: str, stamp: Stamp, *, before: str | None, sha256: str | None) -> str:
        """Return the digest of a new or touched file; without its SHA-256, from its size and time."""
        kept = self._known.get(path)
        if sha256 is None:
            return STAMPED + hashlib.sha256(f"{stamp[0]} {stamp[1]}".encode()).hexdigest()[: DIGITS - 1]
        # A file that is only read because of `recheck` may never have been read before.
        is_same = sha256 == before or (before is None and kept is not None and kept.stamp == stamp)
        return kept.digest if kept is not None and sha256 and is_same else sha256[:DIGITS]

    def _keep(self, path: str, known: Known) -> None:
        if known.digest and time.time() - known.stamp[2] / 1e9 > SETTLED_S:
            self._known[path] = known


def digest_samples(samples: Sequence[Sample], *, dataset: str, digests: FileDigests, cache_dir: Path) -> list[Sample]:
    """Add digests of the content of images, annotations and masks to the samples of a dataset.

    Raises
    ------
    SampleError
        If an image that is a folder (OME-Zarr) is damaged.
    """
    rows = [vars(sample) for sample in samples]
    read = (
        path
        for sample, row in zip(samples, rows, strict=True)
        for path in (*files_of_image(row), *sample.annotation_files(), *sample.mask_files())
    )
    known = digests.read(read, records=lambda: _records(dataset))
    folders = [image for image in dict.fromkeys(sample.image for sample in samples) if not known[image]]
    known |= _digest_stores(folders, cache_dir=cache_dir)

    def joined(files: list[str]) -> str:
        return join_digests({path: known[path] for path in files})

    return [
        sample.changed(
            image_digest=joined(files_of_image(row)),
            annotation_digest=joined(files_of_annotation(row)),
            masks={
                model: {**place, "annotation_digest": joined(files)} if (files := files_of_annotation(place)) else place
                for model, place in sample.masks.items()
            },
        )
        for sample, row in zip(samples, rows, strict=True)
    ]


def _records(dataset: str) -> dict[str, Record]:
    """Return what the check has recorded of the files of a dataset: path -> size, time, SHA-256."""
    found: dict[str, Record] = {}
    for path in Path(dataset_path(dataset, "check")).glob("*.json"):
        try:
            found |= json.loads(path.read_text()).get("files", {})
        except (OSError, ValueError):
            continue
    return found


def _digest_stores(paths: Iterable[str], *, cache_dir: Path) -> dict[str, str]:
    """Return the digests of those that are OME-Zarr folders, read only where the listing of a folder has changed."""
    images = [path for path in paths if is_store(Path(path))]
    if not images:
        return {}
    cache = cache_dir / "stores.json"
    known: dict[str, list[str]] = json.loads(cache.read_text()) if cache.is_file() else {}
    digests: dict[str, str] = {}
    mistakes: list[str] = []
    for image in images:
        key = str(Path(image).absolute())
        try:
            stamp = stamp_store(Path(image))
            if known.get(key, [""])[0] != stamp:
                known[key] = [stamp, digest_store(Path(image))]
        except Exception as error:  # broken metadata can raise exceptions of many kinds
            mistakes.append(str(explain(error, path=Path(image), kind=STORE)))
            continue
        digests[image] = known[key][1]
    if mistakes:
        raise SampleError(mistakes[:MAX_MISTAKES])
    with atomic_path(cache) as partial:
        partial.write_text(json.dumps(known))
    return digests


def _read(pool: ThreadPoolExecutor, stamps: Mapping[str, Stamp]) -> Iterator[tuple[str, str]]:
    """Yield the SHA-256 of each file; say on the terminal how much of a long reading is done."""
    total, done = sum(stamp[0] for stamp in stamps.values()), 0
    started = said = time.monotonic()
    if total > READ_AT_ONCE:
        print(
            f"Reading {len(stamps):,} files whose times have changed ({total / 1e9:,.1f} GB)",
            file=sys.stderr,
            flush=True,
        )
    for path, sha256 in _spread(pool, _digest, list(stamps)):
        yield path, sha256
        done += stamps[path][0]
        now = time.monotonic()
        if total > READ_AT_ONCE and now - said > SAID_EVERY_S:
            left_min = (now - started) * (total - done) / max(done, 1) / 60
            print(f"{done / total:.0%} read, {left_min:.0f} min left", file=sys.stderr, flush=True)
            said = now


def _spread(pool: ThreadPoolExecutor, work: Any, paths: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Apply a function to each path, in several threads; yield paths with results, in order."""
    tasks = [paths[first : first + FILES_OF_TASK] for first in range(0, len(paths), FILES_OF_TASK)]
    for task, results in zip(tasks, pool.map(lambda task: [work(path) for path in task], tasks), strict=True):
        yield from zip(task, results, strict=True)


def _stamp(path: str) -> Stamp | None:
    try:
        status = os.stat(path)  # noqa: PTH116  a Path takes longer than the call, for each of a million files
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _digest(path: str) -> str:
    try:
        return file_digest(path)
    except OSError:  # the check says why it cannot be read
        return ""
