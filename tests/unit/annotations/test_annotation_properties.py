"""Annotations of any content: written files are read back unchanged; damaged ones yield objects or a ValueError."""

import io
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import tifffile
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from cellmill.annotations.color_components import read_color_components
from cellmill.annotations.ctc import read_ctc, read_tracks
from cellmill.annotations.ctc_writer import write_ctc
from cellmill.annotations.imagej_roi import read_imagej_roi
from cellmill.annotations.imagej_writer import write_rois
from cellmill.config.annotations import Annotations
from cellmill.images.stored import IGNORE_LABEL

SHAPE = (9, 11)
READERS = {"ctc": read_ctc, "imagej_roi": read_imagej_roi, "color_components": read_color_components}

numbers = st.sampled_from([0, 1, 2, 7, 300, 65533, 65534, IGNORE_LABEL])
label_images = arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=numbers)
sequences = st.lists(arrays(np.uint16, (3, 4), elements=numbers), min_size=1, max_size=6)
# (position as a fraction of the file, byte): a few changed bytes
changes = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6)


def read(kind, path, *, shape, frame=0, **extra):
    annotations = Annotations.model_validate({"format": kind, "path": "x"}).model_dump(mode="json")
    row = {"sample": "a", "image": "a.tif", "annotations": [str(path)], "frame": frame, "extra": extra}
    return READERS[kind](row, shape=shape, annotations=annotations, table=None)


def attempt(action):
    """Return (result, None) of an action, or (None, message) after a ValueError; other errors propagate."""
    try:
        return action(), None
    except ValueError as error:
        return None, str(error)


def read_or_refuse(kind, path, *, shape):
    """Check that reading either fails with a clear ValueError or returns objects that lie inside the image."""
    instances, refusal = attempt(lambda: read(kind, path, shape=shape))
    assert refusal is None or (str(path) in refusal and "expected" in refusal)
    for instance in instances or ():
        assert instance.mask_yx.dtype == bool
        assert instance.row >= 0
        assert instance.column >= 0
        assert instance.row + instance.mask_yx.shape[0] <= shape[0]
        assert instance.column + instance.mask_yx.shape[1] <= shape[1]


def damage(data, *, changes, kept):
    damaged = bytearray(data)
    for place, byte in changes:
        damaged[int(place * len(damaged))] = byte
    return bytes(damaged[: round(kept * len(damaged))])


def zip_of(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", data)
        archive.writestr("b.roi", data)
    return buffer.getvalue()


@st.composite
def rois(draw):
    """Draw a ROI of any kind as ImageJ might save it."""
    kind = draw(st.sampled_from([kind for kind in ROI_TYPE if kind >= 0]))
    subtype = draw(st.sampled_from([subtype for subtype in ROI_SUBTYPE if subtype >= 0]))
    coordinate = st.integers(-3, 14)
    roi = ImagejRoi(roitype=kind, subtype=subtype, name=draw(st.text(st.characters(max_codepoint=0x2FF), max_size=4)))
    roi.top, roi.left, roi.bottom, roi.right = (draw(coordinate) for _ in range(4))
    roi.position, roi.rounded_rect_arc_size = draw(st.integers(0, 2)), draw(st.integers(0, 9))
    roi.x1, roi.y1, roi.x2, roi.y2 = (draw(st.floats(-3, 14, width=32)) for _ in range(4))
    roi.options = draw(st.sampled_from([ROI_OPTIONS.NONE, ROI_OPTIONS.SUB_PIXEL_RESOLUTION]))
    points = draw(st.lists(st.tuples(coordinate, coordinate), max_size=7))
    if draw(st.booleans()) and points:
        path = [number for i, point in enumerate(points) for number in (min(i, 1), *point)]
        roi.multi_coordinates, roi.shape_roi_size = np.array([*path, 4], np.float32), len(path) + 1
        roi.roitype = ROI_TYPE.RECT
    else:
        roi.n_coordinates = len(points)
        roi.integer_coordinates = np.array(points, np.int32).reshape(-1, 2) + 3
        roi.subpixel_coordinates = np.array(points, np.float32).reshape(-1, 2) + 0.25
    roi.image_data, roi.image_size = b"abcd", 4
    data = bytearray(roi.tobytes())
    if subtype in (ROI_SUBTYPE.ELLIPSE, ROI_SUBTYPE.ROTATED_RECT):
        data[52:56] = struct.pack(">f", draw(st.floats(width=32)))
    return bytes(data)


def follow(tracks, label):
    """Return the label under which a track began, before gaps split it."""
    while tracks[label].parent:
        label = tracks[label].parent
    return label


@settings(deadline=None, max_examples=50)
@given(label_images)
def test_label_images_survive_as_rois(labels_yx):
    labels_yx.flags.writeable = False
    with tempfile.TemporaryDirectory() as folder:
        write_rois(Path(folder) / "a.zip", labels_yx)
        instances = read("imagej_roi", Path(folder) / "a.zip", shape=labels_yx.shape)
    found_yx = np.zeros(labels_yx.shape, int)
    for instance in instances:
        assert instance.broken == ""
        found_yx[instance.box] += instance.mask_yx * int(instance.source)
    assert np.array_equal(found_yx, np.where(labels_yx == IGNORE_LABEL, 0, labels_yx))


@settings(deadline=None, max_examples=50)
@given(sequences, st.integers(0, 1100))
def test_sequences_survive_as_ctc_results(sequence, first):
    digits = 4 if first + len(sequence) > 1000 else 3
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "res_track.txt"
        write_ctc(folder, frames=enumerate(sequence, start=first))
        tracks = read_tracks(table)
        frames = []
        for frame, labels_yx in enumerate(sequence, start=first):
            path = Path(folder) / f"mask{frame:0{digits}d}.tif"
            frames.append(read("ctc", path, shape=labels_yx.shape, frame=frame, tracks=str(table)))
    lives: dict[int, list[int]] = {}
    origins: dict[int, set[int]] = {}
    for frame, (labels_yx, instances) in enumerate(zip(sequence, frames, strict=True), start=first):
        expected = {n: labels_yx == n for n in np.unique(labels_yx).tolist() if n not in (0, IGNORE_LABEL)}
        assert len(instances) == len(expected)
        for instance in instances:
            (label,) = np.unique(labels_yx[instance.box][instance.mask_yx]).tolist()
            assert instance.area_px == np.count_nonzero(expected[label])
            lives.setdefault(instance.number, []).append(frame)
            origins.setdefault(label, set()).add(follow(tracks, instance.number))
    # every track is listed from its first frame to its last and has no gaps
    assert {number: (track.begin, track.end) for number, track in tracks.items()} == {
        number: (frames[0], frames[-1]) for number, frames in lives.items()
    }
    assert all(frames == list(range(frames[0], frames[-1] + 1)) for frames in lives.values())
    # an object keeps its identity through its gaps, and no two objects merge
    assert all(len(found) == 1 for found in origins.values())
    assert len(set.union(set(), *origins.values())) == len(origins)


@settings(deadline=None, max_examples=100)
@given(rois(), changes, st.one_of(st.just(1.0), st.floats(0, 1)))
def test_damaged_rois_are_read_or_refused(data, changes, kept):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.roi"
        path.write_bytes(damage(data, changes=changes, kept=kept))
        read_or_refuse("imagej_roi", path, shape=SHAPE)


@settings(deadline=None, max_examples=50)
@given(rois(), changes, st.one_of(st.just(1.0), st.floats(0, 1)))
def test_damaged_archives_are_read_or_refused(data, changes, kept):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.zip"
        path.write_bytes(damage(zip_of(data), changes=changes, kept=kept))
        read_or_refuse("imagej_roi", path, shape=SHAPE)


@settings(deadline=None, max_examples=50)
@given(st.one_of(st.binary(max_size=60), st.text("0123456789 -\n.x\t", max_size=60).map(str.encode)))
def test_any_text_is_a_table_of_tracks_or_refused(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "res_track.txt"
        path.write_bytes(data)
        tracks, refusal = attempt(lambda: read_tracks(path))
    assert refusal is None or (str(path) in refusal and "expected" in refusal)
    for label, track in (tracks or {}).items():
        assert track.label == label > 0
        assert 0 <= track.begin <= track.end
        assert track.parent == 0 or tracks[track.parent].end < track.begin


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(*[st.integers(0, 6)] * 4), max_size=5))
def test_a_table_is_read_exactly_if_every_line_of_it_is_sound(lines):
    assume(len({line[0] for line in lines}) == len(lines))
    ends = {label: end for label, _, end, _ in lines}
    is_sound = all(
        label > 0 and begin <= end and (parent == 0 or ends.get(parent, begin) < begin)
        for label, begin, end, parent in lines
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "res_track.txt"
        path.write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))
        tracks, refusal = attempt(lambda: read_tracks(path))
    assert (refusal is None) == is_sound
    assert refusal or [tuple(track) for track in tracks.values()] == lines


@settings(deadline=None, max_examples=50)
@given(
    arrays(st.sampled_from([np.uint8, np.uint16, np.int16, np.float32]), SHAPE, elements=st.integers(0, 9)),
    changes,
    st.one_of(st.just(1.0), st.floats(0, 1)),
    st.sampled_from(["ctc", "color_components"]),
)
def test_damaged_label_images_are_read_or_refused(labels_yx, changes, kept, kind):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, labels_yx, photometric="minisblack", compression="zlib")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mask000.tif"
        path.write_bytes(damage(buffer.getvalue(), changes=changes, kept=kept))
        read_or_refuse(kind, path, shape=SHAPE)
