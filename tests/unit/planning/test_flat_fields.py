"""Flat fields in the plan: which images a profile is estimated from, and what models need of it."""

import numpy as np
import pytest
import tifffile

from cellmill.config.errors import ConfigError
from cellmill.planning.make import make_plan
from cellmill.planning.settings import job_settings
from model_files import PRESETS, put_model

FLAT = {"method": "flat_field"}
BALL = {"method": "rolling_ball", "radius_px": 20}
UNET = {"preset": "sartorius_unet", "width": 0.25}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put_images(folder, count):
    for room in ("images", "labels"):
        (folder / room).mkdir(exist_ok=True)
        for number in range(count):
            tifffile.imwrite(folder / room / f"n{number:03d}.tif", np.full((24, 32), number + 1, np.uint8))


def plan(*, background=FLAT, annotated=True, models=(UNET,), **changes):
    section = {"images": "images/{sample}.tif", "models": list(models), **changes}
    if annotated:
        section["annotations"] = {"format": "label_image", "path": "labels/{sample}.tif"}
    if background:
        section["preprocess"] = {"background": background}
    return make_plan({"datasets": {"d": section}}, presets_dir=PRESETS)


def mistakes(**changes):
    with pytest.raises(ConfigError) as caught:
        plan(**changes)
    return caught.value.mistakes


def chosen(made):
    return {row.sample for row in made.flat_field_rows("d")}


def test_only_training_images_are_used(folder):
    put_images(folder, 30)
    made = plan()
    assert chosen(made) == {row.sample for row in made.samples["d"] if row.split == "train"}


def test_the_images_of_all_folds_are_used(folder):
    put_images(folder, 12)
    assert len(chosen(plan(split={"folds": 3}))) == 12


def test_all_images_are_used_where_nothing_is_annotated(folder):
    put_images(folder, 12)
    put_model(folder / "m.cellmill", background=FLAT)
    assert len(chosen(plan(annotated=False, models=[{"apply": "m.cellmill"}]))) == 12


def test_at_most_200_images_are_used_and_one_more_image_changes_at_most_one(folder):
    put_images(folder, 230)
    put_model(folder / "m.cellmill", background=FLAT)
    found = {"annotated": False, "models": [{"apply": "m.cellmill"}]}
    before = chosen(plan(**found))
    assert len(before) == 200
    put_images(folder, 231)
    assert len(before - chosen(plan(**found))) <= 1


def test_the_job_depends_on_the_images_the_channel_and_the_dark_level(folder):
    put_images(folder, 30)
    settings = job_settings(plan(background={**FLAT, "dark": "auto"}), "estimate_flat_field", dataset="d")
    assert set(settings) == {"samples", "planes"}
    assert settings["planes"] == [{"channel": "luminance", "dark": "auto", "may_be_missing": False}]
    assert settings == job_settings(
        plan(background={**FLAT, "dark": "auto", "then": "tophat", "radius_px": 9}), "estimate_flat_field", dataset="d"
    )


def test_other_methods_have_no_profile(folder):
    put_images(folder, 30)
    made = plan(background=BALL)
    assert made.flat_field_path("d") is None
    assert job_settings(made, "report", dataset="d")["flat_field_path"] is None
    assert plan().flat_field_path("d") == "results/d/flat_field.json"


def test_too_few_images_are_refused(folder):
    put_images(folder, 3)
    [message] = mistakes()
    assert message == (
        "datasets.d.preprocess.background.method: expected at least 3 images for flat_field, found 1 to estimate the "
        "illumination from. Add images, or set another method."
    )


def test_few_images_are_a_finding_of_the_check(folder):
    put_images(folder, 10)
    made = plan()
    [remark] = job_settings(made, "check_dataset", dataset="d")["remarks"]
    assert remark.startswith("datasets.d.preprocess.background.method: the illumination profile is estimated from ")
    put_images(folder, 30)
    assert job_settings(plan(), "check_dataset", dataset="d")["remarks"] == []


@pytest.mark.parametrize(
    ("background", "said"),
    [
        ({**BALL, "dark": 100}, "expected radius_px with method rolling_ball, found dark. Remove it"),
        ({"method": "none", "then": "tophat"}, "expected no other key with method none, found then. Remove it"),
        ({**FLAT, "radius_px": 9}, "expected dark, then with method flat_field, found radius_px. Remove it"),
        (
            {**FLAT, "then": "gaussian", "radius_px": 9},
            "expected dark, sigma_px, then with method flat_field, found rad",
        ),
    ],
)
def test_numbers_that_nothing_reads_are_refused(background, said, folder):
    put_images(folder, 12)
    [message] = mistakes(background=background)
    assert message.startswith(f"datasets.d.preprocess.background: {said}")


# ---- applied models -------------------------------------------------------------------------------------


def applied(folder, *, trained_on, background=None):
    put_images(folder, 12)
    put_model(folder / "m.cellmill", background=trained_on)
    return {"annotated": False, "models": [{"apply": "m.cellmill"}], "background": background}


def test_an_applied_model_brings_its_method_and_not_its_profile(folder):
    made = plan(**applied(folder, trained_on={**FLAT, "dark": 100, "then": "rolling_ball", "radius_px": 20}))
    assert made.preprocess["d"]["background"]["method"] == "flat_field"
    assert made.preprocess["d"]["background"]["then"] == "rolling_ball"
    assert made.flat_field_path("d") == "results/d/flat_field.json"


@pytest.mark.parametrize("trained_on", [{"method": "none"}, BALL])
def test_images_can_be_divided_for_a_model_that_was_trained_on_even_light(trained_on, folder):
    background = plan(**applied(folder, trained_on=trained_on, background={**FLAT, "dark": 90})).preprocess["d"][
        "background"
    ]
    assert (background["method"], background["then"]) == ("flat_field", trained_on["method"])
    assert background["radius_px"] == trained_on.get("radius_px", 50)
    assert background["dark"] == 90


def test_even_images_need_no_division_for_a_model_that_was_trained_on_divided_ones(folder):
    made = plan(**applied(folder, trained_on=FLAT, background={"method": "none"}))
    assert made.flat_field_path("d") is None


def test_the_dark_level_is_that_of_the_camera_of_the_dataset(folder):
    made = plan(**applied(folder, trained_on={**FLAT, "dark": 100}, background={**FLAT, "dark": 40}))
    assert made.preprocess["d"]["background"]["dark"] == 40


def test_what_is_subtracted_after_the_division_must_be_that_of_the_model(folder):
    [message] = mistakes(**applied(folder, trained_on=BALL, background={**FLAT, "then": "none"}))
    assert message.startswith(
        "datasets.d.preprocess.background.then: expected rolling_ball, as in the training of m.cellmill, found none. "
    )
    [message] = mistakes(**applied(folder, trained_on={"method": "none"}, background={**FLAT, "then": "tophat"}))
    assert "background.then: expected none, as in the training of m.cellmill, found tophat" in message
