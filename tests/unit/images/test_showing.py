"""Pixels as viewers show them: orientation, MinIsWhite, colour tables, and resolutions that are no pixel size."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from cellmill.images.files import PlaneRows, read_array, read_plane, read_shape
from cellmill.images.rasters import open_raster, read_layout
from cellmill.images.showing import read_orientation

ORIENTATIONS = range(1, 9)
SHAPE = (37, 52)
# tags of TIFF
ORIENTATION, PHOTOMETRIC = 274, 262


def picture(dtype=np.uint8, *, top=200):
    return np.random.default_rng(3).integers(0, top, SHAPE).astype(dtype)


def exif_of(orientation, order="II"):
    """Return EXIF data of one entry, written byte by byte."""
    sign = "<" if order == "II" else ">"
    return order.encode() + struct.pack(f"{sign}HIHHHIHHI", 42, 8, 1, ORIENTATION, 3, 1, orientation, 0, 0)


def as_pillow_shows(stored, orientation):
    image = Image.fromarray(stored)
    image.getexif()[ORIENTATION] = orientation
    return np.array(ImageOps.exif_transpose(image))


def write_tiff(path, array, orientation=1, **how):
    tifffile.imwrite(path, array, extratags=[(ORIENTATION, 3, 1, orientation, True)], metadata=None, **how)
    return path


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_jpeg_is_turned_as_its_exif_says(tmp_path, orientation):
    smooth = np.add.outer(np.arange(37) * 2, np.arange(52)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=98, exif=b"Exif\0\0" + exif_of(orientation))
    shown = read_plane(tmp_path / "a.jpg", channel="luminance")
    expected = as_pillow_shows(smooth, orientation)
    assert read_shape(tmp_path / "a.jpg") == shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).max() <= 4  # compression


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_png_is_turned_as_its_exif_says(tmp_path, orientation):
    stored = np.stack([picture(), picture(top=90), picture(top=30)], axis=2)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif_of(orientation, "MM"))
    shown, axes = read_array(tmp_path / "a.png", palette="colours")
    assert axes == "YXS"
    assert np.array_equal(shown, as_pillow_shows(stored, orientation))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("how", [{}, {"compression": "zlib", "rowsperstrip": 5}, {"tile": (16, 16)}], ids=str)
def test_a_tiff_is_turned_the_same_whole_and_by_rows(tmp_path, orientation, how):
    stored = picture(np.uint16, top=60000)
    path = write_tiff(tmp_path / "a.tif", stored, orientation, **how)
    expected = as_pillow_shows(stored, orientation)
    assert np.array_equal(read_plane(path, channel="luminance"), expected)
    rows = PlaneRows(path, channel="luminance")
    assert np.array_equal(rows[3:11], expected[3:11])
    raster = open_raster(path, palette="indices", plane=())
    bands = list(raster.bands(max_pixels=300))
    assert len(bands) > 3
    assert np.array_equal(np.concatenate([band for _, band in bands]), expected)


def test_only_exchanged_axes_need_the_whole_tiff(tmp_path):
    read_whole = [
        open_raster(write_tiff(tmp_path / f"{i}.tif", picture(), i, rowsperstrip=5), palette="colours", plane=()).is_whole
        for i in ORIENTATIONS
    ]  # fmt: skip
    assert read_whole == [False] * 4 + [True] * 4


def test_a_turned_image_has_the_pixel_size_of_the_shown_picture(tmp_path):
    # columns of 0.5 um, rows of 0.25 um
    for orientation, expected in ((1, (0.25, 0.5)), (3, (0.25, 0.5)), (6, (0.5, 0.25))):
        path = write_tiff(
            tmp_path / "a.tif", picture(), orientation, resolution=(2e4, 4e4), resolutionunit="CENTIMETER"
        )
        assert read_layout(path).pixel_size_um == pytest.approx(expected)


def test_a_plane_of_a_turned_stack_is_turned(tmp_path):
    stored = np.stack([picture(), picture() // 2, picture() // 3])
    path = write_tiff(tmp_path / "a.tif", stored, 8, photometric="minisblack")
    axis = next(iter(read_layout(path).stack))
    for place, expected in ((1, stored[1]), ("maximum", stored.max(axis=0))):
        shown = read_plane(path, channel="luminance", plane=[[axis, place, 3]])
        assert np.array_equal(shown, np.rot90(expected))


def test_pages_of_unlike_orientations_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for orientation in (1, 1, 3):
            tif.write(picture(), extratags=[(ORIENTATION, 3, 1, orientation, True)], metadata=None, contiguous=False)
    with pytest.raises(ValueError, match=r"expected pages of one orientation, found the orientations 1, 3\."):
        read_layout(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "exif",
    [
        b"", exif_of(0), exif_of(9), exif_of(6)[:9], exif_of(6)[:17], b"II*\0\xff\xff\xff\xff",
        b"no exif at all", exif_of(6).replace(struct.pack("<H", ORIENTATION), struct.pack("<H", 271)),
    ],
)  # fmt: skip
def test_unknown_or_damaged_orientations_are_upright(exif):
    assert read_orientation(exif) == 1


def test_an_orientation_may_have_any_integer_type_and_byte_order():
    for order in ("II", "MM"):
        assert read_orientation(exif_of(7, order)) == read_orientation(b"Exif\0\0" + exif_of(7, order)) == 7
    assert read_orientation(b"II*\0" + struct.pack("<IHHHII", 8, 1, ORIENTATION, 4, 1, 5)) == 5
    assert read_orientation(b"MM\0*" + struct.pack(">IHHHII", 8, 1, ORIENTATION, 4, 1, 5)) == 5


def test_exif_may_follow_the_pixels_of_a_png(tmp_path):
    stored = picture()
    Image.fromarray(stored).save(tmp_path / "a.png")
    data, exif = (tmp_path / "a.png").read_bytes(), b"eXIf" + exif_of(3)
    chunk = struct.pack(">I", len(exif) - 4) + exif + struct.pack(">I", zlib.crc32(exif))
    (tmp_path / "a.png").write_bytes(data[:-12] + chunk + data[-12:])
    assert np.array_equal(read_plane(tmp_path / "a.png", channel="luminance"), stored[::-1, ::-1])


# ---- MinIsWhite ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_min_is_white_is_inverted_over_the_range_of_its_bits(tmp_path, dtype, white):
    stored = picture(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite", rowsperstrip=4)
    shown = read_plane(tmp_path / "a.tif", channel="luminance")
    assert shown.dtype == dtype
    assert np.array_equal(shown, white - stored.astype(int))
    assert np.array_equal(PlaneRows(tmp_path / "a.tif", channel=0)[5:9], shown[5:9])
    assert np.array_equal(read_array(tmp_path / "a.tif", palette="indices")[0], stored)


def test_pillow_and_this_reader_show_the_same_min_is_white(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture(), photometric="miniswhite", metadata=None)
    assert np.array_equal(read_plane(tmp_path / "a.tif", channel="luminance"), np.array(Image.open(tmp_path / "a.tif")))


def test_projections_of_min_is_white_are_made_of_shown_planes(tmp_path):
    stored = np.stack([picture(), picture()[::-1]])
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite", metadata={"axes": "ZYX"})
    shown = read_plane(tmp_path / "a.tif", channel="luminance", plane=[["Z", "maximum", 2]])
    assert np.array_equal(shown, 255 - stored.min(axis=0))


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint32])
def test_min_is_white_without_a_white_level_is_refused(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", picture(dtype), photometric="miniswhite")
    with pytest.raises(ValueError, match=r"a\.tif: expected intensities, found MinIsWhite .* with "):
        read_plane(tmp_path / "a.tif", channel="luminance")


def test_one_bit_is_shown_white_unless_tifffile_wrote_a_boolean_array(tmp_path):
    mask = picture() > 150
    tifffile.imwrite(tmp_path / "bool.tif", mask)
    with tifffile.TiffFile(tmp_path / "bool.tif") as tif:
        assert tif.pages[0].photometric == 0
    assert np.array_equal(read_plane(tmp_path / "bool.tif", channel="luminance"), mask)
    Image.fromarray(mask).save(tmp_path / "fax.tif", compression="group4", tiffinfo={PHOTOMETRIC: 0})
    assert np.array_equal(read_plane(tmp_path / "fax.tif", channel="luminance"), mask)


# ---- colour tables ---------------------------------------------------------------------------------------


def write_palette(path, stored, table):
    """Write a palette TIFF; the table has shape (entries, 3), of 8 bits."""
    tifffile.imwrite(path, stored, photometric="palette", colormap=(table.T.astype(np.uint16) * 257), metadata=None)
    return path


def test_a_table_of_mixed_colours_is_read_as_colours(tmp_path):
    table = np.random.default_rng(8).integers(0, 256, (256, 3))
    path = write_palette(tmp_path / "a.tif", picture(), table)
    shown, axes = read_array(path, palette="colours")
    assert axes == "YXS"
    assert np.array_equal(shown, np.array(Image.open(path).convert("RGB")))
    raster = open_raster(path, palette="colours", plane=())
    assert (raster.channels, raster.dtype) == (3, np.uint8)
    assert np.array_equal(read_array(path, palette="indices")[0], picture())


def test_a_table_of_greys_is_read_as_greys(tmp_path):
    for name, grey in (("inverted", np.arange(255, -1, -1)), ("mixed", np.random.default_rng(8).permutation(256))):
        path = write_palette(tmp_path / f"{name}.tif", picture(), np.stack([grey] * 3, axis=1))
        assert np.array_equal(read_plane(path, channel="luminance"), np.array(Image.open(path).convert("L")))


@pytest.mark.parametrize(
    ("name", "ramp"), [("green", "rising"), ("blue", "rising"), ("hilo", "rising"), ("jet", "other")]
)
def test_a_look_up_table_for_display_leaves_the_intensities(tmp_path, name, ramp):
    step = np.arange(256)
    zero = 0 * step
    table = {
        "green": np.stack([zero, step, zero], axis=1),
        "blue": np.stack([zero, zero, step], axis=1),
        "hilo": np.stack([step] * 3, axis=1),
        "jet": np.stack([np.clip(382 - np.abs(step * 4 - middle), 0, 255) for middle in (765, 510, 255)], axis=1),
    }[name]
    if name == "hilo":
        table[0], table[255] = (0, 0, 255), (255, 0, 0)
    path = write_palette(tmp_path / "a.tif", picture(), table)
    assert np.array_equal(read_plane(path, channel="luminance"), picture())
    assert read_layout(path).ramp == ramp


def test_a_png_palette_read_as_labels_has_one_channel(tmp_path):
    image = Image.fromarray(picture(top=5), mode="P")
    image.putpalette(np.random.default_rng(8).integers(0, 256, 15).tolist())
    image.save(tmp_path / "a.png")
    raster = open_raster(tmp_path / "a.png", palette="indices", plane=())
    assert (raster.channels, raster.axes) == (1, "YX")
    assert open_raster(tmp_path / "a.png", palette="colours", plane=()).channels == 3


def test_colour_models_that_are_not_decoded_to_rgb_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "cfa.tif", picture(), photometric="cfa", metadata=None,
                     extratags=[(33421, 3, 2, (2, 2), True), (33422, 1, 4, bytes((0, 1, 1, 2)), True)])  # fmt: skip
    stored = np.stack([picture()] * 3, axis=2)
    tifffile.imwrite(tmp_path / "ycbcr.tif", stored, photometric="rgb", metadata=None)
    with tifffile.TiffFile(tmp_path / "ycbcr.tif", mode="r+b") as tif:
        tif.pages[0].tags[PHOTOMETRIC].overwrite(6)
    for name, found in (("cfa", "raw mosaic"), ("ycbcr", "subsampling|YCbCr without JPEG")):
        with pytest.raises(ValueError, match=f"{name}.tif: .*({found})"):
            read_plane(tmp_path / f"{name}.tif", channel="luminance")


# ---- resolutions of printers -----------------------------------------------------------------------------


@pytest.mark.parametrize("dpi", [72, 96, 150, 300, 600])
@pytest.mark.parametrize("unit", ["INCH", "CENTIMETER", "rounded", "whole"])
def test_the_resolution_of_a_printer_is_no_pixel_size(tmp_path, dpi, unit):
    per_cm = dpi / 2.54
    value = {"INCH": dpi, "CENTIMETER": per_cm, "rounded": round(per_cm, 2), "whole": round(per_cm)}[unit]
    tifffile.imwrite(
        tmp_path / "a.tif", picture(), metadata=None, resolution=(value, value),
        resolutionunit="INCH" if unit == "INCH" else "CENTIMETER",
    )  # fmt: skip
    layout = read_layout(tmp_path / "a.tif")
    assert layout.pixel_size_um is None
    assert layout.printer_dpi == dpi


@pytest.mark.parametrize("edge_um", [0.065, 0.1613, 0.65, 1.0, 3.45, 6.5, 20.0, 50.0, 100.0])
def test_the_resolution_of_a_microscope_in_cm_stays_its_pixel_size(tmp_path, edge_um):
    tifffile.imwrite(
        tmp_path / "a.tif", picture(), metadata=None, resolution=(1e4 / edge_um,) * 2, resolutionunit="CENTIMETER"
    )
    layout = read_layout(tmp_path / "a.tif")
    assert layout.pixel_size_um == pytest.approx((edge_um, edge_um))
    assert layout.printer_dpi is None


@pytest.mark.parametrize(("unit", "per_unit"), [("cm", 28.35), ("mm", 11.811), ("um", 0.011811)])
def test_programs_that_convert_the_resolution_of_a_printer_do_not_make_it_a_pixel_size(tmp_path, unit, per_unit):
    tifffile.imwrite(tmp_path / "a.tif", picture(), imagej=True, resolution=(per_unit,) * 2, metadata={"unit": unit})
    assert read_layout(tmp_path / "a.tif").pixel_size_um is None
    size_um = 1e3 / 11.811
    metadata = {"axes": "YX", "PhysicalSizeX": size_um, "PhysicalSizeY": size_um}
    tifffile.imwrite(tmp_path / "a.ome.tif", picture(), metadata=metadata)
    assert read_layout(tmp_path / "a.ome.tif").printer_dpi == 300


def test_pixels_that_are_not_square_are_no_printers(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", picture(), metadata=None, resolution=(28.35, 56.7), resolutionunit="CENTIMETER"
    )
    assert read_layout(tmp_path / "a.tif").pixel_size_um == pytest.approx((1e4 / 56.7, 1e4 / 28.35))


def test_numbers_that_are_infinite_in_32_bits_are_refused(tmp_path):
    image_yx = np.random.default_rng(0).normal(100, 10, SHAPE)
    image_yx[3, 4] = 1e300
    tifffile.imwrite(tmp_path / "a.tif", image_yx)
    with pytest.raises(ValueError, match=r"a\.tif: expected finite values, found 1 pixels beyond 3\.4e\+38"):
        read_plane(tmp_path / "a.tif", channel="luminance")
    tifffile.imwrite(tmp_path / "a.tif", np.float16([[1, 2], [3, 60000]]))
    assert read_plane(tmp_path / "a.tif", channel="luminance").max() == 60000
