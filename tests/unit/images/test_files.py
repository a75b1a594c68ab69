"""Reading images as labs store them, and the files that stages exchange."""

import struct
import warnings
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from cellmill.images.files import raise_together, read_array, read_plane, read_shape
from cellmill.images.rasters import open_raster
from cellmill.images.stored import (
    IGNORE_LABEL,
    StoredRows,
    read_labels,
    sample_paths,
    write_label_bands,
    write_labels,
    write_probability_bands,
)
from cellmill.shards import shard_folder
from whole_images import read_probabilities, write_image, write_probabilities


def ramp(dtype, *, rows=20, columns=31):
    """Return an array that differs in every pixel, is not square and covers the range of its type."""
    values = np.linspace(0, 1, rows * columns).reshape(rows, columns)
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return (values * float(info.max - info.min) * 0.999 + info.min).astype(dtype)
    return (values * 7 - 3).astype(dtype)


def write_png(path, array):
    path.write_bytes(imagecodecs.png_encode(array))
    return path


def write_tiff(path, array, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tifffile warns about some files that labs do write
        tifffile.imwrite(path, array, **options)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_comes_back_exactly(tmp_path, dtype):
    path = write_png(tmp_path / "a.png", ramp(dtype))
    plane_yx = read_plane(path, channel="luminance")
    assert plane_yx.dtype == dtype
    assert np.array_equal(plane_yx, ramp(dtype))
    assert read_shape(path) == (20, 31)


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float16, np.float32, np.float64]
)
@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib", "tile": (16, 16)}, {"compression": "lzw"}, {"bigtiff": True}]
)
def test_tiff_comes_back_exactly(tmp_path, dtype, options):
    path = write_tiff(tmp_path / "a.TIF", ramp(dtype), **options)
    plane_yx = read_plane(path, channel="luminance")
    assert plane_yx.dtype == dtype
    assert np.array_equal(plane_yx, ramp(dtype))
    assert read_shape(path) == (20, 31)


def test_jpeg_is_read_within_its_losses(tmp_path):
    path = tmp_path / "a.jpg"
    smooth = np.add.outer(np.arange(40), np.arange(48)).astype(np.uint8)
    path.write_bytes(imagecodecs.jpeg_encode(smooth, level=95))
    plane_yx = read_plane(path, channel="luminance")
    assert read_shape(path) == (40, 48) == plane_yx.shape
    assert np.abs(plane_yx.astype(int) - smooth).max() <= 4


def test_header_of_a_progressive_jpeg_gives_its_size(tmp_path):
    path = tmp_path / "a.jpeg"
    Image.fromarray(np.zeros((17, 33, 3), np.uint8)).save(path, progressive=True, comment=b"x" * 500)
    assert read_shape(path) == (17, 33)


def test_colours_are_weighted_by_rec_601(tmp_path):
    pure = np.zeros((1, 3, 3), np.uint8)
    pure[0, [0, 1, 2], [0, 1, 2]] = 200
    plane_yx = read_plane(write_png(tmp_path / "a.png", pure), channel="luminance")
    assert plane_yx[0] == pytest.approx([59.8, 117.4, 22.8], abs=1e-4)


def test_grey_stored_as_rgba_comes_back_in_its_own_type(tmp_path):
    grey = ramp(np.uint16)
    rgba = np.stack([grey, grey, grey, np.full_like(grey, 65535)], axis=2)
    plane_yx = read_plane(write_png(tmp_path / "a.png", rgba), channel="luminance")
    assert plane_yx.dtype == np.uint16
    assert np.array_equal(plane_yx, grey)


def test_grey_with_opaque_alpha_is_grey(tmp_path):
    grey = ramp(np.uint8)
    both = np.stack([grey, np.full_like(grey, 255)], axis=2)
    assert np.array_equal(read_plane(write_png(tmp_path / "a.png", both), channel="luminance"), grey)


def test_varying_alpha_is_refused(tmp_path):
    rgba = np.zeros((4, 5, 4), np.uint8)
    rgba[0, 0, 3] = 255
    path = write_png(tmp_path / "a.png", rgba)
    with pytest.raises(ValueError, match=r"a\.png: expected an opaque image, found alpha from 0 to 255"):
        read_plane(path, channel="luminance")


def test_an_index_picks_one_channel(tmp_path):
    rgb = np.stack([ramp(np.uint8), ramp(np.uint8)[::-1], ramp(np.uint8)[:, ::-1]], axis=2)
    path = write_png(tmp_path / "a.png", rgb)
    assert np.array_equal(read_plane(path, channel=1), rgb[:, :, 1])
    with pytest.raises(ValueError, match=r"expected at least 6 channels, found 3\. Set preprocess\.channel"):
        read_plane(path, channel=5)


def test_a_channel_of_a_grey_image_is_refused_with_its_key(tmp_path):
    path = write_png(tmp_path / "a.png", ramp(np.uint8))
    with pytest.raises(ValueError, match=r"at least 3 channels, found one\. Set preprocess\.channel"):
        read_plane(path, channel=2)


def test_fluorescence_channels_are_not_mixed_into_a_luminance(tmp_path):
    stack = np.stack([ramp(np.uint16), ramp(np.uint16)[::-1], ramp(np.uint16) // 2])
    path = write_tiff(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "CYX"})
    assert read_shape(path) == (20, 31)
    assert np.array_equal(read_plane(path, channel=1), stack[1])
    with pytest.raises(ValueError, match=r"3 channels that are not colours\. Set preprocess\.channel"):
        read_plane(path, channel="luminance")


@pytest.mark.parametrize(
    ("shape", "options", "axes"),
    [
        ((5, 20, 31), {"imagej": True, "metadata": {"axes": "TYX"}}, "TYX of 5 x 20 x 31"),
        ((5, 20, 31), {"imagej": True, "metadata": {"axes": "ZYX"}}, "ZYX"),
        ((2, 3, 20, 31), {"ome": True, "metadata": {"axes": "TCYX"}}, "TCYX"),
        ((5, 20, 31), {"photometric": "minisblack", "metadata": None}, "YX of 5 x 20 x 31"),
    ],
)
def test_a_stack_is_refused_with_its_axes(tmp_path, shape, options, axes):
    path = write_tiff(tmp_path / "a.tif", np.zeros(shape, np.uint16), **options)
    with pytest.raises(
        ValueError, match=rf"a\.tif: expected one image with axes YX.*{axes}.*Set stack\.axis.*separate file"
    ):
        read_plane(path, channel="luminance")
    with pytest.raises(ValueError, match="expected one image with axes YX"):
        read_shape(path)


def test_pages_of_several_sizes_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(np.zeros((20, 31), np.uint8), metadata=None)
        writer.write(np.zeros((10, 12), np.uint8), metadata=None)
    with pytest.raises(
        ValueError,
        match=r"one stack of planes of equal size and type, found 2 images \(YX of 20 x 31; YX of 10 x 12\)\. Save each",
    ):
        read_plane(path, channel="luminance")


def test_a_pyramid_is_its_largest_image(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(ramp(np.uint8), metadata=None)
        writer.write(ramp(np.uint8)[::2, ::2][:, :15], metadata=None)
    assert np.array_equal(read_plane(path, channel="luminance"), ramp(np.uint8))


def test_a_single_page_with_empty_axes_is_a_plane(tmp_path):
    path = write_tiff(tmp_path / "a.tif", ramp(np.uint16)[np.newaxis], photometric="minisblack")
    assert np.array_equal(read_plane(path, channel="luminance"), ramp(np.uint16))


def test_planar_rgb_is_read_as_colours(tmp_path):
    planes = np.stack([np.full((6, 7), value, np.uint8) for value in (10, 20, 30)])
    path = write_tiff(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    assert read_plane(path, channel="luminance") == pytest.approx(np.full((6, 7), 2.99 + 11.74 + 3.42), abs=1e-4)


def test_one_bit_images_become_numbers(tmp_path):
    mask = ramp(np.uint8) > 100
    path = write_tiff(tmp_path / "a.tif", mask)
    plane_yx = read_plane(path, channel="luminance")
    assert plane_yx.dtype == np.uint8
    assert np.array_equal(plane_yx, mask)


def test_a_palette_gives_colours_or_the_stored_numbers(tmp_path):
    path = tmp_path / "a.png"
    image = Image.new("P", (2, 2))
    image.putdata([0, 1, 1, 2])
    image.putpalette([9, 9, 9, 80, 80, 80, 200, 200, 200] + [0] * 759)
    image.save(path)
    assert read_plane(path, channel="luminance").tolist() == [[9, 80], [80, 200]]
    indices, axes = read_array(path, palette="indices")
    assert axes == "YX"
    assert indices.tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize(("mode", "stored"), [("1", [0, 1]), ("L", [0, 1, 2, 3])], ids=["1 bit", "2 bits"])
def test_a_png_of_few_bits_gives_the_stored_numbers(tmp_path, mode, stored):
    path = tmp_path / "a.png"
    if mode == "1":
        image = Image.new("1", (2, 1))
        image.putdata(stored)
        image.save(path)
    else:
        # two bits per sample, by hand: four pixels are one byte after the filter byte of their row
        write_png_of_two_bits(path, bytes([0, 0b00011011]))
    indices, axes = read_array(path, palette="indices")
    assert axes == "YX"
    assert indices.tolist() == [stored]
    assert read_plane(path, channel="luminance").max() == 255


def write_png_of_two_bits(path, rows):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_refused(tmp_path, value):
    image = ramp(np.float32)
    image[3, 4:6] = value
    path = write_tiff(tmp_path / "a.tif", image)
    with pytest.raises(ValueError, match=r"a\.tif: expected finite values, found 2 pixels"):
        read_plane(path, channel="luminance")


def test_complex_pixels_are_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", np.zeros((4, 5), np.complex64))
    with pytest.raises(ValueError, match="expected real numbers, found pixels of type complex64"):
        read_plane(path, channel="luminance")


@pytest.mark.parametrize("read", [read_shape, lambda path: read_plane(path, channel="luminance")])
class TestBrokenFiles:
    def test_missing_file_is_named(self, tmp_path, read):
        with pytest.raises(ValueError, match=r"gone\.png: expected a readable file, found: No such file"):
            read(tmp_path / "gone.png")

    def test_content_must_match_the_suffix(self, tmp_path, read):
        path = tmp_path / "a.png"
        write_tiff(path, ramp(np.uint8))
        with pytest.raises(ValueError, match=r"a\.png: expected PNG because of the suffix, found TIFF"):
            read(path)

    def test_text_is_no_image(self, tmp_path, read):
        (tmp_path / "a.tif").write_text("<html>404 Not Found</html>")
        with pytest.raises(ValueError, match="expected TIFF because of the suffix, found something else"):
            read(tmp_path / "a.tif")

    def test_empty_file_is_called_so(self, tmp_path, read):
        (tmp_path / "a.jpg").touch()
        with pytest.raises(ValueError, match="found an empty file"):
            read(tmp_path / "a.jpg")

    def test_unknown_suffix_names_the_known_ones(self, tmp_path, read):
        with pytest.raises(ValueError, match=r"expected one of \.png, .*found the suffix '\.zvi'. Convert"):
            read(tmp_path / "a.zvi")

    def test_absurd_size_is_refused_before_memory_is_asked_for(self, tmp_path, read):
        path = write_png(tmp_path / "a.png", ramp(np.uint8))
        data = bytearray(path.read_bytes())
        data[16:24] = b"\x00\x01\x00\x00\x00\x01\x00\x00"  # 65536 x 65536 in the header
        path.write_bytes(data)
        with pytest.raises(ValueError, match="expected 1 to 2147483648 pixels, found 65536 rows"):
            read(path)

    def test_cut_off_header_is_refused(self, tmp_path, read):
        for name, data in [
            ("a.png", imagecodecs.png_encode(ramp(np.uint8))[:14]),
            ("a.jpg", imagecodecs.jpeg_encode(ramp(np.uint8))[:12]),
            ("a.tif", b"II*\0\x08\0"),
        ]:
            (tmp_path / name).write_bytes(data)
            with pytest.raises(ValueError, match=f"{name}: expected a readable .* image, found a damaged one"):
                read(tmp_path / name)


def test_files_that_end_too_early_are_refused(tmp_path):
    noise = np.random.default_rng(1).integers(0, 255, (64, 64), dtype=np.uint8)
    write_png(tmp_path / "a.png", noise)
    (tmp_path / "a.jpg").write_bytes(imagecodecs.jpeg_encode(noise))
    write_tiff(tmp_path / "a.tif", noise)
    write_tiff(tmp_path / "b.tif", noise, compression="zlib", tile=(16, 16))
    for path in sorted(tmp_path.iterdir()):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
        with pytest.raises(ValueError, match=f"{path.name}: expected a readable .* image, found a damaged one"):
            read_plane(path, channel="luminance")


def test_cmyk_is_refused(tmp_path):
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="expected a grey or RGB JPEG, found 4 colour components"):
        read_plane(tmp_path / "a.jpg", channel="luminance")


def test_preprocessed_images_can_be_mapped_into_memory(tmp_path):
    image_yx = ramp(np.float32)
    write_image(tmp_path / "a.tif", image_yx)
    mapped = tifffile.memmap(tmp_path / "a.tif", mode="r")
    assert mapped.dtype == np.float32
    assert np.array_equal(mapped, image_yx)


@pytest.mark.parametrize(("highest", "dtype"), [(3, np.uint16), (IGNORE_LABEL, np.uint16), (65536, np.uint32)])
def test_labels_come_back_in_the_smallest_type(tmp_path, highest, dtype):
    labels_yx = np.array([[0, 1, 2], [2, highest, IGNORE_LABEL]], dtype=np.int64)
    write_labels(tmp_path / "a.tif", labels_yx)
    read_yx = read_labels(tmp_path / "a.tif")
    assert read_yx.dtype == dtype
    assert np.array_equal(read_yx, labels_yx)


@pytest.mark.parametrize("highest", [300, 70_000])
def test_labels_carry_their_scale_for_fiji_and_napari(tmp_path, highest):
    labels_yx = np.zeros((300, 200), dtype=np.int64)
    labels_yx[10:200, 20:150] = highest
    write_label_bands(tmp_path / "a.tif", [labels_yx], shape=(300, 200), highest=highest, pixel_size_um=0.65)
    assert np.array_equal(read_labels(tmp_path / "a.tif"), labels_yx)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.is_imagej
        assert tiff.imagej_metadata["unit"] == "micron"
        for axis in "XY":
            pixels, units = tiff.pages[0].tags[f"{axis}Resolution"].value
            assert units / pixels == pytest.approx(0.65, rel=1e-6)
    assert open_raster(tmp_path / "a.tif", palette="indices", plane=()).pixel_size_um == pytest.approx((0.65, 0.65))


def test_negative_labels_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected labels from 0 to 4294967295, found -1 to 3"):
        write_labels(tmp_path / "a.tif", np.array([[-1, 3]]))


@pytest.mark.parametrize("shape", [(1, 20, 31), (2, 20, 31), (3, 20, 31), (2, 20, 3)])
def test_probabilities_keep_their_shape_and_half_precision(tmp_path, shape):
    prob_cyx = np.random.default_rng(2).random(shape, dtype=np.float32)
    write_probabilities(tmp_path / "a.tif", prob_cyx)
    read_cyx = read_probabilities(tmp_path / "a.tif")
    assert read_cyx.dtype == np.float32
    assert read_cyx.shape == shape
    assert np.abs(read_cyx - prob_cyx).max() <= 2**-12


@pytest.mark.parametrize("shape", [(1, 700, 301), (3, 700, 301)])
def test_probabilities_in_bands_are_the_same_bytes(tmp_path, shape):
    prob_cyx = np.random.default_rng(2).random(shape, dtype=np.float32)
    write_probabilities(tmp_path / "whole.tif", prob_cyx)
    bands = (prob_cyx[:, first : first + 130] for first in range(0, 700, 130))
    write_probability_bands(tmp_path / "bands.tif", bands, shape=shape[1:])
    assert (tmp_path / "bands.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bands.tif", "whole.tif"]


@pytest.mark.parametrize("limit", [0, 2**40])
def test_files_that_may_pass_4_gib_are_big_tiffs(tmp_path, monkeypatch, limit):
    monkeypatch.setattr("cellmill.images.stored.MAX_PLAIN_BYTES", limit)
    image, prob = ramp(np.float32), np.stack([ramp(np.float16)] * 3) % 1
    write_image(tmp_path / "image.tif", image)
    write_labels(tmp_path / "labels.tif", ramp(np.uint16))
    write_probabilities(tmp_path / "prob.tif", prob)
    for path in tmp_path.iterdir():
        with tifffile.TiffFile(path) as tiff:
            assert tiff.is_bigtiff == (limit == 0), path.name
    assert np.array_equal(tifffile.memmap(tmp_path / "image.tif", mode="r"), image)
    assert np.array_equal(read_labels(tmp_path / "labels.tif"), ramp(np.uint16))
    assert np.array_equal(StoredRows(tmp_path / "prob.tif").read(3, 17), prob[:, 3:17].astype(np.float16))


def test_equal_pixels_are_equal_bytes(tmp_path):
    for name in ("a.tif", "b.tif"):
        write_labels(tmp_path / name, ramp(np.uint16))
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_samples_of_a_folder_may_hold_dots(tmp_path):
    with shard_folder(tmp_path / "shard") as folder:
        for name in ("b.2.tif", "a.1.tif", "geometry.csv"):
            (folder / name).touch()
    assert list(sample_paths(tmp_path / "shard")) == ["a.1", "b.2"]


def test_problems_are_listed_together_and_cut_at_twenty_lines():
    raise_together([], subject="images")
    with pytest.raises(ValueError, match="1 problem with the images:\n  x: broken"):
        raise_together(["x: broken"], subject="images")
    with pytest.raises(ValueError, match=r"25 problems with the images:(\n  p\d+){20}\n  \.\.\. and 5 more") as caught:
        raise_together([f"p{i}" for i in range(25)], subject="images")
    assert "p20" not in str(caught.value)


def test_a_problem_of_many_files_is_shown_three_times():
    lines = [f"p{i}: expected TIFF, found PNG." for i in range(30)]
    others = [f"q{i}: expected {i} rows, found {i + 1}." for i in range(4)]
    with pytest.raises(ValueError, match="34 problems with the images") as caught:
        raise_together([*lines, *others], subject="images")
    shown = str(caught.value).split("\n  ")[1:]
    named = "; ".join(f"p{i}" for i in range(3, 13))
    assert shown == [*lines[:3], *others, f"... and 27 more with the same message: {named}; and 17 others."]


def test_hdf5_with_the_suffix_of_an_image_is_named(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match="expected TIFF because of the suffix, found HDF5"):
        read_shape(tmp_path / "a.tif")
