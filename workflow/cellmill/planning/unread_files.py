"""Refuse containers and arrays that are not read as images or annotations, before the files are assigned to a split."""

from collections.abc import Mapping
from pathlib import Path

from cellmill.config.annotations import Annotations
from cellmill.config.dataset import Dataset
from cellmill.planning.patterns import find_files, fixed_folder

TO_TIFF = "tifffile.imwrite('image.tif', array)"
# Suffix -> what the file is, and how to convert it. Of two suffixes that match, the longer one counts.
UNREAD: Mapping[str, tuple[str, str]] = {
    ".h5": ("HDF5", f"export TIFF from ilastik, or read the array with h5py and write it with {TO_TIFF}"),
    ".hdf5": ("HDF5", f"export TIFF from ilastik, or read the array with h5py and write it with {TO_TIFF}"),
    ".npy": ("an array of numpy", f"write it with {TO_TIFF}"),
    ".npz": ("arrays of numpy", f"write each array with {TO_TIFF}"),
    "_seg.npy": (
        "a file of Cellpose",
        "save masks as PNG or TIFF from Cellpose (File, Save masks, or --save_tif) and use format label_image",
    ),
    ".mat": ("a file of MATLAB", "write each array with imwrite in MATLAB, or with scipy.io.loadmat and tifffile"),
    ".ilp": (
        "a project of ilastik",
        "export the segmentation from ilastik as TIFF and use format binary or label_image",
    ),
    ".zip": ("an archive", "unpack it"),
    ".rar": ("an archive", "unpack it"),
    ".7z": ("an archive", "unpack it"),
    ".tar": ("an archive", "unpack it"),
    ".tar.gz": ("an archive", "unpack it"),
    ".tgz": ("an archive", "unpack it"),
}
# Arrays are images, unless they are a pickled file of Cellpose.
ARRAYS = (".npy", ".npz", ".h5", ".hdf5")
UNREAD_IMAGES = {suffix: facts for suffix, facts in UNREAD.items() if suffix not in ARRAYS}
# Spreadsheets in place of tables, and lists of coordinates in place of masks
SPREADSHEET = ("a spreadsheet", "save it as CSV, with commas")
UNREAD_TABLES: Mapping[str, tuple[str, str]] = dict.fromkeys((".xlsx", ".xls", ".ods"), SPREADSHEET)
TO_COCO = "convert all files to one COCO file with the program that wrote them, and use format coco"
UNREAD_MASKS: Mapping[str, tuple[str, str]] = {
    ".json": ("outlines in JSON, one file for each image, as labelme writes them", TO_COCO),
    ".geojson": ("outlines in GeoJSON", "set format: geojson"),
    ".xml": ("outlines or boxes in XML, as CVAT and Pascal VOC write them", TO_COCO),
    ".txt": ("a text file, as YOLO writes them", TO_COCO),
    ".csv": ("a table", "set annotations.table with format rle, if it contains run lengths"),
    ".svg": ("a drawing in SVG", "export it as a label image in PNG or TIFF"),
    **UNREAD_TABLES,
}
# Formats whose files are images
FORMATS_OF_MASKS = ("label_image", "mask_folder", "binary", "color_components", "ctc")
ARCHIVES_OF_ROIS = "imagej_roi"


def refuse_unread_files(dataset: Dataset, *, where: str) -> list[str]:
    """List the patterns of a dataset that name files which are not read, with the way to convert them.

    Parameters
    ----------
    dataset : Dataset
        Config section of the dataset.
    where : str
        Key path of the section, for messages.
    """
    sections: dict[str, Annotations | None] = {"annotations": dataset.annotations}
    sections |= {f"models[{number}].masks": entry.masks for number, entry in enumerate(dataset.models)}
    mistakes = _refuse(dataset.images, UNREAD_IMAGES, kind="images", where=f"{where}.images")
    for name, section in sections.items():
        if section is None:
            continue
        for key in ("path", "table", "ignore", "markers"):
            if key == "path" and section.format == ARCHIVES_OF_ROIS:
                continue
            unread = {**UNREAD, **(UNREAD_TABLES if key == "table" else {})}
            unread |= UNREAD_MASKS if key == "path" and section.format in FORMATS_OF_MASKS else {}
            kind = "annotations" if name == "annotations" else "masks"
            mistakes += _refuse(getattr(section, key), unread, kind=kind, where=f"{where}.{name}.{key}")
    return mistakes


def _refuse(pattern: str | None, unread: Mapping[str, tuple[str, str]], *, kind: str, where: str) -> list[str]:
    """Return a message if the files of a pattern are not read."""
    if pattern is None or not (suffix := _unread_suffix(pattern, unread)):
        return []
    what, how = unread[suffix]
    if suffix == ".json" and "{" not in pattern:
        what, how = "a JSON file", "If it is one COCO file for all images, set format: coco"
    return [
        f"{where}: expected {kind} in a format that is read, found {what} ({Path(pattern).name}). "
        f"{how[0].upper()}{how[1:]}."
    ]


def _unread_suffix(pattern: str, unread: Mapping[str, tuple[str, str]]) -> str:
    """Return the suffix that is not read, from the pattern or from all files that match it; empty if there is none."""
    if suffix := _match(pattern, unread):
        return suffix
    if not pattern.endswith(("*", "}")) or not fixed_folder(pattern).is_dir():
        return ""
    try:
        found = {_match(path, unread) for path, _ in find_files(pattern)}
    except ValueError:
        return ""  # reported where the files are assigned
    return found.pop() if len(found) == 1 else ""


def _match(path: str, unread: Mapping[str, tuple[str, str]]) -> str:
    return max((suffix for suffix in unread if path.lower().endswith(suffix)), key=len, default="")
