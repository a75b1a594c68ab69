"""Stacks as samples: metadata and config, names, sequences, annotations, and both readings if neither decides."""

import numpy as np
import pytest
import tifffile

from cellmill.annotations.masks import read_label_image
from cellmill.config.stack import Stack
from cellmill.planning.samples import SampleError, scan_images
from cellmill.planning.stacks import expand_stacks
from cellmill.planning.ties import attach_annotations


def write_stack(path, axes, sizes, *, imagej=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(np.prod(sizes)).reshape(sizes).astype(np.uint16)
    options = {"imagej": True, "metadata": {"axes": axes}} if imagej else {"metadata": None}
    tifffile.imwrite(path, pixels, photometric="minisblack", **options)
    return pixels


def planes(pattern, **stack):
    found = scan_images(str(pattern), where="datasets.x.images")
    section = Stack(**stack).model_dump(mode="json")
    return expand_stacks(found, stack=section, channels=["luminance"], cache_dir=pattern.parent, where="datasets.x")


def rows(found):
    return [(sample.sample, sample.sequence, sample.frame) for sample, _ in found]


def test_time_points_are_frames_of_a_sequence(tmp_path):
    for name in ("a", "b"):
        write_stack(tmp_path / f"{name}.tif", "TYX", (3, 8, 9))
    assert rows(planes(tmp_path / "{sample}.tif")) == [
        (f"{name}_t{i:03d}", name, i) for name in ("a", "b") for i in range(3)
    ]


def test_sections_are_images_of_their_own(tmp_path):
    write_stack(tmp_path / "a.tif", "ZYX", (4, 8, 9))
    assert rows(planes(tmp_path / "{sample}.tif")) == [(f"a_z{i:03d}", "a", i) for i in range(4)]


def test_sections_may_be_projected(tmp_path):
    write_stack(tmp_path / "a.tif", "ZYX", (4, 8, 9))
    [(sample, _)] = planes(tmp_path / "{sample}.tif", z="maximum")
    assert (sample.sample, sample.sequence, sample.plane) == ("a", "", [["Z", "maximum", 4]])


def test_time_and_depth_give_a_sequence_for_each_section(tmp_path):
    write_stack(tmp_path / "a.tif", "TZYX", (3, 2, 8, 9))
    found = planes(tmp_path / "{sample}.tif")
    assert set(rows(found)) == {(f"a_z{z:03d}_t{t:03d}", f"a_z{z:03d}", t) for z in range(2) for t in range(3)}
    assert {str(sample.plane) for sample, _ in found} == {
        str([["T", t, 3], ["Z", z, 2]]) for z in range(2) for t in range(3)
    }


def test_the_config_overrules_the_metadata(tmp_path):
    write_stack(tmp_path / "a.tif", "ZYX", (4, 8, 9))
    assert rows(planes(tmp_path / "{sample}.tif", axis="time")) == [(f"a_t{i:03d}", "a", i) for i in range(4)]
    [(sample, _)] = planes(tmp_path / "{sample}.tif", axis="channel")
    assert sample.plane == [["Z", "channel", 4]]


def test_pages_without_metadata_name_both_readings(tmp_path):
    write_stack(tmp_path / "a.tif", "", (4, 8, 9), imagej=False)
    message = (
        r"datasets\.x\.images: expected metadata that define the axes of the stack, found axes IYX of 4 x 8 x 9 "
        r"in .*a\.tif\. Set stack\.axis to time \(one sequence\), z \(a z-stack\), or "
    )
    with pytest.raises(SampleError, match=message):
        planes(tmp_path / "{sample}.tif")
    assert rows(planes(tmp_path / "{sample}.tif", axis="z"))[3] == ("a_z003", "a", 3)


def test_single_images_are_left_alone(tmp_path):
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.zeros((8, 9), np.uint8))
    found = scan_images(str(tmp_path / "{sample}.tif"), where="x")
    assert planes(tmp_path / "{sample}.tif") == found
    with pytest.raises(
        ValueError, match=r"stack\.axis: expected stacks for axis time, found a single plane in .*a\.tif"
    ):
        planes(tmp_path / "{sample}.tif", axis="time")


def test_a_damaged_first_file_is_left_to_the_check(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    write_stack(tmp_path / "b.tif", "TYX", (3, 8, 9))
    with pytest.raises(SampleError, match=r"a\.tif: expected a readable TIFF image, found a damaged one"):
        planes(tmp_path / "{sample}.tif")
    (tmp_path / "b.tif").unlink()
    assert [sample.sample for sample, _ in planes(tmp_path / "{sample}.tif")] == ["a"]


def test_frames_in_the_path_and_in_the_file_are_refused(tmp_path):
    write_stack(tmp_path / "t1.tif", "TYX", (3, 8, 9))
    with pytest.raises(
        SampleError, match=r"expected frames either in \{frame\} or in the file, found both in .*t1\.tif"
    ):
        planes(tmp_path / "t{frame}.tif")


def test_sections_of_numbered_frames_are_sequences(tmp_path):
    for frame in (1, 2):
        write_stack(tmp_path / "s" / f"t{frame}.tif", "ZYX", (2, 8, 9))
    assert set(rows(planes(tmp_path / "{sequence}" / "t{frame}.tif"))) == {
        (f"s_{frame}_z{z:03d}", f"s_z{z:03d}", frame) for z in range(2) for frame in (1, 2)
    }


def test_an_annotation_stack_gives_each_frame_its_plane(tmp_path):
    write_stack(tmp_path / "a.tif", "TYX", (3, 8, 9))
    labels = np.zeros((3, 8, 9), np.uint16)
    for i in range(3):
        labels[i, i, i] = i + 1
    (tmp_path / "labels").mkdir()
    tifffile.imwrite(tmp_path / "labels" / "a.tif", labels, metadata=None, photometric="minisblack")
    samples = attach_annotations(
        planes(tmp_path / "{sample}.tif"), path=str(tmp_path / "labels" / "{sample}.tif"), many=False, where="x"
    ).samples
    for i, sample in enumerate(samples):
        row = sample.as_settings("sample", "annotations", "plane", "is_annotated_as_stack")
        [found] = read_label_image(row, shape=(8, 9), annotations={"ignore_value": None}, table=None)
        assert (found.number, found.row, found.column) == (i + 1, i, i)


@pytest.mark.parametrize("pattern", ["labels/{sequence}_{frame}.png", "labels/man_seg{frame}.png"])
def test_single_annotations_are_tied_to_frames_by_number(tmp_path, pattern):
    write_stack(tmp_path / "a.tif", "TYX", (3, 8, 9))
    for frame in ("00", "02"):
        path = tmp_path / pattern.format(sequence="a", frame=frame)
        path.parent.mkdir(exist_ok=True)
        path.touch()
    samples = attach_annotations(
        planes(tmp_path / "{sample}.tif"), path=str(tmp_path / pattern), many=False, where="x"
    ).samples
    assert [len(sample.annotations) for sample in samples] == [1, 0, 1]
    assert not any(sample.is_annotated_as_stack for sample in samples)


def test_frames_of_files_are_tied_by_number(tmp_path):
    for frame in (1, 2, 10):
        tifffile.imwrite(tmp_path / f"t{frame}.tif", np.zeros((8, 9), np.uint8))
        (tmp_path / f"man_seg{frame:03d}.tif").touch()
    (tmp_path / "man_seg004.tif").touch()
    found = scan_images(str(tmp_path / "t{frame}.tif"), where="x")
    tied = attach_annotations(found, path=str(tmp_path / "man_seg{frame}.tif"), many=False, where="x.path")
    assert [(sample.frame, sample.annotations[0][-7:]) for sample in tied.samples] == [
        (1, "001.tif"), (2, "002.tif"), (10, "010.tif"),
    ]  # fmt: skip
    [remark] = tied.remarks
    assert "x.path: 1 annotation files belong to no image, such as" in remark
    assert "man_seg004.tif" in remark
