"""Headers that are kept: a file is opened again only if it, one of its members or a reader has changed."""

import json
import shutil

import numpy as np
import pytest
import tifffile

from cellmill.images.raw_files import Scene, close_raw
from cellmill.planning import headers as module
from cellmill.planning.headers import FILE, Headers
from raw_files import write_ndtiff

PLANES = [({"time": t, "channel": c}, np.full((6, 9), 10 * t, np.uint16)) for t in (0, 1) for c in ("DAPI", "GFP")]


@pytest.fixture(autouse=True)
def closed():
    yield
    close_raw()


@pytest.fixture
def opened(monkeypatch):
    """List of the files that were opened."""
    paths = []
    read = module._read
    monkeypatch.setattr(module, "_read", lambda path: paths.append(path) or read(path))
    return paths


def read_again(cache, *paths):
    headers = Headers(cache)
    found = [headers.read(path) for path in paths]
    headers.keep()
    return found


def test_a_header_is_read_once_and_known_in_the_next_call(tmp_path, opened):
    path, pixels = write_ndtiff(tmp_path / "run", PLANES)
    first = read_again(tmp_path, path)
    assert read_again(tmp_path, path) == first
    assert opened == [path]
    [([scene], members)] = first
    expected = {"T": 2, "C": 2, "Y": 6, "X": 9}
    assert scene == Scene("", expected, np.dtype(np.uint16), ("DAPI", "GFP"), (0.5, 0.5), 16)
    assert list(scene.sizes) == list(expected)
    assert members == [pixels.as_posix()]


@pytest.mark.parametrize("changed", [0, 1])
def test_a_changed_file_or_member_is_read_again(tmp_path, opened, changed):
    files = write_ndtiff(tmp_path / "run", PLANES)
    read_again(tmp_path, files[0])
    with files[changed].open("ab") as stream:
        stream.write(b"\0")
    close_raw()
    read_again(tmp_path, files[0])
    assert len(opened) == 2


def test_a_member_that_is_gone_is_missed(tmp_path):
    path, pixels = write_ndtiff(tmp_path / "run", PLANES)
    read_again(tmp_path, path)
    pixels.unlink()
    close_raw()
    with pytest.raises(ValueError, match="expected the files that it lists beside it, found no run_NDTiffStack"):
        read_again(tmp_path, path)


def test_other_readers_read_everything_again(tmp_path, opened, monkeypatch):
    path, _ = write_ndtiff(tmp_path / "run", PLANES)
    read_again(tmp_path, path)
    monkeypatch.setattr(module, "_readers", lambda: "of another version")
    read_again(tmp_path, path)
    assert len(opened) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"readers": 3}'])
def test_a_damaged_file_is_as_none(tmp_path, opened, content):
    path, _ = write_ndtiff(tmp_path / "run", PLANES)
    (tmp_path / FILE).write_text(content)
    read_again(tmp_path, path)
    read_again(tmp_path, path)
    assert len(opened) == 1


def test_headers_of_several_files_are_kept_together(tmp_path, opened):
    paths = [write_ndtiff(tmp_path / name, PLANES)[0] for name in ("a", "b")]
    for path in paths:
        read_again(tmp_path, path)
    read_again(tmp_path, *paths)
    assert opened == paths
    assert len(json.loads((tmp_path / FILE).read_text())["files"]) == 2


def test_a_tiff_whose_scene_is_chosen_is_kept_as_a_set(tmp_path, opened):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((2, 12, 16), np.uint8), metadata={"axes": "CYX", "Channel": {"Name": ["a", "b"]}})
    first = read_again(tmp_path, path)
    shutil.copystat(path, path)
    assert read_again(tmp_path, path) == first
    assert (len(opened), first[0][0][0].channels) == (1, ("a", "b"))
