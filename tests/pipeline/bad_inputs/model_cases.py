"""Cases of bad input: trained models of other configs."""

from pathlib import Path
from typing import Any

import numpy as np

from model_files import put_model
from pipeline.bad_inputs.cases import case, images, pixels, put_tiff


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


@case(
    "Trained models",
    "plan",
    "datasets.{name}.models[0]: expected only network for a model without a network, found train as well. Remove train, or "
    "use another preset.",
)
def a_training_of_a_model_without_a_network(folder: Path) -> dict[str, Any]:
    return images(folder, models=[{"preset": "classical", "train": {"epochs": 3}}])
