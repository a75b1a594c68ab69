"""Annotations as ImageJ ROIs: .roi files, or .zip archives of them as saved by the ROI Manager.

This module handles files, archives and positions of ROIs in a stack; imagej_shapes.py handles their shapes and
imagej_writer.py writes them.
"""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from roifile import ImagejRoi

from cellmill.annotations.imagej_shapes import explain_no_area, read_outline
from cellmill.annotations.instance import AnnotationSettings, Instance
from cellmill.annotations.outlines import fill_outline
from cellmill.images.axes import SCENE, PlaneIndex
from cellmill.images.rasters import open_raster

# Declaration, see formats.py
FORMATS = {
    "imagej_roi": {
        "reader": "read_imagej_roi",
        "files": "several",
        "keys": ("path",),
        "needs": ("path",),
        "is_filled": False,
        "missing": "error",
        "summary": "ROI files or zip archives of them",
        "reads": "`.roi` files and `.zip` archives of them, up to 64 MiB per member and 1 GiB in total; ROIs that "
        "enclose no area are listed and left out",
        "used_by": "ROI Manager of ImageJ and Fiji",
    },
}

# A slide of 30,000 x 30,000 px has 200,000 nuclei.
MAX_MEMBERS = 500_000
MAX_MEMBER_BYTES = 64 * 2**20
MAX_ARCHIVE_BYTES = 2**30
# start of the fault of a ROI with a position beyond the planes of its image
MISPLACED = "position"


class Entry(NamedTuple):
    """One stored ROI: its bytes, its location for error messages, and the name of its file."""

    data: bytes
    where: str
    name: str


def read_imagej_roi(
    row: Mapping[str, Any], *, shape: tuple[int, int], annotations: AnnotationSettings, table: None
) -> list[Instance]:
    """Read the objects of one sample from ROIs of ImageJ.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `sample`, `annotations` (paths of .roi and .zip files) and the position in a stack
        are read.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section; not used.
    table : None
        Only used by formats with one file for all samples.

    Returns
    -------
    list of Instance
        In the order of files and archive members; `source` is the name of the ROI, or of its file if it has none.
        Lines, points, texts and other ROIs without area are empty and broken. In a stack, only ROIs of this plane and
        ROIs without a position are returned. Positions beyond the planes count the channels of a composite image.

    Raises
    ------
    ValueError
        If a file cannot be read, is damaged, is not a ROI, or is an archive too large for a set of ROIs, or if all its
        ROIs have positions that the image lacks; one line per problem.

    Notes
    -----
    A pixel belongs to an object if its centre lies inside the outline. A centre exactly on the outline belongs to the
    area on its right or, on a horizontal segment, below it. Pixel (0, 0) covers [0, 1) x [0, 1), so outlines along
    pixel edges, as drawn by the wand tool, are unambiguous. Crossing outlines and holes follow the even-odd rule.
    Archives are not unpacked to disk.
    """
    instances: list[Instance] = []
    problems: list[str] = []
    elsewhere = 0
    places = row["plane"] if row.get("is_annotated_as_stack") else []
    is_first = all(
        place == 0 or not isinstance(place, int) for axis, place, _ in places if len(places) == 1 or axis in "TZ"
    )
    for path in row["annotations"]:
        found, wrong, others = _read_file(Path(path), row=row, shape=shape, channels=1)
        misplaced = _count_misplaced(found)
        if misplaced and not wrong and (channels := _count_channels(row)) > 1:
            again = _read_file(Path(path), row=row, shape=shape, channels=channels)
            if _count_misplaced(again[0]) < misplaced:
                found, wrong, others = again
        # reported once per stack, with its first plane
        shown = [one for one in found if is_first or not one.broken.startswith(MISPLACED)]
        instances += shown
        problems += wrong
        elsewhere += others + len(found) - len(shown)
    if instances and _count_misplaced(instances) == len(instances) and not elsewhere:
        problems.append(
            f"sample {row['sample']}, {row['annotations'][0]}: expected ROIs of planes of the image, found "
            f"{len(instances)} with positions that it lacks, such as {instances[0].broken}. If the ROIs belong to this "
            "image, remove their positions (ROI Manager, More, Remove Slice Info); otherwise use the whole stack."
        )
    if problems:
        raise ValueError("\n".join(problems))
    return instances


def _read_file(
    path: Path, *, row: Mapping[str, Any], shape: tuple[int, int], channels: int
) -> tuple[list[Instance], list[str], int]:
    """Return the ROIs of a file that belong to an image, its problems, and the number of ROIs of other planes."""
    instances: list[Instance] = []
    problems: list[str] = []
    others = 0
    try:
        for entry in _read_entries(path, sample=row["sample"]):
            try:
                found = _read_entry(entry, row=row, shape=shape, channels=channels)
            except ValueError as error:
                problems.append(str(error))
                continue
            if found is None:
                others += 1
            else:
                instances.append(found)
    except ValueError as error:
        problems.append(str(error))
    return instances, problems, others


def _count_misplaced(instances: Sequence[Instance]) -> int:
    return sum(instance.broken.startswith(MISPLACED) for instance in instances)


def _count_channels(row: Mapping[str, Any]) -> int:
    """Count the channels of a sample's image; 1 if the image is not known."""
    if not row.get("image") or not Path(row["image"]).exists():
        return 1
    return open_raster(row["image"], palette="colours", plane=row.get("plane", ())).channels


def _read_entries(path: Path, *, sample: str) -> Iterator[Entry]:
    """Yield the ROIs of a file or an archive one at a time, within the size limits of files and archives."""
    where = f"sample {sample}, {path}"
    suffix = path.suffix.lower()
    if suffix not in (".roi", ".zip"):
        raise ValueError(
            f"{where}: expected a .roi file or a .zip archive of .roi files, found the suffix '{path.suffix}'. "
            "Save the ROI Manager's list, or narrow annotations.path."
        )
    place = where
    try:
        if suffix == ".roi":
            with path.open("rb") as stream:
                data = stream.read(MAX_MEMBER_BYTES + 1)
            _check_size(len(data), limit=MAX_MEMBER_BYTES, where=where, what="a file")
            yield Entry(data, where, path.stem)
            return
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            _check_archive(infos, where=where)
            for info in infos:
                if _is_roi(info.filename):
                    place = f"{where}, {info.filename}"
                    with archive.open(info) as member:
                        data = member.read(MAX_MEMBER_BYTES)
                    yield Entry(data, place, Path(info.filename).stem)
    except Exception as error:  # damaged archives break in many ways
        if isinstance(error, ValueError) and str(error).startswith(where):
            raise
        raise ValueError(
            f"{place}: expected a readable file, found: {_reason(error)}. "
            "Check the path and the file permissions, or save the ROI Manager's list again."
        ) from error


def _check_archive(infos: Sequence[zipfile.ZipInfo], *, where: str) -> None:
    if len(infos) > MAX_MEMBERS:
        raise ValueError(
            f"{where}: expected at most {MAX_MEMBERS} members, found {len(infos)}. "
            "Split the archive: it is not a set of ROIs of one image."
        )
    for info in infos:
        _check_size(info.file_size, limit=MAX_MEMBER_BYTES, where=f"{where}, {info.filename}", what="a member")
    _check_size(sum(info.file_size for info in infos), limit=MAX_ARCHIVE_BYTES, where=where, what="members")
    if infos and not any(_is_roi(info.filename) for info in infos):
        raise ValueError(
            f"{where}: expected members that end in .roi, found none among {len(infos)} members. "
            "Save the ROI Manager's list; for an image without objects, save an empty archive."
        )


def _check_size(size: int, *, limit: int, where: str, what: str) -> None:
    if size > limit:
        raise ValueError(
            f"{where}: expected {what} of at most {limit // 2**20} MiB uncompressed, found "
            f"{'more' if size == limit + 1 else f'{size / 2**20:.1f} MiB'}. Check the file: it is not a set of ROIs."
        )


def _is_roi(name: str) -> bool:
    # macOS adds members with the same suffix that are not ROIs
    return name.lower().endswith(".roi") and not Path(name).name.startswith("._")


def _read_entry(entry: Entry, *, row: Mapping[str, Any], shape: tuple[int, int], channels: int) -> Instance | None:
    """Read one ROI; return None if it belongs to another plane of the stack."""
    try:
        roi = ImagejRoi.frombytes(entry.data)
        # names are shown to people, so drop line breaks and control characters
        name = "".join(character for character in roi.name if character.isprintable()).strip() or entry.name
        problem = _place_in_image(roi, row=row, channels=channels)
        if problem is None:
            return None
        problem = problem or explain_no_area(roi)
        if problem:
            return Instance(0, 0, np.zeros((0, 0), dtype=bool), name, broken=problem)
        return fill_outline(read_outline(roi, entry.data), shape=shape, source=name)
    except Exception as error:  # damaged bytes break in many ways
        raise ValueError(
            f"{entry.where}: expected an ImageJ ROI, found a damaged one ({_reason(error)}). "
            "Copy the file again from its source, or draw the object again."
        ) from error


def _place_in_image(roi: ImagejRoi, *, row: Mapping[str, Any], channels: int) -> str | None:
    """Return the fault of a ROI's position, or an empty text; None if it belongs to another plane of the stack."""
    if row.get("is_annotated_as_stack"):
        return _place_in_stack(roi, plane=row["plane"], channels=channels)
    # the file belongs to one plane, but its ROIs may have been drawn in the stack or on the separate plane
    if "plane" in row and _place_in_stack(roi, plane=row["plane"], channels=channels) == "":
        return ""
    return _place_in_stack(roi, plane=(), channels=channels)


def _place_in_stack(roi: ImagejRoi, *, plane: PlaneIndex, channels: int) -> str | None:
    """Compare the position of a ROI with a plane, and return as `_place_in_image`.

    ImageJ counts positions from 1; 0 stands for all planes. In a composite image a single position counts all channels
    of a plane before the next plane.
    """
    plane = [entry for entry in plane if entry[0] != SCENE]
    stack = [(axis, index, int(size)) for axis, index, size in plane if len(plane) == 1 or axis in ("T", "Z")]
    positions = {"T": roi.t_position, "Z": roi.z_position}
    single = (roi.position + channels - 1) // channels
    if len(stack) == 2:
        # SOURCE ImageJ, ImagePlus.convertIndexToPosition: the section index varies faster than the frame index
        sizes = {axis: size for axis, _, size in stack}
        if single > 0 and max(positions.values()) == 0:
            frame, section = divmod(single - 1, sizes["Z"])
            positions = {"T": frame + 1, "Z": section + 1}
        wanted = [(positions[axis], index, size) for axis, index, size in stack]
    else:
        # ImageJ may store time as depth; the position along the other axis stays at 1
        position = max(single, *positions.values())
        if not stack:
            position = (max(roi.position, *positions.values()) + channels - 1) // channels
        wanted = [(position, index, size) for _, index, size in stack] or [(position, 0, 1)]
    for position, index, size in wanted:
        if position > size:
            return f"{MISPLACED} {position} in {_count_planes(size)}"
        if isinstance(index, int) and position not in (0, index + 1):
            return None
    return ""


def _count_planes(size: int) -> str:
    return "an image of one plane" if size == 1 else f"a stack of {size} planes"


def _reason(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or (str(error).strip().splitlines() or [type(error).__name__])[0]
