"""Exported models without weights, which are all that a plan reads."""

from cellmill.config.postprocess import Postprocess
from cellmill.config.preprocess import Preprocess
from cellmill.config.preset import ModelPreset
from cellmill.exports.model_file import ModelDescription, export_model
from project import ROOT

PRESETS = ROOT / "resources/models"


def put_model(path, **preprocess):
    """Write a model file whose images were preprocessed with these settings, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    preset = ModelPreset(title="model").model_dump(mode="json")
    weights = path.with_suffix(".pt")
    weights.write_bytes(b"weights")
    description = ModelDescription(
        network=preset["network"],
        input=preset["input"],
        preprocess=Preprocess(**preprocess).model_dump(mode="json"),
        predict=preset["predict"],
        postprocess=Postprocess().model_dump(mode="json"),
    )
    export_model(path, weights_path=weights, postprocess_text="{}\n", description=description)
    weights.unlink()
    return path
