"""Exported models without weights, which are all that a plan reads."""

import json

from cellmill.config.networks import network_settings
from cellmill.config.postprocess import Postprocess
from cellmill.config.preprocess import Preprocess
from cellmill.config.preset import ModelPreset
from cellmill.exports.model_file import FIT_FORMAT, ModelDescription, export_model
from cellmill.planning.adoption import complete_section
from project import ROOT

PRESETS = ROOT / "resources/models"


def put_model(path, *, preset=None, training_images=(), **preprocess):
    """Write a model file whose images were preprocessed with these settings, and return its path.

    `preset` has the sections of a preset, by default those of a preset without any.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    preset = ModelPreset(**{"title": "model", **(preset or {})}).model_dump(mode="json")
    weights = path.with_suffix(".pt")
    weights.write_bytes(b"weights")
    description = ModelDescription(
        network=network_settings(preset),
        input=preset["input"],
        preprocess=complete_section(Preprocess(**preprocess)),
        predict=preset["predict"],
        postprocess=Postprocess().model_dump(mode="json"),
        training_images=training_images,
    )
    fit = json.dumps({"format": FIT_FORMAT})
    export_model(path, weights_path=weights, postprocess_text=fit, description=description)
    weights.unlink()
    return path
