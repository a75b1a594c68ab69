"""Several channels as the input of a network: its planes, and datasets that apply a model of several channels."""

import numpy as np
import pytest
import tifffile

from cellmill.config.errors import ConfigError
from cellmill.planning.make import make_plan
from cellmill.planning.settings import job_settings
from model_files import PRESETS, put_model

BALL, GAUSSIAN = {"method": "rolling_ball", "radius_px": 20.0}, {"method": "gaussian", "sigma_px": 9.0}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for room in ("images", "labels"):
        (tmp_path / room).mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        image_cyx = rng.integers(0, 200, (3, 24, 32)).astype(np.uint8)
        tifffile.imwrite(tmp_path / f"images/n{number}.tif", image_cyx, imagej=True, metadata={"axes": "CYX"})
        tifffile.imwrite(tmp_path / f"labels/n{number}.tif", (image_cyx[0] > 150).astype(np.uint16))
    return tmp_path


def plan(*models, annotated=True, **preprocess):
    section = {"images": "images/{sample}.tif", "models": list(models)}
    if annotated:
        section["annotations"] = {"format": "label_image", "path": "labels/{sample}.tif"}
    if preprocess:
        section["preprocess"] = preprocess
    return make_plan({"datasets": {"d": section}}, presets_dir=PRESETS)


def network_of(made, run):
    return job_settings(made, "train", dataset="d", run=run)["network"]


def test_a_network_has_a_plane_for_each_channel_and_no_start_of_one():
    made = plan("classical", "default", channels=[0, 2])
    settings = job_settings(made, "train", dataset="d", run="default")
    assert (settings["network"]["in_channels"], settings["input"]["channels"]) == (2, 2)
    assert made.run("d", "default").init_from is None
    assert plan("default").run("d", "default").preset["input"].get("channels") is None


def test_settings_of_one_channel_do_not_change():
    assert network_of(plan("sartorius_unet"), "sartorius_unet")["in_channels"] == 1
    assert "channels" not in plan("sartorius_unet").preprocess["d"]


def test_channels_without_a_background_have_that_of_the_section():
    section = plan("classical", channels=[{"channel": 1, "background": BALL}, 0], background=GAUSSIAN).preprocess["d"]
    methods = [each["background"]["method"] for each in section["channels"]]
    assert (section["channel"], section["background"]["method"], methods) == (
        1, "rolling_ball", ["rolling_ball", "gaussian"],
    )  # fmt: skip


def test_networks_of_sequences_are_refused():
    with pytest.raises(ConfigError, match=r"models\[0\]: expected a network of single images for 2 channels"):
        plan("stemnet5", channels=[0, 1])


def test_simulated_images_have_one_channel():
    with pytest.raises(ConfigError, match="expected one channel with simulate"):
        section = {"simulate": {"scene": "demo", "images": 9}, "preprocess": {"channels": [0, 1]}}
        make_plan({"datasets": {"d": section}}, presets_dir=PRESETS)


def test_a_model_of_several_channels_brings_them_along(folder):
    put_model(folder / "m.cellmill", channels=[{"channel": 2, "background": BALL}, 0])
    section = plan({"apply": "m.cellmill"}, annotated=False).preprocess["d"]
    assert [each["channel"] for each in section["channels"]] == [2, 0]
    assert (section["channel"], section["channels"][0]["background"]["method"]) == (2, "rolling_ball")


def test_other_images_may_have_the_stains_in_other_channels(folder):
    put_model(folder / "m.cellmill", channels=[{"channel": 2, "background": BALL}, 0])
    section = plan({"apply": "m.cellmill"}, annotated=False, channels=[0, 1]).preprocess["d"]
    assert [each["channel"] for each in section["channels"]] == [0, 1]
    methods = [each["background"]["method"] for each in section["channels"]]
    assert methods == ["rolling_ball", "none"]


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        ({"channels": [0, 1, 2]}, r"expected 2 channels, as in the training of m\.cellmill, found 3 channels"),
        ({"channel": 0}, "expected 2 channels, as in the training of .*, found one channel"),
        ({"channels": [0, {"channel": 1, "background": BALL}]}, r"channels\[1\]\.background: expected"),
    ],
)
def test_channels_that_a_model_does_not_fit_are_refused(folder, preprocess, message):
    put_model(folder / "m.cellmill", channels=[2, 0])
    with pytest.raises(ConfigError, match=message):
        plan({"apply": "m.cellmill"}, annotated=False, **preprocess)


def test_a_model_of_one_channel_refuses_several():
    with pytest.raises(ConfigError, match=r"expected one channel, as in the training of .*, found 2 channels"):
        plan({"apply": "nuclei"}, annotated=False, channels=[0, 1])


# ---- uneven light and backgrounds over time -------------------------------------------------------------

FLAT = {"method": "flat_field"}


def backgrounds_of(made):
    return [(each["background"]["method"], each["background"]["then"]) for each in made.preprocess["d"]["channels"]]


def test_a_profile_is_estimated_for_each_channel_that_is_divided():
    channels = [{"channel": 1, "background": {**FLAT, "dark": 90}}, {"channel": 0, "missing": "zero"}, 2]
    made = plan("classical", channels=channels, background={**FLAT, "dark": 5}, annotated=False)
    assert made.flat_field_path("d") == "results/d/flat_field.json"
    assert job_settings(made, "estimate_flat_field", dataset="d")["planes"] == [
        {"channel": 1, "dark": 90.0, "may_be_missing": False},
        {"channel": 0, "dark": 5.0, "may_be_missing": True},
        {"channel": 2, "dark": 5.0, "may_be_missing": False},
    ]
    made = plan("classical", channels=[0, {"channel": 1, "background": FLAT}], annotated=False)
    assert job_settings(made, "estimate_flat_field", dataset="d")["planes"][0] is None


@pytest.mark.parametrize("written", [{}, {"channels": [0, 1]}])
def test_all_channels_of_a_model_can_be_divided_first(folder, written):
    put_model(folder / "m.cellmill", channels=[{"channel": 2, "background": BALL}, 0])
    made = plan({"apply": "m.cellmill"}, annotated=False, background={**FLAT, "dark": 90}, **written)
    assert backgrounds_of(made) == [("flat_field", "rolling_ball"), ("flat_field", "none")]
    assert made.preprocess["d"]["background"] == made.preprocess["d"]["channels"][0]["background"]
    assert {each["background"]["dark"] for each in made.preprocess["d"]["channels"]} == {90.0}


def test_one_channel_of_a_model_can_be_divided_first(folder):
    put_model(folder / "m.cellmill", channels=[{"channel": 2, "background": BALL}, {"channel": 0, "background": BALL}])
    made = plan({"apply": "m.cellmill"}, annotated=False, channels=[0, {"channel": 1, "background": FLAT}])
    assert backgrounds_of(made) == [("rolling_ball", "none"), ("flat_field", "rolling_ball")]


def test_what_follows_the_division_of_a_channel_is_that_of_the_model(folder):
    put_model(folder / "m.cellmill", channels=[2, {"channel": 0, "background": BALL}])
    with pytest.raises(ConfigError, match=r"channels\[1\]\.background: expected"):
        plan(
            {"apply": "m.cellmill"}, annotated=False,
            channels=[0, {"channel": 1, "background": {**FLAT, "then": "gaussian", "sigma_px": 9}}],
        )  # fmt: skip


def test_a_background_over_time_of_any_channel_has_the_frames_around_it(folder):
    for number in range(6):
        (folder / f"images/n{number}.tif").rename(folder / f"images/a_{number}.tif")
    section = {
        "images": "images/{sequence}_{frame}.tif",
        "models": ["classical"],
        "preprocess": {"channels": [0, {"channel": 1, "background": {"method": "temporal_median"}}]},
    }
    made = make_plan({"datasets": {"d": section}, "images_per_job": 2}, presets_dir=PRESETS)
    shards = made.shards("d")
    assert made.temporal_shards("d") == shards
    assert [len(made.rows("d", shard)) + len(made.context("d", shard)) for shard in shards] == [6] * len(shards)
