"""A hundred files of gigabytes are planned from their headers. The files are sparse and take no space on the disk."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellmill.images.raw_files import close_raw
from cellmill.planning.make import make_plan
from model_files import PRESETS
from raw_files import need_library, write_czi, write_ndtiff

FILES, SECTIONS, SIDE = 20, 24, 10_000
SIZE = 2 * 2**30
# Of a file: its header, which readers buffer, and that of every section
MOST_BYTES = 2**18


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    close_raw()


def write_tiff(path):
    tifffile.memmap(path, shape=(SECTIONS, SIDE, SIDE), dtype=np.uint8, bigtiff=True, metadata={"axes": "ZYX"})


def write_npy(path):
    np.lib.format.open_memmap(path, "w+", dtype=np.uint8, shape=(SECTIONS, SIDE, SIDE))


def write_mrc(path):
    import mrcfile

    mrcfile.new_mmap(path, shape=(SECTIONS, SIDE, SIDE), mrc_mode=0).close()


def write_large_czi(path):
    need_library("CZI")
    write_czi(path, sections=3)
    os.truncate(path, SIZE)


def write_large_ndtiff(path):
    _, pixels = write_ndtiff(path.parent, [({"z": z}, np.zeros((12, 16), np.uint16)) for z in range(3)])
    os.truncate(pixels, SIZE)


WRITERS = {
    "{sample}.tif": write_tiff, "{sample}.npy": write_npy, "{sample}.mrc": write_mrc, "{sample}.czi": write_large_czi,
    "{sample}/NDTiff.index": write_large_ndtiff,
}  # fmt: skip


def bytes_read() -> int:
    """Return the number of bytes that this process has asked for."""
    return int(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["rchar"])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts bytes as Linux does")
@pytest.mark.parametrize("pattern", WRITERS)
def test_files_of_gigabytes_are_planned_from_their_headers(folder, pattern):
    for number in range(FILES):
        path = Path(pattern.format(sample=f"plate/n{number:02d}"))
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[pattern](path)
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".index"]
    assert (len(sizes), min(sizes) >= SIZE) == (FILES, True)
    stack = {"axis": "z"} if pattern.endswith(".npy") else {"z": 1}
    before = bytes_read()
    made = make_plan(
        {"datasets": {"d": {"images": f"plate/{pattern}", "models": ["classical"], "stack": stack}}},
        presets_dir=PRESETS,
    )
    assert len(made.samples["d"]) == FILES * (SECTIONS if stack == {"axis": "z"} else 1)
    assert bytes_read() - before < FILES * MOST_BYTES
