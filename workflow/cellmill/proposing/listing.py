"""Files below a folder, without those of operating systems and of cellmill itself."""

import os
from dataclasses import dataclass
from pathlib import Path

from cellmill.images.ome_zarr import METADATA_FILES
from cellmill.images.png_jpeg import KIND_OF_SUFFIX
from cellmill.images.raw_files import FORM_OF_SUFFIX

# ASSUME one that has a file of Snakemake beside it belongs to an earlier run
RESULTS = ("results", "logs", "benchmarks")
STORE_SUFFIX = ".zarr"
# Arrays with pickled objects beside an image, as Cellpose writes them
OTHER_ARRAYS = ("_seg.npy",)
# Ends of names with more than one dot
LONG_SUFFIXES = tuple(suffix for suffix in FORM_OF_SUFFIX if suffix.count(".") > 1)
SYSTEM_FILES = ("Thumbs.db", "desktop.ini")
# Characters with a meaning in patterns
IN_PATTERNS = "{}"
MAX_FILES = 2_000_000


@dataclass(frozen=True)
class File:
    """A file, or a folder that is one image: its folders below the looked-at one, its name without suffix, its suffix.

    `.ome.tif` and `.ome.zarr` count as one suffix.
    """

    folders: tuple[str, ...]
    stem: str
    suffix: str

    @property
    def name(self) -> str:
        return self.stem + self.suffix

    @property
    def is_image(self) -> bool:
        """Whether its suffix is that of an image which is read."""
        return is_image_suffix(self.suffix) and not self.name.lower().endswith(OTHER_ARRAYS)


def is_image_suffix(suffix: str) -> bool:
    """Return whether images with a suffix are read."""
    return suffix.lower().endswith((*KIND_OF_SUFFIX, *FORM_OF_SUFFIX, STORE_SUFFIX))


def list_files(folder: Path) -> list[File]:
    """List the files below a folder, sorted by path; hidden ones and results of cellmill are left out.

    Raises
    ------
    ValueError
        If the folder is missing or is a file, cannot be read, or contains no file.
    """
    if not folder.is_dir():
        found = "a file" if folder.exists() else "none"
        raise ValueError(
            f"look: expected a folder {folder}, found {found}. Set the folder that contains the images, such as "
            "--config look=data/plate1."
        )
    if any(sign in str(folder) for sign in IN_PATTERNS):
        raise ValueError(
            f"look: expected a folder without braces in its path, found {folder}. Rename it: braces mark wildcards."
        )
    files: list[File] = []
    waiting: list[tuple[Path, tuple[str, ...]]] = [(folder, ())]
    while waiting:
        place, folders = waiting.pop()
        waiting += _list_folder(place, folders, files)
        if len(files) > MAX_FILES:
            raise ValueError(f"look: expected at most {MAX_FILES} files, found more in {folder}. Look at a part of it.")
    if not files:
        raise ValueError(f"look: expected images in {folder}, found no file. Check the path.")
    return sorted(files, key=lambda file: (file.folders, file.name))


def _list_folder(place: Path, folders: tuple[str, ...], files: list[File]) -> list[tuple[Path, tuple[str, ...]]]:
    """Add the files of a folder to a list; return its folders."""
    try:
        with os.scandir(place) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(
            f"look: expected a readable folder {place}, found: {error.strerror}. Check its permissions."
        ) from error
    names = {entry.name for entry in found}
    if names & set(METADATA_FILES):  # a folder that is one image
        if not folders:
            raise ValueError(
                f"look: expected a folder that contains images, found the OME-Zarr image {place}. "
                "Set the folder above it."
            )
        files.append(_file(folders[:-1], folders[-1]))
        return []
    below = []
    for entry in found:
        name = entry.name
        if name.startswith(".") or name in SYSTEM_FILES or any(sign in name for sign in IN_PATTERNS):
            continue
        if name in RESULTS and ".snakemake" in names:
            continue
        if not entry.is_dir():
            files.append(_file(folders, name))
        elif not (entry.is_symlink() and place.resolve().is_relative_to(Path(entry.path).resolve())):
            below.append((place / name, (*folders, name)))
    return below


def _file(folders: tuple[str, ...], name: str) -> File:
    long = next((suffix for suffix in LONG_SUFFIXES if name.lower().endswith(suffix)), "")
    if long and len(name) > len(long):
        return File(folders, name[: -len(long)], name[-len(long) :])
    stem, dot, end = name.rpartition(".")
    if not stem:
        return File(folders, name, "")
    inner, inner_dot, ome = stem.rpartition(".")
    if inner and ome.lower() == "ome":
        return File(folders, inner, f"{inner_dot}{ome}{dot}{end}")
    if inner and end == "gz":
        return File(folders, inner, f"{inner_dot}{ome}{dot}{end}")
    return File(folders, stem, f"{dot}{end}")
