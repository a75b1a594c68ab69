"""Raw files with any damage: pixels or one message with the path, within the memory and time of an intact file."""

import os
import random
import resource
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from cellmill.images.damage import explain
from cellmill.images.rasters import open_raster
from cellmill.images.raw_files import close_raw, open_raw, raw_format_of
from project import ROOT
from raw_files import need_library, raw_folder

# Files of one format -> the smallest real file, which is damaged
FILES = {
    "czi": "Fluorescence_RGB.czi",
    "nd2": "cluster.nd2",
    "lif": "PR2729_frameOrderCombinedScanTypes.lif",
    "lsm": "test.lsm",
    "stk": "benchmark_v1_2018_x64y64z5c2s1t41/benchmark_v1_2018_x64y64z5c2s1t41_w1Laser4054BD4BP_t1.stk",
    "oib": "test.oib",
    "dv": "toxo.dv",
    "mrc": "EMD-3197.map",
    "ims": "Minimal_IMS_File.ims",
    "vsi": "vsi-ets-test-jpg2k.vsi",
    "ndtiff": "12_bit_pycromanager_mda/NDTiff.index",
}
DAMAGES = 120
GUARD_S = 600
# Above the libraries and an intact file
MEMORY_BYTES = 3 * 2**30


def damage(content: bytes, *, number: int) -> bytes:
    """Return a truncated copy of a file, or one with some other bytes, most of them in headers."""
    rng = random.Random(number)
    changed = bytearray(content)
    if number % 3 == 0:
        return bytes(changed[: rng.randrange(len(changed))])
    for _ in range(rng.choice([1, 3, 20])):
        end = min(rng.choice([200, 4000, len(changed)]), len(changed))
        place = rng.randrange(end) if rng.random() < 0.7 else len(changed) - 1 - rng.randrange(min(end, len(changed)))
        changed[place] = rng.choice([0, 1, 127, 255, rng.randrange(256)])
    return bytes(changed)


def read_whatever_it_is(path) -> str:
    """Read the first plane of each scene as the scan and the stages do; return the message of a refusal."""
    try:
        try:
            scenes = open_raw(path).scenes
        except Exception as error:
            raise explain(error, path=path, kind=str(raw_format_of(path))) from error
        for number, scene in enumerate(islice(scenes, 4)):
            plane = [["scene", f"only {number}", len(scenes)]] if len(scenes) > 1 else []
            plane += [[axis, 0, size] for axis, size in scene.layout(where=path).stack.items()]
            raster = open_raster(path, palette="colours", plane=plane)
            # damage may make an image of a gigapixel, whose first rows suffice
            for _, band in islice(raster.bands(20_000), 3):
                assert band.shape[1] == raster.shape[1]
    except ValueError as error:
        return str(error)
    finally:
        close_raw()
    return ""


@pytest.mark.timeout(GUARD_S)
@pytest.mark.parametrize("form", FILES)
def test_damaged_raw_files_give_pixels_or_one_message(tmp_path, real_data, form):
    """In a process of its own, with a limit of its memory."""
    need_library(str(raw_format_of(FILES[form])))
    source = raw_folder(real_data, form) / FILES[form]
    for pixels in source.parent.glob("*_NDTiffStack.tif"):
        shutil.copy(pixels, tmp_path)
    if form == "vsi":
        shutil.copytree(source.with_name(f"_{source.stem}_"), tmp_path / f"_damaged_{source.stem}_")
    command = [sys.executable, __file__, str(source), str(tmp_path / f"damaged_{source.name}"), str(DAMAGES)]
    finished = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=GUARD_S, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-4000:]
    refused = finished.stdout.splitlines()
    assert len(refused) >= DAMAGES // 6
    assert all(line.startswith(str(tmp_path)) for line in refused)


def main() -> None:
    """Damage a file many times, and print the message of each refusal."""
    source, target, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    content = source.read_bytes()
    # an array of the size that a damaged header states must not be made
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for number in range(count):
        target.write_bytes(damage(content, number=number))
        print(f"damage {number}", file=sys.stderr, flush=True)
        if said := read_whatever_it_is(target):
            print(said.replace("\n", " "), flush=True)


if __name__ == "__main__":
    main()
