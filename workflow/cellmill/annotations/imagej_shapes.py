"""Shapes of ImageJ ROIs: convert a ROI to an outline, and outlines to a ROI."""

import struct
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from cellmill.annotations.outlines import (
    DamagedOutlineError,
    Outline,
    explain_few_points,
    outline_of_box,
    outline_of_ellipse,
    outline_of_rings,
)

# straight segments per curve of a composite ROI
CURVE_PIECES = 32
# the largest coordinate that fits into the format's 16-bit integers
LAST_INTEGER = 2**15 - 1

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


def explain_no_area(roi: ImagejRoi) -> str:
    """Return why a ROI encloses no area (a line, a point, a text, ...), for `Instance.broken`; else an empty text."""
    if roi.subtype in NO_AREA_SUBTYPES:
        return f"{NO_AREA_SUBTYPES[roi.subtype]} encloses no area"
    if roi.roitype in NO_AREA:
        return f"{NO_AREA[roi.roitype]} encloses no area"
    return explain_few_points(roi.n_coordinates) if roi.roitype in POLYGONS and not _is_parametric(roi) else ""


def read_outline(roi: ImagejRoi, data: bytes) -> Outline:
    """Return the outline of a ROI that encloses an area.

    Parameters
    ----------
    roi : ImagejRoi
        ROI for which `explain_no_area` returns an empty text.
    data : bytes
        The stored bytes of the ROI, because one of their fields is not available from roifile.

    Returns
    -------
    Outline
        In px. Its coordinates are as stored and may be NaN or infinite.

    Raises
    ------
    DamagedOutlineError
        If ImageJ does not define the type of the ROI or a command of its path, or the path is cut off.
    """
    if roi.roitype == ROI_TYPE.RECT and roi.composite:
        assert roi.multi_coordinates is not None
        return outline_of_rings(_read_path(roi.multi_coordinates.tolist()), problem="")
    if roi.roitype in (ROI_TYPE.RECT, ROI_TYPE.OVAL):
        return _read_box(roi)
    if roi.roitype not in POLYGONS:
        raise DamagedOutlineError(f"type {roi.roitype.value}, which ImageJ does not define")
    if _is_parametric(roi):
        # SOURCE ImageJ, RoiDecoder.java: the ratio is a float at byte 52, where other ROIs have three small fields
        (ratio,) = struct.unpack(">f", data[52:56])
        return _read_axis(roi, ratio=float(ratio))
    if roi.subpixel_coordinates is not None:
        points: np.ndarray = roi.subpixel_coordinates.astype(np.float64)
    else:
        assert roi.integer_coordinates is not None
        points = roi.integer_coordinates + np.array([roi.left, roi.top], dtype=np.float64)
    is_spline = bool(roi.options & ROI_OPTIONS.SPLINE_FIT)
    return outline_of_rings([points], problem="spline drawn with straight edges" if is_spline else "")


def encode_rings(rings: Sequence[np.ndarray], *, name: str) -> bytes:
    """Encode the outlines of one object as a ROI.

    Parameters
    ----------
    rings : sequence of ndarray of integers, shape (corners, 2)
        Closed rings of corners (x, y), px, at least one.
    name : str
        Name of the ROI.

    Returns
    -------
    bytes
        A traced ROI for one closed outline; a composite ROI for several, or for coordinates beyond 32,767 px.
    """
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


def _is_parametric(roi: ImagejRoi) -> bool:
    """Check whether a freehand ROI is an ellipse or a rotated rectangle, which are stored as an axis and a ratio."""
    return roi.roitype == ROI_TYPE.FREEHAND and roi.subtype in (ROI_SUBTYPE.ELLIPSE, ROI_SUBTYPE.ROTATED_RECT)


def _read_box(roi: ImagejRoi) -> Outline:
    """Read an oval, or a rectangle whose corners may be rounded."""
    left, top = float(roi.left), float(roi.top)
    width, height = float(roi.right - roi.left), float(roi.bottom - roi.top)
    if roi.subpixelrect:
        left, top, width, height = roi.xd, roi.yd, roi.widthd, roi.heightd
    if roi.roitype == ROI_TYPE.OVAL:
        arc_x, arc_y = width / 2, height / 2
    else:
        # SOURCE java.awt.geom.RoundRectangle2D: the size of an arc is its diameter
        arc_x, arc_y = (min(abs(roi.rounded_rect_arc_size), side) / 2 for side in (width, height))
    return outline_of_box(left=left, top=top, width=width, height=height, arc_x=arc_x, arc_y=arc_y)


def _read_axis(roi: ImagejRoi, *, ratio: float) -> Outline:
    """Read an ellipse (ratio of its axes) or a rotated rectangle (its width in px) from the ends of its long axis."""
    start, end = np.array([roi.x1, roi.y1]), np.array([roi.x2, roi.y2])
    half = (end - start) / 2
    length = float(np.hypot(*half))
    across = np.array([-half[1], half[0]])
    if roi.subtype == ROI_SUBTYPE.ROTATED_RECT:
        across = across * (ratio / 2 / length) if length > 0 else across
        return outline_of_rings([np.stack((start + across, end + across, end - across, start - across))], problem="")
    x, y = ((start + end) / 2).tolist()
    return outline_of_ellipse(x=x, y=y, half=half, across=across * ratio)


def _read_path(numbers: Sequence[float]) -> list[np.ndarray]:
    """Read the path of a composite ROI: commands, each followed by its points."""
    rings: list[list[tuple[float, float]]] = []
    i = 0
    while i < len(numbers):
        command = int(numbers[i])
        if command not in PATH_POINTS or command != numbers[i] or (not rings and command != MOVE):
            raise DamagedOutlineError(f"a path with the unknown command {numbers[i]:g}")
        stop = i + 1 + 2 * PATH_POINTS[command]
        if stop > len(numbers):
            raise DamagedOutlineError("a truncated path")
        points = list(zip(numbers[i + 1 : stop : 2], numbers[i + 2 : stop : 2], strict=True))
        if command == MOVE:
            rings.append(points)
        elif command == CLOSE:
            # segments that follow without a move start at the first point of the ring
            rings.append(rings[-1][:1])
        elif command == LINE:
            rings[-1] += points
        else:
            rings[-1] += _flatten([rings[-1][-1], *points])
        i = stop
    return [np.array(ring, dtype=np.float64) for ring in rings if len(ring) > 2]


def _flatten(controls: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Split a Bezier curve into straight segments by de Casteljau's algorithm, and leave out its first point."""
    t = np.arange(1, CURVE_PIECES + 1)[:, np.newaxis] / CURVE_PIECES
    points = [np.asarray(control, dtype=np.float64)[np.newaxis] for control in controls]
    while len(points) > 1:
        points = [(1 - t) * a + t * b for a, b in pairwise(points)]
    return [(x, y) for x, y in points[0].tolist()]
