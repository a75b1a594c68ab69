"""Old shards are deleted together with their seals; everything else stays."""

import yaml

from cellmill.planning.make import make_plan
from cellmill.planning.old_shards import remove_old_shards
from project import ROOT

KEPT = (
    "demo/images/train-0000/a.tif", "demo/images/.train-0000.sha256", "demo/check/test-0000.json",
    "demo/check/summary.csv", "demo/sartorius_unet/weights.pt", "demo/other_run/segmentation/train-0009/a.tif",
    "other/images/train-0009/a.tif", "demo/images/notes-2024.txt",
)  # fmt: skip
OLD = (
    "demo/images/train-0009/a.tif", "demo/images/.train-0009.sha256", "demo/check/test-0009.json",
    "demo/sartorius_unet/segmentation/fold0-0001/a.tif", "demo/sartorius_unet/evaluation/train-0009.json",
)  # fmt: skip


def test_only_shards_that_the_table_does_not_know_are_removed(tmp_path):
    plan = make_plan(
        yaml.safe_load((ROOT / "config.yaml").read_text()), presets_dir=ROOT / "resources/models", cache_dir=tmp_path
    )
    for name in (*KEPT, *OLD):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    removed = remove_old_shards(plan, results_dir=tmp_path)
    assert all((tmp_path / name).is_file() for name in KEPT)
    assert not any((tmp_path / name).exists() for name in OLD)
    assert sorted(removed) == sorted(
        str(tmp_path / name)
        for name in (
            "demo/images/train-0009", "demo/check/test-0009.json", "demo/sartorius_unet/segmentation/fold0-0001",
            "demo/sartorius_unet/evaluation/train-0009.json",
        )
    )  # fmt: skip
