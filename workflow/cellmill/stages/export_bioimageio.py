"""Stage export: write a trained run for the tools of bioimage.io.

Reads   results/{dataset}/{run}/model.cellmill            network, weights, threshold, input settings
        results/{dataset}/{run}/model.onnx                the graph
Writes  results/{dataset}/{run}/model.bioimageio.zip      the graph with a description and a test image
"""

import logging
from pathlib import Path

import torch

from cellmill.exports.bioimageio import TEST_SEED, draw_test_image, normalise_test_image, pack_model, smallest_px
from cellmill.exports.onnx_graph import OPSET
from cellmill.exports.trained import describe_run, read_model
from cellmill.models.registry import citations_of

logger = logging.getLogger(__name__)


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
        needs = "the hidden state from earlier frames" if trained.predictor.has_memory else "the class of each image"
        raise ValueError(
            f"{model_path}: expected a network with only images as input, found one that needs {needs}. The "
            "bioimage.io format does not support that. Remove bioimageio from this dataset's export."
        )
    facts = {
        **describe_run(trained, title=title, cite=cite), "dataset": dataset, "run": run,
        "preprocess": trained.description.preprocess,
        "citations": citations_of(trained.network["architecture"]),
    }  # fmt: skip
    # One side is longer by one stride, so that a mix-up of rows and columns shows.
    rows = smallest_px(stride_px=facts["stride_px"], halo_px=facts["halo_px"])
    image_bcyx = draw_test_image((1, trained.planes, rows, rows + facts["stride_px"]), seed=TEST_SEED)
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
