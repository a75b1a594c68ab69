"""Annotations that are ROIs of ImageJ: .roi files, or .zip archives of them as the ROI Manager saves them.

Every kind of area becomes the places where its outline crosses the centre lines of pixel rows; a pixel is inside if
the crossings to its left are odd in number, so that holes and parts need no rule of their own.
"""

import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from cellmill.annotations.masks import Instance, crop_instance
from cellmill.annotations.pieces import split_numbers
from cellmill.images import IGNORE_LABEL
from cellmill.layouts import PROJECTIONS, PlaneIndex
from cellmill.shards import atomic_path

MAX_MEMBERS = 100_000
MAX_MEMBER_BYTES = 64 * 2**20
MAX_ARCHIVE_BYTES = 2**30
# an outline of a whole plate crosses fewer rows; a damaged one is stopped within seconds
MAX_CROSSINGS = 2**28
# edges that are crossed at a time, so that memory does not grow with the outline
CHUNK_CROSSINGS = 2**22
# an outline may leave the image by so much before it is called broken, px
MARGIN_PX = 1.0
# straight pieces for a curve of a composite ROI
CURVE_PIECES = 32
# the last coordinate that the format's 16-bit integers hold
LAST_INTEGER = 2**15 - 1
# ROIs are not told apart by when they were written
ZIP_TIME = (1980, 1, 1, 0, 0, 0)

POLYGONS = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
NO_AREA = {
    ROI_TYPE.LINE: "a line",
    ROI_TYPE.FREELINE: "a freehand line",
    ROI_TYPE.POLYLINE: "a segmented line",
    ROI_TYPE.ANGLE: "an angle",
    ROI_TYPE.POINT: "a point",
    ROI_TYPE.NOROI: "an empty ROI",
}
NO_AREA_SUBTYPES = {ROI_SUBTYPE.TEXT: "a text", ROI_SUBTYPE.IMAGE: "an image overlay"}

# SOURCE java.awt.geom.PathIterator, which composite ROIs store: number of points of each command
PATH_POINTS = {0: 1, 1: 1, 2: 2, 3: 3, 4: 0}
MOVE, LINE, CLOSE = 0, 1, 4


class Crossings(Protocol):
    """Gives (rows, x) of the crossings with the centre lines of the rows from `first` up to `stop`, in pieces."""

    def __call__(self, *, first: int, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray]]: ...


@dataclass(frozen=True)
class Outline:
    """An area in ImageJ's coordinates: pixel (0, 0) covers [0, 1) x [0, 1). `problem` as `Instance.broken`."""

    left: float
    top: float
    right: float
    bottom: float
    crossings: Crossings
    problem: str = ""


class _DamagedError(Exception):
    """What is wrong with the bytes of a ROI; never leaves this module."""


class Entry(NamedTuple):
    """One ROI as it is stored: its bytes, where they stand, and the name of its file."""

    data: bytes
    where: str
    name: str


def read_imagej_roi(
    row: Mapping[str, Any], *, shape: tuple[int, int], annotations: Mapping[str, Any], table: None
) -> list[Instance]:
    """Read the objects of one sample from ROIs of ImageJ.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `sample`, `annotations` (paths of .roi and .zip files) and the place in a stack
        are read.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section; nothing of it is read.
    table : None
        For formats whose samples share a file.

    Returns
    -------
    list of Instance
        In the order of the files and of the archives' members; `source` is the name of the ROI, else of its file.
        Lines, points, texts and the like are empty and broken. Of a stack only the ROIs of this plane and those
        without a position.

    Raises
    ------
    ValueError
        If a file cannot be read, is damaged, holds no ROI, or is an archive so large that it is no set of ROIs; a line
        for each.

    Notes
    -----
    A pixel belongs to an object if its centre lies inside the outline; a centre on the outline belongs to what lies
    to its right or, on a horizontal piece, below. Pixel (0, 0) covers [0, 1) x [0, 1), so that outlines along the
    edges of pixels, as the wand draws them, leave no choice. Crossing outlines and holes follow the even-odd rule.
    Nothing is unpacked to disk.
    """
    instances: list[Instance] = []
    problems: list[str] = []
    for path in row["annotations"]:
        try:
            for entry in _read_entries(Path(path), sample=row["sample"]):
                try:
                    found = _read_entry(entry, row=row, shape=shape)
                except ValueError as error:
                    problems.append(str(error))
                    continue
                if found is not None:
                    instances.append(found)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return instances


def write_rois(path: str | Path, labels_yx: np.ndarray) -> None:
    """Write a label image as an archive that ImageJ's ROI Manager opens: one ROI an object.

    Parameters
    ----------
    path : path
        Ends in ``.zip``.
    labels_yx : ndarray of integers, shape (rows, columns)
        0 background, 65535 ignored pixels, which are left out. A ROI is named by its number, with zeros in front, and
        runs along the edges of pixels, so that `read_imagej_roi` gives the same pixels. No object, no member.

    Raises
    ------
    ValueError
        If a label is negative.

    Notes
    -----
    One closed outline is a traced ROI; parts and holes make a composite ROI, and so do coordinates beyond 32,767 px,
    which traced ROIs cannot hold. Equal labels give equal bytes.
    """
    assert labels_yx.dtype.kind in "ui"
    if labels_yx.min() < 0:
        raise ValueError(f"{path}: expected labels from 0, found {labels_yx.min()}. Renumber the objects.")
    digits = max(4, len(str(labels_yx.max())))
    with atomic_path(path) as partial_path, zipfile.ZipFile(partial_path, "w") as archive:
        for number, (row, column, mask_yx) in split_numbers(labels_yx, first_row=0):
            if number == IGNORE_LABEL:
                continue
            name = f"{number:0{digits}d}"
            rings = [ring + np.array([column, row]) for ring in trace_edges(mask_yx)]
            info = zipfile.ZipInfo(f"{name}.roi", date_time=ZIP_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            # the same on every system: made on Unix, read by all
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, _encode(rings, name=name))


def trace_edges(mask_yx: np.ndarray) -> list[np.ndarray]:
    """Give the outlines of a mask along the edges of its pixels.

    Parameters
    ----------
    mask_yx : ndarray of bool, shape (rows, columns)
        One object, of any number of parts and holes.

    Returns
    -------
    list of ndarray of int64, shape (corners, 2)
        Closed rings of corners (x, y); the last corner is tied to the first. Filled by the even-odd rule they give the
        mask. In the order of their first corners, row by row.

    Notes
    -----
    Along a row of pixel corners the outline's corners pair up as ends of horizontal edges, down a column as ends of
    vertical ones. Where two pixels touch diagonally, two corners share a place.
    """
    padded_yx = np.pad(mask_yx, 1).astype(np.int8)
    a, b, c, d = padded_yx[:-1, :-1], padded_yx[:-1, 1:], padded_yx[1:, :-1], padded_yx[1:, 1:]
    is_diagonal_yx = (a == d) & (b == c) & (a != b)
    count_yx = ((a + b + c + d) % 2) + 2 * is_diagonal_yx
    y, x = np.nonzero(count_yx)
    times = count_yx[y, x]
    y, x = np.repeat(y, times), np.repeat(x, times)
    along = np.arange(y.size)
    down = np.lexsort((y, x))
    partner_along, partner_down = np.empty_like(along), np.empty_like(along)
    partner_along[along[0::2]], partner_along[along[1::2]] = along[1::2], along[0::2]
    partner_down[down[0::2]], partner_down[down[1::2]] = down[1::2], down[0::2]
    rings = []
    steps = (partner_along.tolist(), partner_down.tolist())
    is_used = [False] * y.size
    for start in range(y.size):
        if is_used[start]:
            continue
        ring, corner = [], start
        while not is_used[corner]:
            ring.append(corner)
            is_used[corner] = True
            corner = steps[(len(ring) + 1) % 2][corner]
        rings.append(np.stack((x[ring], y[ring]), axis=1))
    return rings


def _encode(rings: Sequence[np.ndarray], *, name: str) -> bytes:
    corners = np.concatenate(rings)
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    roi = ImagejRoi(name=name, left=left, top=top, right=right, bottom=bottom)
    if len(rings) == 1 and max(right, bottom) <= LAST_INTEGER:
        roi.roitype = ROI_TYPE.TRACED
        roi.n_coordinates = len(corners)
        roi.integer_coordinates = (corners - [left, top]).astype(np.int32)
        return roi.tobytes()
    path: list[float] = []
    for ring in rings:
        for i, (x, y) in enumerate(ring.tolist()):
            path += [LINE if i else MOVE, x, y]
        path.append(CLOSE)
    roi.roitype = ROI_TYPE.RECT
    roi.multi_coordinates = np.array(path, dtype=np.float32)
    roi.shape_roi_size = len(path)
    return roi.tobytes()


def _read_entries(path: Path, *, sample: str) -> Iterator[Entry]:
    """Give the ROIs of a file or of an archive, one at a time and never more bytes than an archive may hold."""
    where = f"sample {sample}, {path}"
    suffix = path.suffix.lower()
    if suffix not in (".roi", ".zip"):
        raise ValueError(
            f"{where}: expected a .roi file or a .zip archive of them, found the suffix '{path.suffix}'. "
            "Save the ROI Manager's list, or make annotations.path narrower."
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
            "Check the path and the rights of the file, or save the ROI Manager's list again."
        ) from error


def _check_archive(infos: Sequence[zipfile.ZipInfo], *, where: str) -> None:
    if len(infos) > MAX_MEMBERS:
        raise ValueError(
            f"{where}: expected at most {MAX_MEMBERS} members, found {len(infos)}. "
            "This is no set of ROIs of one image: split it."
        )
    for info in infos:
        _check_size(info.file_size, limit=MAX_MEMBER_BYTES, where=f"{where}, {info.filename}", what="a member")
    _check_size(sum(info.file_size for info in infos), limit=MAX_ARCHIVE_BYTES, where=where, what="members")
    if infos and not any(_is_roi(info.filename) for info in infos):
        raise ValueError(
            f"{where}: expected members that end in .roi, found none among {len(infos)}. "
            "Save the ROI Manager's list; an image without objects has an empty archive."
        )


def _check_size(size: int, *, limit: int, where: str, what: str) -> None:
    if size > limit:
        raise ValueError(
            f"{where}: expected {what} of at most {limit // 2**20} MiB uncompressed, found "
            f"{'more' if size == limit + 1 else f'{size / 2**20:.1f} MiB'}. This is no set of ROIs: check the file."
        )


def _is_roi(name: str) -> bool:
    # macOS adds members of the same suffix that hold no ROI
    return name.lower().endswith(".roi") and not Path(name).name.startswith("._")


def _read_entry(entry: Entry, *, row: Mapping[str, Any], shape: tuple[int, int]) -> Instance | None:
    """Read one ROI; None if it belongs to another plane of the stack."""
    try:
        roi = ImagejRoi.frombytes(entry.data)
        # a name is a label for people: no line breaks and no control characters
        name = "".join(character for character in roi.name if character.isprintable()).strip() or entry.name
        problem = _place_in_image(roi, row=row)
        if problem is None:
            return None
        problem = problem or _explain_no_area(roi)
        if problem:
            return Instance(0, 0, np.zeros((0, 0), dtype=bool), name, broken=problem)
        outline = _read_outline(roi, entry.data)
        if not np.isfinite([outline.left, outline.top, outline.right, outline.bottom]).all():
            raise _DamagedError("coordinates that are no numbers")
        return _draw(outline, shape=shape, name=name)
    except Exception as error:  # damaged bytes break in many ways
        raise ValueError(
            f"{entry.where}: expected a ROI of ImageJ, found a damaged one ({_reason(error)}). "
            "Copy the file again from its source, or draw the object again."
        ) from error


def _place_in_image(roi: ImagejRoi, *, row: Mapping[str, Any]) -> str | None:
    """Say what is wrong with the position of a ROI, or give None if it belongs to another plane of the stack."""
    if row.get("is_annotated_as_stack"):
        return _place_in_stack(roi, plane=row["plane"])
    # a plane with ROIs of its own, drawn while the plane lay in its stack or on its own
    if "plane" in row and _place_in_stack(roi, plane=row["plane"]) == "":
        return ""
    return _place_in_stack(roi, plane=())


def _place_in_stack(roi: ImagejRoi, *, plane: PlaneIndex) -> str | None:
    """Compare the position of a ROI with a plane; ImageJ counts from 1, and 0 stands for all planes."""
    stack = [(axis, index, int(size)) for axis, index, size in plane if len(plane) == 1 or axis in ("T", "Z")]
    positions = {"T": roi.t_position, "Z": roi.z_position}
    if len(stack) == 2:
        # SOURCE ImageJ, ImagePlus.convertIndexToPosition: sections count faster than frames
        sizes = {axis: size for axis, _, size in stack}
        if roi.position > 0 and max(positions.values()) == 0:
            frame, section = divmod(roi.position - 1, sizes["Z"])
            positions = {"T": frame + 1, "Z": section + 1}
        wanted = [(positions[axis], index, size) for axis, index, size in stack]
    else:
        # ImageJ may take time for depth: what is not the stack's axis stays at 1
        position = max(roi.position, *positions.values())
        wanted = [(position, index, size) for _, index, size in stack] or [(position, 0, 1)]
    for position, index, size in wanted:
        if position > size:
            # said once a stack, with its first plane
            is_first = all(place == 0 or place in PROJECTIONS for _, place, _ in stack)
            return f"position {position} in {_count_planes(size)}" if is_first else None
        if index not in PROJECTIONS and position not in (0, index + 1):
            return None
    return ""


def _count_planes(size: int) -> str:
    return "an image of one plane" if size == 1 else f"a stack of {size} planes"


def _explain_no_area(roi: ImagejRoi) -> str:
    if roi.subtype in NO_AREA_SUBTYPES:
        return f"{NO_AREA_SUBTYPES[roi.subtype]} encloses no area"
    if roi.roitype in NO_AREA:
        return f"{NO_AREA[roi.roitype]} encloses no area"
    if roi.roitype in POLYGONS and not _is_parametric(roi) and roi.n_coordinates < 3:
        return f"outline of {roi.n_coordinates} point{'' if roi.n_coordinates == 1 else 's'}"
    return ""


def _is_parametric(roi: ImagejRoi) -> bool:
    """Say whether a freehand ROI is an ellipse or a rotated rectangle, which are stored as an axis and a ratio."""
    return roi.roitype == ROI_TYPE.FREEHAND and roi.subtype in (ROI_SUBTYPE.ELLIPSE, ROI_SUBTYPE.ROTATED_RECT)


def _read_outline(roi: ImagejRoi, data: bytes) -> Outline:
    if roi.roitype == ROI_TYPE.RECT and roi.composite:
        assert roi.multi_coordinates is not None
        return _outline_of_rings(_read_path(roi.multi_coordinates.tolist()))
    if roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        return _read_box(roi)
    if roi.roitype not in POLYGONS:
        raise _DamagedError(f"type {roi.roitype.value}, which ImageJ does not know")
    if _is_parametric(roi):
        # SOURCE ImageJ, RoiDecoder.java: the ratio is a float at byte 52, over three small fields of other ROIs
        (ratio,) = struct.unpack(">f", data[52:56])
        return _read_axis(roi, ratio=float(ratio))
    if roi.subpixel_coordinates is not None:
        points: np.ndarray = roi.subpixel_coordinates.astype(np.float64)
    else:
        assert roi.integer_coordinates is not None
        points = roi.integer_coordinates + np.array([roi.left, roi.top], dtype=np.float64)
    is_spline = bool(roi.options & ROI_OPTIONS.SPLINE_FIT)
    return _outline_of_rings([points], problem="spline drawn with straight edges" if is_spline else "")


def _read_box(roi: ImagejRoi) -> Outline:
    """Read an oval, or a rectangle whose corners may be round."""
    left, top = float(roi.left), float(roi.top)
    width, height = float(roi.right - roi.left), float(roi.bottom - roi.top)
    if roi.subpixelrect:
        left, top, width, height = roi.xd, roi.yd, roi.widthd, roi.heightd
    if roi.roitype == ROI_TYPE.OVAL:
        arc_x, arc_y = width / 2, height / 2
    else:
        # SOURCE java.awt.geom.RoundRectangle2D: the size of an arc is its diameter
        arc_x, arc_y = (min(abs(roi.rounded_rect_arc_size), side) / 2 for side in (width, height))
    crossings = partial(_cross_box, left=left, top=top, width=width, height=height, arc_x=arc_x, arc_y=arc_y)
    return Outline(left, top, left + width, top + height, crossings)


def _read_axis(roi: ImagejRoi, *, ratio: float) -> Outline:
    """Read an ellipse (ratio of its axes), or a rotated rectangle (its width in px), from the ends of the long axis."""
    start, end = np.array([roi.x1, roi.y1]), np.array([roi.x2, roi.y2])
    half = (end - start) / 2
    length = float(np.hypot(*half))
    across = np.array([-half[1], half[0]])
    if roi.subtype == ROI_SUBTYPE.ROTATED_RECT:
        across = across * (ratio / 2 / length) if length > 0 else across
        return _outline_of_rings([np.stack((start + across, end + across, end - across, start - across))])
    x, y = ((start + end) / 2).tolist()
    across = across * ratio
    reach_x, reach_y = np.hypot(half, across).tolist()
    crossings = partial(_cross_ellipse, x=x, y=y, half=half, across=across)
    return Outline(x - reach_x, y - reach_y, x + reach_x, y + reach_y, crossings)


def _read_path(numbers: Sequence[float]) -> list[np.ndarray]:
    """Read the path of a composite ROI: commands, each followed by its points."""
    rings: list[list[tuple[float, float]]] = []
    i = 0
    while i < len(numbers):
        command = int(numbers[i])
        if command not in PATH_POINTS or command != numbers[i] or (not rings and command != MOVE):
            raise _DamagedError(f"a path with the command {numbers[i]:g}")
        stop = i + 1 + 2 * PATH_POINTS[command]
        if stop > len(numbers):
            raise _DamagedError("a path that is cut off")
        points = list(zip(numbers[i + 1 : stop : 2], numbers[i + 2 : stop : 2], strict=True))
        if command == MOVE:
            rings.append(points)
        elif command == CLOSE:
            # what is drawn on without a move begins where the ring began
            rings.append(rings[-1][:1])
        elif command == LINE:
            rings[-1] += points
        else:
            rings[-1] += _flatten([rings[-1][-1], *points])
        i = stop
    return [np.array(ring, dtype=np.float64) for ring in rings if len(ring) > 2]


def _flatten(controls: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Cut a Bezier curve into straight pieces, by de Casteljau's construction; without its first point."""
    t = np.arange(1, CURVE_PIECES + 1)[:, np.newaxis] / CURVE_PIECES
    points = [np.asarray(control, dtype=np.float64)[np.newaxis] for control in controls]
    while len(points) > 1:
        points = [(1 - t) * a + t * b for a, b in pairwise(points)]
    return [(x, y) for x, y in points[0].tolist()]


def _outline_of_rings(rings: Sequence[np.ndarray], *, problem: str = "") -> Outline:
    if not rings:
        return Outline(0.0, 0.0, 0.0, 0.0, partial(_cross_rings, rings=[]), problem)
    corners = np.concatenate(rings)
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return Outline(left, top, right, bottom, partial(_cross_rings, rings=rings), problem)


def _cross_rings(*, first: int, stop: int, rings: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if not rings:
        return
    start = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    # always downwards, so that two objects that share an edge share its crossings to the last bit
    is_up = end[:, 1] < start[:, 1]
    upper, lower = np.where(is_up[:, np.newaxis], end, start), np.where(is_up[:, np.newaxis], start, end)
    begins = _first_centre(upper[:, 1], first=first, stop=stop)
    counts = _first_centre(lower[:, 1], first=first, stop=stop) - begins
    ends = np.cumsum(counts)
    if ends[-1] > MAX_CROSSINGS:
        raise _DamagedError(f"an outline that crosses pixel rows {ends[-1]} times")
    cuts = np.searchsorted(ends, np.arange(CHUNK_CROSSINGS, ends[-1], CHUNK_CROSSINGS))
    for chunk in np.split(np.arange(len(start)), cuts):
        edges = np.repeat(chunk, counts[chunk])
        if edges.size:
            # each edge crosses `counts` rows one below the other, from `begins`
            step = np.arange(edges.size) - (ends - counts)[edges] + (ends - counts)[chunk[0]]
            rows = begins[edges] + step
            run, fall = (lower - upper)[edges].T
            yield rows, upper[edges, 0] + (rows + 0.5 - upper[edges, 1]) * run / fall


def _cross_box(
    *, first: int, stop: int, left: float, top: float, width: float, height: float, arc_x: float, arc_y: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cross a rectangle whose corners are quarters of an ellipse with the half axes `arc_x` and `arc_y`, px."""
    if width <= 0 or height <= 0:
        return
    rows = _rows_between(top, top + height, first=first, stop=stop)
    inset = np.zeros(rows.size)
    if arc_x > 0 and arc_y > 0:
        above = np.maximum(np.abs(rows + 0.5 - (top + height / 2)) - (height / 2 - arc_y), 0)
        inset = arc_x * (1 - np.sqrt(np.maximum(1 - (above / arc_y) ** 2, 0)))
    yield rows, left + inset
    yield rows, left + width - inset


def _cross_ellipse(
    *, first: int, stop: int, x: float, y: float, half: np.ndarray, across: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cross the ellipse of the points (x, y) + half * cos(t) + across * sin(t)."""
    reach = float(np.hypot(half[1], across[1]))
    if reach <= 0:
        return
    rows = _rows_between(y - reach, y + reach, first=first, stop=stop)
    height = (rows + 0.5 - y) / reach
    middle = x + height * float(half[0] * half[1] + across[0] * across[1]) / reach
    width = abs(float(half[0] * across[1] - half[1] * across[0])) / reach * np.sqrt(np.maximum(1 - height**2, 0))
    yield rows, middle - width
    yield rows, middle + width


def _rows_between(top: float, bottom: float, *, first: int, stop: int) -> np.ndarray:
    begin, end = _first_centre(np.array([top, bottom]), first=first, stop=stop).tolist()
    return np.arange(begin, end)


def _first_centre(places: np.ndarray, *, first: int, stop: int) -> np.ndarray:
    """Give the first pixel whose centre is at a place or behind it, from `first` to `stop`."""
    return np.clip(np.ceil(places - 0.5), first, stop).astype(np.int64)


def _draw(outline: Outline, *, shape: tuple[int, int], name: str) -> Instance:
    """Fill an outline inside its own box, cut at the edges of the image."""
    rows, columns = shape
    left, right = np.clip([np.floor(outline.left), np.ceil(outline.right)], 0, columns).astype(int).tolist()
    top, bottom = np.clip([np.floor(outline.top), np.ceil(outline.bottom)], 0, rows).astype(int).tolist()
    # a damaged box may end before it begins
    right, bottom = max(left, right), max(top, bottom)
    is_crossed_yx = np.zeros((bottom - top, right - left + 1), dtype=np.uint8)
    for y, x in outline.crossings(first=top, stop=bottom):
        np.bitwise_xor.at(is_crossed_yx, (y - top, _first_centre(x, first=left, stop=right) - left), 1)
    mask_yx = np.bitwise_xor.accumulate(is_crossed_yx[:, :-1], axis=1).astype(bool)
    problems = [outline.problem] if outline.problem else []
    if (
        min(outline.left, outline.top) < -MARGIN_PX
        or outline.right > columns + MARGIN_PX
        or outline.bottom > rows + MARGIN_PX
    ):
        problems.append("outline leaves the image")
    elif not mask_yx.any():
        problems.append("outline around no centre of a pixel")
    found = crop_instance(mask_yx, source=name)
    if found.mask_yx.size:
        found = replace(found, row=found.row + top, column=found.column + left)
    return replace(found, broken=" and ".join(problems))


def _reason(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or (str(error).strip().splitlines() or [type(error).__name__])[0]
