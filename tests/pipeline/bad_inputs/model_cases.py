"""Cases of bad input: trained models of other configs."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from model_files import put_model
from pipeline.bad_inputs.cases import case, images, pixels, put, put_tiff


@case(
    "Trained models",
    "plan",
    "datasets.{name}.models[0].apply: results/earlier/unet/model.cellmill: expected an exported model, found no file. "
    "Check the path. Run the config that trains unet on the dataset earlier first, in this folder; or copy that "
    "dataset's section here and set earlier/unet.",
)
def a_model_of_results_that_was_never_trained(folder: Path) -> dict[str, Any]:
    return images(folder, models=[{"apply": "results/earlier/unet/model.cellmill"}])


@case(
    "Trained models",
    "plan",
    "datasets.{name}.preprocess.channel: expected the channel with the objects, because {folder}/model.cellmill was "
    "trained on channel 2 and {folder}/images/bad.tif has 2 channels, found no key. Set preprocess.channel to a "
    "number from 0 to 1.",
    is_judged_last=True,
)
def a_model_of_a_channel_that_is_not_there(folder: Path) -> dict[str, Any]:
    put_model(folder / "model.cellmill", channel=2)
    section = images(folder, suffix="tif", models=[{"apply": f"{folder}/model.cellmill"}])
    for sample in ("bad", "good", "other"):
        planes_cyx = np.stack([pixels(), pixels()])
        put_tiff(folder / f"images/{sample}.tif", planes_cyx, imagej=True, metadata={"axes": "CYX"})
    return section


@case(
    "Trained models",
    "plan",
    "datasets.{name}.preprocess.background.method: expected rolling_ball, as in the training of "
    "{folder}/model.cellmill, found none. Remove the key to adopt the model's value, or put models that need "
    "different preprocessing into separate datasets.",
    is_judged_last=True,
)
def a_model_with_another_background(folder: Path) -> dict[str, Any]:
    put_model(folder / "model.cellmill", background={"method": "rolling_ball", "radius_px": 20})
    models = [{"apply": f"{folder}/model.cellmill"}]
    return images(folder, models=models, preprocess={"background": {"method": "none"}})


NOT_ONE = "found a damaged or different file (File is not a zip file). Use the model.cellmill from the folder of a run."
AGAIN = "Copy the file again from where it was made, or export the model again."


def applied(folder: Path, data: bytes) -> dict[str, Any]:
    """Write three images and these bytes as the model that is applied to them."""
    put(folder / "model.cellmill", data)
    return images(folder, models=[{"apply": f"{folder}/model.cellmill"}])


def changed(folder: Path, **parts: Any) -> bytes:
    """Return the bytes of a model file, some of whose parts are replaced by this JSON or left out (None)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(put_model(folder / "sound.cellmill")) as archive, zipfile.ZipFile(stream, "w") as copy:
        for name in archive.namelist():
            part = parts.get(name.partition(".")[0], archive.read(name))
            if part is not None:
                copy.writestr(name, part if isinstance(part, bytes) else json.dumps(part))
    return stream.getvalue()


@case(
    "Trained models",
    "plan",
    "datasets.{name}.models[0].apply: expected the name of a shipped model, found 'nuclej'. <...>. For a run of this "
    "config set dataset/run<...>. For a file set its path, ending in .cellmill.",
)
def a_name_of_no_shipped_model(folder: Path) -> dict[str, Any]:
    return images(folder, models=[{"apply": "nuclej"}])


@case(
    "Trained models",
    "plan",
    "datasets.{name}.models[0].init_from: expected the name of a shipped model, found 'unett'. <...>. For a run of this "
    "config set dataset/run<...>. For a file set its path, ending in .cellmill.",
)
def a_start_without_its_dataset(folder: Path) -> dict[str, Any]:
    return images(folder, models=[{"preset": "default", "name": "tuned", "init_from": "unett"}])


@case(
    "Trained models",
    "plan",
    "datasets.{name}.models[0].apply: {folder}/model.cellmill: expected an exported model, " + NOT_ONE,
)
def a_truncated_model(folder: Path) -> dict[str, Any]:
    data = put_model(folder / "sound.cellmill").read_bytes()
    return applied(folder, data[: len(data) // 2])


@case(
    "Trained models",
    "plan",
    "datasets.{name}.models[0].apply: {folder}/model.cellmill: expected an exported model, " + NOT_ONE,
)
def a_web_page_called_cellmill(folder: Path) -> dict[str, Any]:
    return applied(folder, b"<!DOCTYPE html><title>Not found</title>")


@case(
    "Trained models",
    "plan",
    "datasets.{name}.models[0].apply: {folder}/model.cellmill: expected an undamaged exported model, found a wrong "
    "checksum of weights.pt. " + AGAIN,
)
def a_model_with_a_changed_byte(folder: Path) -> dict[str, Any]:
    data = put_model(folder / "sound.cellmill").read_bytes()
    return applied(folder, data.replace(b"weights", b"wEights", 1))


@case(
    "Trained models",
    "plan",
    "datasets.{name}.models[0].apply: {folder}/model.cellmill: expected an undamaged exported model, found no weights.pt "
    "in it. " + AGAIN,
)
def a_model_without_weights(folder: Path) -> dict[str, Any]:
    return applied(folder, changed(folder, weights=None))


@case(
    "Trained models",
    "plan",
    "datasets.{name}.models[0].apply: {folder}/model.cellmill: expected an exported model of format 2, which this "
    "cellmill reads, found format 3. A later version of cellmill wrote this file. Update cellmill, or export the model "
    "again with this version.",
)
def a_model_of_a_later_version(folder: Path) -> dict[str, Any]:
    return applied(folder, changed(folder, model={"format": 3}))


@case(
    "Trained models",
    "plan",
    "datasets.{name}.models[0]: expected only network for a model without a network, found train as well. Remove train, or "
    "use another preset.",
)
def a_training_of_a_model_without_a_network(folder: Path) -> dict[str, Any]:
    return images(folder, models=[{"preset": "classical", "train": {"epochs": 3}}])
