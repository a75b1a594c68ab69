"""Exact reruns of an experiment: a finished project on a small plate with a sample sheet."""

import csv

import numpy as np
import pytest
import tifffile
import yaml

from project import copy_project, draw_cells, planned_jobs, snakemake, write_config

pytestmark = pytest.mark.long

WELLS = {"A01": "0", "A02": "0", "B01": "10", "B02": "10"}
SHEET = "well,dose,note\nA1,0,\nA2,0,\nB1,10,\nB2,10,\n"
AFTER_CONDITIONS = {"conditions plate", "report plate"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("plate") / "project")
    (project / "data").mkdir()
    for number, (well, dose) in enumerate(WELLS.items()):
        for field in (1, 2):
            rng = np.random.default_rng([number, field])
            image, _ = draw_cells(rng, (96, 96), 3 if dose == "10" else 8)
            tifffile.imwrite(project / f"data/{well}_{field}.tif", image)
    (project / "sheet.csv").write_text(SHEET)
    section = {
        "images": "data/{well}_{field}.tif",
        "models": ["classical"],
        "conditions": {"column": "dose", "control": 0, "replicate": "well", "table": "sheet.csv"},
        "report": {"ro_crate": True},
    }
    write_config(project, {"images_per_job": 3, "datasets": {"plate": section}}, "config.yaml")
    snakemake(project, "--cores", "2")
    return project


def edit(project, change):
    path = project / "config.yaml"
    config = yaml.safe_load(path.read_text())
    change(config["datasets"]["plate"]["conditions"])
    path.write_text(yaml.safe_dump(config))


def without_crate(jobs):
    """Return jobs without the description of all inputs and results, which follows from each of them."""
    return jobs - {"crate plate"}


def test_the_tables_have_the_conditions_and_the_report_a_chapter(finished):
    with (finished / "results/plate/conditions.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["feature"] == "objects_per_image"]
    assert [(row["condition"], row["n_replicates"], row["n_images"]) for row in rows] == [
        ("0", "2", "4"),
        ("10", "2", "4"),
    ]
    assert float(rows[1]["difference"]) < 0
    page = (finished / "results/plate/report.html").read_text()
    assert "What do the objects say about the conditions?" in page
    assert "Map" in page
    assert planned_jobs(finished) == set()


def test_another_condition_of_a_well_reruns_the_comparison_and_the_report(project):
    (project / "sheet.csv").write_text(SHEET.replace("A2,0", "A2,10").replace("B1,10", "B1,0"))
    assert without_crate(planned_jobs(project)) == AFTER_CONDITIONS
    snakemake(project, "--cores", "2")
    assert planned_jobs(project) == set()


def test_a_note_in_the_sheet_reruns_nothing_but_the_description_of_the_inputs(project):
    (project / "sheet.csv").write_text(SHEET.replace("A1,0,", "A1,0,edge"))
    assert without_crate(planned_jobs(project)) == set()


@pytest.mark.parametrize("keys", [{"features": ["solidity"]}, {"control": 10}])
def test_another_section_reruns_the_comparison_and_the_report(project, keys):
    edit(project, lambda section: section.update(keys))
    assert without_crate(planned_jobs(project)) == AFTER_CONDITIONS


def test_the_name_of_the_model_that_is_compared_anyway_reruns_the_report_only(project):
    edit(project, lambda section: section.update(model="classical"))
    assert without_crate(planned_jobs(project)) == {"report plate"}


def test_conditions_that_are_removed_rerun_the_report_only(project):
    path = project / "config.yaml"
    config = yaml.safe_load(path.read_text())
    del config["datasets"]["plate"]["conditions"]
    path.write_text(yaml.safe_dump(config))
    assert without_crate(planned_jobs(project)) == {"report plate"}


def test_a_changed_image_reaches_the_comparison(project):
    path = project / "data/A01_1.tif"
    tifffile.imwrite(path, np.roll(tifffile.imread(path), 3, axis=1))
    assert planned_jobs(project) >= AFTER_CONDITIONS
