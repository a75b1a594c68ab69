"""Annotations of the Cell Tracking Challenge: numbers, markers, track tables, and refused files."""

import numpy as np
import pytest
import tifffile

from cellmill.annotations.ctc import read_ctc, read_tracks
from cellmill.annotations.ctc_writer import Track, write_ctc
from cellmill.config.annotations import Annotations
from cellmill.images.stored import IGNORE_LABEL

SHAPE = (12, 17)


def write_tiff(path, array):
    tifffile.imwrite(path, array, photometric="minisblack")
    return str(path)


def section(**keys):
    return Annotations.model_validate({"format": "ctc", "path": "x.tif", **keys}).model_dump(mode="json")


def read(tmp_path, labels_yx, *, markers=None, tracks=None, frame=0, shape=None, **keys):
    extra = {}
    if markers is not None:
        extra["markers"] = write_tiff(tmp_path / "man_track000.tif", markers)
    if tracks is not None:
        (tmp_path / "man_track.txt").write_text(tracks)
        extra["tracks"] = str(tmp_path / "man_track.txt")
    row = {
        "sample": "a",
        "image": "a.tif",
        "annotations": [write_tiff(tmp_path / "mask000.tif", labels_yx)],
        "frame": frame,
        "extra": extra,
    }
    return read_ctc(row, shape=shape or labels_yx.shape, annotations=section(**keys), table=None)


def draw(instances, shape, *, ignored=False):
    labels_yx = np.zeros(shape, np.int64)
    for instance in instances:
        if instance.is_ignored == ignored:
            labels_yx[instance.box][instance.mask_yx] = -1 if ignored else instance.number
    return labels_yx


@pytest.fixture
def labels_yx():
    labels_yx = np.zeros(SHAPE, np.uint16)
    labels_yx[0:3, 0:4] = 7
    labels_yx[3:6, 2:9] = 2
    labels_yx[11, 16] = 65534
    labels_yx[8, 0] = labels_yx[10, 9] = 300
    return labels_yx


@pytest.fixture
def tracks_of(tmp_path):
    def parse(text):
        path = tmp_path / "res_track.txt"
        path.write_text(text)
        return read_tracks(path)

    return parse


# masks


def test_numbers_are_kept_with_their_gaps(tmp_path, labels_yx):
    instances = read(tmp_path, labels_yx)
    assert [(i.number, i.source) for i in instances] == [(n, f"label {n}") for n in (2, 7, 300, 65534)]
    assert np.array_equal(draw(instances, SHAPE), labels_yx)
    assert not any(instance.is_ignored or instance.broken for instance in instances)


def test_numbers_beyond_16_bits_are_kept(tmp_path, labels_yx):
    large_yx = labels_yx.astype(np.uint32)
    large_yx[large_yx == 7] = 2**32 - 1
    assert np.array_equal(draw(read(tmp_path, large_yx), SHAPE), large_yx)
    large_yx[large_yx == 0] = 5
    assert np.array_equal(draw(read(tmp_path, large_yx), SHAPE), large_yx)


def test_every_number_of_16_bits_is_an_object(tmp_path):
    labels_yx = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    labels_yx[-1, -1] = 0
    instances = read(tmp_path, labels_yx)
    assert [instance.number for instance in instances] == list(range(1, 65535))
    assert all(instance.mask_yx.shape == (1, 1) for instance in instances)


def test_an_empty_frame_has_no_object(tmp_path):
    assert read(tmp_path, np.zeros(SHAPE, np.uint16)) == []


@pytest.mark.parametrize("value", [7, 65535, 70000])
def test_pixels_of_the_ignored_value_are_one_region_and_no_object(tmp_path, labels_yx, value):
    values_yx = np.where(labels_yx == 7, value, labels_yx.astype(np.uint32))
    instances = read(tmp_path, values_yx, ignore_value=value)
    (ignored,) = [instance for instance in instances if instance.is_ignored]
    assert ignored.source == f"label {value}"
    assert np.array_equal(draw(instances, SHAPE, ignored=True) != 0, labels_yx == 7)
    assert np.array_equal(draw(instances, SHAPE), np.where(labels_yx == 7, 0, labels_yx))


@pytest.mark.parametrize(("dtype", "value"), [(np.int16, -3), (np.float32, 1.5), (np.uint16, 65535)])
def test_numbers_that_cannot_be_objects_are_refused(tmp_path, dtype, value):
    labels_yx = np.zeros(SHAPE, dtype)
    labels_yx[3, 4] = value
    with pytest.raises(
        ValueError, match=rf"sample a, .*mask000\.tif: expected whole object numbers from 0.* found {value}"
    ):
        read(tmp_path, labels_yx)


def test_a_mask_of_another_size_is_refused(tmp_path, labels_yx):
    with pytest.raises(ValueError, match=r"expected an annotation of 12 rows and 18 columns, .* found 12 rows and 17"):
        read(tmp_path, labels_yx, shape=(12, 18))


def test_two_masks_for_one_image_are_refused(tmp_path, labels_yx):
    row = {"sample": "a", "annotations": ["m0.tif", "m1.tif"], "frame": 0}
    with pytest.raises(ValueError, match="sample a: expected one annotation file, found 2"):
        read_ctc(row, shape=SHAPE, annotations=section(), table=None)


# markers


def test_a_marked_object_that_nobody_outlined_is_ignored(tmp_path, labels_yx):
    markers_yx = np.zeros(SHAPE, np.uint16)
    markers_yx[1, 1] = 4  # in object 7
    markers_yx[5:8, 8] = 9  # its first pixel in object 2
    markers_yx[8:10, 12:15] = 65534  # in no object; its number is that of an outlined object elsewhere
    markers_yx[0, 16] = 1  # in no object
    instances = read(tmp_path, labels_yx, markers=markers_yx)
    assert [i.source for i in instances if i.is_ignored] == ["marker 1", "marker 65534"]
    assert np.array_equal(draw(instances, SHAPE, ignored=True) != 0, np.isin(markers_yx, [1, 65534]))
    assert np.array_equal(draw(instances, SHAPE), labels_yx)


def test_an_ignored_region_outlines_no_marked_object(tmp_path, labels_yx):
    markers_yx = np.zeros(SHAPE, np.uint16)
    markers_yx[1, 1] = 4
    instances = read(tmp_path, labels_yx, markers=markers_yx, ignore_value=7)
    assert [i.source for i in instances if i.is_ignored] == ["label 7", "marker 4"]


@pytest.mark.parametrize("seed", range(20))
def test_markers_are_compared_with_outlines_pixel_by_pixel(tmp_path, seed):
    rng = np.random.default_rng(seed)
    labels_yx = rng.integers(0, 9, SHAPE).astype(np.uint16) * (rng.random(SHAPE) < 0.3)
    markers_yx = rng.integers(0, 30, SHAPE).astype(np.uint16) * (rng.random(SHAPE) < 0.4)
    found = [i.source for i in read(tmp_path, labels_yx, markers=markers_yx, ignore_value=8) if i.is_ignored]
    outlined = set(markers_yx[(labels_yx > 0) & (labels_yx != 8)].tolist())
    alone = sorted(set(markers_yx[markers_yx > 0].tolist()) - outlined)
    assert [source for source in found if "marker" in source] == [f"marker {number}" for number in alone]


def test_markers_of_another_size_are_refused(tmp_path, labels_yx):
    with pytest.raises(ValueError, match=r"man_track000\.tif: expected an annotation of 12 rows"):
        read(tmp_path, labels_yx, markers=np.zeros((3, 4), np.uint16))


# tracks in a frame


def test_a_frame_that_agrees_with_its_table_is_read(tmp_path, labels_yx):
    tracks = "2 0 3 0\n7 3 3 0\n300 1 9 0\n65534 0 5 0\n"
    assert len(read(tmp_path, labels_yx, tracks=tracks, frame=3)) == 4


def test_the_table_is_not_asked_about_ignored_pixels(tmp_path, labels_yx):
    tracks = "2 0 3 0\n300 1 9 0\n65534 0 5 0\n"
    assert len(read(tmp_path, labels_yx, tracks=tracks, frame=3, ignore_value=7)) == 4


def test_labels_that_the_table_does_not_know_or_let_live_are_named(tmp_path, labels_yx):
    tracks = "2 0 3 0\n7 4 6 2\n300 1 9 0\n"
    message = (
        r"sample a, .*mask000\.tif: expected only labels that .*man_track\.txt lists for frame 3, found 2 of 4 "
        r"labels not listed for it: 7 \(listed for frames 4 to 6\), 65534 \(not listed\)\. Use masks and tracks"
    )
    with pytest.raises(ValueError, match=message):
        read(tmp_path, labels_yx, tracks=tracks, frame=3)


def test_at_most_five_wrong_labels_are_named(tmp_path):
    labels_yx = np.arange(1, 13, dtype=np.uint16).reshape(3, 4)
    with pytest.raises(
        ValueError, match=r"found 11 of 12 labels not listed for it: 1 .*, 5 \(not listed\) and others\. Use"
    ):
        read(tmp_path, labels_yx, tracks="12 0 0 0\n")


# track tables


def test_a_table_is_read_in_its_order(tracks_of):
    text = "\ufeff3 0 4 0\r\n 12\t5  9 3 \n\n13 5 5 3\n"
    assert tracks_of(text) == {3: Track(3, 0, 4, 0), 12: Track(12, 5, 9, 3), 13: Track(13, 5, 5, 3)}
    assert list(tracks_of(text)) == [3, 12, 13]


def test_an_empty_table_has_no_track(tracks_of):
    assert tracks_of("") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 0 4", r"line 1: expected four whole numbers 'label begin end parent', found '1 0 4'\. Save the table"),
        ("1 0 4 0\n2 0 4 0 0", "line 2: expected four whole numbers"),
        ("L B E P", "line 1: expected four whole numbers .* found 'L B E P'"),
        ("1 0 4.0 0", "line 1: expected four whole numbers"),
        ("1 0 4 \u0662", "line 1: expected four whole numbers"),
        ("1 0 - 0", "line 1: expected four whole numbers"),
        ("1 0 1-2 0", "line 1: expected four whole numbers"),
        ("1 0 9999999999999999999 0", "line 1: expected four whole numbers"),
        ("1 -1 4 0", r"line 1: expected numbers from 0, found '1 -1 4 0'\. Correct the line"),
        ("1 0 4 -0", "line 1: expected numbers from 0"),
        ("0 0 4 0", "line 1: expected labels from 1, found 0"),
        ("1 0 4 0\n\n1 5 6 0", "line 3: expected every label once, found label 1 again, after line 1"),
        ("1 0 4 0\n2 6 5 1", "line 2: expected a track that begins before it ends, found frames 6 to 5"),
        ("1 0 4 0\n2 5 6 3", "line 2: expected a parent listed in the table, or 0 for none, found 3"),
        ("2 4 6 1\n1 0 4 0", "line 1: expected a parent that ends before frame 4, .* label 1, which ends in frame 4"),
        ("1 0 4 1", "line 1: expected a parent that ends before frame 0, .* label 1, which ends in frame 4"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused_with_its_line(tracks_of, text, message):
    with pytest.raises(ValueError, match=r"res_track\.txt, " + message):
        tracks_of(text)


def test_a_table_that_is_missing_or_no_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"man_track\.txt: expected a text table of tracks, found: .*No such file"):
        read_tracks(tmp_path / "man_track.txt")
    (tmp_path / "man_track.txt").write_bytes(b"\xff\xfe1 0")
    with pytest.raises(ValueError, match=r"man_track\.txt: expected a text table of tracks, found: 'utf-8' codec"):
        read_tracks(tmp_path / "man_track.txt")


# writing


def frame_of(*labels):
    """Draw one object of two pixels for each label."""
    frame_yx = np.zeros((4, 10), np.uint32)
    for i, label in enumerate(labels):
        frame_yx[2 * (i // 5) : 2 * (i // 5) + 2, 2 * (i % 5)] = label
    frame_yx.flags.writeable = False
    return frame_yx


def masks_in(folder):
    return {int(path.stem[4:]): tifffile.imread(path) for path in sorted(folder.glob("mask*.tif"))}


def test_tracks_begin_and_end_with_their_labels(tmp_path):
    frames = [(0, frame_of(5, 2)), (1, frame_of(5)), (2, frame_of(9, 5))]
    write_ctc(tmp_path, frames=frames)
    assert (tmp_path / "res_track.txt").read_text() == "2 0 0 0\n5 0 2 0\n9 2 2 0\n"
    masks = masks_in(tmp_path)
    assert all(np.array_equal(masks[number], frame_yx) for number, frame_yx in frames)
    assert all(mask_yx.dtype == np.uint16 for mask_yx in masks.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"mask00{n}.tif" for n in range(3)), "res_track.txt"]


def test_a_label_that_comes_back_goes_on_as_its_own_daughter(tmp_path):
    write_ctc(
        tmp_path,
        frames=[(0, frame_of(5, 2)), (1, frame_of(0, 2)), (2, frame_of(5, 2)), (3, frame_of(5)), (6, frame_of(5))],
    )
    tracks = read_tracks(tmp_path / "res_track.txt")
    assert tracks == {
        2: Track(2, 0, 2, 0),
        5: Track(5, 0, 0, 0),
        65533: Track(65533, 6, 6, 65534),
        65534: Track(65534, 2, 3, 5),
    }
    assert np.array_equal(masks_in(tmp_path)[2], frame_of(65534, 2))


def test_an_object_whose_number_is_taken_gets_another(tmp_path):
    write_ctc(tmp_path, frames=[(0, frame_of(1)), (1, frame_of()), (2, frame_of(1)), (3, frame_of(1, 65534))])
    assert np.array_equal(masks_in(tmp_path)[3], frame_of(65534, 65533))
    assert read_tracks(tmp_path / "res_track.txt")[65533] == Track(65533, 3, 3, 0)


def test_ignored_pixels_become_background(tmp_path):
    write_ctc(tmp_path, frames=[(0, frame_of(3, IGNORE_LABEL))])
    assert np.array_equal(masks_in(tmp_path)[0], frame_of(3))
    assert (tmp_path / "res_track.txt").read_text() == "3 0 0 0\n"


def test_names_have_four_digits_where_a_frame_needs_them(tmp_path):
    write_ctc(tmp_path, frames=[(number, frame_of(1)) for number in (998, 999, 1000)])
    assert sorted(path.name for path in tmp_path.glob("mask*")) == ["mask0998.tif", "mask0999.tif", "mask1000.tif"]


def test_a_sequence_without_objects_has_an_empty_table(tmp_path):
    write_ctc(tmp_path / "01_RES", frames=[(0, frame_of())])
    assert (tmp_path / "01_RES" / "res_track.txt").read_text() == ""


@pytest.mark.parametrize("label", [65536, 2**32 - 1, -1])
def test_labels_beyond_the_format_are_refused(tmp_path, label):
    frame_yx = frame_of().astype(np.int64)
    frame_yx[0, 0] = label
    with pytest.raises(ValueError, match=rf"frame 4: expected labels from 0 to 65534, .* found {label}\. Renumber"):
        write_ctc(tmp_path, frames=[(4, frame_yx)])
    assert not (tmp_path / "res_track.txt").exists()


def test_more_tracks_than_the_format_has_numbers_are_refused(tmp_path):
    labels_yx = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    frames = [(0, labels_yx), (2, labels_yx)]
    with pytest.raises(ValueError, match=r"frame 2: expected at most 65534 tracks, .* found more\. Write the sequence"):
        write_ctc(tmp_path, frames=frames)


@pytest.mark.parametrize(
    ("numbers", "found"), [((3, 3), "3 after 3"), ((2, 1), "1 after 2"), ((-1,), "-1 after the start")]
)
def test_frames_that_do_not_ascend_are_refused(tmp_path, numbers, found):
    with pytest.raises(ValueError, match=f"expected ascending frame numbers from 0, found {found}. Sort"):
        write_ctc(tmp_path, frames=[(number, frame_of(1)) for number in numbers])


# real data


def test_real_masks_have_the_objects_that_are_counted_in_them_and_agree_with_their_table(real_data):
    folder = real_data / "ctc_fluo_n2dl_hela" / "Fluo-N2DL-HeLa" / "01_RES"
    paths = sorted(folder.glob("mask*.tif"))
    assert len(paths) == 35
    for path in paths:
        labels_yx = tifffile.imread(path)
        row = {
            "sample": path.stem,
            "annotations": [str(path)],
            "frame": int(path.stem[4:]),
            "extra": {"tracks": str(folder / "res_track.txt")},
        }
        instances = read_ctc(row, shape=labels_yx.shape, annotations=section(), table=None)
        numbers, areas = np.unique(labels_yx[labels_yx > 0], return_counts=True)
        assert [(i.number, i.area_px) for i in instances] == list(zip(numbers.tolist(), areas.tolist(), strict=True))


def test_real_masks_of_another_frame_contradict_their_table(real_data):
    folder = real_data / "ctc_fluo_n2dl_hela" / "Fluo-N2DL-HeLa" / "01_RES"
    row = {
        "sample": "a",
        "annotations": [str(folder / "mask000.tif")],
        "frame": 34,
        "extra": {"tracks": str(folder / "res_track.txt")},
    }
    with pytest.raises(
        ValueError, match=r"lists for frame 34, found .* labels not listed for it: 1 .listed for frames 0 to 30"
    ):
        read_ctc(row, shape=tifffile.imread(row["annotations"][0]).shape, annotations=section(), table=None)


def test_a_real_sequence_survives_writing(tmp_path, real_data):
    paths = sorted((real_data / "yeast_timelapse").rglob("*mask*.tif"))
    assert len(paths) == 10
    frames = [(i, tifffile.imread(path)) for i, path in enumerate(paths)]
    write_ctc(tmp_path, frames=frames)
    tracks = read_tracks(tmp_path / "res_track.txt")
    for number, labels_yx in frames:
        row = {
            "sample": f"{number}",
            "annotations": [str(tmp_path / f"mask{number:03d}.tif")],
            "frame": number,
            "extra": {"tracks": str(tmp_path / "res_track.txt")},
        }
        instances = read_ctc(row, shape=labels_yx.shape, annotations=section(), table=None)
        assert len(instances) == len(np.unique(labels_yx)) - 1
        for instance in instances:
            origin = instance.number
            while tracks[origin].parent:
                origin = tracks[origin].parent
            assert (labels_yx[instance.box][instance.mask_yx] == origin).all()
            assert instance.area_px == np.count_nonzero(labels_yx == origin)
