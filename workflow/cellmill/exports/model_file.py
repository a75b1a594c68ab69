"""Files of a fitted run: postprocess.json, and model.cellmill, the whole run in one file.

model.cellmill is a zip archive of
    weights.pt         network, input and weights, see `cellmill.models.weights`; without a network classical.json,
                       see `cellmill.classical.recipes`
    postprocess.json   fitted postprocessing, see `cellmill.stages.postprocess_fit`
    model.json         settings of the run, see `ModelDescription`
"""

import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from cellmill.shards import atomic_path

MODEL_SUFFIX = ".cellmill"
WEIGHTS, RECIPE, FIT, DESCRIPTION = "weights.pt", "classical.json", "postprocess.json", "model.json"
# Format versions of model.json and of postprocess.json
MODEL_FORMAT = 2
FIT_FORMAT = 2
# The oldest time that a zip file can store. A constant time makes equal contents give equal bytes.
ZIP_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class ModelDescription:
    """Settings that a run was trained and fitted with, as its rules received them: contents of model.json."""

    network: Mapping[str, Any]  # arguments of `cellmill.models.registry.build_network`
    input: Mapping[str, Any]  # section `input` of the preset
    preprocess: Mapping[str, Any]  # config section of the dataset
    predict: Mapping[str, Any]  # section `predict` of the preset
    postprocess: Mapping[str, Any]  # config section of the dataset


def read_fit(path: str | Path) -> dict[str, Any]:
    """Read postprocess.json, from its own file or from an exported model.

    Raises
    ------
    ValueError
        If its format version is not FIT_FORMAT.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            text = archive.read(FIT).decode()
    else:
        text = Path(path).read_text(encoding="utf-8")
    fitted: dict[str, Any] = json.loads(text)
    if fitted.get("format") != FIT_FORMAT:
        raise ValueError(
            f"{path}: expected a fit of format {FIT_FORMAT}, found {fitted.get('format')}. "
            "Another version of cellmill wrote this file: run postprocess_fit again, or export the model again."
        )
    return fitted


def read_description(path: str | Path) -> ModelDescription:
    """Read the settings of an exported model, without its weights.

    Raises
    ------
    ValueError
        If the file is missing, is not an exported model, or has another format version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(DESCRIPTION))
    except FileNotFoundError:
        raise ValueError(f"{path}: expected an exported model, found no file. Check the path.") from None
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError, OSError) as error:
        raise ValueError(
            f"{path}: expected an exported model, found a different file ({error}). "
            "Use the model.cellmill from the folder of a run."
        ) from error
    found = content.get("format") if isinstance(content, dict) else None
    sections = [field.name for field in fields(ModelDescription)]
    missing = [name for name in sections if found == MODEL_FORMAT and name not in content]
    if found != MODEL_FORMAT or missing:
        without = f" without {', '.join(missing)}" if missing else ""
        raise ValueError(
            f"{path}: expected an exported model of format {MODEL_FORMAT}, found format {found}{without}. "
            "Another version of cellmill wrote this file: export the model again with this version."
        )
    return ModelDescription(**{name: content[name] for name in sections})


def export_model(
    path: str | Path, *, weights_path: str | Path, postprocess_text: str, description: ModelDescription
) -> None:
    """Write a run into one file that can be applied elsewhere.

    Parameters
    ----------
    path : path
        Zip archive with the weights, postprocess.json and model.json; equal contents give equal bytes.
    weights_path : path
        weights.pt or classical.json of the run.
    postprocess_text : str
        Contents of postprocess.json.
    description : ModelDescription
        Contents of model.json.
    """
    settings = {"format": MODEL_FORMAT, **vars(description)}
    texts = {FIT: postprocess_text, DESCRIPTION: json.dumps(settings, indent=1, sort_keys=True) + "\n"}
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), text)
        entry = zipfile.ZipInfo(RECIPE if Path(weights_path).suffix == ".json" else WEIGHTS, ZIP_TIME)
        entry.file_size = Path(weights_path).stat().st_size
        with Path(weights_path).open("rb") as weights, archive.open(entry, "w") as stored:
            shutil.copyfileobj(weights, stored)
