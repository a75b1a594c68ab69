"""Image files and tables with any damage: pixels or a single ValueError, never another error, never a hang."""

import io
import json
import shutil
import warnings
from itertools import islice

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellmill.annotations.table import read_rle, read_rle_table
from cellmill.images.files import read_array
from cellmill.images.rasters import open_raster, read_layout
from cellmill.images.stored import write_labels
from cellmill.images.tiff import close_opened
from whole_images import write_image

IMAGE = (np.arange(40 * 33).reshape(40, 33) * 7 % 251).astype(np.uint8)
PROPERTIES = settings(
    max_examples=200, deadline=20_000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def tiff(array=IMAGE, **options):
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


FILES = {
    "plain.tif": tiff(),
    "strips.tif": tiff(rowsperstrip=8, compression="zlib"),
    "tiles.tif": tiff(tile=(16, 16), compression="lzw"),
    "imagej.tif": tiff(np.stack([IMAGE] * 3), imagej=True, metadata={"axes": "TYX"}),
    "ome.tif": tiff(np.stack([IMAGE] * 3), ome=True, metadata={"axes": "ZYX"}),
    "grey.png": imagecodecs.png_encode(IMAGE),
    "rgba.png": imagecodecs.png_encode(np.dstack([IMAGE] * 3 + [np.full_like(IMAGE, 255)])),
    "grey.jpg": imagecodecs.jpeg_encode(IMAGE),
}


def read_whatever_it_is(path):
    """Read the first plane as the scan and the stages do, or accept a ValueError that names the file."""
    said = path.name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            layout = read_layout(path)
            plane = [[axis, 0, size] for axis, size in layout.stack.items()]
            raster = open_raster(path, palette="colours", plane=plane)
            # damage may make an image of a gigapixel, whose first rows suffice
            for _, band in islice(raster.bands(20_000), 20):
                assert band.shape[1] == raster.shape[1]
    except ValueError as error:
        said = str(error)
    finally:
        close_opened()
    assert path.name in said


@pytest.mark.parametrize("name", FILES)
@PROPERTIES
@given(data=st.data())
def test_damaged_bytes_give_pixels_or_one_message(tmp_path, name, data):
    content = bytearray(FILES[name])
    # most critical bytes are at the beginning or, in a TIFF, at the end
    place = st.one_of(st.integers(0, min(200, len(content) - 1)), st.integers(0, len(content) - 1))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(place)] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path / name
    path.write_bytes(content)
    read_whatever_it_is(path)


@PROPERTIES
@given(content=st.binary(max_size=300))
def test_any_bytes_behind_a_signature_give_pixels_or_one_message(tmp_path, content):
    for name, head in (("a.tif", b"II*\0"), ("a.png", b"\x89PNG\r\n\x1a\n"), ("a.jpg", b"\xff\xd8\xff")):
        path = tmp_path / name
        path.write_bytes(head + content)
        read_whatever_it_is(path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**12) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "a.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    group.create_array("0", shape=(3, 40, 33), chunks=(1, 16, 16), dtype="u1")[...] = np.stack([IMAGE] * 3)
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    return path


@PROPERTIES
@given(data=st.data())
def test_damaged_metadata_of_zarr_give_pixels_or_one_message(tmp_path, store, data):
    path = tmp_path / "a.zarr"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(store, path)
    file = path / data.draw(st.sampled_from([".zattrs", "0/.zarray"]))
    content = json.loads(file.read_text())
    node = content["multiscales"][0] if file.name == ".zattrs" else content
    node[data.draw(st.sampled_from(sorted(node)))] = data.draw(VALUES)
    file.write_text(json.dumps(content))
    read_whatever_it_is(path)


@PROPERTIES
@given(image=st.sampled_from([np.uint8, np.uint16, np.uint32]), data=st.data())
def test_labels_and_images_come_back_as_they_were_written(tmp_path, image, data):
    shape = data.draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    seed = data.draw(st.integers(0, 1000))
    labels_yx = np.random.default_rng(seed).integers(0, min(np.iinfo(image).max, 2**31), shape).astype(image)
    write_labels(tmp_path / "labels.tif", labels_yx)
    read, axes = read_array(tmp_path / "labels.tif", palette="indices")
    assert axes == "YX"
    assert np.array_equal(read, labels_yx)
    image_yx = (labels_yx / 7).astype(np.float32)
    write_image(tmp_path / "image.tif", image_yx)
    assert np.array_equal(read_array(tmp_path / "image.tif", palette="indices")[0], image_yx)
    close_opened()


@PROPERTIES
@given(text=st.text(max_size=120) | st.binary(max_size=120))
def test_any_table_gives_rows_or_one_message(tmp_path, text):
    path = tmp_path / "t.csv"
    header = b"id,annotation\n"
    path.write_bytes(header + (text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text))
    section = {
        "table": str(path), "order": "row", "sample_column": None, "rle_column": None, "object_column": None,
    }  # fmt: skip
    said = path.name
    try:
        table = read_rle_table(section, samples=["a"])
        if "a" in table:
            read_rle({"sample": "a"}, shape=(9, 9), annotations=section, table=table)
    except ValueError as error:
        said = str(error)
    assert path.name in said
