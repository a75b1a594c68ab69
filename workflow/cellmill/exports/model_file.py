"""Reader of postprocess.json, the fitted post-processing of a run, and writer of model.cellmill, a run in one file."""

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellmill.shards import atomic_path

FORMAT = 2
MODEL_FORMAT = 2  # of model.json
# The oldest time that a zip file can store. A constant time makes equal contents give equal bytes.
ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def read_fit(path: str | Path) -> dict[str, Any]:
    """Read postprocess.json, from its own file or from an exported model.

    Raises
    ------
    ValueError
        If its format version is not FORMAT.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            text = archive.read("postprocess.json").decode()
    else:
        text = Path(path).read_text(encoding="utf-8")
    fitted: dict[str, Any] = json.loads(text)
    if fitted.get("format") != FORMAT:
        raise ValueError(
            f"{path}: expected a fit of format {FORMAT}, found {fitted.get('format')}. "
            "It was written by another version of cellmill: run postprocess_fit again, or export the model again."
        )
    return fitted


def export_model(
    path: str | Path, *, weights_path: str | Path, postprocess_text: str, description: Mapping[str, Any]
) -> None:
    """Pack a run into one file that can be applied elsewhere.

    Parameters
    ----------
    path : path
        Zip archive with weights.pt, postprocess.json and model.json; equal contents give equal bytes.
    weights_path : path
        weights.pt of the run.
    postprocess_text : str
        Contents of postprocess.json.
    description : mapping
        Contents of model.json.
    """
    texts = {
        "postprocess.json": postprocess_text,
        "model.json": json.dumps(description, indent=1, sort_keys=True) + "\n",
    }
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), text)
        entry = zipfile.ZipInfo("weights.pt", ZIP_TIME)
        entry.file_size = Path(weights_path).stat().st_size
        with Path(weights_path).open("rb") as weights, archive.open(entry, "w") as stored:
            shutil.copyfileobj(weights, stored)
