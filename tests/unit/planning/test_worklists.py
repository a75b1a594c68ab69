"""Which run a worklist is made from, and when there is one."""

import numpy as np
import pytest
import tifffile

from cellmill.config.errors import ConfigError
from cellmill.planning.make import make_plan
from cellmill.planning.results import list_results
from cellmill.planning.settings import job_settings
from cellmill.planning.worklists import worklist_run
from project import ROOT

PRESETS = ROOT / "resources/models"
UNET = {"preset": "sartorius_unet", "name": "unet"}
ANNOTATIONS = {"format": "label_image", "path": "labels/{sample}.tif"}


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    """Write 14 images, of which the last two have no annotation if `missing` allows it."""
    monkeypatch.chdir(tmp_path)
    for room in ("images", "labels"):
        (tmp_path / room).mkdir()
    for number in range(14):
        tifffile.imwrite(tmp_path / f"images/x{number:02d}.tif", np.full((16, 16), number, dtype=np.uint8))
        if number < 12:
            tifffile.imwrite(tmp_path / f"labels/x{number:02d}.tif", np.full((16, 16), 1, dtype=np.uint8))


def plan(*, missing="unlabelled", models=("classical", UNET), **section):
    annotations = {"annotations": {**ANNOTATIONS, "missing": missing}} if missing else {}
    section = {"images": "images/{sample}.tif", **annotations, "models": list(models), **section}
    return make_plan({"datasets": {"d": section}}, presets_dir=PRESETS)


def name_of(made):
    run = worklist_run(made, "d")
    return None if run is None else run.name


def test_the_first_network_is_used_and_classical_without_one():
    assert name_of(plan()) == "unet"
    assert name_of(plan(models=["classical"])) == "classical"
    assert name_of(plan(missing=None, models=["classical", {"apply": "nuclei"}])) == "nuclei"


def test_the_mean_of_seeds_is_preferred_and_otherwise_the_first_seed_and_fold():
    assert name_of(plan(models=[{**UNET, "seeds": [3, 4]}])) == "unet.seed3"
    assert name_of(plan(models=[{**UNET, "seeds": [3, 4], "average_seeds": True}])) == "unet.mean"
    assert name_of(plan(split={"folds": 3})) == "unet.fold0"
    assert name_of(plan(worklist={"model": "classical"})) == "classical"


def test_annotated_datasets_have_a_worklist_only_on_request():
    assert name_of(plan(missing="empty")) is None
    assert name_of(plan(missing="empty", worklist={})) == "unet"
    assert "worklist.csv" not in list_results(plan(missing="empty"), "d")["files"]
    found = list_results(plan(), "d")
    assert "worklist.csv" in found["files"]
    assert "worklist" in found["folders"]
    assert job_settings(plan(missing="empty"), "report", dataset="d")["worklist_path"] is None


def test_the_job_depends_on_parts_and_number_only():
    settings = job_settings(plan(worklist={"images": 5}), "worklist", dataset="d")
    assert (settings["images"], settings["model"], settings["seed"]) == (5, "unet", 0)
    parts = [row["part"] for row in settings["samples"]]
    assert (len(parts), parts.count("unlabelled")) == (14, 2)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"worklist": {"model": "unett"}}, "expected a model with confidences, found 'unett'. Set it to classical or unet"),
        ({"worklist": {}, "models": [{"masks": "labels/{sample}.tif", "name": "a"}]}, "because masks have no confidence"),
        ({"worklist": {"images": 0}}, "greater than or equal to 1"),
    ],
)  # fmt: skip
def test_worklists_that_cannot_be_made_are_refused(section, said):
    with pytest.raises(ConfigError) as caught:
        plan(missing="empty", **section)
    assert said in str(caught.value)


def test_simulated_images_have_none():
    with pytest.raises(ConfigError) as caught:
        make_plan({"datasets": {"d": {"simulate": {}, "worklist": {}}}}, presets_dir=PRESETS)
    assert "because all simulated images are annotated" in str(caught.value)
