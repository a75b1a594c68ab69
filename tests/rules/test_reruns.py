"""Exact reruns: for each row of the design's table, edit a finished project and compare the jobs of a dry run.

The project is run once; each test works on a copy.
"""

import functools
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml

from project import (
    TINY,
    copy_project,
    planned_jobs,
    snakemake,
    write_config,
    write_label_dataset,
    write_rle_dataset,
)

CELLS = [f"c{number:02d}" for number in range(9)]
NUCLEI = [f"n{number:02d}" for number in range(13)]  # the 14th belongs to the test part and may move no other


def the_config():
    return {
        "seed": 3,
        "images_per_job": 4,
        "datasets": {
            "cells": {
                "images": "data/cells/{sample}.tif",
                "annotations": {"format": "rle", "table": "data/cells/train.csv", "order": "row"},
                "class_column": "cell_type",
                "models": [{"preset": "sartorius_unet", **TINY}, {"preset": "twin", **TINY}],
                "postprocess": {"closing": {"radius_px": 1}},
                "evaluate": {"bootstrap": 20},
            },
            "nuclei": {
                "images": "data/nuclei/images/{sample}.tif",
                "annotations": {"format": "label_image", "path": "data/nuclei/labels/{sample}.tif"},
                "models": [{"preset": "sartorius_unet", **TINY}],
                "evaluate": {"bootstrap": 20},
                "export": ["onnx", "bioimageio"],
                "report": {"ro_crate": True},
            },
        },
    }


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """Project with a second architecture, run to the end once."""
    project = copy_project(tmp_path_factory.mktemp("finished") / "project")
    library = project / "workflow/cellmill"
    shutil.copy(library / "models/unet.py", library / "models/twin.py")
    edit(library / "config/networks.py", 'Literal["unet"]', 'Literal["unet", "twin"]')
    preset = (project / "resources/models/sartorius_unet.yaml").read_text()
    (project / "resources/models/twin.yaml").write_text(preset.replace("architecture: unet", "architecture: twin"))
    write_rle_dataset(project / "data/cells", CELLS, seed=1)
    write_label_dataset(project / "data/nuclei", NUCLEI, seed=2)
    write_config(project, the_config(), "config.yaml")
    snakemake(project, "--cores", "2")
    return project


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path} no longer holds {old!r}"
    path.write_text(text.replace(old, new))


def edit_config(project: Path, change) -> None:
    path = project / "config.yaml"
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config))


@functools.cache
def everything(finished: Path) -> frozenset[str]:
    """Return every job of the project."""
    return frozenset(planned_jobs(finished, "--forceall"))


def after(jobs: frozenset[str], *rules: str, dataset: str, run: str = "", shard: str = "") -> set[str]:
    """Return the jobs of these rules that belong to a dataset and, if given, to a run and a shard."""
    chosen = set()
    for job in jobs:
        rule, _, place = job.partition(" ")
        parts = place.split("/")
        if rule in rules and parts[0] == dataset and (not run or run in parts) and (not shard or shard in parts):
            chosen.add(job)
    return chosen


PER_SHARD_OF_RUN = ("predict", "postprocess", "evaluate_shard")
PER_RUN = (
    "train", "join_seeds", "postprocess_fit", "postprocess_tables", "export_onnx", "export_bioimageio", "export_coco",
    "export_rois", "export_geojson", "export_ctc", "export_table", "export_anndata", "export_ome_zarr",
)  # fmt: skip
SUMMARY = ("evaluate", "report", "crate")


def of_run(finished, dataset, run):
    jobs = everything(finished)
    return (
        after(jobs, *PER_SHARD_OF_RUN, *PER_RUN, dataset=dataset, run=run)
        | after(jobs, *SUMMARY, dataset=dataset)
        | {"index"}
    )


# ---- edits that rerun nothing ----------------------------------------------------------------------------


def test_nothing_changed_nothing_runs(project):
    assert planned_jobs(project) == set()


def test_touched_sources_and_data_run_nothing(project):
    now = time.time()
    for folder in ("workflow", "resources", "data", "profiles", "envs"):
        for path in (project / folder).rglob("*"):
            os.utime(path, (now, now))
    for name in ("Snakefile", "config.yaml"):
        os.utime(project / name, (now, now))
    assert planned_jobs(project) == set()


def test_a_copy_that_kept_no_time_stamps_runs_nothing(finished, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(finished, copy, copy_function=shutil.copy)
    assert planned_jobs(copy) == set()


def test_comments_and_docstrings_run_nothing(project):
    for module in ("stages/train.py", "images/files.py", "models/unet.py", "stages/report.py", "shards.py"):
        path = project / "workflow/cellmill" / module
        text = path.read_text()
        end_of_docstring = text.index('"""', 3) + 3
        path.write_text('"""Other words."""\n# a remark' + text[end_of_docstring:])
    script = project / "workflow/scripts/train.py"
    script.write_text("# a remark\n" + script.read_text())
    assert planned_jobs(project) == set()


def test_key_order_and_whole_floats_run_nothing(project):
    def change(config):
        cells = config["datasets"]["cells"]
        cells["models"][0]["train"] = dict(reversed(cells["models"][0]["train"].items()))
        cells["postprocess"]["closing"]["radius_px"] = 1.0
        config["datasets"]["cells"] = dict(reversed(cells.items()))

    edit_config(project, change)
    assert planned_jobs(project) == set()


def test_partition_memory_and_gpu_run_nothing(project):
    assert planned_jobs(project, "--set-resources", "train:mem_mb=999", "train:gpu=1", "predict:gpu=1") == set()
    assert planned_jobs(project, "--default-resources", "slurm_partition=x", "--set-threads", "train=1") == set()


def test_conda_on_or_off_runs_nothing(project, tmp_path):
    conda = tmp_path / "bin" / "conda"
    conda.parent.mkdir()
    # Only the answers that a dry run requires from conda.
    conda.write_text(
        "#!/bin/sh\n"
        'case "$1 $2" in\n'
        '"info --json") echo \'{"conda_prefix": "/nowhere", "root_prefix": "/nowhere", "platform": "linux-64", '
        '"virtual_pkgs": []}\' ;;\n'
        "--version*) echo 'conda 26.1.0' ;;\n"
        '"config --get") echo \'{"get": {"channel_priority": "strict"}}\' ;;\n'
        "esac\n"
    )
    conda.chmod(0o755)
    path = {"PATH": f"{conda.parent}{os.pathsep}{os.environ['PATH']}"}
    finished = snakemake(project, "-n", "--sdm", "conda", env=path)
    assert "Nothing to be done" in finished.stdout + finished.stderr


# ---- code ------------------------------------------------------------------------------------------------


def test_one_line_in_an_architecture_reruns_the_runs_of_that_architecture(project, finished):
    path = project / "workflow/cellmill/models/twin.py"
    path.write_text(path.read_text() + "\nREVISION = 2\n")
    assert planned_jobs(project) == of_run(finished, "cells", "twin")


def test_the_report_template_reruns_the_reports(project):
    path = project / "workflow/cellmill/reports/templates/report.html.jinja"
    path.write_text(path.read_text() + "\n<!-- other -->\n")
    assert planned_jobs(project) == {"report cells", "report nuclei", "crate nuclei"}


def test_logging_reruns_nothing(project):
    path = project / "workflow/cellmill/runlog.py"
    path.write_text(path.read_text() + "\nREVISION = 2\n")
    assert planned_jobs(project) == set()


# ---- config ----------------------------------------------------------------------------------------------


def test_a_closing_footprint_reruns_postprocess_evaluate_and_report_of_that_dataset(project, finished):
    edit_config(project, lambda c: c["datasets"]["cells"]["postprocess"]["closing"].update(radius_px=2))
    jobs = everything(finished)
    expected = after(
        jobs,
        "postprocess_fit",
        "postprocess",
        "postprocess_tables",
        "evaluate_shard",
        *SUMMARY,
        dataset="cells",
    )
    assert planned_jobs(project) == expected | {"index"}


def test_a_learning_rate_retrains_only_the_run_it_belongs_to(project, finished):
    def change(config):
        config["datasets"]["cells"]["models"][1]["train"]["optimiser"] = {"learning_rate": 0.003}

    edit_config(project, change)
    assert planned_jobs(project) == of_run(finished, "cells", "twin")


def test_a_format_that_is_asked_for_later_is_written_and_nothing_is_computed_again(project):
    edit_config(project, lambda c: c["datasets"]["cells"].update(export=["onnx"]))
    runs = ("sartorius_unet", "twin")
    assert planned_jobs(project) == {*(f"export_onnx cells/{run}" for run in runs), "report cells"}


def test_a_crate_that_is_asked_for_later_is_written_and_nothing_is_written_again(project):
    edit_config(project, lambda c: c["datasets"]["cells"].update(report={"ro_crate": True}))
    assert planned_jobs(project) == {"crate cells"}


def test_a_crate_that_is_no_longer_asked_for_runs_nothing(project):
    edit_config(project, lambda c: c["datasets"]["nuclei"]["report"].update(ro_crate=False))
    assert planned_jobs(project) == set()


def test_another_title_is_written_into_the_exports_and_the_report(project):
    edit_config(project, lambda c: c["datasets"]["nuclei"]["models"][0].update(title="Another"))
    run = "nuclei/sartorius_unet"
    assert planned_jobs(project) == {f"export_onnx {run}", f"export_bioimageio {run}", "report nuclei", "crate nuclei"}


def test_the_bootstrap_reruns_only_the_summary(project):
    edit_config(project, lambda c: c["datasets"]["nuclei"]["evaluate"].update(bootstrap=30))
    assert planned_jobs(project) == {"evaluate nuclei", "report nuclei", "crate nuclei", "index"}


# ---- data ------------------------------------------------------------------------------------------------


def shard_table(project: Path, dataset: str) -> dict[str, str]:
    table = pd.read_csv(project / f"results/{dataset}/samples.csv")
    return dict(zip(table["sample"], table["shard"], strict=True))


def image_of(project: Path, dataset: str, part: str) -> tuple[str, str]:
    return next((name, shard) for name, shard in shard_table(project, dataset).items() if shard.startswith(part))


PER_SHARD = ("check_shard", "preprocess", "rasterize", *PER_SHARD_OF_RUN)


def test_a_changed_test_image_reruns_its_shard_and_never_the_training(project, finished):
    name, shard = image_of(project, "nuclei", "test")
    path = project / f"data/nuclei/images/{name}.tif"
    image = tifffile.imread(path)
    tifffile.imwrite(path, image[::-1])
    expected = after(everything(finished), *PER_SHARD, dataset="nuclei", shard=shard)
    expected |= {"check_dataset nuclei", "postprocess_tables nuclei/sartorius_unet", *_summary("nuclei")}
    assert planned_jobs(project) == expected


def test_a_check_that_failed_and_passes_again_does_not_retrain(project):
    paths = sorted((project / "data/nuclei/labels").glob("*.tif"))
    kept = {path: path.read_bytes() for path in paths}
    for path in paths:
        tifffile.imwrite(path, np.zeros_like(tifffile.imread(path)))
    failed = snakemake(project, "--cores", "2", "check", check=False)
    assert failed.returncode != 0
    assert f"no object in {len(NUCLEI)} annotated images" in failed.stdout + failed.stderr
    for path, content in kept.items():
        path.write_bytes(content)
    rules = {job.partition(" ")[0] for job in planned_jobs(project)}
    assert rules == {"check_shard", "check_dataset", "report", "crate"}


def _summary(dataset: str) -> set[str]:
    crate = {"crate nuclei"} if dataset == "nuclei" else set()
    return {f"evaluate {dataset}", f"report {dataset}", "index"} | crate


def test_a_changed_training_image_retrains(project, finished):
    name, shard = image_of(project, "nuclei", "train")
    path = project / f"data/nuclei/images/{name}.tif"
    tifffile.imwrite(path, tifffile.imread(path)[::-1])
    expected = of_run(finished, "nuclei", "sartorius_unet")
    expected |= after(everything(finished), "check_shard", "preprocess", "rasterize", dataset="nuclei", shard=shard)
    assert planned_jobs(project) == expected | {"check_dataset nuclei"}


def test_one_corrected_row_of_a_shared_table_reruns_its_shard_of_rasterize_and_what_follows(project, finished):
    name, shard = image_of(project, "cells", "test")
    path = project / "data/cells/train.csv"
    table = pd.read_csv(path, dtype=str)
    row = table.index[table["id"] == name][0]
    start, length, *rest = table.loc[row, "annotation"].split()
    table.loc[row, "annotation"] = " ".join([start, str(int(length) - 1 or 1), *rest])
    if int(length) == 1:
        table.loc[row, "annotation"] = " ".join(rest)
    table.to_csv(path, index=False)
    jobs = everything(finished)
    expected = after(jobs, "check_shard", "rasterize", "evaluate_shard", dataset="cells", shard=shard)
    assert planned_jobs(project) == expected | {"check_dataset cells", *_summary("cells")}


def test_a_touched_shared_table_runs_nothing(project):
    os.utime(project / "data/cells/train.csv", (time.time(), time.time()))
    assert planned_jobs(project) == set()


def test_a_new_test_image_touches_its_shard_and_at_most_the_one_that_splits(project, finished):
    before = shard_table(project, "nuclei")
    name = _name_that_falls_into(project, "test")
    write_label_dataset(project / "data/nuclei", [name], seed=2)
    jobs = planned_jobs(project)
    assert not any(job.startswith("train") for job in jobs)
    touched = {job.rpartition("/")[2] for job in jobs if job.startswith("preprocess ")}
    assert all(shard.startswith("test-") for shard in touched)
    assert len(touched & set(before.values())) <= 2
    assert len(touched - set(before.values())) <= 1
    assert {job for job in jobs if job.startswith("predict ")} == {
        f"predict nuclei/sartorius_unet/{shard}" for shard in touched
    }


def _name_that_falls_into(project: Path, part: str) -> str:
    from cellmill.config.dataset import Split
    from cellmill.planning.samples import Sample
    from cellmill.planning.splits import assign_splits

    def parts_of(names: list[str]) -> dict[str, str]:
        rows = [Sample(sample=name, image="") for name in names]
        return assign_splits(rows, split=Split().model_dump(), groups={}, strata={}, where="")[0]

    before = parts_of(NUCLEI)
    new = (f"x{number}" for number in range(40))
    return next(name for name in new if parts_of([*NUCLEI, name]) == before | {name: part})


@pytest.mark.long  # whole runs; test_incomplete.py tests what is found
def test_deleted_results_are_made_again_byte_by_byte_and_nothing_else_runs(project, finished):
    """Files of several kinds are lost at once: images, a whole folder, a manifest, the end of a mask."""
    results = project / "results"
    train, test = (image_of(project, "cells", part)[1] for part in ("train", "test"))
    for path in (results / f"cells/images/{train}").glob("*.tif"):
        path.unlink()
    shutil.rmtree(results / f"cells/labels/{train}")
    (results / f"cells/twin/probabilities/{test}/manifest.json").unlink()
    mask = next((results / f"cells/twin/segmentation/{test}").glob("*.tif"))
    mask.write_bytes(mask.read_bytes()[:100])
    expected = {
        f"preprocess cells/{train}", f"rasterize cells/{train}", f"predict cells/twin/{test}",
        f"postprocess cells/twin/{test}",
    }  # fmt: skip
    trained = (results / "cells/twin/weights.pt").stat().st_mtime_ns

    ran = snakemake(project, "--cores", "2", "--printshellcmds")  # else the terminal shows no block for each job
    text = ran.stdout + ran.stderr
    assert f"results/cells/images/{train}: " in text
    assert f"results/cells/labels/{train}: the folder is gone. rasterize makes this folder again." in text
    rules = re.findall(r"^(?:local)?rule (\w+):", text, flags=re.MULTILINE)
    assert sorted(rules) == sorted(job.split()[0] for job in expected)
    assert "Nothing to be done" in text
    assert (results / "cells/twin/weights.pt").stat().st_mtime_ns == trained
    assert contents(results) == contents(finished / "results")


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".snakemake_timestamp")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_dry_run_lists_the_folders_that_lost_files_and_changes_nothing(project):
    shard = image_of(project, "nuclei", "test")[1]
    before = contents(project / "results")
    lost = next((project / f"results/nuclei/images/{shard}").glob("*.tif"))
    lost.unlink()
    assert planned_jobs(project) == {f"preprocess nuclei/{shard}"}
    assert planned_jobs(project, "check") == set()
    del before[lost.relative_to(project / "results").as_posix()]
    assert contents(project / "results") == before


@pytest.mark.long
def test_a_dataset_that_shrinks_leaves_no_old_masks_behind(project):
    config = yaml.safe_load((project / "config.yaml").read_text())
    del config["datasets"]["cells"]
    write_config(project, config, "config.yaml")
    gone = [name for name, shard in shard_table(project, "nuclei").items() if shard.startswith("train")][:3]
    for name in gone:
        (project / f"data/nuclei/images/{name}.tif").unlink()
    snakemake(project, "--cores", "2")
    shards = shard_table(project, "nuclei")
    for room in ("images", "labels", "sartorius_unet/segmentation", "sartorius_unet/probabilities"):
        found = {path.stem: path.parent.name for path in (project / f"results/nuclei/{room}").glob("*/*.tif")}
        assert found == shards, room
    assert not set(gone) & set(shards)
