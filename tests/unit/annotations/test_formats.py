"""Annotation formats declare themselves: config, rules and pages take them from the declarations."""

import importlib
import typing

import pytest

from cellmill.annotations.formats import ANNOTATION_FORMATS
from cellmill.config.annotations import Annotations
from cellmill.provenance import code_digests
from project import ROOT, copy_project, planned_jobs, snakemake, write_config, write_label_dataset, write_rle_dataset

REQUIRED = {"module", "reader", "files", "keys", "needs", "is_filled", "missing", "summary", "reads", "used_by"}
# A format that somebody adds: one object, drawn as a rectangle that a text file describes.
BOX_MODULE = """
from pathlib import Path

import numpy as np

from cellmill.annotations.instance import Instance

FORMATS = {
    "box": {
        "reader": "read_box", "files": "one", "keys": ("path",), "needs": ("path",), "is_filled": False,
        "missing": "error", "summary": "a text file with one rectangle", "reads": "rectangles", "used_by": "this test",
    },
}


def read_box(row, *, shape, annotations, table):
    top, left, height, width = map(int, Path(row["annotations"][0]).read_text().split())
    return [Instance(top, left, np.ones((height, width), dtype=bool), "box")]
"""


@pytest.mark.parametrize("name", ANNOTATION_FORMATS)
def test_a_format_declares_what_config_and_documentation_need(name):
    facts = ANNOTATION_FORMATS[name]
    assert set(facts) - {"table_reader", "remarks"} == REQUIRED
    assert facts["files"] in ("table", "one", "several")
    assert ("table_reader" in facts) == (facts["files"] == "table")
    assert set(facts["needs"]) <= set(facts["keys"]) <= set(Annotations.model_fields)
    module = importlib.import_module(facts["module"])
    assert all(
        callable(getattr(module, facts[role])) for role in ("reader", "table_reader", "remarks") if role in facts
    )


def test_the_config_knows_every_format():
    assert set(typing.get_args(Annotations.model_fields["format"].annotation)) == set(ANNOTATION_FORMATS)


@pytest.mark.parametrize("script", ["check_shard", "rasterize"])
def test_no_reader_is_reached_but_the_one_that_the_rule_adds(script):
    path = ROOT / f"workflow/scripts/{script}.py"
    readers = {facts["module"] for facts in ANNOTATION_FORMATS.values()}
    assert not readers & set(code_digests(path))
    assert readers & set(code_digests(path, also=("cellmill.annotations.coco",))) == {"cellmill.annotations.coco"}


def test_an_edit_of_a_reader_reruns_the_datasets_of_its_format_only(tmp_path):
    project = copy_project(tmp_path / "project")
    write_label_dataset(project / "a", ["s1", "s2", "s3"], seed=1)
    write_rle_dataset(project / "b", ["s1", "s2", "s3"], seed=1)
    models = [{"preset": "sartorius_unet", "width": 0.0625, "train": {"patch": [32, 32], "select": "last"}}]
    datasets = {
        "images": {
            "images": "a/images/{sample}.tif", "models": models,
            "annotations": {"format": "label_image", "path": "a/labels/{sample}.tif"},
        },
        "runs": {
            "images": "b/{sample}.tif", "models": models,
            "annotations": {"format": "rle", "table": "b/train.csv", "order": "row"},
        },
    }  # fmt: skip
    config = ("--configfile", write_config(project, {"datasets": datasets}))

    def planned():
        words = [job.split() for job in planned_jobs(project, *config)]
        return {place.split("/")[0] for rule, *places in words if rule == "rasterize" for place in places}

    snakemake(project, "--cores", "2", *config, "--until", "rasterize")
    assert planned() == set()
    path = project / "workflow/cellmill/annotations/table.py"
    path.write_text(path.read_text() + "\nREVISION = 2\n")
    assert planned() == {"runs"}


def test_a_new_format_is_one_module(tmp_path):
    project = copy_project(tmp_path / "project")
    (project / "workflow/cellmill/annotations/box.py").write_text(BOX_MODULE)
    write_label_dataset(project / "a", ["s1", "s2", "s3"], seed=1)
    for sample in ("s1", "s2", "s3"):
        (project / f"a/{sample}.txt").write_text("5 7 4 3")
    section = {
        "images": "a/images/{sample}.tif", "annotations": {"format": "box", "path": "a/{sample}.txt"},
        "models": [{"preset": "sartorius_unet", "width": 0.0625, "train": {"patch": [32, 32]}}],
    }  # fmt: skip
    name = write_config(project, {"datasets": {"boxes": section}})
    snakemake(project, "--cores", "2", "--configfile", name, "--until", "rasterize", "check_dataset")
    table = (project / "results/boxes/check/annotations.csv").read_text().splitlines()
    areas = [dict(zip(table[0].split(","), row.split(","), strict=True))["median_area_px"] for row in table[1:]]
    assert {float(area) for area in areas} == {12.0}
