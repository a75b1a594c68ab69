"""Runs: one for each model, seed and fold of a dataset, with the preset resolved."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cellmill.config.annotations import Masks
from cellmill.config.classical import CLASSICAL
from cellmill.config.dataset import Config, Dataset, ModelEntry
from cellmill.config.errors import describe_errors, key_path, nearest
from cellmill.config.learning_curve import LearningCurve
from cellmill.config.merging import merge
from cellmill.config.networks import RECURRENT, network_settings, sees_sequences
from cellmill.config.preset import ModelPreset
from cellmill.exports.model_file import MODEL_SUFFIX, read_description
from cellmill.planning.layout import TAKEN_NAMES
from cellmill.planning.model_paths import explain_missing, find_model_file, name_run
from cellmill.planning.shipped_models import (
    explain_unknown,
    is_shipped_name,
    list_shipped,
    path_of_copy,
    shipped_name,
)

MEAN_SUFFIX = ".mean"
# `init_weights` of a run whose training decides whether it starts from the model of its preset
ALIKE = "alike"


@dataclass(frozen=True)
class Run:
    """One run of a model, with its folder results/{dataset}/{name}.

    `parts` maps train, validation and test to parts of the dataset. `preset_name` is a file of resources/models,
    empty for an applied model. `apply` and `init_from` are "dataset/run" or the path of an exported file; for a
    shipped model, that of its copy.
    `init_weights` is "all" if every weight of `init_from` must fit, "matching" if not, and "alike" if the training
    decides whether it starts from them (key `start` of the preset). `members` are the runs of the
    same dataset whose predictions are averaged, empty for a run that is trained or applied. `masks` describes the files
    that a run without a model of ours takes its objects from; its `role` is "annotator" if a person drew them. `subset`
    is the number of training images and the number of the draw, of a run of a learning curve.
    """

    dataset: str
    name: str
    model: str
    seed: int
    parts: dict[str, tuple[str, ...]]
    preset_name: str = ""
    preset: dict[str, Any] = field(default_factory=dict)
    apply: str | None = None
    init_from: str | None = None
    init_weights: str = "all"
    members: tuple[str, ...] = ()
    masks: Masks | None = None
    role: str = "model"
    subset: tuple[int, int] | None = None

    @property
    def is_classical(self) -> bool:
        """Whether the run has no network and is no applied model."""
        return self.apply is None and self.preset.get("network", {}).get("architecture") == CLASSICAL

    @property
    def is_trained(self) -> bool:
        """Whether the run trains a network of its own."""
        return self.is_learned and not self.members

    @property
    def is_learned(self) -> bool:
        """Whether the run trains a network of its own, or averages runs that do."""
        return self.is_fitted and not self.is_classical

    @property
    def is_fitted(self) -> bool:
        """Whether numbers of the run are chosen on images of its dataset."""
        return self.apply is None and self.masks is None

    @property
    def has_all_images(self) -> bool:
        """Whether the run has objects of every image of its dataset, and not only of tested or of annotated ones."""
        return self.masks is None or self.masks.missing in ("error", "empty")


class PresetError(ValueError):
    """Missing or invalid preset, with its location in the config."""


# Section of a preset file with changes for annotations that do not separate touching objects
FOR_BINARY = "for_binary"


def load_preset(name: str, *, presets_dir: Path, where: str, is_binary: bool = False) -> dict[str, Any]:
    """Read a preset file, merged with the preset it is based on, if any.

    With `is_binary`, the changes in its section `for_binary` are merged as well; otherwise the section is left out.

    Raises
    ------
    PresetError
        If there is no such file, or it is not a mapping.
    """
    path = presets_dir / f"{name}.yaml"
    known = [file.stem for file in presets_dir.glob("*.yaml")]
    if name not in known:
        raise PresetError(f"{where}: unknown preset {name!r}. {nearest(name, known)}.")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise PresetError(
            f"{path}: expected the fields of a preset, found {type(content).__name__}. Write them as keys."
        )
    if "based_on" in content:
        base = load_preset(content.pop("based_on"), presets_dir=presets_dir, where=str(path), is_binary=is_binary)
        content = merge_preset(base, content)
    changes = content.pop(FOR_BINARY, {})
    return merge_preset(content, changes) if is_binary else content


def merge_preset(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge changes into a preset.

    A new architecture replaces the whole network section, since its keys differ. A length of the training (epochs,
    steps or minutes) replaces that of the preset.
    """
    network = changes.get("network")
    architecture = network.get("architecture") if isinstance(network, Mapping) else None
    if architecture not in (None, base.get("network", {}).get("architecture", "unet")):
        base = {**base, "network": {}}
    train = changes.get("train")
    if isinstance(train, Mapping) and not {"epochs", "steps", "minutes"}.isdisjoint(train):
        base = {**base, "train": {**base.get("train", {}), "steps": None, "minutes": None}}
    return merge(base, changes)


def remarks_on_binary(config: Config, *, presets_dir: Path) -> list[str]:
    """List the models that are changed because annotations are binary masks, as remarks for the reader."""
    return [
        f"datasets.{name}.models: {entry.run_name} predicts the foreground alone, because binary masks do not separate "
        "objects that touch. To separate them, annotate single objects"
        for name, dataset in config.datasets.items()
        if _is_binary(dataset)
        for entry in dataset.models
        if entry.preset is not None and _has_changes(entry.preset, presets_dir=presets_dir)
    ]


def _is_binary(dataset: Dataset) -> bool:
    return dataset.annotations is not None and dataset.annotations.format == "binary"


def _has_changes(preset: str, *, presets_dir: Path) -> bool:
    """Return whether a preset is another one for binary masks."""
    plain, binary = (
        load_preset(preset, presets_dir=presets_dir, where=preset, is_binary=is_binary) for is_binary in (False, True)
    )
    return plain != binary


def resolve_preset(
    entry: ModelEntry, *, presets_dir: Path, where: tuple[str | int, ...], is_binary: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """Merge a preset with the fields that the config overrides, and validate the result.

    Returns
    -------
    tuple
        The preset's settings (empty on a mistake) and the mistakes.
    """
    try:
        content = load_preset(
            entry.preset or "", presets_dir=presets_dir, where=f"{key_path(where)}.preset", is_binary=is_binary
        )
    except PresetError as error:
        return {}, [str(error)]
    try:
        merged = ModelPreset.model_validate(merge_preset(content, entry.overrides))
    except ValidationError as error:
        return {}, describe_errors(error, model=ModelPreset, prefix=where)
    return merged.model_dump(mode="json"), []


def resolve_runs(config: Config, *, presets_dir: Path) -> tuple[dict[str, list[Run]], list[str]]:
    """List the runs of every dataset, and the mistakes in them."""
    runs: dict[str, list[Run]] = {}
    curves: dict[str, list[Run]] = {}
    mistakes: list[str] = []
    for dataset_name, dataset in config.datasets.items():
        runs[dataset_name] = []
        for index, entry in enumerate(dataset.models):
            where = ("datasets", dataset_name, "models", index)
            if entry.run_name in TAKEN_NAMES:
                mistakes.append(
                    f"{key_path(where)}.name: expected a name that is not reserved, found {entry.run_name!r}, which is "
                    "the name of a folder of the dataset. Set another name."
                )
            preset: dict[str, Any] = {}
            if entry.preset is not None:
                preset, wrong = resolve_preset(
                    entry, presets_dir=presets_dir, where=where, is_binary=_is_binary(dataset)
                )
                mistakes += wrong or _unused_by_classical(entry, preset, where=where)
                preset = _with_channels(preset, dataset)
                mistakes += _wrong_channels(entry, preset, where=where)
                mistakes += _wrong_start(preset, where=where, presets_dir=presets_dir)
            start = _find_start(entry, preset, presets_dir=presets_dir)
            of_entry = _runs_of(dataset_name, dataset, entry, preset=preset, seed=config.seed, start=start)
            runs[dataset_name] += of_entry
            if entry.run_name == dataset.curve_model and of_entry:
                curves.setdefault(dataset_name, []).extend(_curve_of(of_entry[0], dataset.learning_curve))
        runs[dataset_name] += curves.get(dataset_name, [])
    known = {f"{dataset}/{run.name}" for dataset, of_dataset in runs.items() for run in of_dataset}
    runs = {dataset: [_with_sources(run, known) for run in of_dataset] for dataset, of_dataset in runs.items()}
    mistakes += _wrong_references(config, runs, presets_dir=presets_dir)
    mistakes += _unlike_networks(known_runs(runs), presets_dir=presets_dir)
    return runs, mistakes


def known_runs(runs: Mapping[str, Sequence[Run]]) -> dict[str, Run]:
    """Return the runs of all datasets as dataset/run -> run."""
    return {f"{dataset}/{run.name}": run for dataset, of_dataset in runs.items() for run in of_dataset}


def _unused_by_classical(entry: ModelEntry, preset: Mapping[str, Any], *, where: tuple[str | int, ...]) -> list[str]:
    """List the keys of a model without a network that only a training would use."""
    if preset["network"]["architecture"] != CLASSICAL:
        return []
    return [
        f"{key_path(where)}.{key}: expected no {key} for {entry.run_name}, which has no network to train, found "
        f"{getattr(entry, key)}. Remove {key}, or use another preset."
        for key in ("seeds", "init_from")
        if getattr(entry, key) is not None
    ]


def _with_channels(preset: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Add the number of channels of the images to the input of a network, if there are several."""
    channels = dataset.preprocess.channels
    if not preset or channels is None or preset["network"]["architecture"] == CLASSICAL:
        return preset
    return {**preset, "input": {**preset["input"], "channels": len(channels)}}


def _wrong_channels(entry: ModelEntry, preset: Mapping[str, Any], *, where: tuple[str | int, ...]) -> list[str]:
    """Refuse several channels for networks of sequences, whose planes are frames."""
    channels = preset["input"].get("channels", 1) if preset else 1
    if channels == 1 or not sees_sequences(preset["network"], preset["input"]):
        return []
    return [
        f"{key_path(where)}: expected a network of single images for {channels} channels, found {entry.run_name}, "
        "which sees frames of a sequence. Use another preset, or set preprocess.channel in place of channels."
    ]


def _wrong_start(preset: Mapping[str, Any], *, where: tuple[str | int, ...], presets_dir: Path) -> list[str]:
    name = preset.get("start")
    if name is None:
        return []
    shipped = list_shipped(presets_dir)
    if name not in shipped:
        return [
            f"{key_path(where)}.start: expected the name of a shipped model, found {name!r}. {nearest(name, shipped)}. "
            "For a run of this config or a file, set init_from in place of start."
        ]
    try:
        architecture = read_description(shipped[name]).network["architecture"]
    except ValueError:
        return []  # reported with the other damaged models
    if architecture in RECURRENT:
        return [
            f"{key_path(where)}.start: expected a network of single images, found {architecture} in {name}. Set "
            f"init_from: {name} in place of start."
        ]
    return []


def _find_start(entry: ModelEntry, preset: Mapping[str, Any], *, presets_dir: Path) -> str | None:
    """Return the shipped model that a training may start from: the preset's `start`, if it has the same network."""
    name = preset.get("start")
    path = list_shipped(presets_dir).get(name or "")
    if name is None or path is None or entry.init_from is not None:
        return None
    try:
        theirs = read_description(path).network
    except ValueError:
        return str(name)  # reported with the other damaged models
    return name if dict(theirs) == network_settings(preset) else None


def _with_sources(run: Run, known: set[str]) -> Run:
    """Return a run whose `apply` and `init_from` are dataset/run wherever this config has the run, else a file."""
    named = replace(run, apply=_find_source(run.apply, known), init_from=_find_source(run.init_from, known))
    return replace(named, init_from=_same_repeat(named, known))


def _find_source(reference: str | None, known: set[str]) -> str | None:
    if reference is not None and is_shipped_name(reference):
        return path_of_copy(reference)
    return name_run(reference, known)


def _same_repeat(run: Run, known: set[str]) -> str | None:
    """Find the run that provides a run's initial weights: of the same seed and fold, or else of the same fold."""
    if run.init_from is None or run.init_from in known:
        return run.init_from
    # A run of a learning curve starts where the run with all images does.
    name, model = (run.name, run.model) if run.subset is None else (_whole(run.name), _whole(run.model))
    repeat = name.removeprefix(model)
    fold = repeat[repeat.index(".fold") :] if ".fold" in repeat else ""
    return next((name for name in (run.init_from + repeat, run.init_from + fold) if name in known), run.init_from)


def _whole(name: str) -> str:
    """Return the name of a run, or of a model, without the part that makes it a point of a learning curve."""
    return re.sub(r"\.images\d+(\.draw\d+)?$", "", name)


def _runs_of(
    dataset_name: str, dataset: Dataset, entry: ModelEntry, *, preset: dict[str, Any], seed: int, start: str | None
) -> list[Run]:
    folds = dataset.split.folds
    runs = []
    seeds: list[int | None] = [*entry.seeds] if entry.seeds else [None]
    numbers: list[int | None] = [*range(folds)] if folds else [None]
    for entry_seed in seeds:
        for fold in numbers:
            suffix = "" if entry_seed is None else f".seed{entry_seed}"
            suffix += "" if fold is None else f".fold{fold}"
            runs.append(
                Run(
                    dataset=dataset_name,
                    name=entry.run_name + suffix,
                    model=entry.run_name,
                    seed=seed if entry_seed is None else entry_seed,
                    preset_name=entry.preset or "",
                    parts=_parts_of_fold(fold, folds),
                    preset=preset,
                    apply=entry.apply,
                    masks=entry.masks,
                    role=entry.role,
                    init_from=entry.init_from or start,
                    init_weights=entry.init_weights if start is None else ALIKE,
                )
            )
    if entry.average_seeds:
        runs += [_mean_of(runs, fold=fold) for fold in numbers]
    return runs


def _curve_of(run: Run, curve: LearningCurve | None) -> list[Run]:
    """Build the runs of a learning curve: like `run`, but trained on a part of the training images.

    The draw is the seed of its training, so that intervals cover both the images and the training.
    """
    return [
        replace(
            run, name=f"{run.name}.images{images}.draw{draw}", model=f"{run.model}.images{images}", seed=draw,
            subset=(images, draw),
        )
        for images in (curve.images if curve else [])
        for draw in range(1, curve.draws + 1 if curve else 1)
    ]  # fmt: skip


def _mean_of(runs: Sequence[Run], *, fold: int | None) -> Run:
    """Build the run that averages the predictions of all seeds in one fold."""
    suffix = "" if fold is None else f".fold{fold}"
    members = [run for run in runs if run.name.endswith(suffix)]
    name = f"{members[0].model}{MEAN_SUFFIX}"
    return replace(
        members[0], name=name + suffix, model=name, init_from=None, members=tuple(run.name for run in members)
    )


def _parts_of_fold(fold: int | None, folds: int | None) -> dict[str, tuple[str, ...]]:
    if fold is None or folds is None:
        return {part: (part,) for part in ("train", "validation", "test")}
    validation = (fold + 1) % folds
    train = tuple(f"fold{other}" for other in range(folds) if other not in (fold, validation))
    return {"train": train, "validation": (f"fold{validation}",), "test": (f"fold{fold}",)}


def _wrong_references(config: Config, runs: dict[str, list[Run]], *, presets_dir: Path) -> list[str]:
    mistakes: list[str] = []
    known, shipped = known_runs(runs), list_shipped(presets_dir)
    for dataset_name, dataset in config.datasets.items():
        for index, entry in enumerate(dataset.models):
            for key in ("apply", "init_from"):
                reference = name_run(getattr(entry, key), known)
                where = f"{key_path(('datasets', dataset_name, 'models', index))}.{key}"
                if reference is None:
                    continue
                if is_shipped_name(reference):
                    if reference not in shipped:
                        trained = [
                            name for name, run in known.items() if run.is_trained or (key == "apply" and not run.apply)
                        ]
                        said = explain_unknown(reference, presets_dir=presets_dir, runs=trained)
                        mistakes.append(f"{where}: {said}")
                elif reference.endswith(MODEL_SUFFIX):
                    mistakes += _wrong_export(reference, where=where)
                elif ".fold" in reference and reference.startswith(f"{dataset_name}/"):
                    mistakes.append(
                        f"{where}: expected a run without .fold, found {reference}, which was trained on images that "
                        "other folds are tested on. Remove .fold, so that each fold starts from its own run."
                    )
                elif reference in known and known[reference].subset is not None:
                    mistakes.append(
                        f"{where}: expected a run of models, found {reference}, a point of a learning curve. Use "
                        f"{_whole(reference)}."
                    )
                elif reference in known and known[reference].masks is not None:
                    mistakes.append(
                        f"{where}: expected the run of a model, found {reference}, which has only masks. Use the run "
                        "of a model."
                    )
                elif key == "init_from" and any(
                    run.model == entry.run_name and run.init_from in known and known[run.init_from].is_classical
                    for run in runs[dataset_name]
                ):
                    mistakes.append(
                        f"{where}: expected a trained run, found {reference}, which has no network and so no weights. "
                        "Use the run of another model."
                    )
                elif key == "init_from" and reference in known and known[reference].members:
                    mistakes.append(
                        f"{where}: expected a run with a network of its own, found {reference}, the average of "
                        f"{len(known[reference].members)} runs. Use one of them, such as "
                        f"{known[reference].dataset}/{known[reference].members[0]}."
                    )
                elif key == "init_from" and all(
                    run.init_from in known for run in runs[dataset_name] if run.model == entry.run_name
                ):
                    continue
                elif reference not in known:
                    path = find_model_file(reference)
                    hint = nearest(reference, known) if path is None else f"To use the existing file, set {path}"
                    mistakes.append(
                        f"{where}: expected dataset/run of this config or a {MODEL_SUFFIX} file, found "
                        f"{reference!r}. {hint}."
                    )
                elif known[reference].apply is not None:
                    mistakes.append(
                        f"{where}: expected a trained run, found {reference}, which is itself an applied model. Use "
                        "the run that was trained."
                    )
    mistakes += _cycles(known)
    return mistakes


def _unlike_networks(known: dict[str, Run], *, presets_dir: Path) -> list[str]:
    """List the runs that start from weights of a different network, before any training starts."""
    mistakes, shipped_models = [], list_shipped(presets_dir)
    for name, run in known.items():
        if run.init_from is None or not run.preset or run.init_weights != "all":
            continue
        own = network_settings(run.preset)
        if run.init_from in known:
            if known[run.init_from].is_classical or known[run.init_from].masks is not None:
                continue  # already reported
            source = known[run.init_from].preset
            theirs = network_settings(source) if source else own
        else:
            try:
                path = shipped_models.get(shipped_name(run.init_from) or "", run.init_from)
                theirs = dict(read_description(path).network)
            except ValueError:
                continue  # already reported
        if differs := sorted(key for key in {*own, *theirs} if own.get(key) != theirs.get(key)):
            found = ", ".join(f"{key} {theirs.get(key)} instead of {own.get(key)}" for key in differs)
            shipped = shipped_name(run.init_from)
            same = "Set the same network and width for both" if shipped is None else _say_network(theirs, presets_dir)
            mistakes.append(
                f"{name}: expected weights of the same network in init_from {shipped or run.init_from}, found {found}. "
                f"{same}, or set init_weights: matching."
            )
    return mistakes


def _say_network(network: Mapping[str, Any], presets_dir: Path) -> str:
    """Return how to get the network of a shipped model: a preset that has it, `default` if possible, or its keys."""
    names = sorted((file.stem for file in presets_dir.glob("*.yaml")), key=lambda name: (name != "default", name))
    for name in names:
        content = load_preset(name, presets_dir=presets_dir, where=name)
        if network_settings(ModelPreset.model_validate(content).model_dump(mode="json")) == network:
            return f"Set preset: {name}, without network and width"
    keys = ", ".join(f"{key} {value}" for key, value in sorted(network.items()))
    return f"Set the network and width of the shipped model ({keys})"


def _cycles(known: dict[str, Run]) -> list[str]:
    mistakes = []
    for start in known:
        path, current = [start], known[start].init_from
        while current in known and current not in path:
            path.append(current)
            current = known[current].init_from
        if current == start:
            mistakes.append(
                "init_from: expected a run that does not start from itself, found the cycle "
                f"{' -> '.join([*path, start])}. Remove init_from from one of these runs."
            )
    return mistakes


def _wrong_export(reference: str, *, where: str) -> list[str]:
    try:
        read_description(reference)
    except ValueError as error:
        return [f"{where}: {error}{'' if Path(reference).exists() else explain_missing(reference)}"]
    return []
