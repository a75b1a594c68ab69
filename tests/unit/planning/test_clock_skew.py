"""Files whose times are in the future are refused, with the command that repairs them."""

import os
import time

import numpy as np
import pytest
import tifffile

from cellmill.config.errors import ConfigError
from cellmill.planning.make import make_plan
from model_files import PRESETS
from raw_files import write_ndtiff

DAY_S = 86400
LABELS = {"format": "label_image", "path": "labels/{sample}.tif"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for room in ("images", "labels"):
        (tmp_path / room).mkdir()
        for number in range(6):
            tifffile.imwrite(tmp_path / room / f"n {number}.tif", np.full((12, 16), number + 1, np.uint8))
    return tmp_path


def plan(**changes):
    section = {"images": "images/{sample}.tif", "annotations": LABELS, "models": ["classical"], **changes}
    return make_plan({"datasets": {"d": section}}, presets_dir=PRESETS)


def mistake(**changes):
    with pytest.raises(ConfigError) as caught:
        plan(**changes)
    [message] = caught.value.mistakes
    return message


def set_time(path, seconds):
    os.utime(path, (time.time() + seconds,) * 2)


def test_a_few_seconds_are_the_difference_of_two_clocks(folder):
    set_time(folder / "images/n 1.tif", 2)
    assert len(plan().samples["d"]) == 6


@pytest.mark.parametrize("path", ["images/n 1.tif", "labels/n 1.tif"])
def test_an_image_or_an_annotation_of_tomorrow_is_refused_with_the_command(folder, path):
    set_time(folder / path, DAY_S)
    message = mistake()
    assert message.startswith(
        f"datasets.d: expected files that were written before now, found {path} with times in the "
    )
    assert message.endswith(f"Correct it, or set the times of the files with `touch '{path}'`.")


def test_many_files_are_counted(folder):
    for path in (folder / "images").iterdir():
        set_time(path, DAY_S)
    message = mistake()
    assert "images/n 2.tif and 3 more with times" in message
    assert message.endswith("'images/n 2.tif' …`.")


def test_a_file_of_a_set_is_seen(folder):
    path, pixels = write_ndtiff(folder / "plate/a", [({"time": 0}, np.zeros((12, 16), np.uint16))])
    set_time(pixels, DAY_S)
    assert "plate/a/a_NDTiffStack.tif" in mistake(images="plate/{sample}/NDTiff.index", annotations=None)


def test_an_annotation_table_is_seen(folder):
    (folder / "t.csv").write_text("id,annotation\n" + "".join(f"n {n},1 3\n" for n in range(6)))
    set_time(folder / "t.csv", DAY_S)
    assert "found t.csv with times" in mistake(annotations={"format": "rle", "table": "t.csv", "order": "row"})
