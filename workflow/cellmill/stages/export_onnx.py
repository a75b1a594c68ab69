"""Stage export: write a trained run as ONNX.

Reads   results/{dataset}/{run}/model.cellmill            network, weights, threshold, input settings
Writes  results/{dataset}/{run}/model.onnx                graph with weights; its metadata describe input and output
"""

import logging
from pathlib import Path

import torch

from cellmill.exports.onnx_graph import OPSET, add_properties, make_graph
from cellmill.exports.trained import describe_run, read_model
from cellmill.shards import atomic_path

logger = logging.getLogger(__name__)


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
    graph = make_graph(trained.predictor, planes=trained.planes)
    described = add_properties(graph, describe_run(trained, title=title, cite=cite))
    with atomic_path(output_path) as partial:
        partial.write_bytes(described.SerializeToString(deterministic=True))
    logger.info("%s: opset %d, %d parameters", output_path, OPSET, trained.parameters)
