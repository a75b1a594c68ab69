"""Runs that take their objects from masks: when they are planned, what their jobs depend on, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellmill.config.errors import ConfigError
from cellmill.planning.exports import exported_files
from cellmill.planning.incomplete import find_incomplete
from cellmill.planning.make import freeze, make_plan, thaw
from cellmill.planning.results import list_inputs, list_results
from cellmill.planning.settings import job_settings
from project import ROOT

PRESETS = ROOT / "resources/models"
ANNOTATED = {"images": "images/{sample}.tif", "annotations": {"format": "label_image", "path": "labels/{sample}.tif"}}
CELLPOSE = {"masks": "cellpose/{sample}_cp_masks.tif", "name": "cellpose"}


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, end in (("images", ""), ("labels", ""), ("cellpose", "_cp_masks")):
        (tmp_path / folder).mkdir()
        for number in range(9):
            labels_yx = np.full((16, 16), number % 3, dtype=np.uint8)
            tifffile.imwrite(tmp_path / f"{folder}/x{number}{end}.tif", labels_yx)
    return tmp_path


def plan(*models, **section):
    section = {**ANNOTATED, **section, "models": list(models)}
    return make_plan({"datasets": {"d": section}}, presets_dir=PRESETS)


def mistakes(*models, **section):
    with pytest.raises(ConfigError) as caught:
        plan(*models, **section)
    return caught.value.mistakes


def one_mistake(*models, **section):
    [mistake] = mistakes(*models, **section)
    return mistake


# ---- what is planned ------------------------------------------------------------------------------------------


def test_masks_alone_train_nothing_and_every_image_is_a_test_image(data):
    made = plan(CELLPOSE)
    assert {row.split for row in made.samples["d"]} == {"test"}
    assert [run.name for run in made.mask_runs()] == ["cellpose"]
    assert made.samples["d"][3].masks["cellpose"]["annotations"] == ["cellpose/x3_cp_masks.tif"]
    assert made.samples["d"][3].annotations == ["labels/x3.tif"]


def test_masks_beside_a_trained_model_are_scored_on_the_same_images(data):
    made = plan("classical", CELLPOSE)
    one, other = made.runs["d"]
    assert made.scored_shards("d", one) == made.scored_shards("d", other)
    assert not other.is_classical
    assert not other.is_trained
    assert not made.is_classical(other)


def test_folds_score_the_masks_of_each_image_once(data):
    made = plan("classical", CELLPOSE, split={"folds": 3})
    runs = [run for run in made.runs["d"] if run.masks is not None]
    tested = [shard for run in runs for shard in made.shards("d", parts=run.parts["test"])]
    assert sorted(tested) == made.shards("d")
    settings = job_settings(made, "masks", dataset="d", run=runs[0].name, shard=tested[0])
    assert all(row["annotations"] for row in settings["samples"])


def test_a_job_reads_the_files_of_its_shard_and_not_the_annotations(data):
    settings = job_settings(plan(CELLPOSE), "masks", dataset="d", run="cellpose", shard="test-0000")
    assert [row["annotations"] for row in settings["samples"]] == [
        [f"cellpose/{row['sample']}_cp_masks.tif"] for row in settings["samples"]
    ]
    assert settings["annotations"]["format"] == "label_image"
    assert "labels" not in str(settings)


def test_the_same_plan_is_read_by_jobs(data):
    raw = {"datasets": {"d": {**ANNOTATED, "models": [CELLPOSE]}}}
    made = make_plan(raw, presets_dir=PRESETS)
    freeze(made, raw)
    assert thaw(raw, presets_dir=PRESETS).samples == made.samples


def test_a_table_of_masks_gives_each_image_a_digest_of_its_rows(data):
    (data / "found.csv").write_text("id,annotation\n" + "".join(f"x{number},1 4\n" for number in range(9)))
    rle = {"masks": {"format": "rle", "table": "found.csv", "order": "row"}, "name": "other"}
    before = plan(rle)
    assert all(row.masks["other"]["rows_digest"] for row in before.samples["d"])
    assert not any(row.rows_digest for row in before.samples["d"])
    (data / "found.csv").write_text("id,annotation\n" + "".join(f"x{n},{1 + (n == 4)} 4\n" for n in range(9)))
    after = plan(rle)
    changed = [one.sample for one, other in zip(before.samples["d"], after.samples["d"], strict=True) if one != other]
    assert changed == ["x4"]


def test_results_and_inputs_list_the_masks_and_no_model(data):
    made = plan(CELLPOSE, export=["coco"])
    assert "cellpose/x0_cp_masks.tif" in list_inputs(made, "d")["annotations"]
    files = list_results(made, "d")["files"]
    assert "cellpose/objects.csv" in files
    assert not {"cellpose/model.cellmill", "cellpose/postprocess.json", "cellpose/train.json"} & set(files)
    assert exported_files(made.config, made.runs) == ["results/d/cellpose/objects.coco.json"]
    assert not any(find_incomplete(made))


def test_preprocessing_is_adopted_from_an_applied_model_beside_masks(data):
    applied = plan({"apply": "nuclei"}, annotations=None, images="images/{sample}.tif")
    beside = plan({"apply": "nuclei"}, CELLPOSE)
    assert beside.preprocess["d"] == applied.preprocess["d"]


def test_ignored_pixels_and_masks_of_images_in_one_folder_are_known_files(data):
    made = plan({**CELLPOSE, "masks": "labels/{sample}.tif"})
    assert made.files["d"]["others"] == 0


# ---- what is refused ------------------------------------------------------------------------------------------


def test_masks_of_half_of_the_images_are_refused_with_both_ways_out(data):
    for number in (1, 4, 7):
        (data / f"cellpose/x{number}_cp_masks.tif").unlink()
    said = one_mistake(CELLPOSE)
    assert "datasets.d.models[0].masks: expected masks of every image, found none for x1, x4, x7 (3 of 9)" in said
    assert "missing: empty" in said
    made = plan({"masks": {"path": CELLPOSE["masks"], "missing": "empty"}, "name": "cellpose"})
    assert made.samples["d"][1].masks == {"cellpose": {}}


def test_images_without_masks_reach_their_job_as_images_without_files(data):
    (data / "cellpose/x4_cp_masks.tif").unlink()
    made = plan({"masks": {"path": CELLPOSE["masks"], "missing": "empty"}, "name": "cellpose"})
    settings = job_settings(made, "masks", dataset="d", run="cellpose", shard="test-0000")
    rows = {row["sample"]: row["annotations"] for row in settings["samples"]}
    assert rows["x4"] == []
    assert rows["x5"] == ["cellpose/x5_cp_masks.tif"]


UNTESTED = {"masks": {"path": CELLPOSE["masks"], "missing": "untested"}, "name": "cellpose"}


def remove_masks(data, *, of, made):
    for row in made.samples["d"]:
        if row.split in of:
            (data / f"cellpose/{row.sample}_cp_masks.tif").unlink()


def test_masks_of_the_test_images_suffice_where_the_config_says_so(data):
    remove_masks(data, of={"train", "validation"}, made=plan("classical", CELLPOSE))
    assert "missing: untested if the program was applied to the test images only" in one_mistake("classical", CELLPOSE)
    made = plan("classical", UNTESTED)
    missing = {
        shard: job_settings(made, "masks", dataset="d", run="cellpose", shard=shard)["missing"]
        for shard in made.shards("d")
    }
    assert {shard.split("-")[0]: how for shard, how in missing.items()} == {
        "train": "unlabelled", "validation": "unlabelled", "test": "error",
    }  # fmt: skip


def test_a_test_image_needs_masks_with_untested_too(data):
    first = next(row.sample for row in plan("classical", CELLPOSE).samples["d"] if row.split == "test")
    (data / f"cellpose/{first}_cp_masks.tif").unlink()
    said = one_mistake("classical", UNTESTED)
    assert (
        f"datasets.d.models[1].masks: expected masks of every test image, because models are ranked on the same "
        f"images, found none for {first} (1 of " in said
    )


@pytest.mark.parametrize("section", [{}, {"split": {"folds": 3}}])
def test_all_images_need_masks_if_all_are_tested(data, section):
    (data / "cellpose/x4_cp_masks.tif").unlink()
    models = (UNTESTED,) if not section else ("classical", UNTESTED)
    assert "found none for x4 (1 of 9)" in one_mistake(*models, **section)


def test_annotators_may_not_be_the_best_of_the_index(data):
    made = plan("classical", CELLPOSE, {"masks": "labels/{sample}.tif", "name": "second", "role": "annotator"})
    assert job_settings(made, "index")["ranked"] == {"d": ["cellpose", "classical"]}


def test_the_index_lists_the_reports_of_other_configs(data):
    made = plan("classical")
    assert job_settings(made, "index")["others"] == []
    for dataset in ("d", "of_another_config"):
        Path(f"results/{dataset}").mkdir(parents=True)
        Path(f"results/{dataset}/report.html").write_text("")
    assert job_settings(made, "index")["others"] == ["of_another_config"]


def test_masks_of_other_images_are_refused(data):
    said = one_mistake({"masks": "cellpose/{sample}_seg.tif", "name": "other"})
    assert "expected masks of the images (such as x0, x1, x2, x3, x4 and 4 more), found none in" in said


def test_masks_among_the_images_are_named_with_the_pattern_to_leave_out(data):
    for path in (data / "cellpose").iterdir():
        path.rename(data / "images" / path.name)
    said = one_mistake({**CELLPOSE, "masks": "images/{sample}_cp_masks.tif"})
    assert 'exclude: "images/*_cp_masks.tif"' in said


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"train": {"epochs": 3}},
            "expected masks without settings of a model, because nothing is trained, found train",
        ),
        ({"seeds": [1, 2]}, "found seeds. Remove seeds"),
        ({"init_from": "d/other"}, "found init_from"),
        ({"preset": "default"}, "expected one of preset, apply and masks, found preset and masks. Remove all but one"),
        ({"name": None}, "expected a name for the run of the masks, found none. Set name"),
        ({"role": "expert"}, "expected 'model' or 'annotator', found 'expert'"),
        (
            {"masks": {"path": "a/{sample}.tif", "missing": "skip"}},
            "expected 'error', 'empty', 'untested' or 'unlabelled'",
        ),
        ({"masks": {"format": "rle", "path": "a/{sample}.tif"}}, "for format rle"),
        ({"masks": "cellpose/{well}.tif"}, "{well}"),
    ],
)
def test_keys_that_do_not_fit_masks_are_refused(data, changes, expected):
    entry = {key: value for key, value in {**CELLPOSE, **changes}.items() if value is not None}
    assert any(expected in mistake for mistake in mistakes(entry)), mistakes(entry)


def test_a_role_without_masks_is_refused(data):
    assert (
        "expected masks with role: annotator, found none" in mistakes({"preset": "classical", "role": "annotator"})[0]
    )


@pytest.mark.parametrize("key", ["apply", "init_from"])
def test_masks_are_no_model_for_other_runs(data, key):
    entry = {"apply": "d/cellpose", "name": "again"} if key == "apply" else {"preset": "default", key: "d/cellpose"}
    said = mistakes(CELLPOSE, entry)
    assert any("expected the run of a model, found d/cellpose, which has only masks" in mistake for mistake in said)


def test_models_are_not_exported_from_masks(data):
    assert "found only masks" in one_mistake(CELLPOSE, export=["onnx"])
