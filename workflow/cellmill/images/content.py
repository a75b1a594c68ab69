"""Digests of the content of raw files, by which a job notices that a file was changed after the run was planned."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cellmill.images.ome_zarr import digest_store, is_store
from cellmill.shards import file_digest

DIGITS = 32
# First character of a digest of size and time, which stands for the content of a file that was not read
STAMPED = "t"
# size, time of the last change in ns, SHA-256
Record = tuple[int, int, str]


def join_digests(digests: Mapping[str, str]) -> str:
    """Return one digest of several files: path -> digest; "" if that of a file is not known."""
    if not digests or not all(digests.values()):
        return ""
    if len(digests) == 1:
        return next(iter(digests.values()))[:DIGITS]
    ordered = [digests[path] for path in sorted(digests)]
    joined = hashlib.sha256("\n".join(digest[:DIGITS] for digest in ordered).encode()).hexdigest()
    is_stamped = any(digest.startswith(STAMPED) for digest in ordered)
    return (STAMPED if is_stamped else "") + joined[: DIGITS - is_stamped]


def files_of_image(row: Mapping[str, Any]) -> list[str]:
    """List the files of an image, each once: the image, and for an image in several files the others."""
    return list(dict.fromkeys([row["image"], *row.get("members", ())]))


def files_of_annotation(row: Mapping[str, Any]) -> list[str]:
    """List the files of the annotation of an image, each once; none if it lies in a table."""
    files = [*row.get("annotations", ()), *row.get("extra", {}).values(), row.get("correction", "")]
    return list(dict.fromkeys(file for file in files if file))


def _digested(samples: Sequence[Mapping[str, Any]], *, is_stamped: bool) -> dict[tuple[str, ...], str]:
    """Return the files of images and annotations with a digest of either kind: files -> digest."""
    found = {}
    for row in samples:
        for key, files in (("image_digest", files_of_image(row)), ("annotation_digest", files_of_annotation(row))):
            digest = row.get(key, "")
            if digest and digest.startswith(STAMPED) == is_stamped:
                found[tuple(files)] = digest
    return found


def explain_changes(samples: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the files of a shard that were changed since the run was planned, one message each.

    Called after the files were read: what was read is then what the settings of the job state.

    Parameters
    ----------
    samples : sequence of mappings
        Rows of the sample table. Files without a digest of their content are passed over: results of the simulation,
        and files that were too large to be read for the plan. A change of the latter is noticed by the next call.
    """

    @cache  # images may share a file
    def digest(path: str) -> str:
        try:
            return digest_store(Path(path)) if is_store(Path(path)) else file_digest(path)
        except OSError:  # whoever reads it says so
            return ""

    changed: dict[str, None] = {}
    for files, planned in _digested(samples, is_stamped=False).items():
        found = join_digests({path: digest(path) for path in files})
        if found and found != planned:
            changed |= dict.fromkeys(files)
    return [
        f"{path}: expected the content that the file had when this run was planned, found another. It was changed "
        "since. Run snakemake again: only what depends on it runs."
        for path in changed
    ]


def record_files(samples: Sequence[Mapping[str, Any]]) -> dict[str, Record]:
    """Return size, time and SHA-256 of the files that were not read for the plan: path -> record.

    With it, the next call notices that a touched file has not changed.

    Parameters
    ----------
    samples : sequence of mappings
        Rows of the sample table.
    """
    paths = {path for files in _digested(samples, is_stamped=True) for path in files if not is_store(Path(path))}
    found: dict[str, Record] = {}
    for path in sorted(paths):
        status = Path(path).stat()
        found[path] = (status.st_size, status.st_mtime_ns, file_digest(path))
    return found
