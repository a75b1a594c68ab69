"""Trained run read from its model file for an export."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellmill.exports.model_file import ModelDescription, read_description, read_fit
from cellmill.exports.onnx_graph import CHANNEL_NAMES, Predictor
from cellmill.models.registry import NetworkSettings, build_network, count_parameters
from cellmill.models.weights import load_weights, read_weights


@dataclass(frozen=True)
class Trained:
    """A trained run: its predictor, settings and threshold."""

    predictor: Predictor
    network: NetworkSettings
    input: Mapping[str, Any]  # section `input` of the preset
    description: ModelDescription
    threshold: float
    parameters: int

    @property
    def image_channels(self) -> list[str]:
        """The channels of an image by name: as in the config, or "image" for a single one."""
        channels = self.description.preprocess.get("channels")
        return [str(each["channel"]) for each in channels] if channels else ["image"]

    @property
    def planes(self) -> int:
        """Number of input planes: frames of a sequence, or channels of an image; without class planes."""
        return int(self.input["frames"]) * len(self.image_channels)


def read_model(path: str | Path) -> Trained:
    """Read a run from model.cellmill, with its network in evaluation mode.

    Raises
    ------
    ValueError
        If the file is not an exported model, is corrupted, or has another format version.
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
    threshold = float(read_fit(path)["threshold"]["value"])
    return Trained(predictor.eval(), network, input, read_description(path), threshold, count_parameters(built))


def describe_run(trained: Trained, *, title: str, cite: str | None) -> dict[str, Any]:
    """Return the facts that a program needs to use the graph of a run.

    Returns
    -------
    dict
        title, cite; architecture; parameters (their number); output and channels (meaning of the probabilities);
        normalise, polarity, min_contrast, diameter_px (0: images are not resized), frames and image_channels (how to
        make the input from images);
        classes and class_at_prediction; warmup (recurrent
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
        # A file of an earlier version has no such settings.
        "polarity": trained.input.get("polarity", "keep"),
        "min_contrast": trained.input.get("min_contrast", 0.0),
        "diameter_px": trained.input.get("diameter_px") or 0,
        "frames": int(trained.input["frames"]),
        "image_channels": trained.image_channels,
        "classes": list(trained.input["class_planes"]),
        "class_at_prediction": trained.input["class_at_prediction"] if trained.input["class_planes"] else "none",
        "warmup": int(trained.input["warmup"]) if trained.predictor.has_memory else 0,
        "stride_px": trained.predictor.stride_px,
        "halo_px": trained.predictor.halo_px,
        "threshold": trained.threshold,
    }
