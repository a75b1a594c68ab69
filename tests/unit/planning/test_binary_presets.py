"""Presets that are another one where annotations are binary masks."""

import numpy as np
import pytest
from skimage import io

from cellmill.planning.make import make_plan
from cellmill.planning.runs import load_preset
from cellmill.planning.settings import index_settings, report_settings
from project import ROOT

PRESETS = ROOT / "resources/models"


@pytest.fixture
def masks(tmp_path, monkeypatch):
    """Config section of six images with binary masks."""
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        mask_yx = np.zeros((40, 40), dtype=np.uint8)
        mask_yx[5 : 12 + number, 5:15] = 255
        for room, image in (("images", mask_yx // 2), ("masks", mask_yx)):
            (tmp_path / room).mkdir(exist_ok=True)
            io.imsave(tmp_path / room / f"s{number}.png", image, check_contrast=False)
    return {"images": "images/{sample}.png", "annotations": {"format": "binary", "path": "masks/{sample}.png"}}


def plan(section, *models):
    chosen = {"models": list(models)} if models else {}
    return make_plan({"datasets": {"d": {**section, **chosen}}}, presets_dir=PRESETS)


def test_the_default_predicts_the_foreground_of_binary_masks(masks):
    made = plan(masks)
    preset = made.run("d", "default").preset
    assert (preset["network"]["output"], preset["train"]["loss"]["name"]) == ("foreground", "bce_dice")
    assert preset["input"]["diameter_px"] is None
    assert preset["train"]["minutes"] == 15
    [remark] = [remark for remark in made.remarks if "default" in remark]
    assert "binary masks do not separate objects that touch" in remark


def test_models_are_ranked_by_pixels_where_the_truth_joins_objects(masks):
    for file_format, expected in (("binary", "dice"), ("color_components", "ap_kaggle")):
        masks["annotations"]["format"] = file_format
        made = plan(masks)
        assert report_settings(made, "d")["rank_by"] == expected
        assert index_settings(made)["rank_by"] == {"d": expected}


def test_settings_of_the_config_come_last(masks):
    preset = plan(masks, {"preset": "default", "input": {"polarity": "bright"}, "train": {"steps": 5}}).run(
        "d", "default"
    )
    assert preset.preset["input"]["polarity"] == "bright"
    assert (preset.preset["train"]["steps"], preset.preset["train"]["minutes"]) == (5, None)


def test_other_presets_are_the_same_for_all_annotations(masks):
    assert not [remark for remark in plan(masks, "sartorius_unet").remarks if "foreground alone" in remark]


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_section_is_no_setting(path):
    for is_binary in (False, True):
        content = load_preset(path.stem, presets_dir=PRESETS, where="", is_binary=is_binary)
        assert "for_binary" not in content
