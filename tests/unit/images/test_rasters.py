"""Planes of image files by bands of rows: every container, stacks, pixel sizes, and memory."""

import struct
import warnings

import imagecodecs
import numpy as np
import pytest
import tifffile

from cellmill.images.files import read_plane
from cellmill.images.rasters import match_plane, open_raster, read_layout


def picture(dtype=np.uint16, *, planes=(), rows=61, columns=47, channels=()):
    """Return an array that differs in every pixel of every plane."""
    shape = (*planes, rows, columns, *channels)
    values = np.arange(np.prod(shape)).reshape(shape) % 251
    return values.astype(dtype)


def write(path, array, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tifffile warns about some files that labs do write
        tifffile.imwrite(path, array, **options)
    return path


CONTAINERS = {
    "plain": {},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "one strip": {"rowsperstrip": 61, "compression": "lzw"},
    "tiles": {"tile": (16, 32), "compression": "zstd"},
    "tiles without compression": {"tile": (16, 32)},
    "BigTIFF": {"bigtiff": True},
    "big-endian": {"byteorder": ">"},
    "big-endian tiles": {"byteorder": ">", "tile": (16, 16), "compression": "zlib", "predictor": True},
    "JPEG 2000": {"tile": (16, 16), "compression": "jpeg2000", "compressionargs": {"level": 0, "reversible": True}},
    "ImageJ": {"imagej": True},
    "OME": {"ome": True},
    "without metadata": {"metadata": None},
}


@pytest.mark.parametrize("options", CONTAINERS.values(), ids=CONTAINERS)
def test_bands_of_any_container_are_the_image(tmp_path, options):
    path = write(tmp_path / "a.tif", picture(), **options)
    raster = open_raster(path, palette="colours", plane=())
    assert (raster.shape, raster.axes, raster.dtype) == ((61, 47), "YX", np.uint16)
    for max_pixels in (1, 47 * 5, 47 * 20, 10**6):
        parts = list(raster.bands(max_pixels))
        assert np.array_equal(np.concatenate([band for _, band in parts]), picture())
        assert [rows.start for rows, _ in parts] == [0, *(rows.stop for rows, _ in parts[:-1])]
        assert max(band.size for _, band in parts) <= max(47, max_pixels)
    assert np.array_equal(raster.read(10, 33), picture()[10:33])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64])
def test_every_number_type_survives(tmp_path, dtype):
    path = write(tmp_path / "a.tif", picture(dtype), tile=(16, 16), compression="zlib")
    band = open_raster(path, palette="colours", plane=()).read(3, 9)
    assert band.dtype == dtype
    assert np.array_equal(band, picture(dtype)[3:9])


def test_twelve_bits_are_unpacked(tmp_path):
    path = tmp_path / "a.tif"
    values = (picture() * 16).astype(np.uint16)
    # two samples of 12 bits in three bytes, high bits first (TIFF 6.0, BitsPerSample)
    flat = np.append(values.reshape(61, 47), np.zeros((61, 1), np.uint16), axis=1).astype(np.uint32)
    pairs = flat[:, 0::2] << 12 | flat[:, 1::2]
    data = np.stack([pairs >> 16, pairs >> 8 & 255, pairs & 255], axis=2).astype(np.uint8).reshape(61, -1)
    rows = [bytes(row)[: -(-47 * 12 // 8)] for row in data]
    write_twelve_bits(path, b"".join(rows))
    raster = open_raster(path, palette="colours", plane=())
    assert raster.layout.bits == 12
    assert np.array_equal(raster.read(0, 61), values)


def write_twelve_bits(path, data):
    """A baseline TIFF of 61 x 47 px by hand: little-endian, one strip, 12 bits a sample."""
    tags = [(256, 3, 47), (257, 3, 61), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 3, 61)]
    tags.append((279, 4, len(data)))
    offset = 8 + len(data) + len(data) % 2
    header = struct.pack("<2sHI", b"II", 42, offset)
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, kind, 1, v) for tag, kind, v in tags)
    path.write_bytes(header + data + b"\0" * (len(data) % 2) + directory + struct.pack("<I", 0))


@pytest.mark.parametrize(
    ("options", "axis"),
    [
        ({"imagej": True, "metadata": {"axes": "TYX"}}, "T"),
        ({"imagej": True, "metadata": {"axes": "ZYX"}}, "Z"),
        ({"ome": True, "metadata": {"axes": "TYX"}, "compression": "zlib", "tile": (16, 16)}, "T"),
        ({"metadata": None, "photometric": "minisblack"}, "I"),
        ({"metadata": None, "compression": "zlib", "photometric": "minisblack"}, "I"),
        ({"photometric": "minisblack"}, "Q"),
    ],
)
def test_a_plane_of_a_stack_is_read_alone(tmp_path, options, axis):
    path = write(tmp_path / "a.tif", picture(planes=(5,)), **options)
    assert read_layout(path).stack == {axis: 5}
    for i in range(5):
        plane_yx = read_plane(path, channel="luminance", plane=[[axis, i, 5]])
        assert np.array_equal(plane_yx, picture(planes=(5,))[i])


def test_frames_that_were_appended_one_by_one_are_a_stack(tmp_path):
    path = tmp_path / "a.tif"
    for i in range(4):
        tifffile.imwrite(path, picture(planes=(4,))[i], append=i > 0)
    assert list(read_layout(path).stack.values()) == [4]
    [axis] = read_layout(path).stack
    assert np.array_equal(read_plane(path, channel="luminance", plane=[[axis, 2, 4]]), picture(planes=(4,))[2])


def test_time_depth_and_channels_are_told_apart(tmp_path):
    stack = picture(np.uint8, planes=(3, 2, 4))
    path = write(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TZCYX"})
    layout = read_layout(path)
    assert layout.stack == {"T": 3, "Z": 2}
    assert (layout.axes, layout.channels) == ("YXC", 4)
    plane_yx = read_plane(path, channel=3, plane=[["T", 2, 3], ["Z", 1, 2]])
    assert np.array_equal(plane_yx, stack[2, 1, 3])


def test_a_stack_is_projected(tmp_path):
    stack = picture(np.uint16, planes=(5,))[:, ::-1]
    path = write(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    highest = read_plane(path, channel="luminance", plane=[["Z", "maximum", 5]])
    assert highest.dtype == np.uint16
    assert np.array_equal(highest, stack.max(axis=0))
    mean = read_plane(path, channel="luminance", plane=[["Z", "mean", 5]])
    assert mean.dtype == np.float32
    assert mean == pytest.approx(stack.mean(axis=0), abs=1e-4)


def test_pages_may_be_channels(tmp_path):
    stack = picture(np.uint16, planes=(3,))
    path = write(tmp_path / "a.tif", stack, metadata=None, photometric="minisblack")
    raster = open_raster(path, palette="colours", plane=[["I", "channel", 3]])
    assert (raster.axes, raster.channels) == ("YXC", 3)
    assert np.array_equal(read_plane(path, channel=2, plane=[["I", "channel", 3]]), stack[2])


def test_channels_are_mixed_by_weight(tmp_path):
    rgb = np.stack([np.full((6, 7), value, np.uint8) for value in (10, 100, 200)], axis=2)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(rgb))
    assert read_plane(path, channel=[0.5, 0, 0.25]) == pytest.approx(np.full((6, 7), 55.0))
    with pytest.raises(ValueError, match=r"a\.png: expected 2 channels, one for each weight, found 3\. Set preproc"):
        read_plane(path, channel=[0.5, 0.5])


def test_the_luminance_of_a_band_is_that_of_the_image(tmp_path):
    rgb = picture(np.uint8, channels=(3,))
    rgb[:20] = rgb[:20, :, :1]  # the luminance of grey rows keeps the type of the image
    path = write(tmp_path / "a.tif", rgb, photometric="rgb", tile=(16, 16), compression="zlib")
    whole_yx = read_plane(path, channel="luminance")
    assert np.array_equal(whole_yx[:20], rgb[:20, :, 0])
    assert whole_yx[20:] == pytest.approx(rgb[20:] @ np.array([0.299, 0.587, 0.114]), abs=1e-4)


@pytest.mark.parametrize(
    ("options", "size"),
    [
        (
            {"ome": True, "metadata": {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.6}},
            (0.6, 0.5),
        ),
        ({"ome": True, "metadata": {"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"}}, (0.25, 0.25)),
        ({"imagej": True, "resolution": (2, 4), "metadata": {"unit": "um"}}, (0.25, 0.5)),
        ({"imagej": True, "resolution": (2, 2), "metadata": {"unit": "\\u00B5m"}}, (0.5, 0.5)),
        ({"imagej": True, "resolution": (2, 2), "metadata": {"unit": "pixel"}}, None),
        ({"resolution": (10000, 10000), "resolutionunit": "CENTIMETER"}, (1.0, 1.0)),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (1, 1), "resolutionunit": "CENTIMETER"}, None),
        ({}, None),
    ],
)
def test_the_pixel_size_is_that_of_the_metadata(tmp_path, options, size):
    path = write(tmp_path / "a.tif", picture(), **options)
    found = open_raster(path, palette="colours", plane=()).pixel_size_um
    assert found == (None if size is None else pytest.approx(size))


def test_ome_metadata_never_open_another_file(tmp_path):
    write(tmp_path / "other.ome.tif", picture() + 1, ome=True)
    path = write(tmp_path / "a.ome.tif", picture(planes=(2,)), ome=True, metadata={"axes": "TYX"})
    text = tifffile.tiffcomment(path)
    first, second = text.split("<TiffData", 1)
    named = '<TiffData FirstT="1" IFD="0"><UUID FileName="other.ome.tif">urn:uuid:0</UUID></TiffData>'
    tifffile.tiffcomment(path, (first + named + "<TiffData" + second).encode())
    [axis] = read_layout(path).stack
    plane_yx = read_plane(path, channel="luminance", plane=[[axis, 1, 2]])
    assert np.array_equal(plane_yx, picture(planes=(2,))[1])


def test_an_annotation_stack_is_matched_by_the_sizes_of_its_axes(tmp_path):
    path = write(tmp_path / "a.tif", picture(planes=(5,)), metadata=None, photometric="minisblack")
    assert match_plane(path, [["T", 3, 5]]) == [["I", 3, 5]]
    with pytest.raises(ValueError, match=r"expected 6 planes along T, found axes IYX of 5 x 61 x 47\. Use the same"):
        match_plane(path, [["T", 3, 6]])
    single = write(tmp_path / "b.tif", picture())
    with pytest.raises(
        ValueError, match=r"b\.tif: expected a stack with the planes of the image \(6 planes along T\), found"
    ):
        match_plane(single, [["T", 3, 6]])


def test_a_png_too_large_to_be_held_is_refused(tmp_path):
    path = tmp_path / "a.png"
    data = bytearray(imagecodecs.png_encode(np.zeros((4, 5, 4), np.uint8)))
    data[16:24] = (40000).to_bytes(4, "big") + (40000).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.png: expected a PNG of at most 4 GiB of pixels.*found 40000 x 40000 px"):
        open_raster(path, palette="colours", plane=())
