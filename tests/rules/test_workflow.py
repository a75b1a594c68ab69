"""House rules, checked on the parsed workflow: one word for each stage, exactly two params, thin scripts."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from snakemake.api import SnakemakeApi
from snakemake.iocontainers import Wildcards
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

from cellmill.planning import layout
from cellmill.planning.make import make_plan
from cellmill.planning.settings import job_settings
from cellmill.planning.stage_graph import STAGE_INPUTS
from cellmill.provenance import EXEMPT_MODULES
from cellmill.shards import seal_path
from project import ROOT, copy_project, snakemake, write_config

STAGES = (
    "check",
    "match",
    "simulate",
    "preprocess",
    "rasterize",
    "train",
    "predict",
    "contrast",
    "masks",
    "postprocess",
    "export",
    "evaluate",
    "worklist",
    "conditions",
    "report",
    "crate",
    "propose",
)
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))
LIBRARY = ROOT / "workflow/cellmill"


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    with SnakemakeApi(OutputSettings(verbose=False)) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(),
            snakefile=ROOT / "Snakefile",
            workdir=tmp_path_factory.mktemp("work"),
        )
        parsed = workflow._workflow
        return [rule for rule in parsed.rules if rule.script]


def test_every_rule_with_work_is_scripted(rules):
    assert len(rules) == len(SCRIPTS)


def test_settings_and_code_are_the_only_params(rules):
    for rule in rules:
        assert set(rule.params.keys()) == {"settings", "code"}, rule.name
        assert len(rule.params) == 2, rule.name


def test_every_rule_has_a_log_a_benchmark_an_environment_and_states_what_it_needs(rules):
    for rule in rules:
        assert rule.log, rule.name
        # Snakemake takes a benchmark for an output, and a rule without any runs whenever it is a target.
        assert rule.benchmark or not rule.output, rule.name
        assert (ROOT / "envs" / Path(str(rule.conda_env)).name).is_file(), rule.name
        assert {"mem_mb", "runtime", "gpu"} <= set(rule.resources), rule.name


def test_memory_and_time_grow_with_each_attempt_in_every_rule(rules):
    for rule in rules:
        first, second, third = (rule.expand_resources({}, [], attempt) for attempt in (1, 2, 3))
        for need in ("mem_mb", "runtime"):
            assert first[need] > 0, (rule.name, need)
            assert [second[need], third[need]] == [2 * first[need], 3 * first[need]], (rule.name, need)
        assert first["gpu"] == third["gpu"] == 0, rule.name


@pytest.mark.parametrize(("name", "thousand_mb"), [("check_dataset", 30), ("evaluate", 20), ("report", 10)])
def test_memory_of_what_joins_a_dataset_grows_with_its_images(rules, name, thousand_mb):
    [rule] = [rule for rule in rules if rule.name == name]
    images = yaml.safe_load((ROOT / "config.yaml").read_text())["datasets"]["demo"]["simulate"]["images"]
    none, demo = (
        rule.expand_resources(words, [], 1)["mem_mb"] for words in ({}, Wildcards(fromdict={"dataset": "demo"}))
    )
    assert demo - none == round(thousand_mb * images / 1000) > 0


def test_logs_and_benchmarks_mirror_each_other(rules):
    for rule in (rule for rule in rules if rule.output):
        log = str(rule.log[0]).removeprefix("logs/").removesuffix(".log")
        benchmark = str(rule.benchmark).removeprefix("benchmarks/").removesuffix(".tsv")
        assert log == benchmark, rule.name


def test_every_rule_says_what_it_does(rules):
    for rule in rules:
        assert rule.docstring, rule.name


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_one_word_in_every_room(stage):
    assert (ROOT / f"workflow/rules/{stage}.smk").is_file()
    assert any(script.stem.startswith(stage) for script in SCRIPTS)
    assert list(ROOT.glob(f"tests/unit/*/test_{stage}*.py"))


# What a script may call besides its stage function, to rename the inputs of its rule and to describe the run.
RENAMING = {"start_log", "list", "snakemake.input.get", "describe_run"}
# Syntax that makes a decision, repeats something or defines something.
LOGIC = (
    ast.If, ast.IfExp, ast.Match, ast.BoolOp, ast.BinOp, ast.Compare, ast.For, ast.While, ast.With, ast.Try, ast.TryStar,
    ast.Raise, ast.Assert, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.NamedExpr, ast.comprehension,
)  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_thin(script):
    """A script imports, starts the log, renames inputs and calls the stage function; it decides nothing."""
    tree = ast.parse(script.read_text())
    assert ast.get_docstring(tree)
    _, *statements, last = tree.body
    kinds = [describe_statement(node) for node in statements]
    assert kinds[:3] == ["import", "start_log", "import"], kinds
    assert set(kinds[3:]) <= {"import"}, kinds
    stage = describe_statement(last)
    imported = {alias.name for node in statements if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert stage in imported
    logic = [type(node).__name__ for node in ast.walk(tree) if isinstance(node, LOGIC)]
    assert not logic, f"{script.name} has logic: {', '.join(logic)}"
    called = [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert called.count(stage) == 1
    assert set(called) <= {stage, *RENAMING}


def describe_statement(node):
    """Return "import", or the name of the function that is called, or the text of any other statement."""
    match node:
        case ast.ImportFrom():
            return "import"
        case ast.Expr(value=ast.Call(func=ast.Name(id=name))):
            return name
    return ast.unparse(node)


WORDS = {"dataset": "demo", "run": "sartorius_unet", "shard": "train-0000"}
ONCE_A_RUN = (
    "train", "join_seeds", "postprocess_fit", "postprocess_tables", "export_onnx", "export_bioimageio", "export_coco",
    "export_rois", "export_geojson", "export_ctc", "export_table", "export_anndata", "export_ome_zarr", "contrast_fit",
)  # fmt: skip
OF_RUN = (*ONCE_A_RUN, "predict", "contrast", "postprocess", "postprocess_features", "evaluate_shard")
OF_DATASET = (
    "check_dataset",
    "match",
    "measure_objects",
    "estimate_flat_field",
    "evaluate",
    "worklist",
    "conditions",
    "report",
    "crate",
)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["datasets"]["alike"] = {"simulate": {"like": "demo"}}
    masks = tmp_path_factory.mktemp("masks")
    config["datasets"]["masked"] = {"simulate": {}, "models": [masks_of(masks)]}
    config["datasets"]["listed"] = {"images": f"{masks}/{{sample}}.tif"}
    config["datasets"]["plate"] = plate_in(tmp_path_factory.mktemp("plate"))
    return make_plan(config, presets_dir=ROOT / "resources/models", cache_dir=tmp_path_factory.mktemp("cache"))


def masks_of(folder):
    """Write an empty mask of the first simulated image; return a model that takes its objects from there."""
    tifffile.imwrite(folder / "sim_0000.tif", np.zeros((64, 64), dtype=np.uint16))
    return {"masks": {"path": f"{folder}/{{sample}}.tif", "missing": "empty"}, "name": "drawn"}


def plate_in(folder):
    """Write an image of each of two wells; return the section of a dataset that compares them."""
    for name in ("DMSO_A01", "drug_B01"):
        tifffile.imwrite(folder / f"{name}.tif", np.zeros((64, 64), dtype=np.uint16))
    return {
        "images": f"{folder}/{{treatment}}_{{well}}.tif",
        "models": ["classical"],
        "conditions": {"column": "treatment", "replicate": "well"},
    }


def words_of(stage):
    """Return the wildcards of a stage's rule."""
    if stage in ("index", "propose"):
        return {}
    if stage == "match":
        return {"dataset": "alike"}
    if stage == "worklist":
        return {"dataset": "listed"}
    if stage == "conditions":
        return {"dataset": "plate"}
    if stage == "masks":
        return {"dataset": "masked", "run": "drawn", "shard": "test-0000"}
    names = {"dataset"} | ({"run"} if stage in OF_RUN else set())
    if stage not in OF_DATASET and stage not in ONCE_A_RUN:
        names.add("shard")
    return {name: WORDS[name] for name in names}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_settings_and_paths_are_exactly_the_keywords_of_the_stage_function(script, plan):
    tree = ast.parse(script.read_text())
    call = tree.body[-1].value
    assert isinstance(call, ast.Call)
    name = call.func.id
    [module] = [
        node.module for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}
    ]  # fmt: skip
    parameters = inspect.signature(getattr(import_module(module), name)).parameters
    assert not call.args
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters.values())
    given = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
    spread = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg is None]
    assert set(spread) <= {"snakemake.params.settings"}
    if spread:
        settings = set(job_settings(plan, script.stem, **words_of(script.stem)))
        assert not settings & given, "a setting is given twice"
        given |= settings
    needed = {key for key, parameter in parameters.items() if parameter.default is parameter.empty}
    assert needed <= given <= set(parameters)


def test_a_crate_lists_what_the_rules_write(rules):
    written = {re.sub(r"\{(\w+),[^}]*\}", r"{\1}", str(file)) for rule in rules for file in rule.output}
    written = {path for path in written if path.startswith("results/{dataset}/")}
    of_dataset = {path.removeprefix("results/{dataset}/") for path in written if "{shard}" not in path}
    of_run = {
        **layout.OF_RUN, **layout.OF_FITTED_RUN, **layout.OF_TRAINED_RUN, **layout.OF_CLASSICAL_RUN, **layout.EXPORTED,
    }  # fmt: skip
    listed = {
        *layout.OF_DATASET,
        *layout.OF_SIMULATION_LIKE,
        *layout.OF_EXPERIMENT,
        *layout.OF_RESCALED,
        *layout.OF_FLAT,
        *layout.OF_WORKLIST,
        layout.LABELS_TO_CORRECT,
        *(f"{{run}}/{name}" for name in of_run),
    }
    # weights.pt is inside model.cellmill, and a crate does not list its own description
    assert of_dataset - {"{run}/weights.pt", "ro-crate-metadata.json"} == listed


def test_the_rules_write_where_the_layout_says(rules):
    written = {re.sub(r"\{(\w+),[^}]*\}", r"{\1}", str(file)) for rule in rules for file in rule.output}
    words = {"dataset": "{dataset}", "run": "{run}", "shard": "{shard}"}
    folders = {layout.shard_path(room, **words) for room in layout.ROOMS}
    seals = {seal_path(folder).as_posix() for folder in folders}
    files = {layout.shard_path(kind, **words) for kind in layout.SHARD_FILES}
    of_dataset = {
        *layout.OF_DATASET,
        *layout.OF_SIMULATION_LIKE,
        *layout.OF_EXPERIMENT,
        *layout.OF_RESCALED,
        *layout.OF_FLAT,
        *layout.OF_WORKLIST,
        layout.CRATE,
    }
    of_dataset |= {layout.LABELS_TO_CORRECT}
    of_run = {
        *layout.OF_RUN, *layout.OF_FITTED_RUN, *layout.OF_TRAINED_RUN, *layout.OF_CLASSICAL_RUN,
        *layout.MODEL_FILES.values(), *layout.OBJECT_FILES.values(), layout.WEIGHTS,
    }  # fmt: skip
    named = {layout.dataset_path("{dataset}", name) for name in of_dataset}
    named |= {layout.run_path("{dataset}", "{run}", name) for name in of_run}
    assert written == {layout.INDEX, *folders, *seals, *files, *named}


def test_a_room_lies_beside_its_entries():
    assert layout.room_path("segmentation", dataset="cells", run="unet") == "results/cells/unet/segmentation"
    assert layout.room_path("check", dataset="cells") == "results/cells/check"
    assert {"raw", "images", "labels", "check"} == layout.RESERVED_NAMES
    assert set(layout.rooms_of_run()) == {"probabilities", "segmentation", "features", "evaluation"}


STAGE_OF_RULE = {
    "check_shard": "check", "check_dataset": "check", "join_seeds": "train", "contrast_fit": "contrast",
    "evaluate_shard": "evaluate", "postprocess_fit": "postprocess", "postprocess_features": "postprocess",
    "postprocess_tables": "postprocess", "measure_objects": "preprocess", "estimate_flat_field": "preprocess",
}  # fmt: skip


def test_the_graph_of_the_stages_is_snakemakes(tmp_path):
    config = {
        "datasets": {
            "cells": {
                "simulate": {"images": 12, "size": [64, 64]},
                "preprocess": {"background": {"method": "flat_field"}},
                "models": ["classical", {"preset": "sartorius_unet", "seeds": [1, 2], "average_seeds": True}],
                "export": ["onnx", "bioimageio", "coco", "imagej_roi", "geojson", "table"],
            },
            "listed": {"images": f"{tmp_path}/{{sample}}.tif"},
            "alike": {
                "simulate": {"images": 6, "size": [64, 64], "like": "cells"},
                "models": [{"apply": "cells/sartorius_unet.seed1"}, masks_of(tmp_path)],
                "export": ["coco"],
            },
            "plate": plate_in(tmp_path),
        }
    }
    project = copy_project(tmp_path / "project")
    name = write_config(project, config)
    dot = snakemake(project, "--configfile", name, "--rulegraph").stdout
    rules = dict(re.findall(r'(\d+)\[label = "(\w+)"', dot))

    def stage(number):
        rule = rules[number]
        return "export" if rule.startswith("export_") else STAGE_OF_RULE.get(rule, rule)

    pairs = re.findall(r"(\d+) -> (\d+)", dot)
    # model.cellmill is a target of its own: no report needs it
    assert "postprocess_fit" in {rules[before] for before, after in pairs if rules[after] == "all"}
    edges = {(stage(before), stage(after)) for before, after in pairs}
    # The targets, the page of all datasets, and the match, which reads another dataset
    edges = {(before, after) for before, after in edges if before != after and after not in ("all", "index", "match")}
    assert edges == {(before, after) for after, befores in STAGE_INPUTS.items() for before in befores}


def test_paths_of_results_are_made_in_one_place():
    """Outside the layout only the outputs of rules, which a person reads, and texts name a path below results/."""
    sources = [*LIBRARY.rglob("*.py"), ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
    for path in sources:
        if path.name == "layout.py":
            continue
        made = re.findall(r"f\"(?:results|\{RESULTS\})/[^\"]*\"", path.read_text())
        assert not made, f"{path}: {made}"


def test_config_is_read_in_one_place():
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        if path.name != "common.smk":
            assert not re.search(r"\bconfig\b\s*[\[.]", path.read_text()), path.name


def test_the_library_knows_no_snakemake():
    for path in LIBRARY.rglob("*.py"):
        imports = [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        for node in imports:
            names = [alias.name for alias in node.names]
            module = getattr(node, "module", "") or ""
            assert not any(name.split(".")[0] == "snakemake" for name in (*names, module)), path


def test_only_logging_is_exempt_from_the_code_digests():
    assert set(EXEMPT_MODULES) == {"cellmill.runlog"}
    source = (LIBRARY / "runlog.py").read_text()
    imported = {
        alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for alias in node.names
    }
    assert imported <= {"atexit", "json", "logging", "os", "platform", "sys", "time", "traceback"}


def test_the_snakefile_is_a_table_of_contents():
    text = (ROOT / "Snakefile").read_text()
    included = re.findall(r'include: "workflow/rules/(\w+)\.smk"', text)
    assert included[:7] == ["common", "sources", "inputs", "objects", "stopping", "remake", "measuring"]
    # further rule files of the stages postprocess and export
    assert set(included[7:]) == {*STAGES, "postprocess_features", "export_objects", "export_measurements"}
