"""Stage export: other programs reproduce the pipeline's probabilities, and no code is ever loaded from a file."""

import contextlib
import gc
import hashlib
import inspect
import io
import json
import os
import pickle
import typing
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml

from cellmill.config.dataset import Config
from cellmill.config.networks import RECURRENT, Network, network_settings
from cellmill.config.preset import ModelPreset
from cellmill.declared import modules_that_declare
from cellmill.exports import bioimageio
from cellmill.exports.bioimageio import DOI, smallest_px
from cellmill.exports.model_file import ModelDescription, export_model
from cellmill.exports.onnx_graph import CHANNEL_NAMES
from cellmill.exports.trained import read_model
from cellmill.inference import normalise
from cellmill.inference.normalise import measure_input, read_window
from cellmill.models.outputs import OUTPUT_CHANNELS, to_probabilities
from cellmill.models.registry import build_network
from cellmill.models.weights import write_weights
from cellmill.planning.exports import exported_files, wrong_exports
from cellmill.planning.runs import resolve_runs
from cellmill.preprocessing.geometry import Geometry
from cellmill.provenance import code_digests
from cellmill.stages.export_bioimageio import export_bioimageio
from cellmill.stages.export_onnx import export_onnx
from cellmill.training import augmentation
from project import ROOT
from training_shards import merge

CITATIONS = modules_that_declare("models", "CITATIONS")

# Tolerance for operations that a runtime performs in a different order from torch.
TOLERANCE = 1e-4

NETWORKS = {
    "unet": {"levels": 2, "width": 1 / 8, "output": "foreground"},
    "unet_isbi": {"levels": 2, "width": 1 / 32, "output": "distance"},
    "stemnet": {"levels": 2, "width": 1 / 4, "output": "two_classes"},
    "segnet": {"width": 1 / 64, "output": "two_classes"},
    "fcrn": {"width": 1 / 16, "output": "two_classes", "upsampling": "bilinear", "norm": "batch"},
    "clstm_unet_text": {"width": 1 / 64, "output": "two_classes"},
    "clstm_unet_code": {"width": 1 / 64, "output": "contour"},
}


def preset_of(architecture="unet", **changes):
    """Return the settings of a small preset of an architecture."""
    network = dict(NETWORKS[architecture])
    section = {"title": "tiny", "width": network.pop("width"), "network": {"architecture": architecture, **network}}
    losses = {"contour": "ce", "distance": "distance", "two_classes": "ce"}
    if network["output"] in losses:
        section["train"] = {"loss": {"name": losses[network["output"]]}}
    if architecture in RECURRENT:
        section["train"] = merge(section.get("train", {}), {"batch": 2})
    return ModelPreset.model_validate(merge(section, changes)).model_dump(mode="json")


def write_run(folder, preset, *, threshold=0.4):
    """Write model.cellmill as postprocess_fit leaves it, with weights that respond to any image; return the network."""
    folder.mkdir(parents=True, exist_ok=True)
    network = network_settings(preset)
    torch.manual_seed(3)
    built = build_network(network)
    for name, values in built.state_dict().items():
        if values.ndim > 1:
            torch.nn.init.normal_(values, std=2 / values[0].numel() ** 0.5)
        elif name.endswith("running_mean"):  # statistics that the export must preserve
            values.uniform_(-0.2, 0.2)
        elif name.endswith("running_var"):
            values.uniform_(0.5, 2)
    write_weights(folder / "weights.pt", network=network, input=preset["input"], state_dict=built.state_dict())
    preprocess = {"channel": 0, "background": {"method": "rolling_ball", "radius_px": 40}}
    description = ModelDescription(
        network=network, input=preset["input"], preprocess=preprocess, predict=preset["predict"], postprocess={}
    )
    fit = json.dumps({"format": 2, "threshold": {"value": threshold}})
    export_model(
        folder / "model.cellmill", weights_path=folder / "weights.pt", postprocess_text=fit, description=description
    )
    return built.eval()


def write_graph(folder, preset, name="model.onnx"):
    built = write_run(folder, preset)
    export_onnx(
        output_path=folder / name, model_path=folder / "model.cellmill", title="Tiny (paper 9)", cite=None, threads=1
    )
    return built


def write_package(folder, name="model.bioimageio.zip", cite=None):
    export_bioimageio(
        output_path=folder / name, graph_path=folder / "model.onnx", model_path=folder / "model.cellmill",
        title="Tiny (paper 9)", cite=cite, dataset="cells", run="tiny.seed1", threads=1,
    )  # fmt: skip
    return folder / name


def runtime(graph):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    source = graph if isinstance(graph, bytes) else str(graph)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def axes_of(value):
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """Function that exports one run per architecture on demand."""
    made = {}

    def graph_of(architecture):
        if architecture not in made:
            folder = tmp_path_factory.mktemp(architecture)
            made[architecture] = folder, write_graph(folder, preset_of(architecture))
        return made[architecture]

    return graph_of


# ---- ONNX ------------------------------------------------------------------------------------------------


def test_every_architecture_is_tried_here():
    found = {
        section.model_fields["architecture"].annotation for section in typing.get_args(typing.get_args(Network)[0])
    }
    # `classical` is no network, and is not exported.
    assert {typing.get_args(literal)[0] for literal in found} - {"classical"} == set(NETWORKS) == set(CITATIONS)


@pytest.mark.parametrize("architecture", sorted(set(NETWORKS) - set(RECURRENT)))
@torch.no_grad()
def test_the_graph_gives_what_the_network_gives_at_sizes_it_was_not_traced_with(architecture, graphs):
    folder, network = graphs(architecture)
    session = runtime(folder / "model.onnx")
    rng = np.random.default_rng(1)
    for batch, rows, columns in ((1, 1, 4), (3, 4, 2)):
        images = draw(rng, batch, 1, rows * network.stride_px, columns * network.stride_px)
        output = NETWORKS[architecture]["output"]
        expected = to_probabilities(network(torch.from_numpy(images)), output=output).numpy()
        [found] = session.run(None, {"images": images})
        assert found.shape == expected.shape == (batch, len(CHANNEL_NAMES[output]), *images.shape[2:])
        assert np.abs(found - expected).max() < TOLERANCE
        assert expected.std() > 1e-3, "a constant would show nothing"


@pytest.mark.parametrize(
    "architecture", [RECURRENT[0], *(pytest.param(a, marks=pytest.mark.long) for a in RECURRENT[1:])]
)
@torch.no_grad()
def test_frames_that_are_played_one_by_one_give_what_the_network_gives_of_the_sequence(architecture, graphs):
    folder, network = graphs(architecture)
    session = runtime(folder / "model.onnx")
    frames = draw(np.random.default_rng(2), 1, 3, 1, 2 * network.stride_px, 4 * network.stride_px)
    logits, _ = network(torch.from_numpy(frames), None)
    expected = to_probabilities(logits[0], output=NETWORKS[architecture]["output"]).numpy()
    state = {}
    for value in session.get_inputs()[1:]:
        scale = int(str(value.shape[2]).partition("/")[2] or 1)
        assert value.shape[2:] == [f"rows/{scale}", f"columns/{scale}"] if scale > 1 else ["rows", "columns"]
        state[value.name] = np.zeros(
            (1, value.shape[1], frames.shape[3] // scale, frames.shape[4] // scale), np.float32
        )
    assert sorted(state) == sorted(f"state_{layer}_{part}" for layer in range(1, 5) for part in "hc")
    for number in range(3):
        names = ["probabilities", *(f"next_{name}" for name in state)]
        found = dict(zip(names, session.run(names, {"images": frames[:, number], **state}), strict=True))
        assert np.abs(found["probabilities"][0] - expected[number]).max() < TOLERANCE
        state = {name: found[f"next_{name}"] for name in state}
    fresh = {name: np.zeros_like(values) for name, values in state.items()}
    [forgotten] = session.run(["probabilities"], {"images": frames[:, 2], **fresh})
    assert np.abs(forgotten[0] - expected[2]).max() > 10 * TOLERANCE, "memory has to count, or the test shows nothing"


@torch.no_grad()
def test_without_memory_a_recurrent_network_sees_single_images(tmp_path):
    network = write_run(tmp_path, preset_of("clstm_unet_code", network={"memory": False}))
    images = torch.from_numpy(draw(np.random.default_rng(3), 2, 1, 2 * network.stride_px, network.stride_px))
    logits, _ = network(images[:, None], None)
    [found] = read_model(tmp_path / "model.cellmill").predictor(images)
    assert torch.equal(found, to_probabilities(logits[:, 0], output="contour"))


@torch.no_grad()
def test_where_the_class_is_not_told_the_mean_over_the_classes_is_given(tmp_path):
    changes = {"input": {"class_planes": ["a", "b"]}, "network": {"conditioning": "film", "levels": 1}}
    network = write_run(tmp_path, preset_of("unet", **changes))
    images = draw(np.random.default_rng(4), 2, 1, 8, 12)
    of_classes = []
    for number in range(2):
        planes = np.zeros((2, 2, 8, 12), np.float32)
        planes[:, number] = 1
        of_classes.append(network(torch.from_numpy(np.concatenate([images, planes], axis=1))).sigmoid().numpy())
    [found] = read_model(tmp_path / "model.cellmill").predictor(torch.from_numpy(images))
    assert np.abs(found.numpy() - np.mean(of_classes, axis=0)).max() < 1e-6
    assert np.abs(of_classes[0] - of_classes[1]).max() > 0.01, "classes have to differ, or the test shows nothing"


@torch.no_grad()
def test_where_the_class_is_told_it_is_an_input_of_the_graph(tmp_path):
    changes = {"input": {"class_planes": ["a", "b"], "class_at_prediction": "oracle"}, "network": {"levels": 1}}
    network = write_graph(tmp_path, preset_of("unet", **changes))
    session = runtime(tmp_path / "model.onnx")
    assert {value.name: value.shape for value in session.get_inputs()}["classes"] == ["batch", 2]
    images = draw(np.random.default_rng(5), 2, 1, 8, 8)
    classes = np.array([[0, 1], [1, 0]], np.float32)
    planes = np.broadcast_to(classes[:, :, None, None], (2, 2, 8, 8))
    expected = network(torch.from_numpy(np.concatenate([images, planes], axis=1))).sigmoid().numpy()
    [found] = session.run(None, {"images": images, "classes": classes})
    assert np.abs(found - expected).max() < TOLERANCE


def test_the_graph_says_what_it_expects_and_gives(graphs):
    folder, _ = graphs("unet")
    graph = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 18)]
    assert axes_of(graph.graph.input[0]) == ["batch", 1, "rows", "columns"]
    assert axes_of(graph.graph.output[0]) == ["batch", 1, "rows", "columns"]
    said = {entry.key: entry.value for entry in graph.metadata_props}
    assert said["title"] == "Tiny (paper 9)"
    assert said["normalise"] == "zscore"
    assert (said["stride_px"], float(said["threshold"]), json.loads(said["channels"])) == ("4", 0.4, ["foreground"])
    assert int(said["halo_px"]) == build_network(network_settings(preset_of("unet"))).halo_px


def test_the_names_of_channels_are_as_many_as_there_are_channels():
    assert set(CHANNEL_NAMES) == set(OUTPUT_CHANNELS)
    for output, names in CHANNEL_NAMES.items():
        logits = torch.zeros(1, OUTPUT_CHANNELS[output], 2, 2)
        assert to_probabilities(logits, output=output).shape[1] == len(names)


def test_a_graph_holds_no_path_and_no_line_of_the_source(graphs):
    for architecture in ("unet", "clstm_unet_text"):
        content = (graphs(architecture)[0] / "model.onnx").read_bytes()
        for trace in (str(ROOT), str(Path.home()), os.path.dirname(torch.__file__), "forward", ".py"):  # noqa: PTH120
            assert trace.encode() not in content, trace


def test_the_same_run_gives_the_same_bytes_under_another_name(graphs, tmp_path):
    folder, _ = graphs("unet")
    write_graph(tmp_path, preset_of("unet"), name="other.onnx")
    assert (tmp_path / "other.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes((folder / "model.onnx").read_bytes())
    first, second = write_package(folder), write_package(tmp_path, name="other.zip")
    assert first.read_bytes() == second.read_bytes()


# ---- bioimage.io -----------------------------------------------------------------------------------------


@pytest.fixture
def validate(tmp_path, monkeypatch):
    """The format's own validator, with a separate cache."""
    monkeypatch.setenv("BIOIMAGEIO_CACHE_PATH", str(tmp_path / "cache"))
    from bioimageio.spec import load_description

    def validated(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the validator leaves the archive open
            found = load_description(path)
            summary, version = found.validation_summary, found.format_version
            del found
            gc.collect()
        return summary, version

    return validated


def read_package(path):
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    return yaml.safe_load(files["bioimageio.yaml"]), files


PACKAGED = {
    "plain": {},
    "three frames as they are": {"input": {"frames": 3, "normalise": "none"}},
    "percentiles, at a working scale": {
        "input": {"normalise": "percentile", "polarity": "bright", "min_contrast": 5, "diameter_px": 16},
    },
    "mean over classes": {
        "input": {"class_planes": ["a", "b"]},
        "network": {"output": "distance"},
        "train": {"loss": {"name": "distance"}},
    },
}


@pytest.fixture(scope="module", params=PACKAGED)
def package(request, tmp_path_factory, graphs):
    changes, preset = PACKAGED[request.param], preset_of("unet", **PACKAGED[request.param])
    folder = tmp_path_factory.mktemp("package") if changes else graphs("unet")[0]
    if changes:
        write_graph(folder, preset)
    return write_package(folder, name="cited.zip", cite="Someone 2020, doi:10.1234/some.thing."), preset


def test_the_formats_own_validator_accepts_the_package(package, validate):
    path, _ = package
    summary, version = validate(path)
    assert summary.status == "valid-format", summary.format()
    assert not [error for detail in summary.details for error in detail.errors]
    assert version == read_package(path)[0]["format_version"], "the file is of the newest format"
    # Only the owner can state the authors and the licence; the validator requests both.
    asked = {warning.loc[0] for detail in summary.details for warning in detail.warnings}
    assert {"authors", "license"} <= asked <= {"authors", "license", "inputs", "outputs"}


def test_a_tool_that_follows_the_description_gets_the_test_output(package):
    description, files = read_package(package[0])
    [given], [found] = description["inputs"], description["outputs"]
    image = np.load(io.BytesIO(files[given["test_tensor"]["source"]]))
    sizes = dict(zip((axis.get("id", axis["type"]) for axis in given["axes"]), image.shape, strict=True))
    assert image.dtype == np.float32
    assert sizes["channel"] == len(given["axes"][1]["channel_names"])
    assert all((sizes[axis["id"]] - axis["size"]["min"]) % axis["size"]["step"] == 0 for axis in given["axes"][2:])
    for step in given["preprocessing"]:
        image = follow(step, image, axes=list(sizes))
    [computed] = runtime(files[description["weights"]["onnx"]["source"]]).run(None, {given["id"]: image})
    expected = np.load(io.BytesIO(files[found["test_tensor"]["source"]]))
    assert expected.shape[1] == len(found["axes"][1]["channel_names"])
    # Values of several hundred, as in camera counts, leave a sum with fewer exact digits than normalised values.
    assert np.abs(computed - expected).max() < (TOLERANCE if given["preprocessing"] else 20 * TOLERANCE)
    assert expected[:, 0].std() > 1e-4, "a constant would show nothing"


def test_percentiles_are_those_of_the_pipeline():
    for name in ("PERCENTILES", "LOW", "HIGH"):
        assert getattr(bioimageio, name) == getattr(normalise, name), name
    assert (augmentation.BLACK, augmentation.WHITE) == (normalise.LOW, normalise.HIGH)


def follow(step, image, *, axes):
    """Apply a preprocessing step as the documentation of the format defines it."""
    kwargs = step["kwargs"]
    if step["id"] == "scale_linear":
        return (image * kwargs["gain"] + kwargs["offset"]).astype(np.float32)
    over = tuple(axes.index(axis) for axis in kwargs["axes"])
    if step["id"] == "scale_range":
        low = np.percentile(image, kwargs["min_percentile"], axis=over, keepdims=True)
        high = np.percentile(image, kwargs["max_percentile"], axis=over, keepdims=True)
        return ((image - low) / (high - low + kwargs["eps"])).astype(np.float32)
    assert step["id"] == "zero_mean_unit_variance"
    deviation = image.std(axis=over, keepdims=True)
    return (image - image.mean(axis=over, keepdims=True)) / (deviation + kwargs["eps"])


def test_the_format_normalises_as_the_pipeline_does(package):
    path, preset = package
    description, files = read_package(path)
    image = np.load(io.BytesIO(files["test_input.npy"]))[0, 0]
    rows, columns = image.shape
    geometry = Geometry("none", rows, columns, rows, columns, 0, 0)
    scale = measure_input(
        image, geometry=geometry, normalise=preset["input"]["normalise"], polarity="keep", min_contrast=0.0
    )
    expected = read_window(image, rows=np.arange(rows), columns=np.arange(columns), scale=scale)
    steps = description["inputs"][0]["preprocessing"]
    assert bool(steps) == (preset["input"]["normalise"] != "none")
    found = image
    for step in steps:
        found = follow(step, found, axes=["y", "x"])
    assert np.abs(found - expected).max() < 1e-4


def test_the_guide_says_how_to_make_the_input(package):
    path, preset = package
    guide = read_package(path)[1]["README.md"].decode()
    assert ("brighter than the ground" in guide) == (preset["input"]["polarity"] == "bright")
    assert ("below 5 times that of their noise" in guide) == (preset["input"]["min_contrast"] == 5)
    assert ("median diameter of 16 px" in guide) == (preset["input"]["diameter_px"] == 16)


def test_a_package_is_checked_by_its_digests_and_says_what_it_follows(package):
    description, files = read_package(package[0])
    named = [description["documentation"], description["weights"]["onnx"]]
    named += [tensor["test_tensor"] for tensor in (*description["inputs"], *description["outputs"])]
    assert {entry["source"] for entry in named} | {"bioimageio.yaml"} == set(files)
    for entry in named:
        assert hashlib.sha256(files[entry["source"]]).hexdigest() == entry["sha256"]
    assert [entry["doi"] for entry in description["cite"]] == ["10.1234/some.thing", "10.1007/978-3-319-24574-4_28"]
    assert {"authors", "license"}.isdisjoint(description)
    guide = files["README.md"].decode()
    assert all(
        words in guide for words in ("Someone 2020", "rolling_ball", "Authors and licence are not stated", "0.4000")
    )
    assert description["config"]["cellmill"]["threshold"] == 0.4


def test_the_smallest_image_is_the_first_that_survives_its_halo():
    for stride, halo in ((1, 0), (4, 0), (16, 107), (8, 51), (32, 160), (4, 2)):
        fitting = [size for size in range(stride, 2000, stride) if size - 2 * halo >= 1]
        assert smallest_px(stride_px=stride, halo_px=halo) == fitting[0]


def test_every_citation_has_a_doi_that_is_read_as_one():
    for works in CITATIONS.values():
        assert works
        assert all(DOI.fullmatch(doi) for _, doi in works)


@pytest.mark.parametrize(
    ("architecture", "changes", "needed"),
    [
        ("clstm_unet_text", {}, "the hidden state from earlier frames"),
        ("unet", {"input": {"class_planes": ["a"], "class_at_prediction": "oracle"}}, "the class of each image"),
    ],
)
def test_a_network_that_needs_more_than_images_is_no_package(architecture, changes, needed, tmp_path):
    write_run(tmp_path, preset_of(architecture, **changes))
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=f"found one that needs {needed}.*Remove bioimageio from"):
        write_package(tmp_path)
    assert not (tmp_path / "model.bioimageio.zip").exists()


# ---- safe weights ----------------------------------------------------------------------------------------


class Trap:
    """Pickle that creates a folder when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def with_weights(run, weights):
    """Replace the weights in the archive of a run by other bytes and return its path."""
    with zipfile.ZipFile(run / "model.cellmill") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    path = run / "other.cellmill"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**files, "weights.pt": weights}.items():
            archive.writestr(name, content)
    return path


def pickled(trap):
    return pickle.dumps({"network": trap, "input": {}, "state_dict": {}}, protocol=2)


def saved_by_torch(trap):
    stream = io.BytesIO()
    torch.save({"network": trap, "input": {}, "state_dict": {}}, stream)
    return stream.getvalue()


@pytest.mark.parametrize("make", [pickled, saved_by_torch])
def test_code_in_a_weights_file_is_refused_and_does_not_run(make, tmp_path):
    write_run(tmp_path, preset_of())
    weights = make(Trap(tmp_path / "it_ran"))
    path = with_weights(tmp_path, weights)
    with pytest.raises(ValueError, match="expected a weights file of cellmill, found a file that torch cannot load"):
        export_onnx(output_path=tmp_path / "model.onnx", model_path=path, title="t", cite=None, threads=1)
    assert not (tmp_path / "it_ran").exists()
    assert not (tmp_path / "model.onnx").exists()
    # The trap does work where loading is unprotected.
    with contextlib.suppress(RuntimeError):
        torch.load(io.BytesIO(weights), weights_only=False)
    assert (tmp_path / "it_ran").exists()


def test_a_changed_byte_of_the_weights_is_noticed(tmp_path):
    write_run(tmp_path, preset_of())
    content = (tmp_path / "model.cellmill").read_bytes()
    first = content.index(b"PK\x03\x04", content.index(b"weights.pt"))  # start of the inner archive
    last = content.index(b"PK\x01\x02", content.rindex(b"weights.pt") - 60)
    for place in np.linspace(first + 1000, last - 1000, 7).astype(int):
        changed = bytearray(content)
        changed[place] ^= 4
        (tmp_path / "changed.cellmill").write_bytes(changed)
        with pytest.raises(ValueError, match="torch cannot load"):
            read_model(tmp_path / "changed.cellmill")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half an archive"])
def test_a_foreign_file_is_refused(content, tmp_path):
    (tmp_path / "model.cellmill").write_bytes(content)
    with pytest.raises(ValueError, match=r"Use the weights\.pt of a run or an exported \.cellmill file"):
        read_model(tmp_path / "model.cellmill")


# ---- config ----------------------------------------------------------------------------------------------


def plan_exports(export, models):
    images = {"images": "a/{sample}.tif", "annotations": {"format": "label_image", "path": "b/{sample}.tif"}}
    config = Config.model_validate({"datasets": {"cells": {**images, "models": models, "export": export}}})
    runs, mistakes = resolve_runs(config, presets_dir=ROOT / "resources/models")
    assert not mistakes
    return config, runs


def test_only_what_is_asked_for_is_exported_of_runs_that_are_trained_here():
    models = [{"preset": "sartorius_unet", "seeds": [1, 2]}, {"apply": "cells/sartorius_unet.seed1", "name": "applied"}]
    assert exported_files(*plan_exports([], models)) == []
    assert exported_files(*plan_exports(["bioimageio", "onnx"], models)) == [
        f"results/cells/sartorius_unet.seed{seed}/{name}"
        for seed in (1, 2)
        for name in ("model.bioimageio.zip", "model.onnx")
    ]
    assert wrong_exports(*plan_exports(["bioimageio", "onnx"], models)) == []


def test_objects_are_exported_of_every_run_and_models_of_no_mean():
    models = [
        {"preset": "sartorius_unet", "seeds": [1, 2], "average_seeds": True},
        {"apply": "cells/sartorius_unet.mean", "name": "applied"},
    ]
    found = exported_files(*plan_exports(["coco", "onnx", "geojson", "imagej_roi"], models))
    runs = ("sartorius_unet.seed1", "sartorius_unet.seed2", "sartorius_unet.mean", "applied")
    assert set(found) == {
        *(f"results/cells/{run}/{name}" for run in runs for name in ("objects.coco.json", "geojson", "rois")),
        *(f"results/cells/sartorius_unet.seed{seed}/model.onnx" for seed in (1, 2)),
    }


def test_what_the_format_cannot_say_is_named_before_anything_is_trained():
    recurrent = {"preset": "clstm_unet_text", "seeds": [1, 2]}
    assert wrong_exports(*plan_exports(["onnx"], [recurrent])) == []
    [mistake] = wrong_exports(*plan_exports(["onnx", "bioimageio"], ["sartorius_unet", recurrent]))
    assert mistake.startswith("datasets.cells.export: ")
    assert "found clstm_unet_text, which also needs the hidden state from earlier frames" in mistake
    forgetful = {**recurrent, "network": {"memory": False}}
    assert wrong_exports(*plan_exports(["bioimageio"], [forgetful])) == []


def test_an_export_without_a_trained_model_is_a_mistake():
    config, runs = plan_exports(["onnx"], ["sartorius_unet"])
    applied = {"cells": [replace(run, apply="other/run") for run in runs["cells"]]}
    [mistake] = wrong_exports(config, applied)
    assert mistake.startswith(
        "datasets.cells.export: expected a model that this dataset trains, found only applied models"
    )


def test_no_other_stage_needs_the_packages_of_this_one():
    for script in (ROOT / "workflow/scripts").glob("*.py"):
        reached = set(code_digests(script)) & {
            "cellmill.stages.export_bioimageio",
            "cellmill.stages.export_onnx",
            "cellmill.exports.onnx_graph",
            "cellmill.exports.bioimageio",
        }
        assert bool(reached) == (script.stem in ("export_onnx", "export_bioimageio")), script.name


def test_the_stage_functions_have_no_defaults():
    for function in (export_onnx, export_bioimageio):
        parameters = inspect.signature(function).parameters.values()
        assert all(parameter.default is parameter.empty for parameter in parameters)
