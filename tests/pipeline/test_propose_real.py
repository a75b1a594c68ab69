"""`snakemake propose` on every folder of real images: what a person wrote for the folder, and a check that passes.

The data are not part of the project; without them these tests are skipped with a message.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from cellmill.planning.make import make_plan
from cellmill.planning.samples import UNLABELLED
from cellmill.planning.settings import job_settings
from cellmill.proposing.proposal import propose
from cellmill.proposing.writing import write_proposal
from cellmill.stages.check_dataset import summarize_check
from cellmill.stages.check_shard import check_shard
from project import ROOT, copy_project, snakemake

PRESETS = ROOT / "resources/models"
# Folder -> images and annotated images of its datasets
FOLDERS = {
    "bacteria_trpl_timelapse": {"bacteria_trpl_timelapse": (20, 20)},
    "bbbc005_simcep": {"bbbc005_simcep": (16, 0)},
    "bbbc039": {"bbbc039": (18, 18)},
    "ctc_fluo_n2dl_hela": {"ctc_fluo_n2dl_hela": (35, 35)},
    "dsb2018": {"dsb2018_stage1_train": (60, 60), "dsb2018_stage1_test": (40, 40)},
    "dsb2018_more": {"dsb2018_more": (577, 577)},
    "isbi2012_em": {"isbi2012_em": (30, 30)},
    "livecell": {"livecell": (15, 15)},
    "sartorius_cell_instance": {"sartorius_cell_instance": (5, 5)},
    "usiigaci_t98g_phase": {"usiigaci_t98g_phase": (8, 8)},
    "yeast_timelapse": {"yeast_timelapse": (10, 10)},
}
# Config that a person wrote -> dataset of the proposal for the same files
BY_HAND = {
    "bbbc039": "bbbc039", "ctc_fluo_n2dl_hela": "ctc_fluo_n2dl_hela", "dsb2018": "dsb2018_stage1_train",
    "dsb2018_test": "dsb2018_stage1_test", "isbi2012_em": "isbi2012_em", "livecell": "livecell",
    "sartorius_cell_instance": "sartorius_cell_instance", "yeast_timelapse": "yeast_timelapse",
}  # fmt: skip
# The check of 577 images takes a minute; their plan is compared, too
MOST_CHECKED = 100


@pytest.fixture(scope="module")
def proposed(real_data, tmp_path_factory):
    """Function that proposes a config for a folder and plans it, in a folder with links to the data."""
    found = {}
    lab = tmp_path_factory.mktemp("lab")
    for folder in real_data.iterdir():
        (lab / folder.name).symlink_to(folder.resolve())

    def propose_once(folder):
        if folder not in found:
            if not Path(folder).is_dir():
                pytest.skip(f"{folder} is not among the real images")
            text, questions = write_proposal(propose(folder), path=f"{folder}.yaml")
            plan = make_plan(yaml.safe_load(text), presets_dir=PRESETS, cache_dir=tmp_path_factory.mktemp("cache"))
            found[folder] = (plan, questions, text)
        return found[folder]

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(lab)
        yield propose_once


def test_every_folder_is_tested(real_data):
    folders = {path.name for path in real_data.iterdir() if (path / "PROVENANCE.md").is_file()}
    assert folders <= set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS)
def test_images_and_annotations_are_found_and_nothing_is_left_open(proposed, folder):
    plan, questions, _ = proposed(folder)
    counts = {name: (len(rows), sum(row.is_annotated for row in rows)) for name, rows in plan.samples.items()}
    assert counts == FOLDERS[folder]
    assert [question.text for question in questions if question.is_open] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_check_passes(proposed, folder, tmp_path):
    plan, _, _ = proposed(folder)
    for name, rows in plan.samples.items():
        if len(rows) > MOST_CHECKED:
            rows = rows[:MOST_CHECKED]
        shards = {row.shard for row in rows}
        paths = []
        for shard in sorted(shards):
            paths.append(tmp_path / name / f"{shard}.json")
            paths[-1].parent.mkdir(exist_ok=True)
            settings = job_settings(plan, "check_shard", dataset=name, shard=shard)
            settings["samples"] = [row for row in settings["samples"] if row["sample"] in {one.sample for one in rows}]
            check_shard(output_path=paths[-1], **settings)
        summarize_check(
            **{f"{kind}_path": tmp_path / f"{kind}.csv" for kind in ("summary", "images", "annotations")},
            findings_paths=paths, **job_settings(plan, "check_dataset", dataset=name),
        )  # fmt: skip
        found = pd.read_csv(tmp_path / "summary.csv")
        assert "error" not in set(found["severity"])
        images = [image for path in paths for image in json.loads(path.read_text())["images"]]
        assert len(images) == len(rows)


@pytest.mark.parametrize("config", BY_HAND)
def test_the_proposal_is_what_a_person_wrote(proposed, config, tmp_path):
    written = yaml.safe_load((ROOT / f"tests/pipeline/real/{config}.yaml").read_text())
    folder = config.removesuffix("_test")
    plan, _, _ = proposed(folder)
    by_hand = make_plan(written, presets_dir=PRESETS, cache_dir=tmp_path)

    def facts(plan, name):
        return {
            row.image: (row.annotations, bool(row.rows_digest), bool(row.sequence), row.frame)
            for row in plan.samples[name]
        }

    assert facts(plan, BY_HAND[config]) == facts(by_hand, config)
    mine, theirs = plan.config.datasets[BY_HAND[config]], by_hand.config.datasets[config]
    assert mine.annotations == theirs.annotations
    assert mine.split.by == theirs.split.by
    assert (mine.split.group_by, mine.split.stratify) == (theirs.split.group_by, theirs.split.stratify)
    assert np.mean([row.split == UNLABELLED for row in plan.samples[BY_HAND[config]]]) < 0.2


def test_a_proposal_is_written_and_checked_by_two_commands(real_data, tmp_path):
    project = copy_project(tmp_path / "project")
    (project / "data").symlink_to(real_data)
    said = snakemake(project, "propose", "--config", "look=data/yeast_timelapse").stderr
    assert "[propose] Wrote yeast_timelapse.yaml" in said
    assert "Next: snakemake check --configfile yeast_timelapse.yaml" in said
    assert "yeast_timelapse: 10 images" in snakemake(project, "check", "--configfile", "yeast_timelapse.yaml").stderr
