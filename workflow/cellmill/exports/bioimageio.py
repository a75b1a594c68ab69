"""Writer of the bioimage.io model format, which describes the input and output of a network.

The archive holds bioimageio.yaml, the ONNX graph, a test image with its probabilities, and a guide (README.md).
Format: https://bioimage-io.github.io/spec-bioimage-io, version FORMAT_VERSION.

Authors and licence are left out, because only the owner of the images and annotations can state them. The format's
validator asks for both. See workflow/decisions/0008-exports-for-other-programs.md.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cellmill.exports.model_file import ZIP_TIME
from cellmill.shards import atomic_path

# Format of bioimageio.spec 0.5.14. bioimageio.core 0.11, which runs models, accepts it too (tested).
FORMAT_VERSION = "0.5.14"
# Required field of the description. A constant makes equal contents give equal bytes.
TIMESTAMP = "1980-01-01T00:00:00+00:00"
# Added to the standard deviation, as the format requires; the pipeline divides a constant image by 1 instead.
EPSILON = 1e-6
# Normalisation `percentile`, equal to the constants of `cellmill.inference.normalise` (tested), which is not imported
# because its edits would then rerun exports
PERCENTILES = (1.0, 99.8)
LOW, HIGH = -1.0, 3.0
TEST_SEED = 20240229
MAX_NAME = 64

DOI = re.compile(r"10\.\d{4,9}/[^\s,;)]*[^\s,;).]")

GUIDE = """# {title}

A network trained with cellmill: run `{run}` on the dataset `{dataset}`, architecture `{architecture}`,
{parameters:,} parameters. {cite}

## Input

`images`: float32, batch x {planes} x rows x columns; rows and columns are multiples of {stride_px} px, at least
{min_px} px. {input_text}
The training images were preprocessed with the settings below. This file does not contain the preprocessing.

```json
{preprocess}
```

## Output

`probabilities`: float32, the channels {channels}. Pixels within {halo_px} px of the edge of a tile are predicted
from incomplete surroundings. Tools that split images into tiles crop this halo. Pixels of the first channel above
{threshold:.4f} are foreground; that threshold was chosen on validation images. To convert the probabilities to objects,
use cellmill (`models: [{{apply: model.cellmill}}]`) or another tool. cellmill includes boundary tuning and splitting of
touching cells.

## Validation

The test image in this file is synthetic. It shows that a tool computes the same numbers, not that the network is
accurate. To measure the accuracy, predict annotated images that the network was not trained on. Compare their Dice or
IoU with `metrics.csv` of the run, which contains the scores of the test images with their confidence intervals.

## Before you publish this file

Authors and licence are not stated, because a program wrote this file and can claim neither. Add `authors` and
`license` to bioimageio.yaml after checking what the owners of the images and annotations allow.
"""


def smallest_px(*, stride_px: int, halo_px: int) -> int:
    """Return the smallest side of an input image (px): a multiple of the stride, longer than twice the halo.

    The format requires that some of the image remains when the halo is cropped on both sides.
    """
    return (2 * halo_px // stride_px + 1) * stride_px


def draw_test_image(shape: tuple[int, int, int, int], *, seed: int) -> np.ndarray:
    """Draw bright discs on a noisy background: float32, (batch, planes, rows, columns), camera counts.

    The discs are the same in all planes; the noise is drawn for each plane.
    """
    rng = np.random.default_rng(seed)
    _, _, rows, columns = shape
    image_yx = np.full((rows, columns), 200.0)
    row, column = np.mgrid[:rows, :columns]
    for _ in range(max(1, rows * columns // 2000)):
        distance_yx = np.hypot(row - rng.uniform(0, rows), column - rng.uniform(0, columns))
        image_yx[distance_yx < rng.uniform(4, 10)] = rng.uniform(400, 900)
    return (image_yx + rng.normal(0, 20, shape)).astype(np.float32)


def normalise_test_image(image_bcyx: np.ndarray, *, normalise: str) -> np.ndarray:
    """Apply the steps of `list_normalisation` to rows and columns of each frame."""
    for step in list_normalisation(normalise):
        kwargs = step["kwargs"]
        if step["id"] == "zero_mean_unit_variance":
            mean = image_bcyx.mean(axis=(2, 3), keepdims=True, dtype=np.float64)
            deviation = image_bcyx.std(axis=(2, 3), keepdims=True, dtype=np.float64)
            image_bcyx = ((image_bcyx - mean) / (deviation + kwargs["eps"])).astype(np.float32)
        elif step["id"] == "scale_range":
            percents = (kwargs["min_percentile"], kwargs["max_percentile"])
            low, high = np.percentile(image_bcyx.astype(np.float64), percents, axis=(2, 3), keepdims=True)
            image_bcyx = ((image_bcyx - low) / (high - low + kwargs["eps"])).astype(np.float32)
        else:
            image_bcyx = (image_bcyx * kwargs["gain"] + kwargs["offset"]).astype(np.float32)
    return image_bcyx


def list_normalisation(normalise: str) -> list[dict[str, Any]]:
    """List the preprocessing steps of the format for `input.normalise` of a preset."""
    axes = ["y", "x"]
    if normalise == "none":
        return []
    if normalise == "zscore":
        return [{"id": "zero_mean_unit_variance", "kwargs": {"axes": axes, "eps": EPSILON}}]
    assert normalise == "percentile", normalise
    low, high = PERCENTILES
    ranged = {"axes": axes, "min_percentile": low, "max_percentile": high, "eps": EPSILON}
    return [
        {"id": "scale_range", "kwargs": ranged},
        {"id": "scale_linear", "kwargs": {"gain": HIGH - LOW, "offset": LOW}},
    ]


def pack_model(
    path: str | Path,
    *,
    graph: bytes,
    opset: int,
    facts: Mapping[str, Any],
    test_input_bcyx: np.ndarray,
    test_output_bcyx: np.ndarray,
) -> None:
    """Write the archive.

    Parameters
    ----------
    path : path
        Zip archive; equal contents give equal bytes.
    graph : bytes
        The ONNX file.
    opset : int
        Opset version of the graph.
    facts : mapping
        Returned by export.describe_run, with dataset, run and preprocess added.
    test_input_bcyx, test_output_bcyx : ndarray of float32
        An image before normalisation, and its probabilities.
    """
    files = {
        "model.onnx": graph,
        "test_input.npy": _npy(test_input_bcyx),
        "test_output.npy": _npy(test_output_bcyx),
        "README.md": write_guide(facts).encode(),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    description = describe_model(facts, digests=digests, opset=opset)
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True, width=100)
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, content in {"bioimageio.yaml": text.encode(), **files}.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), content)


def describe_model(facts: Mapping[str, Any], *, digests: Mapping[str, str], opset: int) -> dict[str, Any]:
    """Build the description of a model: the contents of bioimageio.yaml.

    Parameters
    ----------
    facts : mapping
        As for `pack_model`.
    digests : mapping
        SHA-256 of each file of the archive.
    opset : int
        Opset version of the graph.
    """

    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": digests[name]}

    return {
        "type": "model",
        "format_version": FORMAT_VERSION,
        "name": _plain_name(f"{facts['dataset']} - {facts['title']}"),
        "description": f"{facts['title']}: a network trained with cellmill on {facts['dataset']} "
        f"(run {facts['run']}). It predicts {', '.join(facts['channels'])} from microscope images.",
        "packaged_by": [{"name": "cellmill"}],
        "cite": _list_citations(facts),
        "tags": [
            "cellmill",
            "2d",
            "cells",
            "microscopy",
            "segmentation",
            "semantic-segmentation",
            facts["architecture"],
        ],
        "documentation": file("README.md"),
        "timestamp": TIMESTAMP,
        "inputs": [_describe_input(facts, test_tensor=file("test_input.npy"))],
        "outputs": [_describe_output(facts, test_tensor=file("test_output.npy"))],
        "weights": {"onnx": {**file("model.onnx"), "opset_version": opset}},
        "config": {"cellmill": dict(facts)},
    }


def _list_citations(facts: Mapping[str, Any]) -> list[dict[str, str]]:
    cited = {doi: text for text, doi in facts["citations"]}
    # The format requires a DOI: a preset's `cite` is listed only if it contains one. The guide shows it in any case.
    if found := DOI.search(facts["cite"]):
        cited = {found.group(): facts["cite"], **cited}
    return [{"text": text, "doi": doi} for doi, text in cited.items()]


def _describe_input(facts: Mapping[str, Any], *, test_tensor: dict[str, str]) -> dict[str, Any]:
    stride_px, frames, channels = int(facts["stride_px"]), int(facts["frames"]), list(facts["image_channels"])
    size = {"min": smallest_px(stride_px=stride_px, halo_px=int(facts["halo_px"])), "step": stride_px}
    steps = [f"frame{step:+d}" if step else "frame" for step in range(-(frames // 2), frames // 2 + 1)]
    return {
        "id": "images",
        "description": _say_planes(facts),
        "axes": [
            {"type": "batch"},
            {"type": "channel", "channel_names": steps if frames > 1 else channels},
            {"type": "space", "id": "y", "size": size, "concatenable": True},
            {"type": "space", "id": "x", "size": dict(size), "concatenable": True},
        ],
        "data": {"type": "float32"},
        "test_tensor": test_tensor,
        "preprocessing": list_normalisation(facts["normalise"]),
    }


def _say_planes(facts: Mapping[str, Any]) -> str:
    channels = list(facts["image_channels"])
    if int(facts["frames"]) > 1:
        return "Frames in temporal order; the middle frame is predicted."
    return f"The channels {', '.join(channels)} of an image, in this order." if len(channels) > 1 else "One image."


def _describe_output(facts: Mapping[str, Any], *, test_tensor: dict[str, str]) -> dict[str, Any]:
    halo = {"halo": int(facts["halo_px"])} if facts["halo_px"] else {}
    space = [
        {"type": "space", "id": axis, "size": {"tensor_id": "images", "axis_id": axis}, **halo} for axis in ("y", "x")
    ]
    return {
        "id": "probabilities",
        "description": f"Channels: {', '.join(facts['channels'])}. Pixels of the first channel above "
        f"{facts['threshold']:.4f} are foreground.",
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": list(facts["channels"])}, *space],
        "data": {"type": "float32"},
        "test_tensor": test_tensor,
    }


def write_guide(facts: Mapping[str, Any]) -> str:
    """Build the text of README.md, the guide to the model inside the archive."""
    lines = ["Values are not normalised."]
    if facts["normalise"] == "zscore":
        lines = [
            "Tools normalise each frame to mean 0 and standard deviation 1 over its pixels, as specified in "
            "bioimageio.yaml."
        ]
    elif facts["normalise"] == "percentile":
        lines = [
            f"Tools map the percentiles {PERCENTILES[0]:g} and {PERCENTILES[1]:g} of each frame to {LOW:g} and "
            f"{HIGH:g}, as specified in bioimageio.yaml."
        ]
    if facts["polarity"] in ("bright", "invert"):
        lines.append("Objects must be brighter than the ground: invert images with dark objects before.")
    if facts["normalise"] != "none" and facts["min_contrast"] > 1:
        lines.append(
            f"Images whose standard deviation is below {facts['min_contrast']:g} times that of their noise may contain "
            "no object. cellmill does not amplify them further; other tools do, and may find objects in the noise."
        )
    if len(facts["image_channels"]) > 1:
        lines.append(_say_planes(facts))
    if facts["diameter_px"]:
        lines.append(
            f"The network was trained on objects with a median diameter of {facts['diameter_px']:g} px: resize images "
            "so that their objects have this size before."
        )
    if facts["classes"]:
        lines.append(
            f"The class of the image is not an input: predictions are averaged over {', '.join(facts['classes'])}."
        )
    return GUIDE.format(
        **{key: facts[key] for key in ("title", "run", "dataset", "architecture", "parameters", "threshold")},
        planes=int(facts["frames"]) * len(facts["image_channels"]),
        **{key: facts[key] for key in ("stride_px", "halo_px")},
        min_px=smallest_px(stride_px=int(facts["stride_px"]), halo_px=int(facts["halo_px"])),
        cite=f"Based on {facts['cite']}." if facts["cite"] else "",
        input_text=" ".join(lines),
        channels=", ".join(facts["channels"]),
        preprocess=json.dumps(facts["preprocess"], indent=1, sort_keys=True),
    )


def _plain_name(text: str) -> str:
    """Replace the characters that the format forbids in a name, and shorten it to MAX_NAME."""
    return re.sub(r"[^A-Za-z0-9_+\- ()]+", " ", text)[:MAX_NAME].strip()


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
