"""Headers of microscope files, kept from one call of snakemake to the next.

Opening a file takes up to 30 ms, and every call looks at every file of a dataset.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.images.axes import ONLY, SCENE
from cellmill.images.damage import explain
from cellmill.images.rasters import read_layout
from cellmill.images.raw_files import RAW_FORMATS, SET_OF_TIFF, Scene, open_raw, raw_format_of
from cellmill.provenance import digest_of
from cellmill.shards import atomic_path, file_digest

FILE = "headers.json"
LIBRARY = Path(__file__).resolve().parents[1]


class Headers:
    """Scenes and further files of microscope files; a header is read again only if one of its files has changed.

    Parameters
    ----------
    cache_dir : Path
        Folder of the file that is kept.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._path = cache_dir / FILE
        self._is_new = False

    @cached_property
    def _known(self) -> dict[str, Any]:
        # Read for the first microscope file: most datasets have none.
        return _load(self._path)

    def read(self, path: Path) -> tuple[Sequence[Scene], list[str]]:
        """Return the scenes of a file, and the paths of the other files that belong to it.

        Raises
        ------
        ValueError
            If the file is damaged, or its content does not match its suffix.
        """
        key = str(path.absolute())
        found = self._known.get(key)
        if found is not None and found["stamp"] == _stamp(path, found["members"]):
            return [_as_scene(each) for each in found["scenes"]], found["members"]
        scenes = _read(path)
        members = [member.as_posix() for member in open_raw(path).members]
        self._known[key] = {
            "stamp": _stamp(path, members),
            "members": members,
            "scenes": [{**asdict(each), "dtype": each.dtype.str, "sizes": list(each.sizes.items())} for each in scenes],
        }
        self._is_new = True
        return scenes, members

    def keep(self) -> None:
        """Write what was read to the file."""
        if self._is_new:
            with atomic_path(self._path) as partial:
                partial.write_text(json.dumps({"readers": _readers(), "files": self._known}))


def _load(path: Path) -> dict[str, Any]:
    """Read what is kept; nothing if it is damaged or was read by other readers."""
    try:
        content = json.loads(path.read_text())
        return dict(content["files"]) if content["readers"] == _readers() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


@cache
def _readers() -> str:
    """Return a digest of the readers and of the versions of their libraries."""
    modules = [LIBRARY / "images/raw_files.py", *sorted((LIBRARY / "microscopes").glob("*.py"))]
    versions = {}
    for library in {facts["library"] for facts in RAW_FORMATS.values()} - {""}:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = ""
    return digest_of({"modules": [file_digest(module) for module in modules], "versions": versions})


def _stamp(path: Path, members: Sequence[str]) -> list[list[int]]:
    """Return size and time of a file and of its members; 0 for one that is missing."""
    stamps = []
    for each in (path, *map(Path, members)):
        try:
            status = each.stat()
            stamps.append([status.st_size, status.st_mtime_ns])
        except OSError:
            stamps.append([0, 0])
    return stamps


def _read(path: Path) -> Sequence[Scene]:
    form = raw_format_of(path) or SET_OF_TIFF
    read_layout(path, plane=[[SCENE, f"{ONLY} 0", 1]])  # refuses a file whose content does not match its suffix
    try:
        scenes = open_raw(path).scenes
        for scene in scenes:
            scene.layout(where=path)
    except Exception as error:  # a broken header raises errors of many kinds
        raise explain(error, path=path, kind=form) from error
    return scenes


def _as_scene(kept: dict[str, Any]) -> Scene:
    size_um = kept["pixel_size_um"]
    return Scene(
        name=kept["name"],
        sizes=dict(kept["sizes"]),
        dtype=np.dtype(kept["dtype"]),
        channels=tuple(kept["channels"]),
        pixel_size_um=None if size_um is None else (size_um[0], size_um[1]),
        bits=kept["bits"],
    )
