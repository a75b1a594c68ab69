"""NDTiff acquisitions that the real files do not show: stage positions, further axes, colours, gaps, missing files."""

import numpy as np
import pytest

from cellmill.images.rasters import open_raster
from cellmill.images.raw_files import close_raw, open_raw, read_rows
from raw_files import write_ndtiff

SHAPE = (6, 9)


@pytest.fixture(autouse=True)
def closed():
    yield
    close_raw()


def planes_of(*places, shape=SHAPE, dtype=np.uint16):
    """Return a plane for each place, with its own number in the first pixel."""
    size = int(np.prod(shape))
    return [(place, (np.arange(size) + 100 * i).reshape(shape).astype(dtype)) for i, place in enumerate(places)]


def test_planes_are_found_by_their_axes_and_not_by_their_order(tmp_path):
    planes = planes_of(*({"time": t, "channel": c} for t in (2, 0, 1) for c in ("GFP", "DAPI")))
    path, _ = write_ndtiff(tmp_path / "run", planes)
    [scene] = open_raw(path).scenes
    assert (scene.sizes, scene.channels) == ({"T": 3, "C": 2, "Y": 6, "X": 9}, ("GFP", "DAPI"))
    for (axes, array), (t, c) in zip(planes, [(t, c) for t in (2, 0, 1) for c in (0, 1)], strict=True):
        assert np.array_equal(read_rows(path, scene=0, index={"T": t, "C": c}, first=0, last=6), array), axes
        assert np.array_equal(read_rows(path, scene=0, index={"T": t, "C": c}, first=2, last=5), array[2:5]), axes


def test_stage_positions_are_scenes_and_may_have_other_sizes(tmp_path):
    planes = planes_of({"position": "A1", "z": 0}, {"position": "A1", "z": 1})
    planes += planes_of({"position": "B2", "z": 0}, {"position": "B2", "z": 1}, shape=(4, 5))
    path, _ = write_ndtiff(tmp_path / "run", planes)
    first, second = open_raw(path).scenes
    assert (first.name, second.name) == ("A1", "B2")
    assert (second.sizes, second.pixel_size_um) == ({"Z": 2, "Y": 4, "X": 5}, (0.5, 0.5))
    plane = open_raster(path, palette="colours", plane=[["scene", "only 1", 2], ["Z", 1, 2]])
    assert np.array_equal(plane.channel_reader("luminance")(0, 4), planes[3][1])


def test_further_axes_have_letters_of_their_names(tmp_path):
    path, _ = write_ndtiff(
        tmp_path / "run", planes_of(*({"laser": i, "time": 0, "lens": k} for i in (0, 1) for k in (0, 1)))
    )
    assert open_raw(path).scenes[0].sizes == {"L": 2, "E": 2, "Y": 6, "X": 9}


def test_colours_are_samples(tmp_path):
    planes = planes_of({"time": 0}, shape=(*SHAPE, 3), dtype=np.uint8)
    path, _ = write_ndtiff(tmp_path / "run", planes, kind=2)
    assert open_raw(path).scenes[0].sizes == {"Y": 6, "X": 9, "S": 3}
    assert np.array_equal(read_rows(path, scene=0, index={}, first=0, last=6), planes[0][1])


def test_metadata_that_are_no_json_leave_the_pixel_size_open(tmp_path):
    path, _ = write_ndtiff(tmp_path / "run", planes_of({"time": 0}), metadata=["no mapping"])
    assert open_raw(path).scenes[0].pixel_size_um is None


# ---- bad input ------------------------------------------------------------------------------------------


def test_a_plane_that_was_not_taken_is_refused_by_its_place(tmp_path):
    path, _ = write_ndtiff(tmp_path / "run", planes_of({"time": 0, "z": 0}, {"time": 0, "z": 1}, {"time": 1, "z": 0}))
    with pytest.raises(
        ValueError, match=r"NDTiff\.index: expected a plane at position 0, time 1, z 1, found none in the"
    ):
        read_rows(path, scene=0, index={"T": 1, "Z": 1}, first=0, last=6)


def test_an_index_without_its_pixels_is_refused(tmp_path):
    path, pixels = write_ndtiff(tmp_path / "run", planes_of({"time": 0}))
    pixels.unlink()
    message = (
        r"NDTiff\.index: expected the files that it lists beside it, found no run_NDTiffStack\.tif\. Copy them into"
    )
    with pytest.raises(ValueError, match=message):
        open_raw(path)


def test_planes_of_several_sizes_at_one_position_are_refused(tmp_path):
    path, _ = write_ndtiff(tmp_path / "run", planes_of({"time": 0}) + planes_of({"time": 1}, shape=(4, 5)))
    message = r"expected planes of one size and type, found 4 x 5 px of 16 bits, 6 x 9 px of 16 bits\. Save each kind"
    with pytest.raises(ValueError, match=message):
        open_raw(path)


@pytest.mark.parametrize("name", ["../a.tif", "/etc/hostname", "a\\b.tif"])
def test_files_elsewhere_are_never_opened(tmp_path, name):
    path, _ = write_ndtiff(tmp_path / "run", planes_of({"time": 0}))
    content = path.read_bytes().replace(b"run_NDTiffStack.tif", name.encode().ljust(19, b"x"))
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a file called"):
        open_raw(path)


def test_pixels_that_end_early_are_refused(tmp_path):
    path, pixels = write_ndtiff(tmp_path / "run", planes_of({"time": 0}))
    pixels.write_bytes(pixels.read_bytes()[:60])
    with pytest.raises(EOFError, match="the pixels of a plane end early"):
        read_rows(path, scene=0, index={}, first=0, last=6)
