"""Learning curves: their runs, the subsets of the training images, what their jobs depend on, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellmill.config.errors import ConfigError
from cellmill.planning.exports import exported_files
from cellmill.planning.incomplete import find_incomplete
from cellmill.planning.make import make_plan
from cellmill.planning.results import list_results
from cellmill.planning.settings import job_settings
from project import ROOT

PRESETS = ROOT / "resources/models"
ANNOTATED = {"images": "images/{sample}.tif", "annotations": {"format": "label_image", "path": "labels/{sample}.tif"}}
UNET = {"preset": "sartorius_unet", "name": "unet"}


def add_image(folder, number):
    for room in ("images", "labels"):
        tifffile.imwrite(folder / room / f"x{number:02d}.tif", np.full((16, 16), number % 3, dtype=np.uint8))


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for room in ("images", "labels"):
        (tmp_path / room).mkdir()
    for number in range(30):
        add_image(tmp_path, number)
    return tmp_path


def plan(curve=(3, 6), *, models=("classical", UNET), **section):
    curve = list(curve) if isinstance(curve, tuple) else curve
    section = {**ANNOTATED, **section, "learning_curve": curve, "models": list(models)}
    return make_plan({"images_per_job": 5, "datasets": {"d": section}}, presets_dir=PRESETS)


def mistake(*args, **section):
    with pytest.raises(ConfigError) as caught:
        plan(*args, **section)
    [said] = caught.value.mistakes
    return said


def subset(made, images, draw):
    return images_of(made, made.run("d", f"unet.images{images}.draw{draw}"))


def images_of(made, run):
    return [row.sample for shard in made.training_shards("d", run) for row in made.rows("d", shard)]


def settings(made, stage="train", run="unet.images3.draw1"):
    return job_settings(made, stage, dataset="d", run=run)


# ---- runs and subsets -----------------------------------------------------------------------------------------


def test_each_number_and_draw_is_a_run_that_is_tested_only(data):
    made = plan()
    names = [run.name for run in made.runs["d"] if run.subset]
    assert names == [f"unet.images{images}.draw{draw}" for images in (3, 6) for draw in (1, 2, 3)]
    assert [run.name for run in made.listed_runs("d")] == ["classical", "unet"]
    run = made.run("d", "unet.images6.draw2")
    assert (run.model, run.seed, run.subset) == ("unet.images6", 2, (6, 2))
    assert made.scored_shards("d", run) == made.shards("d", parts=("test",))


def test_subsets_are_nested_training_images_that_differ_between_draws(data):
    made = plan()
    training = {row.sample for row in made.samples["d"] if row.split == "train"}
    for draw in (1, 2, 3):
        few, many = subset(made, 3, draw), subset(made, 6, draw)
        assert (len(few), len(many)) == (3, 6)
        assert set(few) < set(many) <= training
    assert len({tuple(subset(made, 6, draw)) for draw in (1, 2, 3)}) == 3


def test_the_model_and_the_number_of_draws_can_be_chosen(data):
    other = {"preset": "sartorius_unet", "name": "other"}
    made = plan({"images": [4], "draws": 1, "model": "other"}, models=(UNET, other))
    assert [run.name for run in made.runs["d"]] == ["unet", "other", "other.images4.draw1"]


def test_with_several_seeds_the_first_is_repeated(data):
    made = plan((4,), models=({**UNET, "seeds": [5, 6]},))
    assert next(run.name for run in made.runs["d"] if run.subset) == "unet.seed5.images4.draw1"


def test_the_report_and_the_exports_do_not_list_the_runs(data):
    made = plan(export=["coco", "onnx"])
    assert not any("images" in path for path in exported_files(made.config, made.runs))
    assert not any("draw" in path for path in list_results(made, "d")["files"])
    report = job_settings(made, "report", dataset="d")
    assert [run["run"] for run in report["runs"]] == ["classical", "unet"]
    assert report["learning_curve"] == {
        "model": "unet", "images": 18, "draws": 3, "parts": [[3, "unet.images3"], [6, "unet.images6"]],
    }  # fmt: skip
    assert job_settings(plan(None), "report", dataset="d")["learning_curve"] is None


# ---- what the jobs depend on ----------------------------------------------------------------------------------


def test_trainings_have_shards_of_their_own_that_no_other_job_reads(data):
    made, without = plan(), plan(None)
    assert made.curve_shards("d") == [f"draw{draw}to{images}-0000" for draw in (1, 2, 3) for images in (3, 6)]
    assert made.shards("d") == without.shards("d")
    assert made.training_shards("d", made.run("d", "unet.images6.draw2")) == ["draw2to3-0000", "draw2to6-0000"]
    assert made.training_shards("d", made.run("d", "unet")) == made.shards("d", parts=("train",))
    for stage in ("train", "postprocess_fit"):
        assert settings(made, stage, "unet") == settings(without, stage, "unet")


def test_another_image_changes_the_shards_at_and_behind_its_place(data):
    def contents(made):
        return {shard: job_settings(made, "preprocess", dataset="d", shard=shard) for shard in made.curve_shards("d")}

    before = plan()
    add_image(data, 30)
    after = plan()
    runs = [run for run in before.runs["d"] if run.subset]
    entered = [run.name for run in runs if set(images_of(before, run)) != set(images_of(after, run))]
    changed = {shard for shard, one in contents(before).items() if one != contents(after)[shard]}
    assert [run.name for run in runs if changed & set(before.training_shards("d", run))] == entered
    assert 0 < len(entered) < len(runs)


def test_pieces_reach_labels_and_check_like_other_shards(data):
    made = plan()
    [row, *_] = job_settings(made, "rasterize", dataset="d", shard="draw1to3-0000")["samples"]
    assert row["annotations"] == [f"labels/{row['sample']}.tif"]
    assert made.role_of("d", made.run("d", "unet.images3.draw1"), "draw1to3-0000") == "train"
    assert "draw1to3-0000" not in job_settings(made, "check_dataset", dataset="d")["parts"]


def test_simulated_images_are_simulated_again_for_the_curve(data):
    models = [UNET]
    section = {"simulate": {"images": 20, "size": [64, 64]}, "models": models, "learning_curve": [3]}
    made = make_plan({"images_per_job": 5, "datasets": {"d": section}}, presets_dir=PRESETS)
    [row, *_] = made.rows("d", "draw1to3-0000")
    assert row.image == f"results/d/raw/draw1to3-0000/images/{row.sample}.tif"
    assert made.annotations("d", "draw1to3-0000").table == "results/d/raw/draw1to3-0000/annotations.csv"


def test_large_pieces_are_several_shards(data):
    made = plan((3, 15))
    run = made.run("d", "unet.images15.draw1")
    shards = made.training_shards("d", run)
    assert shards == ["draw1to3-0000", "draw1to15-0000", "draw1to15-0001", "draw1to15-0002"]
    assert [len(made.rows("d", shard)) for shard in shards] == [3, 5, 5, 2]
    assert len(set(images_of(made, run))) == 15


def test_a_curve_of_a_fine_tuned_model_starts_from_the_same_weights(data):
    base = {"preset": "sartorius_unet", "name": "base", "seeds": [1, 2]}
    fine = {**UNET, "seeds": [1, 2], "init_from": "other/base"}
    datasets = {
        "other": {**ANNOTATED, "models": [base]},
        "d": {**ANNOTATED, "models": [fine], "learning_curve": [3]},
    }
    made = make_plan({"datasets": datasets}, presets_dir=PRESETS)
    assert made.run("d", "unet.seed1.images3.draw2").init_from == "other/base.seed1"
    job_settings(made, "report", dataset="d")


# ---- what is refused ------------------------------------------------------------------------------------------


def test_as_many_images_as_there_are_are_refused(data):
    said = mistake((3, 18))
    assert "datasets.d.learning_curve.images: expected fewer images than the 18 training images" in said


@pytest.mark.parametrize(
    ("curve", "section", "expected"),
    [
        ((3, 3), {}, "expected different numbers of images, found [3, 3]"),
        ((3,), {"models": ("classical",)}, "expected a model that trains a network for learning_curve, found none"),
        (
            {"images": [3], "model": "other"},
            {},
            "expected a model that trains a network, found 'other'. Set it to unet",
        ),
        ((3,), {"split": {"folds": 3}}, "expected learning_curve without split.folds"),
        ((0,), {}, "learning_curve"),
        ({"images": [3], "drawz": 2}, {}, "unknown key. Did you mean draws?"),
    ],
)
def test_curves_that_cannot_be_are_refused(data, curve, section, expected):
    assert expected in mistake(curve, **section)


def test_models_of_sequences_are_refused(data):
    for room in ("images", "labels"):
        for path in sorted((data / room).iterdir()):
            path.rename(path.with_name(f"s_t{path.stem[1:]}.tif"))
    section = {
        "images": "images/{sequence}_t{frame}.tif", "split": {"by": "blocks"},
        "annotations": {"format": "label_image", "path": "labels/{sequence}_t{frame}.tif"},
    }  # fmt: skip
    said = mistake((3,), models=("stemnet5",), **section)
    assert "expected a model and a background of single images, found stemnet5" in said


def test_models_that_have_seen_all_training_images_are_refused(data):
    models = ({"preset": "sartorius_unet", "name": "base"}, {**UNET, "init_from": "d/base"})
    said = mistake({"images": [3], "model": "unet"}, models=models)
    assert "found unet, which starts from d/base and so from all training images" in said


def test_points_of_a_curve_are_no_models_for_others(data):
    datasets = {
        "d": {**ANNOTATED, "models": [UNET], "learning_curve": [3]},
        "new": {"images": "images/{sample}.tif", "models": [{"apply": "d/unet.images3.draw1", "name": "few"}]},
    }
    with pytest.raises(ConfigError) as caught:
        make_plan({"datasets": datasets}, presets_dir=PRESETS)
    assert "a point of a learning curve. Use d/unet." in str(caught.value)


# ---- what counts as lost ---------------------------------------------------------------------------------------


def write_results(made, names):
    for name in names:
        path = Path(f"results/d/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    rows = "".join(f"{row.sample},{row.shard}\n" for row in made.samples["d"])
    Path("results/d/samples.csv").write_text(f"sample,shard\n{rows}")


def lost(made):
    return {entry.folder for level in find_incomplete(made) for entry in level if "draw" in entry.folder}


def test_no_folder_of_the_curve_is_lost_that_only_other_runs_would_have(data):
    made = plan()
    write_results(made, ["unet/objects.csv", "unet/weights.pt", "unet/postprocess.json"])
    assert lost(made) == set()


def test_the_images_of_a_training_of_the_curve_are_lost_when_it_has_weights(data):
    made = plan()
    write_results(made, ["unet.images3.draw1/weights.pt"])
    assert lost(made) == {f"results/d/{room}/draw1to3-0000" for room in ("images", "labels")}
