"""Rescaling in the plan: settings of jobs, what reruns, models applied elsewhere, and what is refused."""

import numpy as np
import pytest
import tifffile

from cellmill.config.errors import ConfigError
from cellmill.exports.model_file import read_description
from cellmill.planning.make import freeze, make_plan, thaw
from cellmill.planning.results import list_results
from cellmill.planning.settings import STAGES, job_settings
from model_files import PRESETS, put_model

TRAINED_BY_DIAMETER = {"pixel_size_um": None, "diameter_px": 24.0, "object_px": 60.0, "object_pixel_um": 0.5}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put_images(folder, name, *, um=None, count=9):
    """Write images and label images; with `um`, the size of a pixel is in their metadata."""
    options = {"resolution": (1 / um, 1 / um), "metadata": {"unit": "um"}, "imagej": True} if um else {}
    for room in ("images", "labels"):
        (folder / name / room).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        tifffile.imwrite(folder / f"{name}/images/{name}{number}.tif", np.ones((24, 32), np.uint16), **options)
        tifffile.imwrite(folder / f"{name}/labels/{name}{number}.tif", np.ones((24, 32), np.uint8))


def section(name, *, rescale=None, models=("sartorius_unet",), is_annotated=True, **more):
    annotations = {"annotations": {"format": "label_image", "path": f"{name}/labels/{{sample}}.tif"}}
    preprocess = {} if rescale is None else {"preprocess": {"rescale": rescale}}
    models = [{"apply": model} if "/" in model or model.endswith(".cellmill") else model for model in models]
    return {
        "images": f"{name}/images/{{sample}}.tif", "models": models, **preprocess,
        **(annotations if is_annotated else {}), **more,
    }  # fmt: skip


def plan(**datasets):
    return make_plan({"datasets": datasets}, presets_dir=PRESETS)


def mistakes(**datasets):
    with pytest.raises(ConfigError) as caught:
        plan(**datasets)
    return caught.value.mistakes


def all_settings(made, dataset="cells"):
    """Return the settings of every job of a dataset, by rule and place."""
    run, found = made.runs[dataset][0].name, {}
    for stage in STAGES:
        if stage in ("match", "simulate", "join_seeds", "index", "crate", "masks", "worklist", "conditions"):
            continue
        for words in ({}, {"run": run}, *({"shard": s} for s in made.shards(dataset)),
                      *({"run": run, "shard": s} for s in made.shards(dataset))):  # fmt: skip
            try:
                found[stage, *words.values()] = job_settings(made, stage, dataset=dataset, **words)
            except TypeError:
                continue  # a rule with other wildcards
    return found


def changed_rules(before, after):
    assert before.keys() == after.keys()
    return {key[0] for key in before if before[key] != after[key]}


# ---- settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"pixel_size_um": 0.5}, {"pixel_size_um": 0.4}),
        ({"diameter_px": 24, "object_px": 60}, {"diameter_px": 24, "object_px": 50}),
        ({"diameter_px": 24}, {"diameter_px": 20}),
        (None, {"diameter_px": 24}),
    ],
)
def test_another_factor_reruns_preprocess_and_what_follows_only(folder, one, other):
    put_images(folder, "cells", um=0.25)
    before, after = (all_settings(plan(cells=section("cells", rescale=rescale))) for rescale in (one, other))
    # postprocess_fit stores the section with the exported model, and the report shows the config.
    assert changed_rules(before, after) == {"preprocess", "postprocess_fit", "report"}


def test_the_pixel_size_of_the_config_matters_only_to_rescaling_by_it(folder):
    put_images(folder, "cells", um=0.25)
    for rescale, is_used in (({"pixel_size_um": 0.5}, True), ({"diameter_px": 24}, False), (None, False)):
        before, after = (
            all_settings(plan(cells=section("cells", rescale=rescale, pixel_size_um=um))) for um in (0.25, 0.3)
        )
        assert ("preprocess" in changed_rules(before, after)) == is_used


def test_equal_numbers_are_equal_settings(folder):
    put_images(folder, "cells")
    one, other = (
        all_settings(plan(cells=section("cells", rescale=rescale)))
        for rescale in ({"diameter_px": 24, "object_px": 60}, {"object_px": 60.0, "diameter_px": 24.0})
    )
    assert changed_rules(one, other) <= {"report"}


def test_a_diameter_is_measured_in_training_images_only_where_it_is_not_given(folder):
    put_images(folder, "cells")
    given = plan(cells=section("cells", rescale={"diameter_px": 24, "object_px": 60}))
    assert given.diameter_path("cells") is None
    assert "diameter.json" not in list_results(given, "cells")["files"]
    made = plan(cells=section("cells", rescale={"diameter_px": 24}))
    assert made.diameter_path("cells") == "results/cells/diameter.json"
    assert {made.rows("cells", shard)[0].split for shard in made.measured_shards("cells")} == {"train"}
    assert "diameter.json" in list_results(made, "cells")["files"]
    folds = plan(cells=section("cells", rescale={"diameter_px": 24}, split={"folds": 3}))
    assert {folds.rows("cells", shard)[0].split for shard in folds.measured_shards("cells")} == {
        "fold0", "fold1", "fold2",
    }  # fmt: skip


def test_jobs_get_the_section_that_the_plan_found(folder):
    put_images(folder, "cells", um=0.25)
    config = {"datasets": {"cells": section("cells", rescale={"diameter_px": 24})}}
    made = make_plan(config, presets_dir=PRESETS)
    freeze(made, config, cache_dir=folder / "cache")
    again = thaw(config, presets_dir=PRESETS, cache_dir=folder / "cache")
    assert again.preprocess == made.preprocess
    assert all_settings(again) == all_settings(made)


# ---- models applied elsewhere ---------------------------------------------------------------------------


def rescale_of(made, dataset):
    shard = made.shards(dataset)[0]
    return job_settings(made, "preprocess", dataset=dataset, shard=shard)["rescale"]


def test_a_model_trained_by_pixel_size_uses_the_pixel_size_of_the_new_images(folder):
    put_model(folder / "m.cellmill", rescale={"pixel_size_um": 0.5})
    put_images(folder, "new", um=0.25)
    made = plan(new=section("new", models=("m.cellmill",), is_annotated=False))
    assert rescale_of(made, "new")["pixel_size_um"] == 0.5
    assert made.remarks == []
    put_images(folder, "new")
    [message] = mistakes(new=section("new", models=("m.cellmill",), is_annotated=False))
    assert "new0.tif: expected a pixel size for preprocess.rescale.pixel_size_um, found none" in message
    made = plan(new=section("new", models=("m.cellmill",), is_annotated=False, pixel_size_um=1.0))
    assert rescale_of(made, "new")["given_um"] == 1.0


def test_a_model_trained_by_diameter_takes_its_diameter_and_pixel_size_along(folder):
    put_images(folder, "cells", um=0.5)
    put_images(folder, "new", um=0.25)
    made = plan(
        cells=section("cells", rescale={"diameter_px": 24}),
        new=section("new", models=("cells/sartorius_unet",), is_annotated=False),
    )
    assert made.diameter_path("new") == "results/cells/diameter.json"
    assert rescale_of(made, "new")["object_pixel_um"] == 0.5
    # in the dataset in which it was measured, all images have the same factor
    assert rescale_of(made, "cells")["object_pixel_um"] is None
    fit = job_settings(made, "postprocess_fit", dataset="cells", run="sartorius_unet")
    assert fit["preprocess"]["rescale"]["object_pixel_um"] == 0.5
    assert made.remarks == []


def test_the_same_factor_is_used_and_reported_where_the_training_images_have_no_pixel_size(folder):
    put_images(folder, "cells")
    put_images(folder, "new", um=0.25)
    made = plan(
        cells=section("cells", rescale={"diameter_px": 24, "object_px": 60}),
        new=section("new", models=("cells/sartorius_unet",), is_annotated=False),
    )
    assert rescale_of(made, "new") == rescale_of(made, "cells")
    [remark] = made.remarks
    assert remark.startswith("datasets.new.preprocess.rescale: the images are rescaled by the factor of the training")
    assert "set diameter_px to 24 and object_px to the diameter" in remark


def test_an_exported_model_brings_its_section_along(folder):
    put_model(folder / "old.cellmill")
    assert read_description(folder / "old.cellmill").preprocess["rescale"] is None
    put_model(folder / "m.cellmill", rescale={"diameter_px": 24, "object_px": 60})
    put_images(folder, "new", um=0.25)
    made = plan(new=section("new", models=("m.cellmill",), is_annotated=False))
    assert (rescale_of(made, "new")["diameter_px"], rescale_of(made, "new")["object_px"]) == (24, 60)
    assert rescale_of(plan(new=section("new", models=("old.cellmill",), is_annotated=False)), "new") is None


def test_the_diameter_in_the_new_images_may_be_set(folder):
    put_model(folder / "m.cellmill", rescale={"diameter_px": 24, "object_px": 60})
    put_images(folder, "new")
    own = {"diameter_px": 24, "object_px": 80}
    made = plan(new=section("new", models=("m.cellmill",), is_annotated=False, rescale=own))
    assert rescale_of(made, "new")["object_px"] == 80
    assert made.remarks == []


def test_images_may_be_rescaled_to_the_scale_of_a_model_that_was_trained_on_raw_pixels(folder):
    put_model(folder / "m.cellmill")
    put_images(folder, "new", um=0.25)
    made = plan(new=section("new", models=("m.cellmill",), is_annotated=False, rescale={"pixel_size_um": 0.5}))
    assert rescale_of(made, "new")["pixel_size_um"] == 0.5


@pytest.mark.parametrize(
    ("model", "own", "said"),
    [
        ({"rescale": {"pixel_size_um": 0.5}}, {"pixel_size_um": 0.4}, "expected pixel_size_um 0.5, as in the training"),
        ({"rescale": {"pixel_size_um": 0.5}}, {"diameter_px": 24, "object_px": 60}, "found diameter_px 24"),
        ({"rescale": {"diameter_px": 24, "object_px": 60}}, {"diameter_px": 20, "object_px": 60}, "found diameter_px"),
        (
            {"fit": {"mode": "resize", "size": [64, 64]}},
            {"pixel_size_um": 0.5},
            "which resizes every image to [64, 64]",
        ),
    ],
)
def test_another_scale_than_that_of_the_model_is_refused(folder, model, own, said):
    put_model(folder / "m.cellmill", **model)
    put_images(folder, "new", um=0.25)
    [message] = mistakes(new=section("new", models=("m.cellmill",), is_annotated=False, rescale=own))
    assert message.startswith("datasets.new.preprocess.rescale: expected ")
    assert said in message


def test_models_of_different_scales_are_refused_together(folder):
    put_model(folder / "a.cellmill", rescale={"pixel_size_um": 0.5})
    put_model(folder / "b.cellmill")
    put_images(folder, "new", um=0.25)
    [message] = mistakes(new=section("new", models=("b.cellmill", "a.cellmill"), is_annotated=False))
    assert "expected pixel_size_um 0.5, as in the training of a.cellmill, found none" in message


# ---- what is refused ------------------------------------------------------------------------------------


def test_pixel_sizes_that_differ_are_not_taken_for_that_of_the_diameter(folder):
    put_images(folder, "cells", um=0.5)
    put_images(folder, "cells", um=0.2, count=4)
    made = plan(cells=section("cells", rescale={"diameter_px": 24}))
    assert made.preprocess["cells"]["rescale"]["object_pixel_um"] is None


def test_a_factor_out_of_range_is_refused_before_any_job(folder):
    put_images(folder, "cells", um=0.25)
    [message] = mistakes(cells=section("cells", rescale={"diameter_px": 400, "object_px": 10}))
    assert message.startswith(
        "datasets.cells.preprocess.rescale: expected to rescale by a factor from 1/16 to 16, found"
    )
    [message] = mistakes(cells=section("cells", rescale={"pixel_size_um": 200}))
    assert "images/cells0.tif: expected to rescale by a factor from 1/16 to 16, found 0.00125" in message


def test_measuring_needs_annotated_training_images(folder):
    put_images(folder, "cells")
    put_model(folder / "m.cellmill", rescale={"diameter_px": 24, "object_px": 60})
    for is_annotated in (True, False):
        [message] = mistakes(
            cells=section("cells", models=("m.cellmill",), rescale={"diameter_px": 24}, is_annotated=is_annotated)
        )
        assert "expected annotated training images, in which the diameter of the objects is measured" in message
