"""Stage `export`: write a trained run in formats that other programs read.

Reads   results/{dataset}/{run}/model.cellmill            network, weights, threshold, input settings
Writes  results/{dataset}/{run}/model.onnx                graph with weights; its metadata describe input and output
        results/{dataset}/{run}/model.bioimageio.zip      the same graph with a description for bioimage.io tools
"""

import json
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cellmill.archives import read_fit
from cellmill.bioimageio import TEST_SEED, draw_test_image, normalise_test_image, pack_model, smallest_px
from cellmill.models import build_network, count_parameters, load_weights, read_weights
from cellmill.onnx_graph import CHANNEL_NAMES, OPSET, Predictor, add_properties, make_graph
from cellmill.shards import atomic_path

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A trained run: its predictor, settings and threshold."""

    predictor: Predictor
    network: dict[str, Any]  # settings for `build_network`
    input: dict[str, Any]  # section `input` of the preset
    description: dict[str, Any]  # contents of model.json, such as preprocess and postprocess
    threshold: float
    parameters: int


def export_onnx(*, output_path: str | Path, model_path: str | Path, title: str, cite: str | None, threads: int) -> None:
    """Write a run as ONNX.

    Parameters
    ----------
    output_path : path
        model.onnx; inputs and outputs as at the head of onnx_graph.py.
    model_path : path
        model.cellmill of the run.
    title : str
    cite : str or None
        From the preset.
    threads : int
        CPU threads of the job.

    Raises
    ------
    ValueError
        If model_path is not an exported model or is corrupted.
    """
    torch.set_num_threads(threads)
    trained = read_model(model_path)
    graph = make_graph(trained.predictor, frames=int(trained.input["frames"]))
    described = add_properties(graph, describe_run(trained, title=title, cite=cite))
    with atomic_path(output_path) as partial:
        partial.write_bytes(described.SerializeToString(deterministic=True))
    logger.info("%s: opset %d, %d parameters", output_path, OPSET, trained.parameters)


def export_bioimageio(
    *,
    output_path: str | Path,
    graph_path: str | Path,
    model_path: str | Path,
    title: str,
    cite: str | None,
    dataset: str,
    run: str,
    threads: int,
) -> None:
    """Write the ONNX graph of a run and its description as a bioimage.io archive.

    Parameters
    ----------
    output_path : path
        model.bioimageio.zip; equal contents give equal bytes.
    graph_path : path
        model.onnx of the run.
    model_path : path
        model.cellmill of the run.
    title : str
    cite : str or None
        From the preset.
    dataset, run : str
        Names in the config.
    threads : int
        CPU threads of the job.

    Raises
    ------
    ValueError
        If the network needs more than images: a hidden state, or the class of each image. Also if model_path is not
        an exported model or is corrupted.

    Notes
    -----
    The test image is synthetic, so the file can be shared without sharing data.
    """
    torch.set_num_threads(threads)
    trained = read_model(model_path)
    if trained.predictor.has_memory or trained.predictor.is_class_told:
        needs = "its memory of earlier frames" if trained.predictor.has_memory else "the class of each image"
        raise ValueError(
            f"{model_path}: expected a network that sees images only, found one that needs {needs}, which the format "
            "of bioimage.io cannot say. Leave bioimageio out of this dataset's export."
        )
    facts = {
        **describe_run(trained, title=title, cite=cite), "dataset": dataset, "run": run,
        "preprocess": trained.description["preprocess"],
    }  # fmt: skip
    # One side is longer by one stride, so that a mix-up of rows and columns shows.
    rows = smallest_px(stride_px=facts["stride_px"], halo_px=facts["halo_px"])
    image_bcyx = draw_test_image((1, facts["frames"], rows, rows + facts["stride_px"]), seed=TEST_SEED)
    normalised_bcyx = normalise_test_image(image_bcyx, normalise=facts["normalise"])
    with torch.inference_mode():
        [probabilities_bcyx] = trained.predictor(torch.from_numpy(normalised_bcyx))
    pack_model(
        output_path,
        graph=Path(graph_path).read_bytes(),
        opset=OPSET,
        facts=facts,
        test_input_bcyx=image_bcyx,
        test_output_bcyx=probabilities_bcyx.numpy(),
    )
    logger.info("%s: test image of %d x %d px", output_path, *image_bcyx.shape[2:])


def read_model(path: str | Path) -> Trained:
    """Read a run from model.cellmill, with its network in evaluation mode.

    Raises
    ------
    ValueError
        If the file is not an exported model or is corrupted.
    """
    weights = read_weights(path)
    network, input = weights["network"], weights["input"]
    built = build_network(network)
    load_weights(built, weights["state_dict"], source=path)
    classes = len(input["class_planes"])
    predictor = Predictor(
        built.eval(),
        output=network["output"],
        classes=classes,
        is_class_told=bool(classes) and input["class_at_prediction"] == "oracle",
        has_memory=bool(built.is_recurrent) and bool(network["memory"]),
    )
    with zipfile.ZipFile(path) as archive:
        description = json.loads(archive.read("model.json"))
    threshold = float(read_fit(path)["threshold"]["value"])
    return Trained(predictor.eval(), network, input, description, threshold, count_parameters(built))


def describe_run(trained: Trained, *, title: str, cite: str | None) -> dict[str, Any]:
    """Return the facts that a program needs to use the graph of a run.

    Returns
    -------
    dict
        title, cite; architecture; parameters (their number); output and channels (meaning of the probabilities);
        normalise and frames (how to make the input from images); classes and class_at_prediction; warmup (recurrent
        networks: number of initial frames fed in reverse order before the first frame); stride_px, halo_px; threshold
        of the foreground.
    """
    return {
        "title": title,
        "cite": cite or "",
        "architecture": trained.network["architecture"],
        "parameters": trained.parameters,
        "output": trained.network["output"],
        "channels": list(CHANNEL_NAMES[trained.network["output"]]),
        "normalise": trained.input["normalise"],
        "frames": int(trained.input["frames"]),
        "classes": list(trained.input["class_planes"]),
        "class_at_prediction": trained.input["class_at_prediction"] if trained.input["class_planes"] else "none",
        "warmup": int(trained.input["warmup"]) if trained.predictor.has_memory else 0,
        "stride_px": trained.predictor.stride_px,
        "halo_px": trained.predictor.halo_px,
        "threshold": trained.threshold,
    }
