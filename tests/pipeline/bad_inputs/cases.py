"""Named cases of bad input: for each, the files and config section that produce it, and the expected message.

In a message, {folder} and {name} stand for the case's folder and dataset name. <...> stands for text from a library,
which changes with its version. Every case damages the sample `bad` or the first frame.
"""

import io
import json
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

ROWS, COLUMNS = 12, 16
SAMPLES = ("bad", "good", "other")


@dataclass(frozen=True)
class Case:
    """One mistake in the input. `when` is plan (before any job) or check (in the first job that reads the file)."""

    name: str
    chapter: str
    when: str
    message: str
    make: Callable[[Path], dict[str, Any]]
    # top-level config keys in addition to `datasets`
    top: dict[str, Any] = field(default_factory=dict)
    # whether only the stage check detects it
    is_judged_by_check_only: bool = False
    # whether it is judged once nothing else in the config is wrong, because it needs the plan of other datasets
    is_judged_last: bool = False
    # about file permissions: root runs it without the right to read every file
    needs_rights: bool = False
    # start of the name of the sample whose shard fails
    spoilt: str = "bad"
    # number of further errors that follow from it
    followers: int = 0

    def expected(self, folder: str) -> str:
        """Return the message with the folder and dataset name filled in."""
        return self.message.replace("{folder}", folder).replace("{name}", self.name)


CASES: list[Case] = []


def case(chapter: str, when: str, message: str, **facts: Any) -> Callable[[Callable[[Path], Any]], Any]:
    """Return a decorator that registers a case under the name of its function."""

    def register(make: Callable[[Path], Any]) -> Any:
        CASES.append(Case(make.__name__, chapter, when, message, make, **facts))
        return make

    return register


# ---- valid files -----------------------------------------------------------------------------------------


def pixels() -> np.ndarray:
    """Return an image that is not square, with one bright cell of 4 x 6 px."""
    image_yx = np.random.default_rng(7).integers(20, 60, (ROWS, COLUMNS)).astype(np.uint8)
    image_yx[3:7, 5:11] += 120
    return image_yx


def mask() -> np.ndarray:
    """Return the label image of `pixels`."""
    labels_yx = np.zeros((ROWS, COLUMNS), np.uint8)
    labels_yx[3:7, 5:11] = 1
    return labels_yx


def put(path: Path, data: bytes | str) -> Path:
    """Write a file and create its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def put_png(path: Path, array: np.ndarray) -> Path:
    """Write a PNG image."""
    return put(path, imagecodecs.png_encode(array))


def put_tiff(path: Path, array: np.ndarray, **options: Any) -> Path:
    """Write a TIFF image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tifffile warns about some files that labs do write
        tifffile.imwrite(path, array, **options)
    return path


def images(folder: Path, *, suffix: str = "png", skip: str = "", **changes: Any) -> dict[str, Any]:
    """Write three images with label images and return their config section; `skip` omits the image of one sample."""
    for sample in SAMPLES:
        put_png(folder / f"labels/{sample}.png", mask())
        if sample == skip:
            continue
        if suffix == "png":
            put_png(folder / f"images/{sample}.png", pixels())
        else:
            put_tiff(folder / f"images/{sample}.{suffix}", pixels())
    return {
        "images": f"{folder}/images/{{sample}}.{suffix}",
        "annotations": {"format": "label_image", "path": f"{folder}/labels/{{sample}}.png"},
        **changes,
    }


def bad_image(folder: Path, data: bytes | str, *, suffix: str = "png", **changes: Any) -> dict[str, Any]:
    """Write three images, one of them with these bytes, and return their config section."""
    section = images(folder, suffix=suffix, **changes)
    put(folder / f"images/bad.{suffix}", data)
    return section


def bad_tiff(folder: Path, array: np.ndarray, *, changes: dict[str, Any] | None = None, **options: Any) -> dict:
    """Write three TIFF images, one of them with this array, and return their config section."""
    section = images(folder, suffix="tif", **(changes or {}))
    put_tiff(folder / "images/bad.tif", array, **options)
    return section


def annotated(folder: Path, *, data: str | bytes = "", file: str = "", **annotations: Any) -> dict[str, Any]:
    """Write three images and, if given, one annotation file, and return their config section."""
    section = images(folder)
    if file:
        put(folder / file, data)
    return {**section, "annotations": annotations}


def frames(folder: Path, count: int = 3, **changes: Any) -> dict[str, Any]:
    """Write one sequence in the layout of the Cell Tracking Challenge and return its config section."""
    for frame in range(count):
        put_png(folder / f"01/t{frame:03d}.png", pixels())
        put_tiff(folder / f"01_GT/man_seg{frame:03d}.tif", mask().astype(np.uint16))
    return {
        "images": f"{folder}/{{sequence}}/t{{frame}}.png",
        "annotations": {"format": "ctc", "path": f"{folder}/{{sequence}}_GT/man_seg{{frame}}.tif"},
        "split": {"by": "blocks"},
        **changes,
    }


# ---- image files -----------------------------------------------------------------------------------------

DAMAGED = "found a damaged one (<...>). Copy the file again from its source."
RENAME = "Rename the file to match its content, or copy it again from its source."
STACK = (
    "found axes IYX of 3 x 12 x 16. "
    "Set stack.axis of the dataset to time, z or channel, or save every frame or section as a separate file."
)


@case(
    "Image files",
    "check",
    "{folder}/images/bad.png: expected PNG because of the suffix, found an empty file. " + RENAME,
)
def an_empty_file(folder):
    return bad_image(folder, b"")


@case("Image files", "check", "{folder}/images/bad.png: expected a readable PNG image, " + DAMAGED)
def a_truncated_png(folder):
    return bad_image(folder, imagecodecs.png_encode(pixels())[:120])


@case("Image files", "check", "{folder}/images/bad.png: expected a readable PNG image, " + DAMAGED)
def a_png_with_a_wrong_checksum(folder):
    data = bytearray(imagecodecs.png_encode(pixels()))
    data[60] ^= 0xFF
    return bad_image(folder, bytes(data))


@case("Image files", "check", "{folder}/images/bad.tif: expected a readable TIFF image, " + DAMAGED)
def a_truncated_tiff(folder):
    section = images(folder, suffix="tif")
    path = put_tiff(folder / "images/bad.tif", pixels(), compression="zlib")
    path.write_bytes(path.read_bytes()[:-40])
    return section


@case("Image files", "check", "{folder}/images/bad.tif: expected a readable TIFF image, " + DAMAGED)
def a_tiff_without_pixels(folder):
    return bad_image(folder, b"II*\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00", suffix="tif")


@case("Image files", "check", "{folder}/images/bad.jpg: expected a readable JPEG image, " + DAMAGED)
def a_truncated_jpeg(folder):
    section = images(folder, skip="bad", images=f"{folder}/images/{{sample}}.*")
    put(folder / "images/bad.jpg", imagecodecs.jpeg_encode(pixels())[:-40])
    return section


@case(
    "Image files", "check",
    "{folder}/images/bad.jpg: expected a grey or RGB JPEG, found 4 colour components. "
    "Save it as RGB, preferably as PNG or TIFF.",
)  # fmt: skip
def a_cmyk_jpeg(folder):
    section = images(folder, skip="bad", images=f"{folder}/images/{{sample}}.*")
    stream = io.BytesIO()
    Image.new("CMYK", (COLUMNS, ROWS)).save(stream, "JPEG")
    put(folder / "images/bad.jpg", stream.getvalue())
    return section


@case(
    "Image files", "check",
    "{folder}/images/bad.png: expected PNG because of the suffix, found something else. " + RENAME,
)  # fmt: skip
def a_web_page_called_png(folder):
    return bad_image(folder, "<html>404 Not Found</html>")


@case("Image files", "check", "{folder}/images/bad.png: expected PNG because of the suffix, found TIFF. " + RENAME)
def a_tiff_called_png(folder):
    section = images(folder)
    put_tiff(folder / "images/bad.png", pixels())
    return section


def _png_of_header(rows: int, columns: int, *, bits: int = 8, colour: int = 0, data: bytes = b"\0" * 64) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", columns, rows, bits, colour, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@case(
    "Image files", "check",
    "{folder}/images/bad.png: expected 1 to 2147483648 pixels, found 65536 rows and 65536 columns. Cut the image into "
    "tiles first.",
)  # fmt: skip
def a_header_of_absurd_size(folder):
    return bad_image(folder, _png_of_header(65536, 65536))


@case(
    "Image files", "check",
    "{folder}/images/bad.png: expected 1 to 2147483648 pixels, found 0 rows and 16 columns. Cut the image into tiles "
    "first.",
)  # fmt: skip
def an_image_without_rows(folder):
    return bad_image(folder, _png_of_header(0, COLUMNS))


@case(
    "Image files", "check",
    "{folder}/images/bad.png: expected a PNG of at most 4 GiB of pixels, because it is decoded as a whole, found 30000 "
    "x 30000 px with 4 samples per pixel. Save it as a tiled TIFF.",
)  # fmt: skip
def a_decompression_bomb(folder):
    return bad_image(folder, _png_of_header(30000, 30000, bits=16, colour=6))


@case("Image files", "check", "{folder}/images/bad.tif: expected a readable TIFF image, " + DAMAGED)
def a_tiff_header_with_too_large_a_size(folder):
    section = bad_tiff(folder, pixels())
    path = folder / "images/bad.tif"
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags["ImageLength"].overwrite(30000)
        tif.pages.first.tags["RowsPerStrip"].overwrite(30000)
    return section


@case("Image files", "check", "{folder}/images/bad.tif: expected a readable TIFF image, " + DAMAGED)
def a_tiff_header_with_too_many_strips(folder):
    section = images(folder, suffix="tif")
    path = put_tiff(folder / "images/bad.tif", pixels(), compression="zlib", rowsperstrip=4)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags["ImageLength"].overwrite(30000)
    return section


@case("Image files", "check", "{folder}/images/bad.tif: expected a readable TIFF image, " + DAMAGED)
def a_tiff_with_an_invalid_directory_offset(folder):
    return bad_image(folder, b"II*\x00\xff\xff\xff\x7f" + b"\0" * 40, suffix="tif")


NOT_FINITE = "Replace these values in the file."


@case(
    "Image files", "check",
    "{folder}/images/bad.tif: expected finite values, found 2 pixels that are NaN or infinite. " + NOT_FINITE,
)  # fmt: skip
def pixels_with_nan(folder):
    image_yx = pixels().astype(np.float32)
    image_yx[2, 3:5] = np.nan
    return bad_tiff(folder, image_yx)


@case(
    "Image files", "check",
    "{folder}/images/bad.tif: expected finite values, found 1 pixels that are NaN or infinite. " + NOT_FINITE,
)  # fmt: skip
def an_infinite_pixel(folder):
    image_yx = pixels().astype(np.float64)
    image_yx[2, 3] = np.inf
    return bad_tiff(folder, image_yx)


@case(
    "Image files", "check",
    "{folder}/images/bad.tif: expected real numbers, found pixels of type complex64. Save the image as integers or "
    "floating-point numbers.",
)  # fmt: skip
def complex_pixels(folder):
    return bad_tiff(folder, pixels().astype(np.complex64))


@case(
    "Image files", "check",
    "{folder}/images/bad.png: expected an opaque image, found alpha from 0 to 255. Export the image without alpha, or "
    "set preprocess.channel to the number of one channel.",
)  # fmt: skip
def an_image_with_transparent_pixels(folder):
    rgba = np.stack([pixels(), pixels() // 2, pixels(), np.full((ROWS, COLUMNS), 255, np.uint8)], axis=2)
    rgba[0, 0, 3] = 0
    return bad_image(folder, imagecodecs.png_encode(rgba))


def _channels() -> np.ndarray:
    return np.stack([pixels(), pixels()[::-1]]).astype(np.uint16)


@case(
    "Image files", "check",
    "{folder}/images/bad.tif: expected a grey or RGB image, found 2 channels that are not colours. "
    "Set preprocess.channel to a number from 0 to 1.",
)  # fmt: skip
def two_stains_without_a_channel(folder):
    return bad_tiff(folder, _channels(), imagej=True, metadata={"axes": "CYX"})


@case(
    "Image files", "check",
    "{folder}/images/bad.png: expected at least 3 channels, found one. Set preprocess.channel to luminance or to 0.",
)  # fmt: skip
def a_channel_of_a_grey_image(folder):
    section = images(folder, preprocess={"channel": 2})
    for sample in ("good", "other"):
        put_png(folder / f"images/{sample}.png", np.stack([pixels()] * 3, axis=2))
    return section


@case(
    "Image files", "check",
    "{folder}/images/bad.tif: expected at least 8 channels, found 2. Set preprocess.channel to a number from 0 to 1.",
)  # fmt: skip
def a_missing_channel(folder):
    changes = {"preprocess": {"channel": 7}}
    return bad_tiff(folder, _channels(), changes=changes, imagej=True, metadata={"axes": "CYX"})


@case(
    "Image files", "check",
    "{folder}/images/bad.png: expected 2 channels, one for each weight, found 1. "
    "Set preprocess.channel to one weight per channel of the image, with 0 for unused channels.",
)  # fmt: skip
def more_weights_than_channels(folder):
    return images(folder, preprocess={"channel": [0.5, 0.5]})


@case(
    "Image files", "check",
    "{folder}/images/bad.zvi: expected one of .png, .jpg, .jpeg, .tif, .tiff, <...>, or an OME-Zarr folder, found the "
    "suffix '.zvi'. Convert the image to TIFF or PNG.",
)  # fmt: skip
def a_microscope_format_that_is_not_read(folder):
    section = images(folder, skip="bad", images=f"{folder}/images/{{sample}}.*")
    put(folder / "images/bad.zvi", b"\xd0\xcf\x11\xe0")
    return section


@case(
    "Image files", "check",
    "{folder}/images/bad.png: expected a readable file, found: Permission denied. "
    "Check the path and the file permissions.",
    needs_rights=True,
)  # fmt: skip
def a_file_without_read_permission(folder):
    section = images(folder)
    (folder / "images/bad.png").chmod(0)
    return section


# ---- stacks ----------------------------------------------------------------------------------------------


@case(
    "Stacks", "plan",
    "datasets.{name}.images: expected metadata that define the axes of the stack, found axes IYX of 3 x 12 x 16 in "
    "{folder}/images/bad.tif. Set stack.axis to time (one sequence), z (a z-stack), or channel (one image).",
)  # fmt: skip
def a_stack_without_axis_metadata(folder):
    return bad_tiff(folder, np.stack([pixels()] * 3), photometric="minisblack", metadata=None)


@case(
    "Stacks", "check", "{folder}/images/other.tif: expected one image with axes YX, or YX and channels, " + STACK,
    spoilt="other",
)  # fmt: skip
def a_stack_among_single_images(folder):
    section = images(folder, suffix="tif")
    put_tiff(folder / "images/other.tif", np.stack([pixels()] * 3), photometric="minisblack", metadata=None)
    return section


@case(
    "Stacks", "check",
    "{folder}/images/bad.tif: expected one image or one stack of planes of equal size and type, found 2 images (YX of "
    "12 x 16; YX of 5 x 9). Save each image as a separate file.",
)  # fmt: skip
def pages_of_several_sizes(folder):
    section = images(folder, suffix="tif")
    with tifffile.TiffWriter(folder / "images/bad.tif") as writer:
        writer.write(pixels(), metadata=None)
        writer.write(pixels()[:5, :9], metadata=None)
    return section


@case(
    "Stacks", "plan",
    "datasets.{name}.stack.axis: expected stacks for axis time, found a single plane in {folder}/images/bad.tif (axes "
    "YX of 12 x 16). Remove stack; use {sequence} and {frame} to join files into sequences.",
)  # fmt: skip
def an_axis_for_single_planes(folder):
    return images(folder, suffix="tif", stack={"axis": "time"})


@case(
    "Stacks", "plan",
    "datasets.{name}.images: expected frames either in {frame} or in the file, found both in {folder}/01/t0.tif (axes "
    "TYX of 3 x 12 x 16). Remove {frame} from the pattern, or set stack.axis to z.",
)  # fmt: skip
def frames_in_the_path_and_in_the_file(folder):
    put_tiff(folder / "01/t0.tif", np.stack([pixels()] * 3), imagej=True, metadata={"axes": "TYX"})
    section = frames(folder)
    return {**section, "images": f"{folder}/{{sequence}}/t{{frame}}.tif"}


@case(
    "Stacks", "check",
    "{folder}/labels/bad.tif: expected 3 planes along T, found axes TYX of 2 x 12 x 16. "
    "Use the same planes in all stacks of a dataset and in their annotations.",
)  # fmt: skip
def a_stack_of_labels_with_too_few_planes(folder):
    axes = {"imagej": True, "metadata": {"axes": "TYX"}}
    for sample in SAMPLES:
        put_tiff(folder / f"images/{sample}.tif", np.stack([pixels()] * 3), **axes)
        planes = 2 if sample == "bad" else 3
        put_tiff(folder / f"labels/{sample}.tif", np.stack([mask()] * planes), **axes)
    return {
        "images": f"{folder}/images/{{sample}}.tif",
        "annotations": {"format": "label_image", "path": f"{folder}/labels/{{sample}}.tif"},
    }


# ---- OME -------------------------------------------------------------------------------------------------

WRITE_AGAIN = "Write it again with an OME-Zarr library (0.4 or 0.5)."


def put_store(path: Path, *, axes: str = "yx", **metadata: Any) -> None:
    """Write an image as OME-Zarr 0.4 with changed metadata."""
    put(path / "0/.zarray", json.dumps({
        "zarr_format": 2, "shape": [ROWS, COLUMNS], "chunks": [ROWS, COLUMNS], "dtype": "|u1", "compressor": None,
        "filters": None, "fill_value": 0, "order": "C", **metadata.pop("zarray", {}),
    }))  # fmt: skip
    put(path / "0/0.0", pixels().tobytes())
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0] * len(axes)}]}
    scales = [{"version": "0.4", "axes": [{"name": axis} for axis in axes], "datasets": [dataset]}]
    put(path / ".zgroup", '{"zarr_format": 2}')
    put(path / ".zattrs", json.dumps({"multiscales": scales, **metadata}))


def stores(folder: Path, **metadata: Any) -> dict[str, Any]:
    """Write three OME-Zarr images, one of them with changed metadata."""
    section = images(folder)
    for sample in SAMPLES:
        put_store(folder / f"zarr/{sample}.zarr", **(metadata if sample == "bad" else {}))
    return {**section, "images": f"{folder}/zarr/{{sample}}.zarr"}


@case(
    "OME", "plan",
    "{folder}/zarr/bad.zarr: expected one image, found a plate. "
    "Set the pattern to the images inside it, such as plate.zarr/{row}/{column}/{field}.",
)  # fmt: skip
def a_plate(folder):
    return stores(folder, plate={"rows": [], "columns": []})


@case(
    "OME", "plan",
    "{folder}/zarr/bad.zarr: expected one image, found a bioformats2raw collection. "
    "Set the pattern to the images inside it, such as {sample}.zarr/0.",
)  # fmt: skip
def a_collection(folder):
    return stores(folder, **{"bioformats2raw.layout": 3})


@case(
    "OME", "plan",
    "{folder}/zarr/bad.zarr: expected an OME-Zarr image with multiscales, axes and datasets in its metadata, found "
    "multiscales. " + WRITE_AGAIN,
)  # fmt: skip
def a_store_without_scales(folder):
    return stores(folder, multiscales=None)


@case("OME", "plan", "{folder}/zarr/bad.zarr: expected a readable OME-Zarr image, " + DAMAGED)
def a_store_with_metadata_that_are_not_json(folder):
    section = stores(folder)
    put(folder / "zarr/bad.zarr/.zattrs", '{"multiscales": [')
    return section


@case("OME", "plan", "{folder}/zarr/bad.zarr: expected a readable OME-Zarr image, " + DAMAGED)
def a_store_whose_metadata_are_a_list(folder):
    section = stores(folder)
    put(folder / "zarr/bad.zarr/zarr.json", '{"attributes": [1, 2]}')
    return section


@case(
    "OME", "plan",
    "{folder}/zarr/bad.zarr: expected the pixels inside the image folder, found the path '../../secret'. "
    "Write the image again with an OME-Zarr library.",
)  # fmt: skip
def a_store_that_points_outside(folder):
    scales = [{"axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": "../../secret"}]}]
    return stores(folder, multiscales=scales)


@case(
    "OME", "check",
    "{folder}/zarr/bad.zarr: expected chunks of numbers compressed with a codec such as blosc or zstd, found pickle. "
    "Write the image again with an OME-Zarr library.",
)  # fmt: skip
def a_store_with_pickled_chunks(folder):
    return stores(folder, zarray={"filters": [{"id": "pickle"}], "dtype": "|O"})


@case("OME", "check", "{folder}/zarr/bad.zarr: expected a readable OME-Zarr image, " + DAMAGED)
def a_store_without_its_array(folder):
    section = stores(folder)
    (folder / "zarr/bad.zarr/0/.zarray").unlink()
    return section


@case("OME", "check", "{folder}/zarr/bad.zarr: expected a readable OME-Zarr image, " + DAMAGED)
def a_store_with_a_truncated_chunk(folder):
    section = stores(folder)
    put(folder / "zarr/bad.zarr/0/0.0", pixels().tobytes()[:50])
    return section


@case(
    "OME", "check",
    "{folder}/zarr/bad.zarr: expected 1 to 2147483648 pixels, found -12 rows and -16 columns. Cut the image into tiles "
    "first.",
)  # fmt: skip
def a_store_of_negative_size(folder):
    return stores(folder, zarray={"shape": [-ROWS, -COLUMNS]})


@case(
    "OME", "check",
    "{folder}/zarr/bad.zarr: expected chunks of up to 2147483648 numbers, found [60000, 60000] of type |u1. "
    "Write the image again with smaller chunks.",
)  # fmt: skip
def a_store_of_one_huge_chunk(folder):
    return stores(folder, zarray={"chunks": [60000, 60000]})


@case(
    "OME", "check",
    "{folder}/zarr/bad.zarr: expected an axis for each of the 2 dimensions, found 3 axes (CYX). "
    "Write the image again with an OME-Zarr library.",
)  # fmt: skip
def a_store_with_a_wrong_number_of_axes(folder):
    return stores(folder, axes="cyx")


# ---- names and patterns ----------------------------------------------------------------------------------


@case(
    "Names and patterns", "plan",
    "datasets.{name}.images: expected a folder {folder}/imagse, found none. Check the path, which is relative to the "
    "working directory ({folder} exists and contains images/, labels/).",
)  # fmt: skip
def a_missing_folder(folder):
    return images(folder) | {"images": f"{folder}/imagse/{{sample}}.png"}


@case(
    "Names and patterns", "plan",
    "datasets.{name}.images: expected files that match '{folder}/images/{sample}.tif', found none. {folder}/images "
    "contains bad.png, good.png, other.png. Check folders and suffix, including upper and lower case.",
)  # fmt: skip
def a_pattern_without_matches(folder):
    return images(folder) | {"images": f"{folder}/images/{{sample}}.tif"}


@case(
    "Names and patterns", "plan",
    "datasets.{name}.images: expected wildcards such as {sample}, found unmatched braces in "
    "'{folder}/images/{sample.png'. Close each brace.",
)  # fmt: skip
def an_unclosed_brace(folder):
    return images(folder) | {"images": f"{folder}/images/{{sample.png"}


LINK = "which does not exist. Repair or remove the link."


@case(
    "Names and patterns", "plan",
    "{folder}/images/bad.png: expected a readable file, found a symbolic link to gone.png, " + LINK,
)  # fmt: skip
def a_broken_link(folder):
    section = images(folder, skip="bad")
    (folder / "images/bad.png").symlink_to("gone.png")
    return section


@case(
    "Names and patterns", "plan",
    "{folder}/images/bad.png: expected a readable file, found a symbolic link to loop.png, " + LINK,
)  # fmt: skip
def circular_links(folder):
    section = images(folder, skip="bad")
    (folder / "images/bad.png").symlink_to("loop.png")
    (folder / "images/loop.png").symlink_to("bad.png")
    return section


@case(
    "Names and patterns", "plan",
    "datasets.{name}.images: {folder}/images/cell.7.png: expected a valid file name, found the sample name '.7', which is "
    "hidden or reserved. Rename the file.",
)  # fmt: skip
def a_hidden_sample(folder):
    section = images(folder)
    for sample in SAMPLES:
        put_png(folder / f"images/cell{'.7' if sample == 'bad' else sample}.png", pixels())
    return {**section, "images": f"{folder}/images/cell{{sample}}.png"}


@case(
    "Names and patterns", "plan",
    "datasets.{name}.images: {folder}/images/geometry.png: expected a valid file name, found the sample name 'geometry', "
    "which is hidden or reserved. Rename the file.",
)  # fmt: skip
def a_reserved_sample(folder):
    section = images(folder)
    put_png(folder / "images/geometry.png", pixels())
    return section


NO_PATH = (
    "which contains a character that paths must not contain (control, slash, brace, or not UTF-8). Rename the file."
)


@case(
    "Names and patterns", "plan",
    "datasets.{name}.images: {folder}/images/a\\tb.png: expected a valid file name, found the sample name 'a\\tb', " + NO_PATH,
)  # fmt: skip
def a_tabulator_in_a_name(folder):
    section = images(folder)
    put_png(folder / "images/a\tb.png", pixels())
    return section


@case(
    "Names and patterns", "plan",
    "datasets.{name}.images: {folder}/images/gr\\udcfcn.png: expected a valid file name, found the sample name 'gr\\udcfcn', "
    + NO_PATH,
)  # fmt: skip
def a_name_of_another_alphabet(folder):
    section = images(folder)
    put_png(folder / os.fsdecode(b"images/gr\xfcn.png"), pixels())  # a Latin-1 name, as unpacked from old archives
    return section


@case(
    "Names and patterns", "plan",
    "datasets.{name}.images: {folder}/gr\\udcfcn/bad.png: expected a path of printable UTF-8 characters, found other "
    "characters. Rename the file or folder.",
)  # fmt: skip
def a_folder_of_another_alphabet(folder):
    section = images(folder)
    put_png(folder / os.fsdecode(b"gr\xfcn/bad.png"), pixels())
    return {**section, "images": f"{folder}/gr*/{{sample}}.png"}


@case(
    "Names and patterns", "plan",
    "datasets.{name}.annotations.path: {folder}/gr\\udcfcn/bad.png: expected a path of printable UTF-8 characters, found "
    "other characters. Rename the file or folder.",
)  # fmt: skip
def annotations_in_a_folder_of_another_alphabet(folder):
    section = images(folder)
    put_png(folder / os.fsdecode(b"gr\xfcn/bad.png"), mask())
    section["annotations"]["path"] = f"{folder}/gr*/{{sample}}.png"
    return section


@case(
    "Names and patterns", "plan",
    "datasets.{name}.images: {folder}/images/" + 220 * "n" + ".png: expected a valid file name, found the sample name '"
    + 220 * "n" + "', which is longer than 200 bytes. Rename the file.",
)  # fmt: skip
def a_very_long_name(folder):
    section = images(folder)
    put_png(folder / f"images/{220 * 'n'}.png", pixels())
    return section


@case(
    "Names and patterns", "plan",
    "datasets.{name}.images: expected one image per sample, found {folder}/images/bad.png and {folder}/images/bad.tif for "
    "'bad'. Put {sample} where the paths differ, or narrow the pattern.",
)  # fmt: skip
def two_images_of_one_sample(folder):
    section = images(folder)
    put_tiff(folder / "images/bad.tif", pixels())
    return {**section, "images": f"{folder}/images/{{sample}}.*"}


@case(
    "Names and patterns", "plan",
    "datasets.{name}.images: expected one image for each frame, found {folder}/01/t001.png and {folder}/01/t1.png for frame "
    "1 of sequence '01'. Remove one, or put {sequence} where the paths differ.",
)  # fmt: skip
def a_duplicate_frame(folder):
    section = frames(folder)
    put_png(folder / "01/t1.png", pixels())
    return section


@case(
    "Names and patterns", "plan",
    "datasets.{name}.images: {folder}/01/tx.png: expected a number for {frame}, found 'x'. Put {frame} where the number is.",
)  # fmt: skip
def a_frame_without_a_number(folder):
    section = frames(folder)
    put_png(folder / "01/tx.png", pixels())
    return section


# ---- annotation files ------------------------------------------------------------------------------------


@case(
    "Annotation images", "plan",
    "datasets.{name}.annotations: expected annotations of every image, found none for bad (1 of 3). Add them, or set "
    "missing: unlabelled or empty.",
)  # fmt: skip
def an_image_without_annotation(folder):
    section = images(folder)
    (folder / "labels/bad.png").unlink()
    return section


@case(
    "Annotation images", "plan",
    "datasets.{name}.annotations: expected annotations of the images (such as bad, good, other), found none in "
    "{folder}/lables/{sample}.png. Check that the names match, because {sample} links images and annotations.",
)  # fmt: skip
def missing_annotation_files(folder):
    section = images(folder)
    section["annotations"]["path"] = f"{folder}/lables/{{sample}}.png"
    return section


@case(
    "Annotation images", "plan",
    "datasets.{name}.annotations.path: expected one file for 'bad', found 2 ({folder}/labels/bad.png, "
    "{folder}/labels/bad_2.png, …). Narrow the pattern, or use format: mask_folder.",
)  # fmt: skip
def several_files_for_one_image(folder):
    section = images(folder)
    put_png(folder / "labels/bad_2.png", mask())
    section["annotations"]["path"] = f"{folder}/labels/{{sample}}*.png"
    return section


@case(
    "Annotation images", "plan",
    "datasets.{name}.annotations.path: expected wildcards of the images, found {well}, which their paths do not contain. Use "
    "the wildcards of images (sample).",
)  # fmt: skip
def a_wildcard_missing_in_the_images(folder):
    section = images(folder)
    section["annotations"]["path"] = f"{folder}/labels/{{well}}/{{sample}}.png"
    return section


@case(
    "Annotation images", "plan",
    "{folder}/bad/masks/2.png: expected a readable file, found a symbolic link to gone.png, " + LINK,
)  # fmt: skip
def a_mask_that_is_a_broken_link(folder):
    section = images(folder)
    for sample in SAMPLES:
        put_png(folder / f"{sample}/masks/1.png", mask())
    (folder / "bad/masks/2.png").symlink_to("gone.png")
    return {**section, "annotations": {"format": "mask_folder", "path": f"{folder}/{{sample}}/masks/*.png"}}


def labels(folder: Path, array: np.ndarray, *, suffix: str = "png", **annotations: Any) -> dict[str, Any]:
    """Write three images with label images, one of them from this array."""
    section = images(folder)
    (folder / "labels/bad.png").unlink()
    (put_png if suffix == "png" else put_tiff)(folder / f"labels/bad.{suffix}", array)
    path = f"{folder}/labels/{{sample}}.*"
    return {**section, "annotations": {"format": "label_image", "path": path, **annotations}}


FULL_SIZE = "Pair every image with its own full-size annotation."
TURNED = (
    " Rows and columns are exchanged: if the image has an orientation (EXIF or TIFF), it is shown turned, and its "
    "annotation must be turned, too."
)
NAME_FOREGROUND = (
    "If these are classes, set annotations.foreground to the number of the objects (ilastik numbers its labels from 1 "
    "in their order); if every cell has a number of its own, use format label_image."
)
NO_SMOOTHING = "Save the mask without smoothing or JPEG compression, or use format label_image."
RENUMBER = "Renumber the objects, or set annotations.ignore_value to the number that marks ignored pixels."


@case(
    "Annotation images", "check",
    "sample bad, {folder}/labels/bad.png: expected an annotation of 12 rows and 16 columns, the size of its image, found "
    "16 rows and 12 columns. " + FULL_SIZE + TURNED,
)  # fmt: skip
def a_transposed_mask(folder):
    return labels(folder, np.ascontiguousarray(mask().T))


@case("Annotation images", "check", "{folder}/labels/bad.png: expected a readable PNG image, " + DAMAGED)
def a_truncated_mask(folder):
    section = images(folder)
    put(folder / "labels/bad.png", imagecodecs.png_encode(pixels())[:120])
    return section


@case(
    "Annotation images", "check",
    "sample bad, {folder}/labels/bad.png: expected zero and one other value, found the numbers 0, 2 and 3. "
    + NAME_FOREGROUND,
)  # fmt: skip
def a_binary_mask_of_several_values(folder):
    labels_yx = mask() * 3
    labels_yx[3, 5] = 2
    return labels(folder, labels_yx, format="binary")


@case(
    "Annotation images", "check",
    "sample bad, {folder}/labels/bad.png: expected zero and one other value, found the numbers 1 and 2. "
    + NAME_FOREGROUND,
)  # fmt: skip
def a_binary_mask_without_background(folder):
    return labels(folder, mask() + 1, format="binary")


@case(
    "Annotation images", "check",
    "sample bad, {folder}/labels/bad.jpg: expected zero and one other value, found values from <...> to <...> with "
    "<...> pixels of intermediate values. " + NO_SMOOTHING,
)  # fmt: skip
def a_binary_mask_as_jpeg(folder):
    section = labels(folder, mask(), format="binary")
    (folder / "labels/bad.png").unlink()
    put(folder / "labels/bad.jpg", imagecodecs.jpeg_encode(mask() * 255, level=60))
    return section


@case(
    "Annotation images", "check",
    "sample bad, {folder}/labels/bad.jpg: expected an image with exact numbers, found a JPEG. "
    "Export the labels again as PNG or TIFF; saving the JPEG under another name does not help.",
)  # fmt: skip
def a_label_image_as_jpeg(folder):
    section = labels(folder, mask())
    (folder / "labels/bad.png").unlink()
    put(folder / "labels/bad.jpg", imagecodecs.jpeg_encode(mask() * 200, level=60))
    return section


@case(
    "Annotation images", "check",
    "sample bad, {folder}/labels/bad.png: expected one number per pixel, found 3 channels that differ. "
    "Save the annotation as a grey image without transparency, or use format color_components.",
)  # fmt: skip
def a_label_image_in_colours(folder):
    return labels(folder, np.stack([mask() * 200, mask() * 10, mask()], axis=2))


@case(
    "Annotation images", "check",
    "sample bad, {folder}/labels/bad.png: expected whole object numbers from 0, except 65535, found 65535. "
    + RENUMBER,
)  # fmt: skip
def a_label_reserved_for_ignored_pixels(folder):
    labels_yx = mask().astype(np.uint16)
    labels_yx[0, 0] = 65535
    return labels(folder, labels_yx)


@case(
    "Annotation images", "check",
    "sample bad, {folder}/labels/bad.tif: expected whole object numbers from 0, except 65535, found -1. " + RENUMBER,
)  # fmt: skip
def a_negative_label(folder):
    return labels(folder, mask().astype(np.int16) - 1, suffix="tif")


@case(
    "Annotation images", "check",
    "sample bad, {folder}/labels/bad.tif: expected whole object numbers from 0, except 65535, found 0.5. "
    + RENUMBER,
)  # fmt: skip
def a_fractional_label(folder):
    return labels(folder, mask().astype(np.float32) / 2, suffix="tif")


@case(
    "Annotation images", "check",
    "{folder}/labels/bad.tif: expected finite values, found 24 pixels that are NaN or infinite. " + NOT_FINITE,
)  # fmt: skip
def a_nan_label(folder):
    labels_yx = mask().astype(np.float32)
    labels_yx[labels_yx == 1] = np.nan
    return labels(folder, labels_yx, suffix="tif")


@case(
    "Annotation images", "check",
    "sample bad, {folder}/labels/bad.png: expected areas of uniform colour, found <...> single-pixel regions among "
    "<...>. Export the mask without antialiasing and without resizing: its edges were smoothed, or it is not a mask.",
)  # fmt: skip
def colours_with_smooth_edges(folder):
    colours = np.random.default_rng(3).integers(1, 255, (ROWS, COLUMNS, 3)).astype(np.uint8)
    return labels(folder, colours, format="color_components")


@case(
    "Annotation images", "check",
    "sample bad, {folder}/labels/bad.jpg: expected an image with exact colours, found a JPEG. "
    "Export the masks again as PNG or TIFF; saving the JPEG under another name does not help.",
)  # fmt: skip
def colours_as_jpeg(folder):
    section = labels(folder, mask(), format="color_components")
    (folder / "labels/bad.png").unlink()
    put(folder / "labels/bad.jpg", imagecodecs.jpeg_encode(mask() * 255))
    return section


# ---- tables of runs --------------------------------------------------------------------------------------

GOOD_RUN = "54 6 70 6 86 6 102 6"


def table(folder: Path, runs: str, *, head: str = "id,annotation", extra: str = "", **annotations: Any) -> dict:
    """Write three images and a run-length table in which the sample `bad` has these runs."""
    rows = [head, f"bad,{runs}{extra}", *(f"{sample},{GOOD_RUN}{extra and ',12,16'}" for sample in SAMPLES[1:])]
    given = {"format": "rle", "table": f"{folder}/train.csv", "order": "row", **annotations}
    return annotated(folder, file="train.csv", data="\n".join(rows) + "\n", **given)


RUNS = "Runs of a table"
ROW = "sample bad, {folder}/train.csv, row 2: "


@case(
    RUNS, "plan",
    "datasets.{name}.annotations.table: expected a table, found no file {folder}/no.csv. Check the path.",
)  # fmt: skip
def a_missing_table(folder):
    return annotated(folder, format="rle", table=f"{folder}/no.csv", order="row")


@case(
    RUNS, "plan",
    "datasets.{name}.annotations.table: {folder}/train.csv: expected a CSV table, found something else (<...>). Save the "
    "table as CSV in UTF-8.",
)  # fmt: skip
def an_empty_table(folder):
    return annotated(folder, file="train.csv", format="rle", table=f"{folder}/train.csv", order="row")


@case(
    RUNS, "plan",
    "datasets.{name}.annotations.table: {folder}/train.csv: expected a CSV table, found something else (<...>). Save the "
    "table as CSV in UTF-8.",
)  # fmt: skip
def a_spreadsheet_called_csv(folder):
    data = b"PK\x03\x04\x14\x00\xff\xfe\x00" * 40
    return annotated(folder, data=data, file="train.csv", format="rle", table=f"{folder}/train.csv", order="row")


@case(
    RUNS, "plan",
    "datasets.{name}.annotations.table: {folder}/train.csv: expected a CSV table, found something else (<...>). Save the "
    "table as CSV in UTF-8.",
)  # fmt: skip
def a_table_in_another_encoding(folder):
    section = table(folder, GOOD_RUN)
    with (folder / "train.csv").open("ab") as stream:
        stream.write(b"gr\xfcn,1 1\n")
    return section


@case(
    RUNS, "plan",
    "datasets.{name}.annotations.table: {folder}/train.csv: expected the columns id and annotation or ImageId and "
    "EncodedPixels, found file, pixels. Set annotations.sample_column and annotations.rle_column to names in the table's "
    "first row.",
)  # fmt: skip
def a_table_without_the_expected_columns(folder):
    return table(folder, GOOD_RUN, head="file,pixels")


@case(
    RUNS, "plan",
    "datasets.{name}.annotations.table: {folder}/train.csv: expected the columns id and annotation or ImageId and "
    "EncodedPixels, separated by commas, found semicolons between them ('id;annotation'). Save the table as CSV with commas.",
)  # fmt: skip
def a_table_with_semicolons(folder):
    section = table(folder, GOOD_RUN)
    path = folder / "train.csv"
    path.write_text(path.read_text().replace(",", ";"))
    return section


@case(
    RUNS, "plan",
    "datasets.{name}.annotations: expected table and order for format rle, found no order. Complete the section, or set the "
    "format that these keys belong to.",
)  # fmt: skip
def a_table_without_an_order(folder):
    section = table(folder, GOOD_RUN)
    del section["annotations"]["order"]
    return section


@case(
    RUNS, "check",
    ROW + "expected pairs of start and length, found 3 numbers. The text is truncated: export the table again.",
)  # fmt: skip
def a_run_without_a_length(folder):
    return table(folder, "54 6 70")


@case(
    RUNS, "check",
    ROW + "expected starts that count from 1, found 0. Add 1 to the starts; COCO counts are a different format.",
)  # fmt: skip
def a_run_that_starts_at_0(folder):
    return table(folder, "0 6")


@case(
    RUNS, "check",
    ROW + "expected runs of at least one pixel, found a length of 0. "
    "Export the table again; COCO counts are a different format.",
)  # fmt: skip
def a_run_of_no_pixels(folder):
    return table(folder, "54 0")


@case(
    RUNS, "check",
    ROW + "expected runs inside the 192 pixels of an image of 12 rows and 16 columns, found a run that ends at pixel "
    "193. Check whether the annotation belongs to another image, or to this image at another size.",
)  # fmt: skip
def a_run_past_the_last_pixel(folder):
    return table(folder, "190 4")


@case(
    RUNS, "check",
    ROW + "expected ascending runs that do not overlap, found '58 6' after '54 6'. Export the table again from masks.",
)  # fmt: skip
def runs_that_overlap(folder):
    return table(folder, "54 6 58 6")


@case(
    RUNS, "check",
    ROW + "expected whole numbers 'start length start length ...', found 'six'. "
    "Set annotations.format and annotations.rle_column to match the table.",
)  # fmt: skip
def letters_among_runs(folder):
    return table(folder, "54 six")


@case(
    RUNS, "check",
    ROW + "expected an annotation of 12 rows and 16 columns, the size of its image, found height 16 and width 12. "
    + FULL_SIZE,
)  # fmt: skip
def a_size_different_from_the_image(folder):
    return table(folder, GOOD_RUN, head="id,annotation,height,width", extra=",16,12")


@case(
    RUNS, "check",
    "{folder}/train.csv, row 2: expected height and width in pixels, found 'tall' and '12'. "
    "Correct them, or remove both.",
)  # fmt: skip
def a_size_that_is_not_a_number(folder):
    return table(folder, GOOD_RUN, head="id,annotation,height,width", extra=",tall,12")


@case(
    RUNS, "check",
    "{folder}/train.csv: expected compact objects, found streaks across 1 image (bad) that become compact when runs "
    "are counted by column. Set annotations.order to column.",
    is_judged_by_check_only=True,
)  # fmt: skip
def runs_in_the_other_pixel_order(folder):
    section = images(folder)
    rows = ["id,annotation"]
    for sample in SAMPLES:
        put_png(folder / f"images/{sample}.png", np.tile(pixels(), (6, 6)))
        # 72 rows, 96 columns; cells of 9 x 9 px, encoded column by column
        for row, column in [(5, 10), (30, 40), (50, 70), (20, 80), (55, 15)]:
            rows.append(f"{sample}," + " ".join(f"{(column + i) * 72 + row + 1} 9" for i in range(9)))
    put(folder / "train.csv", "\n".join(rows) + "\n")
    return {**section, "annotations": {"format": "rle", "table": f"{folder}/train.csv", "order": "row"}}


# ---- COCO ------------------------------------------------------------------------------------------------


def coco(folder: Path, segmentation: Any, **changes: Any) -> dict[str, Any]:
    """Write three images and a COCO file whose first annotation has this segmentation."""
    outline = [[5, 3, 11, 3, 11, 7, 5, 7]]
    listed = [
        {"id": i, "file_name": f"{sample}.png", "height": ROWS, "width": COLUMNS}
        for i, sample in enumerate(SAMPLES, start=1)
    ]
    drawn = [
        {"id": i, "image_id": i, "category_id": 1, "segmentation": segmentation if i == 1 else outline}
        for i in (1, 2, 3)
    ]
    content = {"images": listed, "annotations": drawn, "categories": [{"id": 1, "name": "cell"}], **changes}
    for key in [key for key, value in content.items() if value is None]:
        del content[key]
    return annotated(folder, file="train.json", data=json.dumps(content), format="coco", table=f"{folder}/train.json")


NOT_COCO = "Export the annotations as COCO instances, or set annotations.format to the format of this file."
EXPORT_AGAIN = "Export the file again: the runs are damaged or in another format."
COCO_FILE = "datasets.{name}.annotations.table: {folder}/train.json: "
ANNOTATION = "sample bad, {folder}/train.json, annotation 1: "


@case(
    "COCO", "plan",
    COCO_FILE + "expected JSON, found something else (<...>). "
    "Export the file again: it is truncated, contains NaN or Infinity, or has another format.",
)  # fmt: skip
def a_truncated_coco_file(folder):
    section = coco(folder, [])
    path = folder / "train.json"
    path.write_bytes(path.read_bytes()[:100])
    return section


@case(
    "COCO", "plan",
    COCO_FILE + "expected a JSON object with the lists images and annotations, found no list annotations (keys: "
    "images, categories). " + NOT_COCO,
)  # fmt: skip
def a_coco_file_without_annotations(folder):
    return coco(folder, [], annotations=None)


@case(
    "COCO", "plan",
    COCO_FILE + "expected annotations of the 3 images listed in the file, found 1 of unlisted images, such as image_id "
    "7. Add the images, or remove their annotations.",
)  # fmt: skip
def an_annotation_of_no_image(folder):
    return coco(folder, [], annotations=[{"id": 1, "image_id": 7, "segmentation": []}])


@case(
    "COCO", "plan",
    COCO_FILE + "expected JSON, found something else (<...>). "
    "Export the file again: it is truncated, contains NaN or Infinity, or has another format.",
)  # fmt: skip
def a_nan_coordinate(folder):
    return coco(folder, [[5, 3, float("nan"), 3, 11, 7]])


@case(
    "COCO", "plan",
    COCO_FILE + "expected COCO entries, found lists nested 50 levels deep. " + NOT_COCO,
)  # fmt: skip
def a_deeply_nested_file(folder):
    section = coco(folder, [])
    put(folder / "train.json", '{"images": ' + "[" * 5000 + "]" * 5000 + "}")
    return section


@case(
    "COCO", "check",
    "sample bad, {folder}/train.json: expected 12 rows and 16 columns, the size of the image file, found height 16 and "
    "width 12. " + FULL_SIZE + TURNED,
)  # fmt: skip
def an_image_of_another_size(folder):
    listed = [{"id": 1, "file_name": "bad.png", "height": 16, "width": 12}]
    listed += [{"id": i, "file_name": f"{name}.png"} for i, name in ((2, "good"), (3, "other"))]
    return coco(folder, [[5, 3, 11, 3, 11, 7]], images=listed)


@case(
    "COCO", "check",
    ANNOTATION + "expected an x and a y for every point, found 7 numbers. The outline is truncated: export the file again.",
)  # fmt: skip
def a_point_without_y(folder):
    return coco(folder, [[5, 3, 11, 3, 11, 7, 5]])


@case(
    "COCO", "check",
    ANNOTATION + "expected counts that sum to the 192 pixels of the image, found a sum of 100. " + EXPORT_AGAIN,
)  # fmt: skip
def counts_of_fewer_pixels(folder):
    return coco(folder, {"size": [ROWS, COLUMNS], "counts": [60, 40]})


@case(
    "COCO", "check",
    ANNOTATION + "expected compressed runs of the characters '0' to 'o', found '!' at character 3. " + EXPORT_AGAIN,
)  # fmt: skip
def damaged_run_lengths(folder):
    return coco(folder, {"size": [ROWS, COLUMNS], "counts": "d1!4"})


@case(
    "COCO", "check",
    ANNOTATION + "expected a segmentation (outlines or runs), found none. "
    "Annotate the outline: a bounding box alone does not define the object's pixels.",
)  # fmt: skip
def a_bounding_box_without_outline(folder):
    return coco(folder, None, annotations=[{"id": 1, "image_id": 1, "bbox": [5, 3, 6, 4]}])


# ---- Cell Tracking Challenge -----------------------------------------------------------------------------

TRACKS = "{folder}/01_GT/man_track.txt"
PAIR = "Use masks and tracks of the same sequence with the same frame numbers, or remove annotations.tracks."


def tracked(folder: Path, text: str) -> dict[str, Any]:
    """Write a sequence and its track table."""
    section = frames(folder)
    put(folder / "01_GT/man_track.txt", text)
    section["annotations"]["tracks"] = f"{folder}/{{sequence}}_GT/man_track.txt"
    return section


@case(
    "Cell Tracking Challenge", "check",
    "sample 01_000, {folder}/01_GT/man_seg000.tif: expected only labels that " + TRACKS + " lists for frame 0, found 1 "
    "of 1 labels not listed for it: 1 (not listed). " + PAIR,
    spoilt="01_000",
)  # fmt: skip
def a_label_without_track(folder):
    return tracked(folder, "2 0 2 0\n")


@case(
    "Cell Tracking Challenge", "check",
    "sample 01_000, {folder}/01_GT/man_seg000.tif: expected only labels that " + TRACKS + " lists for frame 0, found 1 "
    "of 1 labels not listed for it: 1 (listed for frames 1 to 2). " + PAIR,
    spoilt="01_000",
)  # fmt: skip
def a_label_before_its_track_begins(folder):
    return tracked(folder, "1 1 2 0\n")


@case(
    "Cell Tracking Challenge", "check",
    TRACKS + ", line 1: expected four whole numbers 'label begin end parent', found 'label begin end parent'. "
    "Save the table in the format of the Cell Tracking Challenge, without a header.",
    spoilt="01_000",
)  # fmt: skip
def tracks_with_a_header(folder):
    return tracked(folder, "label begin end parent\n1 0 2 0\n")


# ---- ImageJ ROIs -----------------------------------------------------------------------------------------

SAVE_AGAIN = "Check the path and the file permissions, or save the ROI Manager's list again."
ROIS = "sample bad, {folder}/rois/bad.zip"


def rois(folder: Path, data: bytes, *, file: str = "bad.zip") -> dict[str, Any]:
    """Write three images with ROI archives, one of them with these bytes."""
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    section = annotated(folder, format="imagej_roi", path=f"{folder}/rois/{{sample}}.*")
    for sample in SAMPLES[1:]:
        put(folder / f"rois/{sample}.zip", empty.getvalue())
    put(folder / f"rois/{file}", data)
    return section


def archive(members: dict[str, bytes]) -> bytes:
    """Pack files into a ZIP archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return stream.getvalue()


@case(
    "ImageJ", "check",
    "sample bad, {folder}/rois/bad.roi: expected an ImageJ ROI, found a damaged one (<...>). "
    "Copy the file again from its source, or draw the object again.",
)  # fmt: skip
def a_damaged_roi(folder):
    return rois(folder, b"Iout\x00\xe3", file="bad.roi")


@case("ImageJ", "check", ROIS + ": expected a readable file, found: <...>. " + SAVE_AGAIN)
def a_text_called_zip(folder):
    return rois(folder, b"these are no ROIs")


@case(
    "ImageJ", "check",
    ROIS + ": expected members that end in .roi, found none among 1 members. "
    "Save the ROI Manager's list; for an image without objects, save an empty archive.",
)  # fmt: skip
def an_archive_of_other_files(folder):
    return rois(folder, archive({"readme.txt": b"x"}))


@case(
    "ImageJ", "check",
    ROIS + ", a.roi: expected a member of at most 64 MiB uncompressed, found 70.0 MiB. "
    "Check the file: it is not a set of ROIs.",
)  # fmt: skip
def a_zip_bomb(folder):
    return rois(folder, archive({"a.roi": bytes(70 * 2**20)}))


# ---- splits ----------------------------------------------------------------------------------------------


@case(
    "Splits", "plan",
    "datasets.{name}.split: expected at least 3 groups to split into train, validation, test, found 2. Add images, use `by: "
    "blocks` for frames of one sequence, or freeze a split with `table`. To train nothing, set models: [classical, "
    "{apply: nuclei}], or another trained model; these are scored on all images.",
)  # fmt: skip
def fewer_images_than_parts(folder):
    section = images(folder)
    (folder / "images/bad.png").unlink()
    return section


@case(
    "Splits", "plan",
    "datasets.{name}.split.by: expected {sequence} or {frame} in the path of the images to split by sequence, found none. "
    "Add one of them to `images`, or split by image.",
)  # fmt: skip
def sequences_missing_in_the_paths(folder):
    return images(folder, split={"by": "sequence"})


@case(
    "Splits", "plan",
    "datasets.{name}.split: expected at least 7 frames to cut three blocks with gap 2, found 3 in '01'. Lower the gap, or "
    "split by sequence.",
)  # fmt: skip
def sequences_too_short_for_the_gap(folder):
    return frames(folder, split={"by": "blocks", "gap": 2})


def split_table(folder: Path, text: str) -> dict[str, Any]:
    """Write three images and a split table."""
    put(folder / "split.csv", text)
    return images(folder, split={"table": f"{folder}/split.csv"})


ONCE = (
    "datasets.{name}.split.table: {folder}/split.csv: expected each sample once with train, validation or test, found "
)


@case("Splits", "plan", ONCE + "the unknown parts ['trian']. Correct the rows.")
def an_unknown_part(folder):
    return split_table(folder, "sample,split\nbad,trian\ngood,validation\nother,test\n")


@case("Splits", "plan", ONCE + "no row for bad. Correct the rows.")
def a_sample_without_a_part(folder):
    return split_table(folder, "sample,split\ngood,validation\nother,test\n")


@case("Splits", "plan", ONCE + "two parts for bad. Correct the rows.")
def a_sample_in_two_parts(folder):
    return split_table(folder, "sample,split\nbad,train\nbad,test\ngood,validation\nother,test\n")


@case("Splits", "plan", ONCE + "no sample for train. Correct the rows.")
def a_split_without_training(folder):
    return split_table(folder, "sample,split\nbad,test\ngood,validation\nother,test\n")


@case(
    "Splits", "plan",
    "datasets.{name}.split.stratify: expected a wildcard of images or a column of the annotation table, found 'stain'. "
    "Known: sample.",
)  # fmt: skip
def a_class_missing_in_the_paths(folder):
    return images(folder, split={"stratify": "stain"})


@case(
    "Splits", "plan",
    "datasets.{name}.annotations.table: {folder}/train.csv: expected a column 'well', found id, annotation. Set "
    "class_column, group_by or stratify to an existing column.",
)  # fmt: skip
def a_group_without_a_column(folder):
    return table(folder, GOOD_RUN) | {"split": {"group_by": "well"}}


@case(
    "Splits", "plan",
    "datasets.{name}.split: expected all frames of a sequence in one part, found 'a' in test and train (number of such "
    "sequences: <...>). Neighbouring frames are nearly identical, so test scores would be too high. Split by sequence, or "
    "cut the sequences with `by: blocks`.",
)  # fmt: skip
def frames_of_a_sequence_on_two_sides(folder):
    for sequence in "ab":
        for frame in range(12):
            put_png(folder / f"frames/{sequence}/t{frame}.png", pixels())
            put_png(folder / f"masks/{sequence}/t{frame}.png", mask())
    return {
        "images": f"{folder}/frames/{{sequence}}/t{{frame}}.png",
        "annotations": {"format": "label_image", "path": f"{folder}/masks/{{sequence}}/t{{frame}}.png"},
        "split": {"by": "image", "train": 0.5, "validation": 0.001, "test": 0.499},
    }


@case(
    RUNS, "plan",
    "datasets.{name}.annotations.table: {folder}/train.csv: expected one column annotation, found 2. Remove or rename the "
    "others.",
)  # fmt: skip
def a_duplicate_column(folder):
    data = "id,annotation,annotation\nbad,1 3,5 2\n"
    return annotated(folder, data=data, file="train.csv", format="rle", table=f"{folder}/train.csv", order="row")


@case(
    "Splits", "plan",
    "datasets.{name}.split: expected train + validation + test to be 1, found 1.1. Change one of the three.",
)  # fmt: skip
def shares_that_add_up_to_more_than_1(folder):
    return images(folder, split={"train": 0.7, "validation": 0.2, "test": 0.2})


# ---- the config ------------------------------------------------------------------------------------------


@case(
    "Config",
    "plan",
    "datasets.{name}.preprocess.chanel: unknown key. Did you mean channel? Known: background, channel, channels, fit, hot_pixels, rescale.",
)
def an_unknown_key(folder):
    return images(folder, preprocess={"chanel": 1})


@case(
    "Config", "plan",
    "datasets.{name}.pixel_size_um: expected a valid number [um], found '0,65'. Write a decimal point: 0.65.",
)  # fmt: skip
def a_decimal_comma(folder):
    return images(folder, pixel_size_um="0,65")


@case(
    "Config", "plan",
    "datasets.{name}.split.train: expected less than or equal to 1, found nan. Share of the groups that the networks are trained "
    "on.",
)  # fmt: skip
def a_nan_share(folder):
    return images(folder, split={"train": float("nan")})


@case(
    "Config", "plan",
    "datasets.{name}.preprocess: expected a weight other than 0 for at least one channel, found [0.0, 0.0]. Set a weight "
    "for each channel of the images, such as [0.5, 0, 0.5].",
)  # fmt: skip
def weights_that_are_all_0(folder):
    return images(folder, preprocess={"channel": [0, 0]})


@case("Config", "plan", "datasets.{name}: expected either images or simulate, found both. Remove one.")
def two_sources_of_images(folder):
    section = images(folder, simulate={"images": 5})
    del section["annotations"]
    return section


@case(
    "Config",
    "plan",
    "seed: expected a valid integer, found 'seven'. Seed of all random numbers.",
    top={"seed": "seven"},
)
def a_seed_that_is_not_a_number(folder):
    return images(folder)


@case(
    "Config", "plan",
    "datasets.{name}.models[0].preset: unknown preset 'unett'. Did you mean unet_isbi? Known: <...>.",
)  # fmt: skip
def an_unknown_model(folder):
    return images(folder, models=["unett"])


@case(
    "Config", "plan",
    "datasets.{name}.models[0].name: expected a name of letters, digits, _, + and -, found '../../x'. Folder of "
    "the run. Default: the preset's name.",
)  # fmt: skip
def a_run_outside_the_results(folder):
    return images(folder, models=[{"preset": "default", "name": "../../x"}])
