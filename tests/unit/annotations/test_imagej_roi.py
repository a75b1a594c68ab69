"""ImageJ ROIs: pixels covered by each kind, positions in stacks, invalid archives, and writing."""

import io
import struct
import zipfile

import numpy as np
import pytest
import tifffile
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from cellmill.annotations import imagej_roi, outlines
from cellmill.annotations.imagej_roi import read_imagej_roi
from cellmill.annotations.imagej_writer import write_rois
from cellmill.annotations.outlines import trace_edges
from cellmill.config.annotations import Annotations
from cellmill.images.stored import IGNORE_LABEL

SHAPE = (20, 30)
SECTION = Annotations.model_validate({"format": "imagej_roi", "path": "x.zip"}).model_dump(mode="json")


def read_paths(*paths, shape=SHAPE, **row):
    row = {"sample": "a", "image": "a.tif", "annotations": [str(path) for path in paths], **row}
    return read_imagej_roi(row, shape=shape, annotations=SECTION, table=None)


def read(tmp_path, roi, *, shape=SHAPE, **row):
    data = roi if isinstance(roi, bytes) else roi.tobytes()
    (tmp_path / "cell.roi").write_bytes(data)
    return read_paths(tmp_path / "cell.roi", shape=shape, **row)


def mask_of(instance, *, shape=SHAPE):
    mask_yx = np.zeros(shape, bool)
    mask_yx[instance.box] = instance.mask_yx
    return mask_yx


def read_mask(tmp_path, roi, *, shape=SHAPE):
    (instance,) = read(tmp_path, roi, shape=shape)
    assert instance.broken == ""
    return mask_of(instance, shape=shape)


def centres(shape=SHAPE):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return y + 0.5, x + 0.5


def box_roi(kind, top, left, bottom, right, **fields):
    return ImagejRoi(roitype=kind, top=top, left=left, bottom=bottom, right=right, **fields)


def polygon_roi(points, *, kind=ROI_TYPE.POLYGON, **fields):
    points = np.asarray(points)
    roi = ImagejRoi.frompoints(points, name="")
    roi.roitype = kind
    for name, value in fields.items():
        setattr(roi, name, value)
    return roi


def composite_roi(path, **fields):
    return ImagejRoi(
        roitype=ROI_TYPE.RECT,
        right=1,
        bottom=1,
        multi_coordinates=np.array(path, np.float32),
        shape_roi_size=len(path),
        **fields,
    )


def ring_path(*corners):
    path = []
    for i, corner in enumerate(corners):
        path += [1 if i else 0, *corner]
    return [*path, 4]


def axis_roi(subtype, *ends, ratio):
    roi = ImagejRoi(roitype=ROI_TYPE.FREEHAND, subtype=subtype, integer_coordinates=np.zeros((0, 2), np.int32))
    roi.x1, roi.y1, roi.x2, roi.y2 = ends
    data = bytearray(roi.tobytes())
    data[52:56] = struct.pack(">f", ratio)
    return bytes(data)


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def winding_mask(points, shape=SHAPE):
    """Return which pixel centres lie in a simple polygon, by summing the angles of its corners seen from the centre."""
    y, x = centres(shape)
    angles = [np.arctan2(py - y, px - x) for px, py in points]
    turns = [(angles[i] - angles[i - 1] + np.pi) % (2 * np.pi) - np.pi for i in range(len(points))]
    return np.abs(np.sum(turns, axis=0)) > np.pi


# kinds of areas


def test_a_rectangle_covers_its_pixels(tmp_path):
    expected_yx = np.zeros(SHAPE, bool)
    expected_yx[3:7, 10:25] = True
    assert np.array_equal(read_mask(tmp_path, box_roi(ROI_TYPE.RECT, 3, 10, 7, 25)), expected_yx)


def test_a_mask_is_its_tight_box(tmp_path):
    (instance,) = read(tmp_path, box_roi(ROI_TYPE.RECT, 3, 10, 7, 25))
    assert (instance.row, instance.column, instance.mask_yx.shape) == (3, 10, (4, 15))
    assert (instance.number, instance.is_ignored) == (None, False)


@pytest.mark.parametrize("kind", [ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED])
def test_an_outline_along_the_edges_of_pixels_leaves_no_choice(tmp_path, kind):
    corners = [(2, 1), (9, 1), (9, 4), (5, 4), (5, 8), (2, 8)]
    expected_yx = np.zeros(SHAPE, bool)
    expected_yx[1:4, 2:9] = expected_yx[4:8, 2:5] = True
    for points in (corners, corners[::-1]):
        assert np.array_equal(read_mask(tmp_path, polygon_roi(points, kind=kind)), expected_yx)


@pytest.mark.parametrize("seed", range(6))
def test_a_pixel_belongs_to_an_outline_that_winds_round_its_centre(tmp_path, seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
    radii = rng.uniform(2, 9, 12)
    points = np.stack((15 + radii * np.cos(angles), 10 + radii * np.sin(angles)), axis=1).astype(np.float32)
    assert np.array_equal(read_mask(tmp_path, polygon_roi(points)), winding_mask(points.astype(float)))


def test_objects_that_share_a_slanted_edge_neither_overlap_nor_leave_a_gap(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(20):
        hub = rng.uniform((5, 5), (25, 15))
        rim = [(0, 0), (30, 0), (30, 20), (0, 20)]
        members = [
            (f"{i}.roi", polygon_roi(np.array([hub, rim[i - 1], rim[i]], np.float32)).tobytes()) for i in range(4)
        ]
        instances = read_paths(write_zip(tmp_path / "fan.zip", members))
        assert np.array_equal(sum(mask_of(instance).astype(int) for instance in instances), np.ones(SHAPE, int))


def test_a_centre_on_the_outline_belongs_to_what_lies_right_of_it_or_below(tmp_path):
    square = np.array([(2.5, 2.5), (4.5, 2.5), (4.5, 4.5), (2.5, 4.5)], np.float32)
    expected_yx = np.zeros(SHAPE, bool)
    expected_yx[2:4, 2:4] = True
    assert np.array_equal(read_mask(tmp_path, polygon_roi(square)), expected_yx)


@pytest.mark.parametrize("box", [(2, 3, 12, 13), (2, 3, 13, 14), (0, 0, 20, 30), (5, 5, 6, 6), (4, 2, 9, 29)])
def test_an_oval_covers_the_centres_inside_its_ellipse(tmp_path, box):
    top, left, bottom, right = box
    y, x = centres()
    # in integers, so that rounding misjudges no centre
    dy, dx = (2 * y - top - bottom).astype(int), (2 * x - left - right).astype(int)
    height, width = bottom - top, right - left
    expected_yx = (dy * width) ** 2 + (dx * height) ** 2 < (height * width) ** 2
    assert np.array_equal(read_mask(tmp_path, box_roi(ROI_TYPE.OVAL, *box)), expected_yx)


@pytest.mark.parametrize("kind", [ROI_TYPE.OVAL, ROI_TYPE.RECT])
def test_boxes_have_fractions_of_a_pixel_where_they_were_drawn_so(tmp_path, kind):
    roi = box_roi(kind, 3, 4, 10, 16, options=ROI_OPTIONS.SUB_PIXEL_RESOLUTION)
    roi.xd, roi.yd, roi.widthd, roi.heightd = 4.625, 3.375, 11.25, 6.5
    y, x = centres()
    dy, dx = (y - 3.375 - 3.25) / 3.25, (x - 4.625 - 5.625) / 5.625
    expected_yx = dy**2 + dx**2 < 1 if kind == ROI_TYPE.OVAL else np.maximum(abs(dy), abs(dx)) < 1
    assert np.array_equal(read_mask(tmp_path, roi), expected_yx)


@pytest.mark.parametrize("arc", [5, 7, 40])
def test_round_corners_of_a_rectangle_are_cut_off(tmp_path, arc):
    y, x = centres()
    # an ellipse in each corner, rectangles between them
    half_x, half_y = min(arc, 24) / 2, min(arc, 14) / 2
    dx = np.maximum(np.maximum(3 + half_x - x, x - (27 - half_x)), 0) / half_x
    dy = np.maximum(np.maximum(2 + half_y - y, y - (16 - half_y)), 0) / half_y
    inside = (x > 3) & (x < 27) & (y > 2) & (y < 16) & (dx**2 + dy**2 < 1)
    mask_yx = read_mask(tmp_path, box_roi(ROI_TYPE.RECT, 2, 3, 16, 27, rounded_rect_arc_size=arc))
    assert np.array_equal(mask_yx, inside)
    assert not mask_yx[2, 3]


@pytest.mark.parametrize(("ends", "ratio"), [((5, 4, 24, 15), 0.5), ((6, 16, 20, 5), 0.3), ((4, 10, 26, 10), 0.7)])
def test_a_turned_ellipse_covers_the_centres_inside(tmp_path, ends, ratio):
    y, x = centres()
    # SOURCE definition of the ellipse by its foci: the sum of the distances equals the long axis
    ends = np.array(ends, float).reshape(2, 2)
    middle, half = ends.mean(axis=0), (ends[1] - ends[0]) / 2
    foci = [middle + sign * half * np.sqrt(1 - np.float32(ratio).astype(float) ** 2) for sign in (1, -1)]
    distance = sum(np.hypot(x - focus[0], y - focus[1]) for focus in foci)
    roi = axis_roi(ROI_SUBTYPE.ELLIPSE, *ends.ravel(), ratio=ratio)
    assert np.array_equal(read_mask(tmp_path, roi), distance < 2 * np.hypot(*half))


def test_a_turned_rectangle_has_its_width_across_its_axis(tmp_path):
    y, x = centres()
    along = ((x - 6) * 16 + (y - 4) * 12) / 20
    across = ((y - 4) * 16 - (x - 6) * 12) / 20
    expected_yx = (along > 0) & (along < 20) & (abs(across) < 2.6)
    assert np.array_equal(read_mask(tmp_path, axis_roi(ROI_SUBTYPE.ROTATED_RECT, 6, 4, 22, 16, ratio=5.2)), expected_yx)


def test_holes_and_parts_of_a_composite_are_kept(tmp_path):
    path = [
        *ring_path((2, 2), (12, 2), (12, 12), (2, 12)),
        *ring_path((4, 4), (4, 10), (10, 10), (10, 4)),
        *ring_path((6, 6), (8, 6), (8, 8), (6, 8)),
        *ring_path((20, 3), (25, 3), (25, 5), (20, 5)),
    ]
    expected_yx = np.zeros(SHAPE, bool)
    expected_yx[2:12, 2:12] = True
    expected_yx[4:10, 4:10] = False
    expected_yx[6:8, 6:8] = expected_yx[3:5, 20:25] = True
    assert np.array_equal(read_mask(tmp_path, composite_roi(path)), expected_yx)


def test_curves_of_a_composite_are_followed(tmp_path):
    # a quarter of a disc as a cubic curve, whose error is below 0.03 % of the radius, and a parabola
    k = 4 / 3 * np.tan(np.pi / 8) * 15
    quarter = [0, 0, 0, 1, 15, 0, 3, 15, k, k, 15, 0, 15, 4]
    y, x = centres()
    assert np.array_equal(read_mask(tmp_path, composite_roi(quarter)), np.hypot(x, y) < 15)
    parabola = [0, 0, 0, 2, 10, 20, 20, 0, 4]
    # the control point (10, 20) gives y = x (20 - x) / 10
    assert np.array_equal(read_mask(tmp_path, composite_roi(parabola)), y < x * (20 - x) / 10)


# ROIs without an area, or with parts that have none


@pytest.mark.parametrize(
    ("roi", "broken"),
    [
        (ImagejRoi(roitype=ROI_TYPE.LINE), "a line encloses no area"),
        (polygon_roi([(1, 1), (5, 5), (9, 1)], kind=ROI_TYPE.FREELINE), "a freehand line encloses no area"),
        (polygon_roi([(1, 1), (5, 5), (9, 1)], kind=ROI_TYPE.POLYLINE), "a segmented line encloses no area"),
        (polygon_roi([(1, 1), (5, 5), (9, 1)], kind=ROI_TYPE.ANGLE), "an angle encloses no area"),
        (polygon_roi([(1, 1), (5, 5), (9, 1)], kind=ROI_TYPE.POINT), "a point encloses no area"),
        (ImagejRoi(roitype=ROI_TYPE.NOROI), "an empty ROI encloses no area"),
        (box_roi(ROI_TYPE.RECT, 1, 1, 5, 5, subtype=ROI_SUBTYPE.TEXT, text="x"), "a text encloses no area"),
        (
            box_roi(ROI_TYPE.RECT, 1, 1, 5, 5, subtype=ROI_SUBTYPE.IMAGE, image_data=b"abcd", image_size=4),
            "an image overlay encloses no area",
        ),
        (polygon_roi([(1, 1), (9, 9)]), "outline of 2 points"),
        (polygon_roi([(1, 1)], kind=ROI_TYPE.TRACED), "outline of 1 point"),
        (box_roi(ROI_TYPE.RECT, 5, 5, 5, 9), "outline contains no pixel centre"),
        (box_roi(ROI_TYPE.OVAL, 5, 9, 7, 5), "outline contains no pixel centre"),
        (composite_roi([0, 1, 1, 1, 5, 5, 4]), "outline contains no pixel centre"),
        (axis_roi(ROI_SUBTYPE.ELLIPSE, 5, 5, 5, 5, ratio=0.5), "outline contains no pixel centre"),
        (axis_roi(ROI_SUBTYPE.ROTATED_RECT, 5, 5, 5, 5, ratio=3), "outline contains no pixel centre"),
        (polygon_roi(np.array([(1.6, 1), (2.4, 1), (2.4, 9)], np.float32)), "outline contains no pixel centre"),
        (box_roi(ROI_TYPE.RECT, 25, 5, 29, 9), "outline extends beyond the image"),
        (box_roi(ROI_TYPE.OVAL, -9, -9, -2, -2), "outline extends beyond the image"),
    ],
)
def test_what_covers_no_pixel_is_an_empty_object_that_says_why(tmp_path, roi, broken):
    (instance,) = read(tmp_path, roi)
    assert (instance.broken, instance.area_px, instance.mask_yx.shape) == (broken, 0, (0, 0))


def test_an_outline_may_leave_the_image_by_one_pixel(tmp_path):
    inside = np.ones(SHAPE, bool)
    (instance,) = read(tmp_path, box_roi(ROI_TYPE.RECT, -1, -1, 21, 31))
    assert instance.broken == ""
    assert np.array_equal(mask_of(instance), inside)
    for box in ((-2, 0, 20, 30), (0, -2, 20, 30), (0, 0, 22, 30), (0, 0, 20, 32)):
        (instance,) = read(tmp_path, box_roi(ROI_TYPE.RECT, *box))
        assert instance.broken == "outline extends beyond the image"
        assert np.array_equal(mask_of(instance), inside)


def test_what_lies_outside_on_every_side_is_cut_off(tmp_path):
    points = np.array([(-40, 10), (15, -30), (70, 10), (15, 50)], np.float32)
    (instance,) = read(tmp_path, polygon_roi(points))
    assert np.array_equal(mask_of(instance), winding_mask(points.astype(float)))


def test_a_spline_is_drawn_by_its_knots_and_called_broken(tmp_path):
    points = [(2, 2), (12, 2), (12, 12), (2, 12)]
    (instance,) = read(tmp_path, polygon_roi(points, options=ROI_OPTIONS.SPLINE_FIT))
    assert instance.broken == "spline drawn with straight edges"
    assert instance.area_px == 100


# names and files


def test_the_source_is_the_name_of_the_roi_or_of_its_file(tmp_path):
    rect = box_roi(ROI_TYPE.RECT, 1, 1, 5, 5)
    named = box_roi(ROI_TYPE.RECT, 6, 6, 9, 9, name="nucleus\n \u00b5")
    (tmp_path / "alone.roi").write_bytes(rect.tobytes())
    archive = write_zip(tmp_path / "set.zip", [("b/0001-0002.roi", rect.tobytes()), ("x.ROI", named.tobytes())])
    instances = read_paths(tmp_path / "alone.roi", archive)
    assert [instance.source for instance in instances] == ["alone", "0001-0002", "nucleus \u00b5"]
    assert [instance.area_px for instance in instances] == [16, 16, 9]


def test_members_of_other_kinds_are_skipped(tmp_path):
    rect = box_roi(ROI_TYPE.RECT, 1, 1, 5, 5).tobytes()
    members = [("readme.txt", b"x"), ("a.roi", rect), ("__MACOSX/._a.roi", b"Mac OS X"), ("folder/", b"")]
    assert len(read_paths(write_zip(tmp_path / "a.zip", members))) == 1


def test_an_archive_without_a_roi_is_refused_and_an_empty_one_has_no_object(tmp_path):
    with pytest.raises(
        ValueError, match=r"sample a, .*a\.zip: expected members that end in \.roi, found none among 2 members\."
    ):
        read_paths(write_zip(tmp_path / "a.zip", [("readme.txt", b"x"), ("b.tif", b"x")]))
    assert read_paths(write_zip(tmp_path / "b.zip", [])) == []


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"expected a \.roi file or a \.zip archive of \.roi files, found the suffix '\.tif'"
    ):
        read_paths(tmp_path / "a.tif")


def test_missing_files_and_broken_archives_are_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no archive")
    message = (
        r"a\.roi: expected a readable file, found: No such file or directory\. Check the path.*\n"
        r"sample a, .*a\.zip: expected a readable file, found: File is not a zip file\. Check the path"
    )
    with pytest.raises(ValueError, match=message):
        read_paths(tmp_path / "a.roi", tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "ImageJ ROI data too short"),
        (b"Nope" + bytes(80), "not an ImageJ ROI"),
        (polygon_roi([(1, 1), (5, 5), (9, 1)]).tobytes()[:70], "buffer is too small"),
        (composite_roi([0, 1, 1, 1, 5, 5, 7]).tobytes(), "a path with the unknown command 7"),
        (composite_roi([1, 1, 1, 1, 5, 5, 4]).tobytes(), "a path with the unknown command 1"),
        (composite_roi([0, 1, 1, 1.5, 5, 5, 4]).tobytes(), "a path with the unknown command 1.5"),
        (composite_roi([0, 1, 1, 1, 5]).tobytes(), "a truncated path"),
        (composite_roi(ring_path((1, 1), (np.inf, 5), (9, 1))).tobytes(), "coordinates that are not numbers"),
        (axis_roi(ROI_SUBTYPE.ELLIPSE, 1, 1, 9, 9, ratio=np.inf), "coordinates that are not numbers"),
        (b"Iout\0\xe5\x0d" + bytes(80), "type 13, which ImageJ does not define"),
    ],
)
def test_damaged_rois_are_refused_with_file_and_member(tmp_path, data, reason):
    good = box_roi(ROI_TYPE.RECT, 1, 1, 5, 5).tobytes()
    archive = write_zip(tmp_path / "a.zip", [("good.roi", good), ("bad.roi", data)])
    message = rf"sample a, .*a\.zip, bad\.roi: expected an ImageJ ROI, found a damaged one \(.*{reason}.*\)\. Copy"
    with pytest.raises(ValueError, match=message):
        read_paths(archive)


def test_all_damaged_members_are_listed(tmp_path):
    archive = write_zip(tmp_path / "a.zip", [(f"{i}.roi", b"x") for i in range(3)])
    with pytest.raises(ValueError, match=r"a\.zip, 0\.roi: (.|\n)*a\.zip, 1\.roi: (.|\n)*a\.zip, 2\.roi: "):
        read_paths(archive)


# archives that are not sets of ROIs


def test_an_archive_of_too_many_members_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(imagej_roi, "MAX_MEMBERS", 3)
    rect = box_roi(ROI_TYPE.RECT, 1, 1, 5, 5).tobytes()
    assert len(read_paths(write_zip(tmp_path / "a.zip", [(f"{i}.roi", rect) for i in range(3)]))) == 3
    with pytest.raises(ValueError, match=r"a\.zip: expected at most 3 members, found 4\. Split the archive"):
        read_paths(write_zip(tmp_path / "a.zip", [(f"{i}.roi", rect) for i in range(4)]))


def test_a_member_that_unpacks_to_too_much_is_refused_unread(tmp_path):
    archive = write_zip(tmp_path / "a.zip", [("a.roi", bytes(64 * 2**20 + 1))])
    assert archive.stat().st_size < 2**20
    with pytest.raises(
        ValueError, match=r"a\.zip, a\.roi: expected a member of at most 64 MiB uncompressed, found more\."
    ):
        read_paths(archive)


def test_an_archive_that_unpacks_to_too_much_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(imagej_roi, "MAX_ARCHIVE_BYTES", 2 * 2**20)
    archive = write_zip(tmp_path / "a.zip", [(f"{i}.roi", bytes(2**20)) for i in range(3)])
    with pytest.raises(ValueError, match=r"a\.zip: expected members of at most 2 MiB uncompressed, found 3\.0 MiB"):
        read_paths(archive)


def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(imagej_roi, "MAX_MEMBER_BYTES", 2**20)
    (tmp_path / "a.roi").write_bytes(bytes(2**21))
    with pytest.raises(ValueError, match=r"a\.roi: expected a file of at most 1 MiB uncompressed, found more\."):
        read_paths(tmp_path / "a.roi")


def test_a_member_that_lies_about_its_size_is_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", bytes(2**20))
    honest = struct.pack("<I", 2**20)
    (tmp_path / "a.zip").write_bytes(buffer.getvalue().replace(honest, struct.pack("<I", 100)))
    with pytest.raises(ValueError, match=r"a\.zip, a\.roi: expected a readable file, found: Bad CRC-32"):
        read_paths(tmp_path / "a.zip")


def test_an_outline_that_would_take_hours_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(outlines, "MAX_CROSSINGS", 1000)
    zigzag = np.array([(i % 29, 20 * (i % 2)) for i in range(60)])
    with pytest.raises(ValueError, match=r"cell\.roi: .* \(an outline that crosses pixel rows 1[12]00 times\)"):
        read(tmp_path, polygon_roi(zigzag))


def test_an_outline_is_filled_in_pieces_as_in_one(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    roi = polygon_roi(rng.uniform(0, 20, (300, 2)).astype(np.float32))
    whole_yx = read_mask(tmp_path, roi)
    for size in (1, 7, 64):
        monkeypatch.setattr(outlines, "CHUNK_CROSSINGS", size)
        assert np.array_equal(read_mask(tmp_path, roi), whole_yx)


# stacks


def at(**position):
    return box_roi(ROI_TYPE.RECT, 1, 1, 5, 5, **position)


def stack(*plane):
    return {"plane": [list(axis) for axis in plane], "is_annotated_as_stack": True}


@pytest.mark.parametrize(
    ("position", "planes"),
    [
        ({}, range(6)),
        ({"position": 1}, [0]),
        ({"position": 5}, [4]),
        ({"t_position": 5}, [4]),
        ({"c_position": 1, "z_position": 1, "t_position": 5}, [4]),
        ({"c_position": 1, "z_position": 5, "t_position": 1}, [4]),
        ({"c_position": 2}, range(6)),
    ],
)
@pytest.mark.parametrize("axis", ["T", "Z"])
def test_a_position_in_a_stack_counts_from_one(tmp_path, position, planes, axis):
    found = [index for index in range(6) if read(tmp_path, at(**position), **stack((axis, index, 6)))]
    assert found == list(planes)


def test_a_projection_has_the_rois_of_all_planes(tmp_path):
    for name in ("maximum", "mean"):
        (instance,) = read(tmp_path, at(t_position=5), **stack(("T", name, 6)))
        assert (instance.area_px, instance.broken) == (16, "")


def test_in_a_stack_of_two_axes_both_have_to_fit(tmp_path):
    def places(roi):
        return [(t, z) for t in range(3) for z in range(4) if read(tmp_path, roi, **stack(("T", t, 3), ("Z", z, 4)))]

    assert places(at(t_position=2, z_position=3)) == [(1, 2)]
    assert places(at(t_position=2)) == [(1, z) for z in range(4)]
    # positions count all sections of one frame before the next frame
    assert places(at(position=7)) == [(1, 2)]


def beside(tmp_path, *positions, image=None, **row):
    """Read an archive of equal ROIs that differ in their position only."""
    members = [(f"{i}.roi", at(**position).tobytes()) for i, position in enumerate(positions)]
    sample = {"sample": "a", "annotations": [str(write_zip(tmp_path / "a.zip", members))], "image": image, **row}
    return read_imagej_roi(sample, shape=(20, 30), annotations={}, table=None)


def test_a_position_behind_the_stack_is_said_once(tmp_path):
    found = [beside(tmp_path, {"position": 9}, {"position": 6}, **stack(("T", index, 6))) for index in range(6)]
    assert [[instance.broken for instance in instances] for instances in found] == [
        ["position 9 in a stack of 6 planes"],
        *[[]] * 4,
        [""],
    ]


@pytest.mark.parametrize("position", [{"position": 2}, {"z_position": 2}, {"t_position": 2}])
def test_a_position_in_a_plain_image_is_broken_unless_it_is_the_first(tmp_path, position):
    instance, first = beside(tmp_path, position, dict.fromkeys(position, 1))
    assert (instance.broken, instance.area_px) == ("position 2 in an image of one plane", 0)
    assert (first.broken, first.area_px) == ("", 16)


def test_a_plane_with_rois_of_its_own_takes_its_own_place_and_the_first(tmp_path):
    found = beside(tmp_path, *({"position": p} for p in (0, 1, 4, 5)), plane=[["T", 3, 6]])
    assert [instance.broken for instance in found] == ["", "", "", "position 5 in an image of one plane"]


@pytest.mark.parametrize(
    ("positions", "row", "found"),
    [
        ([5, 5, 6], {}, "position 5 in an image of one plane"),
        ([9], stack(("Z", 0, 6)), "position 9 in a stack of 6 planes"),
        ([5, 7], {"plane": [["T", 3, 4]]}, "position 5 in an image of one plane"),
    ],
)
def test_rois_that_all_have_positions_that_the_image_lacks_stop_the_run(tmp_path, positions, row, found):
    message = rf"a\.zip: expected ROIs of planes of the image, found {len(positions)} with positions .* {found}\. If"
    with pytest.raises(ValueError, match=message):
        beside(tmp_path, *({"position": position} for position in positions), **row)


@pytest.mark.parametrize("position", [{"position": 2}, {"position": 3}, {"z_position": 3}])
def test_a_position_in_a_composite_of_one_plane_is_a_channel(tmp_path, position):
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, np.zeros((3, 20, 30), np.uint8), imagej=True, metadata={"axes": "CYX", "mode": "composite"})
    found = beside(tmp_path, position, position, image=str(image))
    assert [(one.broken, one.area_px) for one in found] == [("", 16)] * 2
    with pytest.raises(ValueError, match="such as position 4 in an image of one plane"):
        beside(tmp_path, {"position": 4}, image=str(image))


def test_a_single_position_counts_the_channels_of_a_section_before_the_next_section(tmp_path):
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, np.zeros((4, 2, 20, 30), np.uint8), imagej=True, metadata={"axes": "ZCYX"})
    # sections 0, 1 and 3 of four, each with two channels
    numbers = [{"position": 2}, {"position": 3}, {"position": 8}]
    counts = [len(beside(tmp_path, *numbers, image=str(image), **stack(("Z", z, 4)))) for z in range(4)]
    assert counts == [1, 1, 0, 1]


# writing


def draw(instances, shape):
    labels_yx = np.zeros(shape, np.int64)
    for instance in instances:
        assert instance.broken == ""
        assert not labels_yx[instance.box][instance.mask_yx].any()
        labels_yx[instance.box][instance.mask_yx] = int(instance.source)
    return labels_yx


def round_trip(tmp_path, labels_yx):
    labels_yx.flags.writeable = False
    write_rois(tmp_path / "out.zip", labels_yx)
    return draw(read_paths(tmp_path / "out.zip", shape=labels_yx.shape), labels_yx.shape)


def crowded_labels():
    labels_yx = np.zeros(SHAPE, np.uint16)
    labels_yx[0:6, 0:7] = 1  # at the corner of the image, with a hole
    labels_yx[2:4, 2:4] = 0
    labels_yx[0:6, 7:9] = 2  # touches 1
    labels_yx[3, 3] = 12  # one pixel inside the hole of 1
    labels_yx[10:12, 4:6] = labels_yx[12:14, 6:8] = 300  # two parts that meet at a corner
    labels_yx[10:12, 6:8] = labels_yx[12:14, 4:6] = 301  # so do these, in the gap
    labels_yx[19, 29] = labels_yx[16, 20] = 65534  # two parts, far apart
    labels_yx[15:20, 22:27] = 40  # a ring whose hole reaches its corner
    labels_yx[16:19, 23:26] = 0
    labels_yx[16, 23] = labels_yx[17, 24] = 40
    return labels_yx


def test_objects_survive_writing(tmp_path):
    labels_yx = crowded_labels()
    assert np.array_equal(round_trip(tmp_path, labels_yx), labels_yx)
    assert np.array_equal(round_trip(tmp_path, np.full(SHAPE, 3, np.uint8)), np.full(SHAPE, 3))
    assert np.array_equal(round_trip(tmp_path, np.full((1, 1), 70000, np.uint32)), [[70000]])


def test_an_image_without_objects_survives_writing(tmp_path):
    assert not round_trip(tmp_path, np.zeros(SHAPE, np.uint16)).any()


def test_ignored_pixels_are_not_written(tmp_path):
    labels_yx = crowded_labels()
    labels_yx[8, 10:20] = IGNORE_LABEL
    assert np.array_equal(round_trip(tmp_path, labels_yx), np.where(labels_yx == IGNORE_LABEL, 0, labels_yx))


def test_members_are_named_by_number_with_zeros_in_front(tmp_path):
    labels_yx = np.array([[1, 20, 300]], np.uint16)
    write_rois(tmp_path / "a.zip", labels_yx)
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() == ["0001.roi", "0020.roi", "0300.roi"]
    write_rois(tmp_path / "a.zip", np.array([[1, 70000]], np.uint32))
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() == ["00001.roi", "70000.roi"]


def test_one_outline_is_a_traced_roi_with_whole_corners(tmp_path):
    labels_yx = np.zeros(SHAPE, np.uint16)
    labels_yx[3:5, 4:9] = labels_yx[5, 4] = 1
    write_rois(tmp_path / "a.zip", labels_yx)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        roi = ImagejRoi.frombytes(archive.read("0001.roi"))
    assert (roi.roitype, roi.name, roi.left, roi.top, roi.right, roi.bottom) == (ROI_TYPE.TRACED, "0001", 4, 3, 9, 6)
    corners = {(4, 3), (9, 3), (9, 5), (5, 5), (5, 6), (4, 6)}
    assert {tuple(corner) for corner in roi.coordinates().tolist()} == corners
    assert roi.n_coordinates == 6


def test_equal_labels_give_equal_bytes(tmp_path):
    for name in ("a.zip", "b.zip"):
        write_rois(tmp_path / name, crowded_labels())
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_coordinates_beyond_16_bits_are_kept(tmp_path):
    labels_yx = np.zeros((4, 70_000), np.uint16)
    labels_yx[1:3, 100:69_000] = 1
    labels_yx[0, 32_766] = 2
    labels_yx[0, 32_767] = 3
    labels_yx[0, 65_536] = labels_yx[3, 69_999] = 4
    assert np.array_equal(round_trip(tmp_path, labels_yx), labels_yx)
    assert np.array_equal(round_trip(tmp_path, np.ascontiguousarray(labels_yx.T)), labels_yx.T)


def test_an_outline_of_more_corners_than_16_bits_count_is_kept(tmp_path):
    labels_yx = np.zeros((3, 33_000 - 300), np.uint16)
    labels_yx[1] = 1
    labels_yx[0, ::2] = labels_yx[2, ::2] = 1
    assert np.array_equal(round_trip(tmp_path, labels_yx), labels_yx)


def test_negative_labels_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.zip: expected labels from 0, found -4\. Renumber"):
        write_rois(tmp_path / "a.zip", np.array([[0, -4]]))
    assert list(tmp_path.iterdir()) == []


def test_rings_have_as_many_edges_as_the_mask_has_neighbours_outside():
    rng = np.random.default_rng(5)
    for _ in range(30):
        mask_yx = rng.random((8, 11)) < 0.6
        rings = trace_edges(mask_yx)
        length = sum(np.abs(ring - np.roll(ring, 1, axis=0)).sum() for ring in rings)
        padded = np.pad(mask_yx, 1).astype(int)
        assert length == np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()


def test_real_masks_survive_writing(tmp_path, real_data):
    folder = real_data / "ctc_fluo_n2dl_hela" / "Fluo-N2DL-HeLa" / "01_RES"
    paths = [*sorted(folder.glob("mask*.tif"))[::12], *sorted((real_data / "yeast_timelapse").rglob("*mask*.tif"))[::4]]
    assert len(paths) == 6
    for path in paths:
        labels_yx = tifffile.imread(path)
        assert np.array_equal(round_trip(tmp_path, labels_yx), labels_yx)
