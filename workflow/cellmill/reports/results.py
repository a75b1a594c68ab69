"""Read the outputs of a dataset's stages for its report."""

import csv
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from cellmill.classical.recipes import read_contents
from cellmill.exports.model_file import read_fit
from cellmill.images.stored import IGNORE_LABEL, StoredRows
from cellmill.models.choices import Choice, has_left_start, read_choices
from cellmill.reports.colours import style_of_model
from cellmill.reports.verdict import read_table
from cellmill.shards import VERSIONS, file_digest

MAX_MEASURED_IMAGES = 300  # with annotated objects in the histogram of sizes


class Origin(TypedDict):
    """Preset that a run was made from, and how: trained, fine_tuned, averaged or applied."""

    preset: str | None
    settings: Mapping[str, Any]  # the resolved preset
    overrides: Mapping[str, Any]  # what the config changes in the preset
    how: str


class Shipped(TypedDict):
    """Shipped model that a run applies or starts from: its name and, if it has a card, path and facts of the card."""

    name: str
    card: NotRequired[str]
    title: NotRequired[str]
    version: NotRequired[int]
    data: NotRequired[str]
    licence: NotRequired[str]
    cite: NotRequired[str]


class RunFiles(TypedDict):
    """A run in the settings of the rule `report`: its names and the paths of its files."""

    run: str
    model: str
    seed: int
    objects: str | Path
    counts: str | Path
    flags: str | Path
    segmentation: Mapping[str, str | Path]  # shard -> folder
    probabilities: NotRequired[Mapping[str, str | Path]]  # missing for masks, as postprocess
    masks: NotRequired[str]  # where the masks of another program or annotator are, and who made them
    role: NotRequired[str]
    history: NotRequired[str | Path]  # of a run that was trained here, as `summary` and `choices`
    summary: NotRequired[str | Path]
    choices: NotRequired[str | Path]
    postprocess: NotRequired[str | Path]  # missing for an exported model
    recipe: NotRequired[str | Path]  # classical.json of a run without a network, or the exported model with it
    apply: NotRequired[str]  # source of an applied model
    shipped: NotRequired[Shipped]
    made_from: NotRequired[Origin]  # for the comparison with a paper


@dataclass(frozen=True, eq=False)
class Run:
    """A run with the contents of its small files, each empty if there is no file.

    `name` is the folder of the run. `label` is the model, with seed and fold if it has several runs; `short_label` is
    seed and fold alone. `style` has the CSS classes of the model's colour. `averages` is the model whose seeds'
    predictions are averaged, "" for a run with a network of its own. `masks` says where the masks of a run made
    elsewhere are, and `role` is "annotator" if a person drew them.
    """

    name: str
    model: str
    seed: int
    label: str
    short_label: str
    style: str
    history: Sequence[Mapping[str, float | None]]  # rows of history.csv, None where a field is empty
    summary: Mapping[str, Any]  # train.json
    fit: Mapping[str, Any]  # postprocess.json
    recipe: Mapping[str, Any]  # classical.json; empty for a run with a network
    counts: Mapping[str, int]  # sample -> number of its objects; images that an annotator left out are missing
    areas: Mapping[str, np.ndarray]  # sample -> areas of its objects, px
    intensities: Mapping[str, np.ndarray]  # sample -> mean raw intensities of its objects
    um2_per_px: float | None
    objects_path: Path
    flags_path: Path
    probabilities: Mapping[str, str | Path]  # shard -> folder
    segmentation: Mapping[str, str | Path]
    apply: str | None
    made_from: Origin | None
    averages: str = ""
    choices: Sequence[Choice] = ()  # choices.json
    shipped: Shipped | None = None
    masks: str = ""
    role: str = "model"

    @property
    def is_floor(self) -> bool:
        """Whether the run has no network, so that trained models have to be better."""
        return bool(self.recipe)

    @property
    def is_annotator(self) -> bool:
        """Whether a person drew the objects."""
        return self.role == "annotator"


def read_runs(runs: Sequence[RunFiles]) -> list[Run]:
    """Read the small files of each run.

    Parameters
    ----------
    runs : sequence of RunFiles
        In the order of the config, which determines the colours of the models.

    Returns
    -------
    list of Run
    """
    models = list(dict.fromkeys(run["model"] for run in runs))
    read = []
    for run in runs:
        name, model = run["run"], run["model"]
        siblings = [other for other in runs if other["model"] == model]
        rest = re.sub(r"\.?([a-z]+)(\d+)", r" \1 \2", name.removeprefix(model)).strip()
        areas, intensities, um2_per_px = _read_objects(run["objects"])
        choices = read_choices(run["choices"]) if "choices" in run else []
        read.append(
            Run(
                name=name,
                model=model,
                seed=run["seed"],
                label=model if len(siblings) == 1 else f"{model}, {rest or run['seed']}",
                short_label=rest or model,
                style=style_of_model(models.index(model)),
                history=_read_history(run.get("history")),
                summary=_read_json(run.get("summary")),
                fit=_read_fit(run),
                recipe=read_contents(run["recipe"]) if "recipe" in run else {},
                counts=_read_counts(run["counts"]),
                areas=areas,
                intensities=intensities,
                um2_per_px=um2_per_px,
                objects_path=Path(run["objects"]),
                flags_path=Path(run["flags"]),
                probabilities=run.get("probabilities", {}),
                segmentation=run["segmentation"],
                apply=run.get("apply"),
                masks=run.get("masks", ""),
                role=run.get("role", "model"),
                made_from=run.get("made_from"),
                averages=_averaged_model(run, models),
                choices=choices,
                shipped=None if has_left_start(choices) else run.get("shipped"),
            )
        )
    return read


def read_flags(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Read the findings of runs on images unlike their training images; identical findings are listed once."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for run in runs:
        with run.flags_path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                row["where"] = run.model
                found.setdefault((row["sample"], row["finding"]), row)
    return list(found.values())


def first_runs(runs: Sequence[Run], *, order: Sequence[str], samples: Sequence[Mapping[str, Any]]) -> list[Run]:
    """Return one run per model, that of its lowest seed.

    Parameters
    ----------
    runs : sequence of Run
        All runs.
    order : sequence of str
        Models that come first, in this order; the others follow in the order of `runs`.
    samples : sequence of mappings
        Rows of the sample table.

    Returns
    -------
    list of Run
        With folds, the run of the first fold, except that `counts`, `areas` and `intensities` come from the run with
        the image in its test part.
    """
    firsts: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        firsts.setdefault(run.model, run)
    names = [name for name in order if name in firsts]
    names += [name for name in dict.fromkeys(run.model for run in runs) if name not in names]
    taken: list[Run] = []
    for name in names:
        areas: dict[str, np.ndarray] = {}
        intensities: dict[str, np.ndarray] = {}
        counts: dict[str, int] = {}
        for row in samples:
            sample, tested = row["sample"], run_of_fold(runs, like=firsts[name], part=row["split"])
            if sample in tested.counts:
                counts[sample] = tested.counts[sample]
            if sample in tested.areas:
                areas[sample] = tested.areas[sample]
            if sample in tested.intensities:
                intensities[sample] = tested.intensities[sample]
        taken.append(replace(firsts[name], counts=counts, areas=areas, intensities=intensities))
    return taken


def run_of_fold(runs: Sequence[Run], *, like: Run, part: str) -> Run:
    """Find the run with an image in its test part.

    Parameters
    ----------
    runs : sequence of Run
        All runs.
    like : Run
        Run of the same model and seed.
    part : str
        Part of the image; with folds, a model has a run for each part.

    Returns
    -------
    Run
        `like` itself if there are no folds.
    """
    for run in runs:
        is_sibling = run.model == like.model and run.seed == like.seed
        if is_sibling and run.name.endswith(f".{part}"):
            return run
    return like


def measure_truth(
    rows: Sequence[Mapping[str, Any]], *, labels_dirs: Mapping[str, str | Path]
) -> tuple[list[str], list[float]]:
    """Measure the annotated objects of images, evenly chosen if there are more than MAX_MEASURED_IMAGES.

    Parameters
    ----------
    rows : sequence of mappings
        Rows of the sample table.
    labels_dirs : mapping
        Shard -> folder of label images.

    Returns
    -------
    tuple
        The measured samples (all samples if nothing is annotated), and the areas in px.
    """
    labelled = [row for row in rows if row["shard"] in labels_dirs]
    if not labelled:
        return [row["sample"] for row in rows], []
    chosen = labelled[:: -(-len(labelled) // MAX_MEASURED_IMAGES)]
    areas: list[float] = []
    for row in chosen:
        labels = StoredRows(Path(labels_dirs[row["shard"]]) / f"{row['sample']}.tif")
        sizes = Counter[int]()
        for _, labels_yx in labels.bands():
            numbers, pixels = np.unique(labels_yx, return_counts=True)
            sizes.update(dict(zip(numbers.tolist(), pixels.tolist(), strict=True)))
        areas += [float(size) for number, size in sorted(sizes.items()) if number not in (0, IGNORE_LABEL)]
    return [row["sample"] for row in chosen], areas


def list_digests(
    images: Mapping[str, Mapping[str, Any]], runs: Sequence[Run], tables: Sequence[str | Path]
) -> list[tuple[str, str]]:
    """List the SHA-256 of inputs and outputs, which show whether a second run gave identical results.

    Parameters
    ----------
    images : mapping
        Sample -> its row in images.csv of the stage check.
    runs : sequence of Run
        All runs.
    tables : sequence of path
        Tables of the dataset.

    Returns
    -------
    list of (str, str)
        Name, and 64 hexadecimal digits. The digest of the raw images is that of the lines "sample digest", ordered by
        sample, with the digests in images.csv; the others are digests of files.
    """
    lines = "".join(f"{sample} {images[sample].get('sha256')}\n" for sample in sorted(images))
    digests = [("raw images", hashlib.sha256(lines.encode()).hexdigest())] if images else []
    digests += [(Path(path).name, file_digest(path)) for path in tables]
    for run in runs:
        known = run.summary.get("weights_sha256")
        digests += [(f"{run.name}/weights.pt", known)] if known else []
        digests.append((f"{run.name}/{run.objects_path.name}", file_digest(run.objects_path)))
    return digests


def recorded_versions(
    runs: Sequence[Run], folders: Mapping[str, Sequence[str | Path]], here: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Collect the package versions that were used.

    Parameters
    ----------
    runs : sequence of Run
        All runs.
    folders : mapping
        Stage -> its shard folders.
    here : mapping
        Package -> version, in the process that writes the report.

    Returns
    -------
    dict
        Place ("train unet", "predict") -> package -> version; if a stage's shards differ, each variant has a place.
    """
    recorded = {f"train {run.name}": dict(run.summary.get("versions") or {}) for run in runs}
    for stage, of_stage in folders.items():
        variants: list[dict[str, str]] = []
        for folder in of_stage:
            path = Path(folder) / VERSIONS
            versions = _read_json(path if path.is_file() else None)
            if versions and versions not in variants:
                variants.append(versions)
        for number, versions in enumerate(variants):
            recorded[stage if number == 0 else f"{stage} (shards, variant {number + 1})"] = versions
    recorded["report"] = dict(here)
    return {place: versions for place, versions in recorded.items() if versions}


def _averaged_model(run: RunFiles, models: Sequence[str]) -> str:
    """Return the model whose seeds a run averages: the run is named after it, and neither trained nor applied."""
    stem = run["model"].rpartition(".")[0]
    is_own = any(key in run for key in ("history", "summary", "apply", "masks"))
    return stem if stem in models and not is_own else ""


def _read_json(path: str | Path | None) -> Any:
    if not path:
        return {}
    content: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    return content


def _read_fit(run: RunFiles) -> dict[str, Any]:
    path = run.get("postprocess") or run.get("apply")
    return read_fit(path) if path and Path(path).is_file() else {}


def _read_history(path: str | Path | None) -> list[dict[str, float | None]]:
    if not path:
        return []
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return [{key: _number(text) for key, text in row.items()} for row in csv.DictReader(stream)]


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _read_counts(path: str | Path) -> dict[str, int]:
    with Path(path).open(newline="", encoding="utf-8") as stream:
        return {row["sample"]: int(row["objects"]) for row in csv.DictReader(stream) if row["objects"]}


def _read_objects(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], float | None]:
    """Read areas (px) and raw intensities of each sample's objects, and the area of a pixel in µm² (None: unknown)."""
    table = read_table(path, columns=("sample", "area_px", "area_um2", "raw_intensity_mean"))
    if table.empty:
        return {}, {}, None
    areas = table["area_px"].to_numpy(dtype=np.float64)
    # From the largest object: the table is rounded, which affects small numbers most.
    largest = int(areas.argmax())
    scale = _number(str(table["area_um2"].iloc[largest] / areas[largest])) if "area_um2" in table else None
    rows_of = {str(name): rows for name, rows in table.groupby("sample").indices.items()}
    intensities: dict[str, np.ndarray] = {}
    if "raw_intensity_mean" in table:
        means = table["raw_intensity_mean"].to_numpy(dtype=np.float64)
        intensities = {name: means[rows] for name, rows in rows_of.items()}
    return {name: areas[rows] for name, rows in rows_of.items()}, intensities, scale
