"""Windows over large images: each pixel belongs to one core, each object to one window."""

import numpy as np
import pytest

from cellmill.images.windows import HALO_PX, LabelFile, halo_for, middles_of, plan_windows, sample_pixels, sampling_step


@pytest.mark.parametrize("shape", [(100, 200), (3072, 3072), (3073, 3073), (5000, 300_000), (9000, 5000)])
@pytest.mark.parametrize("halo_px", [256, 900])
def test_cores_cover_an_image_once_and_windows_hold_their_halo(shape, halo_px):
    rows_of_windows = plan_windows(shape, halo_px=halo_px)
    for axis, windows in enumerate(([row[0] for row in rows_of_windows], rows_of_windows[0])):
        cores = [(window.core_rows, window.core_columns)[axis] for window in windows]
        outer = [(window.rows, window.columns)[axis] for window in windows]
        assert [pixel for core in cores for pixel in (core.start, core.stop)] == sorted(
            [0, shape[axis], *(2 * [core.stop for core in cores[:-1]])]
        )
        for core, window in zip(cores, outer, strict=True):
            assert window.start == max(0, core.start - halo_px)
            assert window.stop == min(shape[axis], core.stop + halo_px)
    assert len({(row[0].rows.start, row[0].rows.stop) for row in rows_of_windows}) == len(rows_of_windows)


def test_an_image_up_to_a_size_is_one_window_and_memory_does_not_grow_beyond():
    [[window]] = plan_windows((3072, 3072), halo_px=256)
    assert window.rows == window.core_rows == slice(0, 3072)
    sides = {
        window.rows.stop - window.rows.start
        for shape in ((4000, 4000), (40_000, 40_000))
        for row in plan_windows(shape, halo_px=256)
        for window in row
    }
    assert 2000 + 2 * 256 <= max(sides) <= 2048 + 2 * 256


def test_no_window_is_a_sliver():
    assert {row[0].rows.stop - row[0].rows.start for row in plan_windows((4100, 2400), halo_px=0)} == {1366, 1367}


def test_the_halo_grows_with_the_objects():
    assert halo_for(None) == halo_for(30.0) == HALO_PX
    assert halo_for(40_000.0) == 1000


def test_each_middle_is_owned_by_one_window():
    middles = np.random.default_rng(0).integers(0, 5000, (400, 2))
    middles = np.concatenate([middles, [[0, 0], [2047, 2048], [4095, 4096], [4999, 4999]]])
    owners = np.zeros(len(middles), dtype=int)
    for row in plan_windows((5000, 5000), halo_px=256):
        for window in row:
            owners += window.owns(middles - (window.rows.start, window.columns.start))
    assert (owners == 1).all()


def test_middles_are_means_rounded_down():
    labels = np.zeros((6, 9), dtype=np.int64)
    labels[1:4, 2:4], labels[5, 8] = 1, 3
    assert middles_of(labels, n_objects=3).tolist() == [[2, 2], [-1, -1], [5, 8]]


def test_a_label_file_is_read_and_written_in_parts(tmp_path):
    file = LabelFile(tmp_path / "labels.bin", (50, 70))
    assert not file.read(slice(0, 50)).any()
    part = np.arange(20 * 30).reshape(20, 30) % 7
    file.write(part, slice(10, 30), slice(40, 70))
    assert np.array_equal(file.read(slice(10, 30), slice(40, 70)), part)
    assert np.array_equal(file.read(np.array([12, 12, 29]))[:, 40:], part[[2, 2, 19]])
    file.look_up(np.array([0, 9, 9, 0, 0, 0, 1], dtype=np.uint32))
    assert np.array_equal(file.read(slice(10, 30), slice(40, 70)), np.array([0, 9, 9, 0, 0, 0, 1])[part])
    rows = [band for band, _ in file.bands(max_pixels=700)]
    assert rows == [slice(first, first + 10) for first in range(0, 50, 10)]


@pytest.mark.parametrize("shape", [(3, 100_000), (100_000, 3), (1, 5000), (500, 400)])
def test_a_sample_of_a_strip_is_as_small_as_that_of_a_square(shape):
    step = sampling_step(shape, max_pixels=1000)
    assert sample_pixels(np.zeros(shape, np.uint8), max_pixels=1000).size <= 1000 * 1.2
    assert step == 1 or max(1, shape[0] // (step - 1)) * max(1, shape[1] // (step - 1)) > 1000
