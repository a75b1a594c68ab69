"""Files of a fitted run: postprocess.json, and model.cellmill, the whole run in one file.

model.cellmill is a zip archive of
    weights.pt         network, input and weights, see `cellmill.models.weights`; without a network classical.json,
                       see `cellmill.classical.recipes`
    postprocess.json   fitted postprocessing, see `cellmill.stages.postprocess_fit`
    model.json         settings of the run and digests of its images, see `ModelDescription`
"""

import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellmill.shards import atomic_path

MODEL_SUFFIX = ".cellmill"
WEIGHTS, RECIPE, FIT, DESCRIPTION = "weights.pt", "classical.json", "postprocess.json", "model.json"
# Format versions of model.json and of postprocess.json
MODEL_FORMAT = 2
FIT_FORMAT = 2
# Sections of model.json that every file has
SECTIONS = ("network", "input", "preprocess", "predict", "postprocess")
# The oldest time that a zip file can store. A constant time makes equal contents give equal bytes.
ZIP_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class ModelDescription:
    """Contents of model.json: settings that a run was trained and fitted with, as its rules received them.

    `training_images` are the SHA-256 of the pixels of the training and validation images, as in images.csv of the stage
    check, including those of the model that the training started from. Files of earlier versions have none.
    """

    network: Mapping[str, Any]  # arguments of `cellmill.models.registry.build_network`
    input: Mapping[str, Any]  # section `input` of the preset
    preprocess: Mapping[str, Any]  # config section of the dataset
    predict: Mapping[str, Any]  # section `predict` of the preset
    postprocess: Mapping[str, Any]  # config section of the dataset
    training_images: Sequence[str] = ()


class ModelFileError(ValueError):
    """Exported model that cannot be used: the problem and, apart from it, what to do."""

    def __init__(self, problem: str, *, advice: str) -> None:
        self.problem = problem
        super().__init__(f"{problem} {advice}")


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
    if (found := fitted.get("format")) != FIT_FORMAT:
        raise ModelFileError(
            f"{path}: expected a fit of format {FIT_FORMAT}, found {found}. {_name_writer(found, FIT_FORMAT)}",
            advice=_to_update(found, FIT_FORMAT, instead="Run postprocess_fit again, or export the model again"),
        )
    return fitted


def read_description(path: str | Path) -> ModelDescription:
    """Read the settings of an exported model, without its weights.

    Raises
    ------
    ModelFileError
        If the file is missing, is not an exported model, or has another format version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(DESCRIPTION))
    except FileNotFoundError:
        raise ModelFileError(f"{path}: expected an exported model, found no file.", advice="Check the path.") from None
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError, UnicodeDecodeError, OSError, zlib.error) as error:
        raise ModelFileError(
            f"{path}: expected an exported model, found a damaged or different file ({error}).",
            advice="Use the model.cellmill from the folder of a run.",
        ) from error
    found = content.get("format") if isinstance(content, dict) else None
    missing = [name for name in SECTIONS if found == MODEL_FORMAT and name not in content]
    if found != MODEL_FORMAT or missing:
        without = f" without {', '.join(missing)}" if missing else ""
        raise ModelFileError(
            f"{path}: expected an exported model of format {MODEL_FORMAT}, which this cellmill reads, found format "
            f"{found}{without}. {_name_writer(found, MODEL_FORMAT)}",
            advice=_to_update(found, MODEL_FORMAT, instead="Export the model again"),
        )
    images = content.get("training_images", ())
    return ModelDescription(**{name: content[name] for name in SECTIONS}, training_images=tuple(map(str, images)))


def check_contents(path: str | Path) -> None:
    """Check that an exported model is complete and undamaged; its file is read once as a whole.

    Raises
    ------
    ModelFileError
        If a part is missing, a checksum is wrong, or a format version differs.
    """
    read_description(path)
    try:
        with zipfile.ZipFile(path) as archive:
            missing = [name for name in (WEIGHTS, FIT) if name not in archive.namelist()]
            damaged = None if missing else archive.testzip()
        problem = f"no {' and no '.join(missing)} in it" if missing else f"a wrong checksum of {damaged}"
    except (zipfile.BadZipFile, OSError, zlib.error) as error:
        missing, damaged, problem = [], "", str(error)
    if missing or damaged is not None:
        raise ModelFileError(
            f"{path}: expected an undamaged exported model, found {problem}.",
            advice="Copy the file again from where it was made, or export the model again.",
        )
    read_fit(path)


def _name_writer(found: Any, known: int) -> str:
    """Return which version of cellmill wrote a format."""
    if not isinstance(found, int) or found == known:
        return "Another version of cellmill wrote this file."
    return f"{'A later' if found > known else 'An earlier'} version of cellmill wrote this file."


def _to_update(found: Any, known: int, *, instead: str) -> str:
    """Return what to do about another format; only a later one is read after an update."""
    if isinstance(found, int) and found > known:
        return f"Update cellmill, or {instead[0].lower()}{instead[1:]} with this version."
    return f"{instead} with this version."


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
    settings = {"format": MODEL_FORMAT, **vars(description), "training_images": sorted(description.training_images)}
    if not description.training_images:
        del settings["training_images"]
    texts = {FIT: postprocess_text, DESCRIPTION: json.dumps(settings, indent=1, sort_keys=True) + "\n"}
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), text)
        entry = zipfile.ZipInfo(RECIPE if Path(weights_path).suffix == ".json" else WEIGHTS, ZIP_TIME)
        entry.file_size = Path(weights_path).stat().st_size
        with Path(weights_path).open("rb") as weights, archive.open(entry, "w") as stored:
            shutil.copyfileobj(weights, stored)
