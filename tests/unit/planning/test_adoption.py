"""Preprocessing of datasets that apply a trained model: the model's, but the channel is that of the new images."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellmill.config.errors import ConfigError
from cellmill.planning.make import freeze, make_plan, thaw
from cellmill.planning.settings import job_settings
from model_files import PRESETS, put_model

BALL = {"method": "rolling_ball", "radius_px": 20}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put_images(folder, channels):
    (folder / "new").mkdir()
    for number in range(3):
        array = np.random.default_rng(number).integers(0, 200, (*channels, 24, 32)).astype(np.uint8)
        options = {"imagej": True, "metadata": {"axes": "CYX"}} if channels else {}
        if channels == (3,):
            array, options = np.moveaxis(array, 0, 2), {"photometric": "rgb"}
        tifffile.imwrite(folder / f"new/n{number}.tif", array, **options)


def config(*models, **preprocess):
    section = {"images": "new/{sample}.tif", "models": [{"apply": f"{name}.cellmill"} for name in models]}
    return {"datasets": {"new": {**section, **({"preprocess": preprocess} if preprocess else {})}}}


def plan(*models, **preprocess):
    return make_plan(config(*models, **preprocess), presets_dir=PRESETS)


def mistakes(*models, **preprocess):
    with pytest.raises(ConfigError) as caught:
        plan(*models, **preprocess)
    return caught.value.mistakes


# ---- the channel ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("trained_on", [1, 3, [0.5, 0, 0.5], "luminance"])
def test_images_of_one_channel_need_no_key(trained_on, folder):
    put_model(folder / "m.cellmill", channel=trained_on, background=BALL)
    put_images(folder, ())
    made = plan("m")
    assert made.preprocess["new"]["channel"] == "luminance"
    assert made.preprocess["new"]["background"]["radius_px"] == 20
    assert made.remarks == []


@pytest.mark.parametrize(("trained_on", "channels"), [(1, (2,)), ("luminance", (2,)), ([1, 0], (3,)), (0, ())])
def test_the_key_says_where_the_stain_is_in_these_images(trained_on, channels, folder):
    put_model(folder / "m.cellmill", channel=trained_on, background=BALL)
    put_images(folder, channels)
    made = plan("m", channel=0)
    assert made.preprocess["new"]["channel"] == 0
    assert made.preprocess["new"]["background"]["method"] == "rolling_ball"
    assert made.remarks == []


@pytest.mark.parametrize(
    ("trained_on", "channels", "said"),
    [(1, (2,), "channel 1 of 2"), (0, (3,), "channel 0 of 3"), ([0.5, 0.5], (2,), "the mix [0.5, 0.5] of channels of")],
)
def test_a_channel_that_is_adopted_is_reported(trained_on, channels, said, folder):
    put_model(folder / "m.cellmill", channel=trained_on)
    put_images(folder, channels)
    made = plan("m")
    assert made.preprocess["new"]["channel"] == trained_on
    [remark] = made.remarks
    assert remark.startswith(f"datasets.new.preprocess.channel: {said}")
    assert "m.cellmill" in remark
    assert job_settings(made, "check_dataset", dataset="new")["remarks"] == [remark]


@pytest.mark.parametrize(("trained_on", "channels"), [(4, (2,)), ([0.2, 0.3, 0.5], (2,)), (3, (3,))])
def test_a_channel_that_these_images_lack_is_asked_for(trained_on, channels, folder):
    put_model(folder / "m.cellmill", channel=trained_on)
    put_images(folder, channels)
    [message] = mistakes("m")
    assert message.startswith("datasets.new.preprocess.channel: expected the channel with the objects")
    assert f"has {channels[0]} channels" in message
    assert message.endswith(f"Set preprocess.channel to a number from 0 to {channels[0] - 1}.")
    assert plan("m", channel=0).preprocess["new"]["channel"] == 0


def test_models_of_different_channels_ask_for_the_channel_unless_there_is_only_one(folder):
    put_model(folder / "a.cellmill", channel=0)
    put_model(folder / "b.cellmill", channel=1)
    put_images(folder, (2,))
    [message] = mistakes("a", "b")
    assert "trained on different channels, found no key (0 for a.cellmill, 1 for b.cellmill)" in message
    assert plan("a", "b", channel=1).preprocess["new"]["channel"] == 1
    for path in (folder / "new").iterdir():
        tifffile.imwrite(path, np.ones((24, 32), np.uint8))
    assert plan("a", "b").preprocess["new"]["channel"] in (0, "luminance")


def test_transparency_is_not_taken_for_a_stain(folder):
    put_model(folder / "m.cellmill", channel=1)
    (folder / "new").mkdir()
    for number in range(3):
        Image.new("LA", (32, 24), (40 * number, 255)).save(folder / f"new/n{number}.png")
    made = config("m")
    made["datasets"]["new"]["images"] = "new/{sample}.png"
    assert make_plan(made, presets_dir=PRESETS).preprocess["new"]["channel"] == "luminance"


def test_jobs_use_the_channel_that_the_plan_found(folder):
    put_model(folder / "m.cellmill", channel=1)
    put_images(folder, ())
    made = plan("m")
    freeze(made, config("m"), cache_dir=folder / "cache")
    for path in (folder / "new").iterdir():
        path.unlink()
    assert thaw(config("m"), presets_dir=PRESETS, cache_dir=folder / "cache").preprocess == made.preprocess


# ---- everything else ------------------------------------------------------------------------------------


def test_each_key_that_is_not_set_is_adopted_by_itself(folder):
    put_model(folder / "m.cellmill", background=BALL, fit={"mode": "crop_pad", "size": [64, 96]})
    put_images(folder, ())
    own = plan("m", background={"method": "rolling_ball"}).preprocess["new"]
    assert own["background"]["radius_px"] == 20
    assert own["fit"] == {"mode": "crop_pad", "size": [64, 96], "at": None}
    own = plan("m", fit={"mode": "crop_pad", "size": [32, 32]}).preprocess["new"]
    assert own["background"]["radius_px"] == 20
    assert own["fit"] == {"mode": "crop_pad", "size": [32, 32], "at": None}
    assert plan("m", fit={"mode": "none"}).preprocess["new"]["fit"] == {"mode": "none", "size": None, "at": None}


def test_the_region_of_the_training_images_is_not_adopted(folder):
    put_model(folder / "m.cellmill", background=BALL, fit={"mode": "crop_pad", "size": [64, 96], "at": [900, 800]})
    put_images(folder, ())
    assert plan("m").preprocess["new"]["fit"] == {"mode": "crop_pad", "size": [64, 96], "at": None}
    own = {"mode": "crop_pad", "size": [16, 16], "at": [2, 3]}
    assert plan("m", fit=own).preprocess["new"]["fit"] == own


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"background": {"method": "none"}}, "background.method: expected rolling_ball, as in the training of"),
        ({"background": {"method": "gaussian", "sigma_px": 9}}, "background.method: expected rolling_ball"),
        ({"background": {"method": "rolling_ball", "radius_px": 7}}, "background.radius_px: expected 20"),
        ({"fit": {"mode": "resize", "size": [32, 32]}}, "fit.mode: expected none"),
    ],
)
def test_what_changes_the_input_of_the_network_is_refused(own, said, folder):
    put_model(folder / "m.cellmill", background=BALL)
    put_images(folder, ())
    [message] = mistakes("m", **own)
    assert f"datasets.new.preprocess.{said}" in message
    assert "Remove the key to adopt the model's value" in message


def test_models_of_different_backgrounds_are_refused_together(folder):
    put_model(folder / "a.cellmill", background=BALL)
    put_model(folder / "b.cellmill")
    put_images(folder, ())
    [message] = mistakes("a", "b")
    assert "background.method: expected none, as in the training of b.cellmill, found rolling_ball" in message
    assert message.endswith("put models that need different preprocessing into separate datasets.")
