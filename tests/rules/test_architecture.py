"""Laws of the library: which package may import which, no circles, and how far each rule reaches."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellmill.provenance import code_digests
from project import ROOT

LIBRARY = ROOT / "workflow/cellmill"
SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))
# Imports inside a function: packages that take long to load or may be missing, and are needed by few jobs.
LATE = {
    "cellmill.images.ome_zarr": {"zarr"},
    "cellmill.images.tiff": {"zarr"},
    "cellmill.microscopes.czi": {"pylibCZIrw"},
    "cellmill.microscopes.dv": {"mrc"},
    "cellmill.microscopes.hdf5": {"h5py"},
    "cellmill.microscopes.lif": {"liffile"},
    "cellmill.microscopes.mrc_map": {"mrcfile"},
    "cellmill.microscopes.nd2": {"nd2"},
    "cellmill.microscopes.oif": {"oiffile"},
    "cellmill.microscopes.vsi": {"slideio"},
    "cellmill.objects.boundary": {"sklearn.svm", "sklearn.naive_bayes"},
    "cellmill.training.watching": {"tensorboardX"},
}
# Modules that the stage module of each rule reaches, itself included and empty package markers aside. A border that
# grows makes edits rerun more jobs: look for the import that pulled them in before a number is raised.
REACHED = {
    "check_dataset": 8, "check_shard": 26, "conditions": 8, "contrast": 11, "contrast_fit": 22, "crate": 2,
    "estimate_flat_field": 21, "evaluate": 23, "evaluate_shard": 22, "export_anndata": 4, "export_bioimageio": 9, "export_coco": 15,
    "export_ctc": 11, "export_geojson": 10, "export_ome_zarr": 21, "export_onnx": 8, "export_rois": 12,
    "export_table": 4, "index": 7, "join_seeds": 3, "masks": 33, "match": 41, "measure_objects": 5, "postprocess": 33,
    "postprocess_features": 22, "postprocess_fit": 24, "postprocess_tables": 2, "predict": 25, "preprocess": 22,
    "propose": 42, "rasterize": 23, "report": 59, "simulate": 27, "train": 46, "worklist": 12,
}  # fmt: skip


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts).removesuffix(".__init__")


TREES = {name_of(path): ast.parse(path.read_text()) for path in sorted(LIBRARY.rglob("*.py"))}


def imports_of(module: str) -> Iterator[tuple[str, bool]]:
    """Yield the modules that a module imports, with whether the import is inside a function."""
    tree = TREES[module]
    late = {id(node) for outer in ast.walk(tree) if isinstance(outer, ast.FunctionDef) for node in ast.walk(outer)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            names = [f"{source}.{alias.name}" if f"{source}.{alias.name}" in TREES else source for alias in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) in late


def own_imports(module: str) -> set[str]:
    return {name for name, _ in imports_of(module) if name in TREES}


def package_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 2 else ""


def reach(start: str) -> set[str]:
    """Return the modules that a module imports, directly or through others."""
    found: set[str] = set()
    todo = [start]
    while todo:
        module = todo.pop()
        if module not in found:
            found.add(module)
            todo.extend(own_imports(module))
    return found - {start}


def floors() -> dict[str, int]:
    """Return the floor of each module: 0 imports nothing of ours, else one above the highest that it imports."""
    heights: dict[str, int] = {}

    def height(module: str, path: tuple[str, ...]) -> int:
        assert module not in path, f"circle of imports: {' -> '.join((*path[path.index(module) :], module))}"
        if module not in heights:
            below = [height(other, (*path, module)) for other in own_imports(module)]
            heights[module] = 1 + max(below, default=-1)
        return heights[module]

    for module in TREES:
        height(module, ())
    return heights


def test_no_module_imports_itself_through_others():
    assert floors()


def test_no_package_imports_another_in_a_circle():
    arrows = {(package_of(module), package_of(other)) for module in TREES for other in own_imports(module)}
    packages = {package_of(module) for module in TREES}
    below = {package: {other for source, other in arrows if source == package != other} for package in packages}
    below.pop("", None)
    placed: set[str] = {""}
    while len(placed) <= len(below):
        ready = {package for package, others in below.items() if others <= placed} - placed
        assert ready, f"packages in a circle: {sorted(set(below) - placed)}"
        placed |= ready


@pytest.mark.parametrize("module", TREES)
def test_imports_stand_at_the_head_of_a_module(module):
    late = {name for name, is_late in imports_of(module) if is_late}
    assert late <= LATE.get(module, set())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_rule_a_script_and_a_stage_module_share_a_name(script):
    assert f"cellmill.stages.{script.stem}" in TREES
    used = {name for name in code_digests(script) if name.startswith("cellmill.stages.") and ":" not in name}
    assert used == {f"cellmill.stages.{script.stem}"}


def test_there_is_no_stage_module_without_a_rule():
    stages = {module.removeprefix("cellmill.stages.") for module in TREES if package_of(module) == "stages"}
    assert stages == {script.stem for script in SCRIPTS}


def test_only_scripts_import_a_stage():
    assert [module for module in TREES if any(package_of(other) == "stages" for other in own_imports(module))] == []


def test_stages_and_what_they_use_know_neither_config_nor_planning():
    used = {name for script in SCRIPTS for name in code_digests(script)}
    assert [name for name in used if name.startswith(("cellmill.config", "cellmill.planning"))] == []


def test_the_config_model_uses_of_the_library_only_declarations_and_what_bounds_a_simulation():
    others = {
        other for module in TREES if package_of(module) == "config" for other in own_imports(module)
        if package_of(other) != "config"
    }  # fmt: skip
    assert others == {
        "cellmill.annotations.formats",
        "cellmill.declared",
        "cellmill.simulation.density",
        "cellmill.simulation.sequence_names",
    }


@pytest.mark.parametrize("stage", REACHED)
def test_a_rule_reaches_no_more_modules_than_its_work_needs(stage):
    reached = {module for module in reach(f"cellmill.stages.{stage}") if TREES[module].body}
    assert len(reached - {"cellmill.runlog"}) + 1 <= REACHED[stage]


def test_no_module_is_named_for_what_is_left_over():
    assert not {module.rpartition(".")[2] for module in TREES} & {"utils", "util", "helpers", "common", "misc"}


def test_every_rule_has_a_limit():
    assert set(REACHED) == {script.stem for script in SCRIPTS}
