"""Rows of samples in the settings of jobs: they take no second pass, and are canonical all the same."""

import json

import numpy as np
import pytest
import tifffile

from cellmill.planning.make import make_plan
from cellmill.planning.settings import job_settings
from cellmill.provenance import canonical
from project import ROOT

SHARD, RUN = {"dataset": "d", "shard": "train-0000"}, {"dataset": "d", "run": "classical"}
STAGES = {
    "check_shard": SHARD,
    "rasterize": SHARD,
    "preprocess": SHARD,
    "postprocess": SHARD | RUN,
    "postprocess_features": SHARD | RUN,
    "export_coco": RUN,
}


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for room in ("images", "seg", "tra", "corrected"):
        (tmp_path / room).mkdir()
    for number in range(12):
        tifffile.imwrite(f"images/a{number}.tif", np.ones((2, 16, 16), np.uint8), metadata={"axes": "CYX"}, ome=True)
        for room in ("seg", "tra", "corrected")[: 3 if number % 2 else 2]:
            tifffile.imwrite(f"{room}/a{number}.tif", np.eye(16, dtype=np.uint16))
    section = {
        "images": "images/a{frame}.tif",
        "annotations": {"format": "ctc", "path": "seg/a{frame}.tif", "markers": "tra/a{frame}.tif"},
        "corrections": "corrected/a{frame}.tif",
        "preprocess": {"channel": 1},
        "split": {"by": "blocks"},
        "models": ["classical"],
        "export": ["coco"],
    }
    return make_plan({"datasets": {"d": section}}, presets_dir=ROOT / "resources/models")


@pytest.mark.parametrize("stage", STAGES)
def test_settings_are_canonical_down_to_the_order_of_their_keys(plan, stage):
    settings = job_settings(plan, stage, **STAGES[stage])
    assert settings["samples"]
    assert json.dumps(settings) == json.dumps(canonical(settings))


def test_rows_contain_nested_settings(plan):
    rows = job_settings(plan, "rasterize", **SHARD)["samples"]
    assert {"markers"} <= set(rows[0]["extra"])
    assert any("correction" in row for row in rows)
