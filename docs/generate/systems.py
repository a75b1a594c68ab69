"""Write the table of systems, docs/systems.md: size, cost, published score and measured score of each.

Measured scores are stored in resources/studies/scores.yaml, one entry per run of a study, written after that run by

    python -m generate.systems resources/studies/isbi2012_small.yaml --hardware "2 CPU cores" --minutes 12

in the folder that contains `results`. torch is imported only where a network is built.
"""

import argparse
import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cellmill.config.dataset import Config
from cellmill.config.networks import RECURRENT, network_settings
from cellmill.config.preset import ModelPreset
from cellmill.planning.runs import Run, load_preset, resolve_runs
from cellmill.reports.papers import find_measured
from cellmill.reports.published import Measure, Paper, load_paper

ROOT = Path(__file__).resolve().parents[2]
PRESETS_DIR = ROOT / "resources" / "models"
SCORES_PATH = ROOT / "resources" / "studies" / "scores.yaml"
# One megapixel is 1024 x 1024 px, a multiple of every network's stride.
SIDE_PX = 1024
DIGITS = 4
# Paper -> its measure in the table, and our measures beside it (keys of resources/papers).
HEADLINES: dict[str, tuple[str, tuple[str, ...]]] = {
    "stemnet": ("f1_pooled", ("f1_pooled",)),
    "clstm_unet": ("sim", ("here",)),
    "isbi2012": ("accuracy_train", ("accuracy_train", "accuracy", "v_rand")),
    "sartorius": ("iou", ("iou",)),
    "simcep": ("mcc", ("mcc",)),
}
# Kept for every run, and shown if the paper's own measure is missing.
COMMON_KEY = "dice_pooled"
COMMON = Measure(label="Dice", metric="dice", aggregation="pooled", stage="postprocessed", geometry="raw")
HEAD = """\
# The systems

Made by `make reference` from the presets, resources/papers and resources/studies/scores.yaml; do not edit.

The twelve named systems of the five papers. Parameters and cost are those of the preset, at full width and with all of
its input planes. The cost is the number of multiplications (each with its addition) in the convolutions for one
megapixel (1024 x 1024 px) of one frame, in thousands of millions. A training step costs about three times as much. The
receptive field is the largest extent of the input that affects one output pixel; for recurrent networks, within one
frame. The published scores and notes on them are in
[papers](../resources/papers), the runs in [studies](../resources/studies/README.md).
"""
PRESETS = """\
## Presets

`models: [name]` takes a preset by name. Each is a file of [resources/models](../resources/models), every number with
its source. `width: 0.25` makes any of them small enough to try on a laptop.

| preset | network | needs |
|---|---|---|
| `default` | U-Net with flows at one object size, which [configures itself](default.md) | annotations |
| `classical` | none: threshold and watershed, the floor of every comparison | |
| `stemnet1`, `stemnet5` | convolutions 5x5, one frame or five as input | `stemnet5`: sequences |
| `clstm_unet_text`, `clstm_unet_code` | recurrent U-Net, as in the text and as in the code of the paper | sequences |
| `unet_isbi`, `segnet_vgg16` | U-Net without normalisation, SegNet with the layers of VGG16 | |
| `sartorius_unet` | U-Net with batch normalisation | |
| `sartorius_hot`, `_weighted`, `_flow`, `_drop` | the same with the cell type as additional input | `class_column` |
| `fcrn_a` | no skip connections, meant to be pre-trained on simulated images | |

`network: {output: flow}` with `train: {loss: {name: flow}}` trains a network to separate individual cells; so do
`distance` with the loss `distance`, and `contour` with the loss `ce`. Incompatible settings are rejected before any job
starts, with a setting that works. An example: [touching objects](recipes.md#touching-objects).

Models that are already trained are in [resources/weights](../resources/weights): `apply: nuclei` uses one by its name,
and `init_from: nuclei` starts a training from it ([recipe](recipes.md#a-shipped-model-without-annotations)).

## Size, cost and scores

"""
FOOT = """\
If the cell type is unknown, `sartorius_hot` and the presets based on it predict three times, once for each cell type.
A small variant uses other data, fewer channels and fewer training steps. It shows that the pipeline works and is not a
reproduction of the paper.
"""
COLUMNS = ("system", "parameters", "receptive field [px]", "cost [GMAC]", "published score", "our score, full study",
           "our score, small variant")  # fmt: skip


@dataclass(frozen=True)
class Size:
    """Parameters, receptive field (px) and cost (multiplications for one megapixel) of a network."""

    parameters: int
    receptive_field_px: int
    multiplications: int


def systems_page() -> str:
    """Return the text of docs/systems.md."""
    scores = read_scores()
    lines = [HEAD, PRESETS + f"| {' | '.join(COLUMNS)} |", f"|---|{'---:|' * 3}{'---|' * 3}"]
    for name in HEADLINES:
        paper = load_paper(name)
        for preset in systems_of(paper):
            size = measure_size(preset)
            cells = [
                f"[{preset}](../resources/models/{preset}.yaml)",
                f"{size.parameters:,}",
                str(size.receptive_field_px),
                f"{size.multiplications / 1e9:,.1f}",
                _say_published(paper, preset),
                _say_measured(paper, preset, scores, is_small=False),
                _say_measured(paper, preset, scores, is_small=True),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", FOOT])


def systems_of(paper: Paper) -> list[str]:
    """List the presets of a paper, in the order of its tables."""
    presets = [system.preset for table in paper.tables for system in table.systems if system.preset]
    return list(dict.fromkeys(presets))


def measure_size(preset: str) -> Size:
    """Count parameters and multiplications of a preset's network, which is built without allocating its weights.

    Parameters
    ----------
    preset : str
        A file of resources/models, without .yaml.

    Returns
    -------
    Size
        The multiplications are those of convolutions and matrix products for one frame of SIDE_PX x SIDE_PX.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from cellmill.models.registry import build_network, count_parameters

    content = load_preset(preset, presets_dir=PRESETS_DIR, where=preset)
    network = network_settings(ModelPreset.model_validate(content).model_dump(mode="json"))
    is_recurrent = network["architecture"] in RECURRENT
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model = build_network(network).eval()
        images = torch.zeros(1, *([1] if is_recurrent else []), network["in_channels"], SIDE_PX, SIDE_PX)
        model(images, None) if is_recurrent else model(images)
    # The counter counts a multiplication and its addition as two operations.
    receptive_field_px: Any = model.receptive_field_px
    return Size(count_parameters(model), receptive_field_px, counter.get_total_flops() // 2)


def read_scores(path: Path = SCORES_PATH) -> list[dict[str, Any]]:
    """Read the measured scores: study, paper, date, hardware, minutes, and runs with their scores."""
    return yaml.safe_load(path.read_text(encoding="utf-8")) or []


def _say_published(paper: Paper, preset: str) -> str:
    key, _ = HEADLINES[paper.name]
    values = [
        system.values[key].published
        for system in paper.tables[0].systems
        if system.preset == preset and key in system.values
    ]
    return f"{paper.tables[0].measures[key].label} {max(values):g}" if values else "none"


def _say_measured(paper: Paper, preset: str, scores: Sequence[Mapping[str, Any]], *, is_small: bool) -> str:
    """Describe the best run of a preset by the paper's measure, from its newest study."""
    measures = {**paper.tables[0].measures, COMMON_KEY: COMMON}
    for entry in sorted(scores, key=lambda one: str(one["date"]), reverse=True):
        if entry["paper"] != paper.name or entry["study"].endswith("_small") != is_small:
            continue
        runs = {name: run for name, run in entry["runs"].items() if run["preset"] == preset}
        for keys in (HEADLINES[paper.name][1], (COMMON_KEY,)):
            if scored := {name: run for name, run in runs.items() if keys[0] in run["scores"]}:
                name, best = max(scored.items(), key=lambda run: run[1]["scores"][keys[0]])
                said = [f"{measures[key].label} {best['scores'][key]:.3f}" for key in keys if key in best["scores"]]
                return f"{'; '.join(said)} ({name}, width {best['width']:g}, {entry['hardware']}, {entry['date']})"
    return "not run"


def score_study(study: str | Path, *, results_dir: Path, hardware: str, minutes: float) -> list[dict[str, Any]]:
    """Collect the scores of a study in its paper's measures.

    Parameters
    ----------
    study : path
        Config of the study.
    results_dir : Path
        Results folder of the pipeline.
    hardware : str
        Hardware of the run, in words.
    minutes : float
        Duration of the whole command.

    Returns
    -------
    list of dict
        One entry per dataset with `report.paper`: study, paper, dataset, date, hardware, minutes, and runs: name ->
        preset, width, epochs and scores (measures of the paper's first table, and COMMON).

    Raises
    ------
    ValueError
        If the study is not a valid config, or none of its datasets was measured.
    """
    config = Config.model_validate(yaml.safe_load(Path(study).read_text(encoding="utf-8")))
    runs, mistakes = resolve_runs(config, presets_dir=PRESETS_DIR)
    if mistakes:
        raise ValueError(f"{study}: " + "; ".join(mistakes))
    trained = {f"{dataset}/{run.name}": run for dataset, of_dataset in runs.items() for run in of_dataset}
    entries = []
    for dataset, section in config.datasets.items():
        metrics_path = results_dir / dataset / "metrics.csv"
        if section.report.paper is None or not metrics_path.is_file():
            continue
        paper, metrics = load_paper(section.report.paper), pd.read_csv(metrics_path)
        entries.append(
            {
                "study": Path(study).stem,
                "paper": paper.name,
                "dataset": dataset,
                "date": datetime.date.today(),
                "hardware": hardware,
                "minutes": minutes,
                "runs": dict(_scores_of_runs(runs[dataset], trained, paper=paper, metrics=metrics)),
            }
        )
    if not entries:
        raise ValueError(
            f"{study}: expected the metrics of a dataset with report.paper below {results_dir}, found none. "
            "Run the study first."
        )
    return entries


def _scores_of_runs(
    runs: Sequence[Run], trained: Mapping[str, Run], *, paper: Paper, metrics: pd.DataFrame
) -> Iterator[tuple[str, dict[str, Any]]]:
    for run in runs:
        source = trained.get(run.apply or "", run)
        found = {
            key: find_measured(metrics, measure, model=run.model, seed=run.seed, stage=measure.stage)
            for key, measure in [*paper.tables[0].measures.items(), (COMMON_KEY, COMMON)]
        }
        yield (
            run.name,
            {
                "preset": source.preset_name,
                "width": source.preset["width"],
                "epochs": source.preset["train"]["epochs"],
                "scores": {key: round(number.value, DIGITS) for key, number in found.items() if number is not None},
            },
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the scores of a study into resources/studies/scores.yaml, replacing its earlier ones on that hardware."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("study", type=Path, help="config of the study")
    parser.add_argument("--results", type=Path, default=Path("results"), help="results folder of the pipeline")
    parser.add_argument("--hardware", required=True, help='hardware in words, such as "2 CPU cores"')
    parser.add_argument("--minutes", type=float, required=True, help="duration of the whole command")
    given = parser.parse_args(arguments)
    entries = score_study(given.study, results_dir=given.results, hardware=given.hardware, minutes=given.minutes)
    replaced = {(entry["study"], entry["hardware"]) for entry in entries}
    kept = [entry for entry in read_scores() if (entry["study"], entry["hardware"]) not in replaced]
    head = "".join(f"{line}\n" for line in SCORES_PATH.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    text = yaml.safe_dump([*kept, *entries], sort_keys=False, width=120)
    SCORES_PATH.write_text(head + text, encoding="utf-8")


if __name__ == "__main__":
    main()
