"""OME-Zarr images: versions, axes, pixel sizes, changes, and untrustworthy metadata."""

import json

import numpy as np
import pytest
import zarr

from cellmill.images.files import read_plane
from cellmill.images.ome_zarr import digest_store, is_store, stamp_store
from cellmill.images.rasters import open_raster, read_layout

PIXELS = np.arange(3 * 2 * 40 * 50).reshape(3, 2, 40, 50).astype(np.uint16)


def write_image(path, pixels, axes, *, version, scale=None, unit="micrometer"):
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    chunks = (1,) * (pixels.ndim - 2) + (16, 32)
    group.create_array("0", shape=pixels.shape, chunks=chunks, dtype=pixels.dtype)[...] = pixels
    group.create_array("1", shape=pixels[..., ::2, ::2].shape, chunks=chunks, dtype=pixels.dtype)
    kinds = {"t": "time", "c": "channel"}
    multiscales = [
        {
            "version": version,
            "axes": [
                {"name": axis, "type": kinds.get(axis, "space"), **({} if axis in kinds else {"unit": unit})}
                for axis in axes
            ],
            "datasets": [
                {
                    "path": name,
                    "coordinateTransformations": [{"type": "scale", "scale": scale or [1.0] * len(axes)}],
                }
                for name in ("0", "1")
            ],
        }
    ]
    if version == "0.4":
        group.attrs["multiscales"] = multiscales
    else:
        group.attrs["ome"] = {"version": version, "multiscales": multiscales}
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_any_plane_of_the_full_resolution_is_read(tmp_path, version):
    path = write_image(tmp_path / "a.zarr", PIXELS, "tcyx", version=version, scale=[1, 1, 0.5, 0.25])
    assert is_store(path)
    layout = read_layout(path)
    assert (layout.stack, layout.channels, layout.shape) == ({"T": 3}, 2, (40, 50))
    raster = open_raster(path, palette="colours", plane=[["T", 2, 3]])
    assert raster.pixel_size_um == (0.5, 0.25)
    assert np.array_equal(raster.read(7, 23), PIXELS[2, :, 7:23].transpose(1, 2, 0))
    assert np.array_equal(read_plane(path, channel=1, plane=[["T", 0, 3]]), PIXELS[0, 1])


def test_depth_is_projected(tmp_path):
    path = write_image(tmp_path / "a.zarr", PIXELS[:, 0], "zyx", version="0.5", unit="nanometer", scale=[1, 500, 500])
    plane_yx = read_plane(path, channel="luminance", plane=[["Z", "maximum", 3]])
    assert np.array_equal(plane_yx, PIXELS[:, 0].max(axis=0))
    assert read_layout(path).pixel_size_um == (0.5, 0.5)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_changed_chunk_is_a_changed_image(tmp_path, version):
    path = write_image(tmp_path / "a.zarr", PIXELS[0], "cyx", version=version)
    digest, stamp = digest_store(path), stamp_store(path)
    assert (digest_store(path), stamp_store(path)) == (digest, stamp)
    changed = PIXELS[0].copy()
    changed[0, 3, 4] += 1
    zarr.open_array(str(path / "0"), mode="r+")[...] = changed
    assert digest_store(path) != digest
    assert stamp_store(path) != stamp


@pytest.mark.parametrize(("version", "metadata"), [("0.4", ".zattrs"), ("0.5", "zarr.json")])
def test_changed_metadata_are_a_changed_image(tmp_path, version, metadata):
    path = write_image(tmp_path / "a.zarr", PIXELS[0, 0], "yx", version=version)
    digest, stamp = digest_store(path), stamp_store(path)

    def halve(content):
        content = content["attributes"]["ome"] if version == "0.5" else content
        content["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] = [0.5, 0.5]

    edit(path / metadata, halve)
    assert stamp_store(path) != stamp
    assert digest_store(path) != digest


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_chunk_codec_that_runs_code_is_refused(tmp_path):
    path = write_image(tmp_path / "a.zarr", PIXELS[0, 0], "yx", version="0.4")
    edit(path / "0" / ".zarray", lambda content: content.update(filters=[{"id": "pickle", "protocol": 5}]))
    with pytest.raises(ValueError, match=r"a\.zarr: expected chunks of numbers compressed .*found pickle\. Write"):
        open_raster(path, palette="colours", plane=())


def test_a_codec_inside_a_shard_is_looked_at_too(tmp_path):
    path = write_image(tmp_path / "a.zarr", PIXELS[0, 0], "yx", version="0.5")
    inner = {"name": "sharding_indexed", "configuration": {"codecs": [{"name": "numcodecs.pickle"}]}}
    edit(path / "0" / "zarr.json", lambda content: content.update(codecs=[inner]))
    with pytest.raises(ValueError, match=r"found numcodecs\.pickle"):
        open_raster(path, palette="colours", plane=())


def test_pixels_outside_the_folder_are_refused(tmp_path):
    path = write_image(tmp_path / "a.zarr", PIXELS[0, 0], "yx", version="0.4")
    edit(path / ".zattrs", lambda content: content["multiscales"][0]["datasets"][0].update(path="../secret"))
    with pytest.raises(ValueError, match=r"expected the pixels inside the image folder, found the path '\.\./sec"):
        open_raster(path, palette="colours", plane=())


def test_absurd_chunks_are_refused(tmp_path):
    path = write_image(tmp_path / "a.zarr", PIXELS[0, 0], "yx", version="0.4")
    edit(path / "0" / ".zarray", lambda content: content.update(chunks=[10**6, 10**6]))
    with pytest.raises(ValueError, match=r"expected chunks of up to 2147483648 numbers, found \[1000000, 1000000\]"):
        open_raster(path, palette="colours", plane=())


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"plate": {}}, r"expected one image, found a plate\. Set the pattern to the images inside it"),
        ({"bioformats2raw.layout": 3}, r"found a bioformats2raw collection\. Set the pattern to the images inside it"),
        ({"other": 1}, r"with multiscales, axes and datasets in its metadata, found other\. Write it again"),
        ({"multiscales": []}, r"expected an OME-Zarr image with multiscales"),
        ({"multiscales": [{"axes": "yx"}]}, r"expected an OME-Zarr image with multiscales"),
    ],
)
def test_other_folders_of_zarr_are_named_for_what_they_are(tmp_path, attributes, message):
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    (folder / ".zattrs").write_text(json.dumps(attributes))
    with pytest.raises(ValueError, match=message):
        read_layout(folder)


def test_damaged_metadata_are_damage(tmp_path):
    folder = tmp_path / "a.zarr"
    folder.mkdir()
    (folder / ".zattrs").write_text("{")
    with pytest.raises(ValueError, match=r"a\.zarr: expected a readable OME-Zarr image, found a damaged one"):
        read_layout(folder)
