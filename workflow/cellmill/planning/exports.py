"""Files requested by the key `export` of a dataset, and a check for exports that cannot be written."""

from collections.abc import Mapping, Sequence

from cellmill.config.dataset import Config
from cellmill.config.networks import RECURRENT
from cellmill.planning.layout import MODEL_FILES, OBJECT_FILES, run_path
from cellmill.planning.runs import Run


def exported_files(config: Config, runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """List the exports besides model.cellmill: networks of trained runs (not of seed averages), objects of all runs."""
    return [
        run_path(dataset, run.name, (MODEL_FILES | OBJECT_FILES)[kind])
        for dataset, of_dataset in runs.items()
        for run in of_dataset
        if run.subset is None
        for kind in dict.fromkeys(config.datasets[dataset].export)
        if kind in OBJECT_FILES or run.is_trained
    ]


def wrong_exports(config: Config, runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """List the exports that cannot be written, before any training starts."""
    mistakes = []
    for dataset, section in config.datasets.items():
        where = f"datasets.{dataset}.export"
        if not set(MODEL_FILES) & set(section.export):
            continue
        trained = {run.model: run for run in runs[dataset] if run.is_trained and run.preset}
        if not any(run.is_learned for run in runs[dataset]):
            found = "models without a network" if any(run.is_classical for run in runs[dataset]) else "applied models"
            found = found if any(run.masks is None for run in runs[dataset]) else "masks"
            mistakes.append(
                f"{where}: expected a model that this dataset trains, found only {found}. Move export to the "
                "dataset that trains the model."
            )
        for model, run in trained.items() if "bioimageio" in section.export else ():
            if needed := _needed_besides_images(run):
                mistakes.append(
                    f"{where}: expected networks whose only input is images for bioimageio, found {model}, which also "
                    f"needs {needed}. The format does not support this: set export: [onnx], or remove {model}."
                )
    return mistakes


def _needed_besides_images(run: Run) -> str:
    network, seen = run.preset["network"], run.preset["input"]
    if network["architecture"] in RECURRENT and network["memory"]:
        return "the hidden state from earlier frames"
    if seen["class_planes"] and seen["class_at_prediction"] == "oracle":
        return "the class of each image"
    return ""
