"""Track tables beside the masks that nobody asked for: used if they fit, noted and left out if they do not."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellmill.planning.make import make_plan
from cellmill.planning.settings import job_settings
from cellmill.stages.check_shard import check_shard
from project import ROOT


def film(folder, text, *, name="man_track.txt", frames=6):
    """Write a film of one cell with the number 3, and a track table beside its masks."""
    (folder / "01_GT").mkdir(parents=True)
    (folder / "01").mkdir()
    for frame in range(frames):
        labels_yx = np.zeros((16, 20), np.uint16)
        labels_yx[4:9, 5 : 10 + frame] = 3
        tifffile.imwrite(folder / f"01/t{frame:03d}.tif", (labels_yx * 30 + frame).astype(np.uint8))
        tifffile.imwrite(folder / f"01_GT/man_seg{frame:03d}.tif", labels_yx)
    (folder / "01_GT" / name).write_text(text)


def plan_of(folder, monkeypatch, **annotations):
    monkeypatch.chdir(folder)
    section = {
        "images": "{sequence}/t{frame}.tif",
        "annotations": {"format": "ctc", "path": "{sequence}_GT/man_seg{frame}.tif", **annotations},
        "split": {"by": "blocks"},
    }
    return make_plan({"datasets": {"d": section}}, presets_dir=ROOT / "resources/models", cache_dir=Path("cache"))


def findings(folder, plan):
    found = []
    for shard in plan.shards("d"):
        check_shard(output_path=folder / "c.json", **job_settings(plan, "check_shard", dataset="d", shard=shard))
        content = json.loads((folder / "c.json").read_text())
        assert all(truth["objects"] == 1 for truth in content["annotations"])
        found += [(one["severity"], one["finding"]) for one in content["findings"]]
    return found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("3 0 5 17\n", "expected a parent listed in the table"),  # a film that was cropped
        ("label begin end parent\n3 0 5 0\n", "expected four whole numbers"),
        ("3 0 5\n", "expected four whole numbers"),
    ],
)
def test_a_broken_table_is_left_out_with_a_remark(tmp_path, monkeypatch, text, reason):
    film(tmp_path, text)
    plan = plan_of(tmp_path, monkeypatch)
    [remark] = [one for one in plan.remarks if "track table" in one]
    assert reason in remark
    assert not any(sample.extra for sample in plan.samples["d"])
    assert findings(tmp_path, plan) == []


def test_a_table_that_contradicts_the_masks_is_a_note(tmp_path, monkeypatch):
    film(tmp_path, "3 0 2 0\n", name="res_track.txt")
    notes = findings(tmp_path, plan_of(tmp_path, monkeypatch))
    assert len(notes) == 3
    assert all(severity == "note" and "1 of 1 labels not listed for it: 3" in text for severity, text in notes)


def test_a_table_that_fits_is_not_remarked(tmp_path, monkeypatch):
    film(tmp_path, "3 0 5 0\n")
    plan = plan_of(tmp_path, monkeypatch)
    assert not [one for one in plan.remarks if "track" in one]
    assert findings(tmp_path, plan) == []


@pytest.mark.parametrize("text", ["3 0 5 17\n", "3 0 2 0\n"])
def test_a_table_that_the_config_names_must_fit(tmp_path, monkeypatch, text):
    film(tmp_path, text)
    plan = plan_of(tmp_path, monkeypatch, tracks="{sequence}_GT/man_track.txt")
    with pytest.raises(ValueError, match=r"man_track\.txt"):
        findings(tmp_path, plan)
