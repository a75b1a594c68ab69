"""Which files the key `export` of a dataset asks for, and what it cannot ask for."""

from collections.abc import Mapping, Sequence

from cellmill.config.dataset import Config
from cellmill.config.networks import RECURRENT
from cellmill.config.runs import Run
from cellmill.shards import RESULTS

EXPORTED_FILES = {"onnx": "model.onnx", "bioimageio": "model.bioimageio.zip"}


def exported_files(config: Config, runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """List the files that are exported besides model.cellmill: of every run that is trained here."""
    return [
        f"{RESULTS}/{dataset}/{run.name}/{EXPORTED_FILES[kind]}"
        for dataset, of_dataset in runs.items()
        for run in of_dataset
        if run.apply is None
        for kind in dict.fromkeys(config.datasets[dataset].export)
    ]


def wrong_exports(config: Config, runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """Name the exports that cannot be, before anything is trained."""
    mistakes = []
    for dataset, section in config.datasets.items():
        if not section.export:
            continue
        where = f"datasets.{dataset}.export"
        trained = {run.model: run for run in runs[dataset] if run.apply is None and run.preset}
        if all(run.apply is not None for run in runs[dataset]):
            mistakes.append(
                f"{where}: expected a model that is trained here, found only applied ones. Export where it is trained."
            )
        for model, run in trained.items() if "bioimageio" in section.export else ():
            if needed := _needed_besides_images(run):
                mistakes.append(
                    f"{where}: expected networks that see images only for bioimageio, found {model}, which needs "
                    f"{needed}. The format cannot say that: write export: [onnx], or leave {model} out."
                )
    return mistakes


def _needed_besides_images(run: Run) -> str:
    network, seen = run.preset["network"], run.preset["input"]
    if network["architecture"] in RECURRENT and network["memory"]:
        return "its memory of earlier frames"
    if seen["class_planes"] and seen["class_at_prediction"] == "oracle":
        return "the class of each image"
    return ""
