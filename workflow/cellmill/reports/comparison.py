"""Results of the runs: compared on the test images, and model by model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pandas as pd

from cellmill.metrics.glossary import GLOSSARY
from cellmill.reports.colours import PALE_STYLE, with_pattern
from cellmill.reports.curves import draw_confidence, draw_found_by_size, draw_probabilities
from cellmill.reports.figures import (  # fmt: skip
    Band,
    Curve,
    Dot,
    Figure,
    Point,
    draw_changes,
    draw_curves,
    draw_dots,
    draw_scatter,
)
from cellmill.reports.results import Run
from cellmill.reports.runtime import Job, say_speed
from cellmill.reports.seeds import SeedMean, average_seeds, mean_cell, name_mean
from cellmill.reports.verdict import FINAL_STAGE, FIRST_STAGE, RAW, TEXT_COLUMNS, Standing, find_difference, find_number
from cellmill.reports.wording import (  # fmt: skip
    MAX_ROWS,
    MISSING,
    Cell,
    Column,
    Table,
    count,
    difference,
    hide_folders,
    list_facts,
    say_duration,
    say_score,
    say_value,
    score,
    word,
)

# Scores of the table, in its order.
METRICS = (
    "dice", "iou", "precision", "recall", "mcc", "ap_kaggle", "ap_0.50", "ap_0.75", "panoptic_quality", "aji",
    "boundary_f1", "seg", "det", "count_error",
)  # fmt: skip
DOT_METRICS = ("dice", "ap_kaggle", "ap_0.50", "boundary_f1")
DIFFERENCE_METRICS = ("dice", "ap_kaggle", "ap_0.50", "boundary_f1")
STEPS = {
    "threshold": "threshold", "closing": "closing", "boundary": "boundary tuning and closing",
    "holes": "filling small holes", "objects": "splitting into objects", "filters": "size and shape filters",
}  # fmt: skip
CHANGE_METRICS = ("dice", "iou", "precision", "recall", "mcc", "ap_kaggle", "ap_0.50")


def compare_runs(
    scored: Sequence[Run], metrics: pd.DataFrame, *, comparisons: pd.DataFrame
) -> tuple[list[Figure], Table]:
    """Compare models on the test images: a dot plot for each main score, and a table of all scores.

    Parameters
    ----------
    scored : sequence of Run
        One for each model and seed.
    metrics, comparisons : DataFrame
        metrics.csv and comparisons.csv.

    Returns
    -------
    tuple
        Figures with one row per model, and the table. A model with several seeds has a row with their mean in the
        table, followed by its seeds.
    """
    groups = [[run for run in scored if run.model == model] for model in dict.fromkeys(run.model for run in scored)]
    means = {
        (group[0].model, metric): average_seeds(group, metric=metric, metrics=metrics, comparisons=comparisons)
        for group in groups
        for metric in METRICS
    }
    has_seeds = len(groups) < len(scored)
    figures = []
    for metric in DOT_METRICS:
        dots = [(_dot(group, mean), group) for group in groups if (mean := means[group[0].model, metric]) is not None]
        if dots:
            caption = "Open circles: single seeds. Lines: intervals over images and seeds." if has_seeds else ""
            people = [dot for dot, group in dots if group[0].is_annotator]
            figures.append(
                draw_dots(
                    [dot for dot, _ in dots], title=GLOSSARY[metric].heading, caption=caption, band=_find_band(people)
                )
            )  # fmt: skip
    shown = [metric for metric in METRICS if any(means[group[0].model, metric] for group in groups)]
    rows = []
    for group in groups:
        first = Cell(group[0].model, group[0].model, style=group[0].style)
        if group[0].is_annotator:
            first = replace(first, note="annotator")
        said = f"mean of {len(group)}" if len(group) > 1 else "averaged" if group[0].averages else group[0].seed
        cells = [first] + ([word(said)] if has_seeds else [])
        rows.append([*cells, *(mean_cell(means[group[0].model, metric]) for metric in shown)])
        for run in group if len(group) > 1 else ():
            rows.append([first, word(run.seed), *(_seed_cell(run, metric, metrics=metrics) for metric in shown)])
    columns = [Column("Model"), *([Column("Seed", True)] if has_seeds else [])]
    columns += [Column(GLOSSARY[metric].heading, True, GLOSSARY[metric].words) for metric in shown]
    return figures, Table("scores_test", "Scores on the test images", columns, rows)


def _dot(runs: Sequence[Run], mean: SeedMean) -> Dot:
    number = mean.number
    singles = tuple((f"seed {seed}", value) for seed, value in mean.values) if len(runs) > 1 else ()
    return Dot(name_mean(runs), runs[0].style, number.value, number.low, number.high, singles)


def _find_band(people: Sequence[Dot]) -> Band | None:
    """Return the range of the intervals of all annotators; None without annotators."""
    ends = [end for dot in people for end in (dot.value, dot.low, dot.high) if end is not None]
    return Band("agreement between annotators", min(ends), max(ends)) if ends else None


def _seed_cell(run: Run, metric: str, *, metrics: pd.DataFrame) -> Cell:
    number = find_number(metrics, model=run.model, seed=run.seed, metric=metric)
    return score(number.value, low=number.low, high=number.high) if number else score(None)


def tabulate_differences(standings: Sequence[Standing], comparisons: pd.DataFrame) -> Table | None:
    """Tabulate the differences of the best model to each other one, on the same images; None for a single model."""
    if len(standings) < 2:
        return None
    best, rows = standings[0].model, []
    for other in standings[1:]:
        cells = [word(other.model)]
        for metric in DIFFERENCE_METRICS:
            found = find_difference(comparisons, model=best, against=other.model, metric=metric)
            if found is None:
                cells += [score(None), word("")]
                continue
            cells.append(difference(found.value, low=found.low, high=found.high))
            cells.append(Cell(f"{found.better} : {found.worse}", found.better / max(1, found.better + found.worse)))
        rows.append(cells)
    columns = [Column("Compared with")]
    for metric in DIFFERENCE_METRICS:
        columns.append(
            Column(GLOSSARY[metric].heading, True, f"score of {best} minus that of the other, 95 % confidence interval")
        )
        columns.append(Column("Images", True, f"number of images with a higher : lower score for {best}"))
    return Table("differences", f"Score of {best} minus that of each other model, on the same images", columns, rows)


def tabulate_costs(runs: Sequence[Run], *, jobs: Sequence[Job], megapixels: float) -> Table:
    """Tabulate the cost of each run: parameters, length, time, device, memory, and prediction speed on all images."""
    budgets = [find_budget(run.summary) for run in runs]
    columns = [
        Column("Run"), Column("Parameters", True), Column("Steps", True, "optimiser steps"), Column("Epochs", True),
        Column("Chosen epoch", True, "0: the weights that the training started from"), Column("Training time", True),
        *([Column("Budget", True, "train.minutes of the config")] if any(budgets) else []),
        Column("Device"), Column("Peak memory, MB", True),
        Column("Prediction, MP/s", True, "megapixels of all images divided by job time, start-up included"),
        Column("Receptive field, px", True, "side of the input square that affects one output pixel"),
    ]  # fmt: skip
    rows = []
    for run, budget_s in zip(runs, budgets, strict=True):
        summary = run.summary
        seconds = summary.get("seconds")
        untrained = "made elsewhere" if run.masks else "no training" if run.is_floor else "not trained here"
        trained = word(say_device(summary) if summary else untrained)
        rows.append(
            [
                word(run.name, style=run.style),
                count(summary.get("parameters")),
                count(summary.get("steps_done")),
                count(summary.get("epochs_done")),
                count(summary.get("best_epoch")),
                Cell(say_duration(seconds), seconds),
                *([Cell(say_duration(budget_s), budget_s)] if any(budgets) else []),
                trained,
                count(summary.get("peak_memory_mb")),
                say_speed(jobs, run=run.name, megapixels=megapixels),
                count(summary.get("receptive_field_px")),
            ]
        )
    return Table("costs", "Cost of the runs", columns, rows)


def list_all_metrics(metrics: pd.DataFrame) -> Table:
    """Tabulate metrics.csv unchanged, up to MAX_ROWS rows."""
    columns = [Column(str(name), name not in TEXT_COLUMNS) for name in metrics.columns]
    rows = [
        [_metric_cell(str(name), value) for name, value in zip(metrics.columns, row, strict=True)]
        for row in metrics.head(MAX_ROWS).itertuples(index=False)
    ]
    return Table("metrics", "All scores", columns, rows, max(0, len(metrics) - MAX_ROWS), "metrics.csv")


def _metric_cell(name: str, value: Any) -> Cell:
    if isinstance(value, str):
        return word(value)
    if pd.isna(value):
        return score(None)
    return Cell(say_score(value) if name in ("value", "ci_low", "ci_high") else f"{value:.0f}", float(value))


def find_budget(summary: Mapping[str, Any]) -> float | None:
    """Return the budget of a training, s; None if it has none."""
    minutes = ((summary.get("settings") or {}).get("train") or {}).get("minutes")
    return None if minutes is None else 60 * float(minutes)


def say_device(summary: Mapping[str, Any]) -> str:
    """Return the device on which a run was trained, in words."""
    device = str(summary.get("device") or MISSING)
    if summary.get("device_override"):
        return "CPU (CELLMILL_DEVICE=cpu overrides the requested GPU)"
    return str(summary.get("gpu_name") or "") or {"cpu": "CPU", "cuda": "GPU"}.get(device, device)


# ---- one model ---------------------------------------------------------------------------------------------


def describe_model(
    runs: Sequence[Run],
    *,
    metrics: pd.DataFrame,
    scores: pd.DataFrame,
    curves: pd.DataFrame,
    sizes: pd.DataFrame,
    confidence: pd.DataFrame,
) -> dict[str, Any]:
    """Describe training, choices and scores of one model.

    Parameters
    ----------
    runs : sequence of Run
        Runs of the model, one for each seed and fold; details are shown for the first.
    metrics, scores, curves, sizes, confidence : DataFrame
        metrics.csv, scores.csv, curves.csv, sizes.csv and confidence.csv.

    Returns
    -------
    dict
        name, style, figures, steps and choices (tables or None), training and finishing (facts), run; apply ("" unless
        applied), masks ("" unless made elsewhere), is_annotator, and shipped (facts of the shipped model that is
        applied or started from, or None).
    """
    first = runs[0]
    figures = _training_curves(runs)
    figures += draw_probabilities(first, curves, threshold=fitted_threshold(first.fit))
    if (by_size := draw_found_by_size(first, sizes)) is not None:
        figures.append(by_size)
    auroc = find_number(
        metrics, model=first.model, seed=first.seed, metric="confidence_auroc", aggregation="pooled"
    )  # fmt: skip
    figures += draw_confidence(first, confidence, auroc=auroc)
    points = _score_points(first, scores)
    if points:
        figures.append(
            draw_scatter(
                points, title="Dice and number of objects", x_label="annotated objects in the image", y_label="Dice",
                is_agreement=False, legend=(), caption="One point per test image.",
            )
        )  # fmt: skip
    changes = []
    for metric in CHANGE_METRICS:
        pair = [
            find_number(metrics, model=first.model, seed=first.seed, metric=metric, stage=stage)
            for stage in (FIRST_STAGE, FINAL_STAGE)
        ]
        if pair[0] and pair[1]:
            changes.append((GLOSSARY[metric].heading, pair[0].value, pair[1].value))
    if changes:
        figures.append(
            draw_changes(
                changes, style=first.style, title="Effect of postprocessing",
                caption="Means over the test images.",
            )
        )  # fmt: skip
    return {
        "name": first.model,
        "run": first.name,
        "runs": len(runs),
        "apply": hide_folders(str(first.apply or "")),
        "masks": hide_folders(first.masks),
        "is_annotator": first.is_annotator,
        "shipped": first.shipped,
        "style": first.style,
        "figures": figures,
        "steps": _tabulate_steps(first),
        "choices": _tabulate_choices(first),
        "training": _training_facts(first.summary),
        "finishing": [*describe_recipe(first.recipe), *describe_fit(first.fit)],
    }


def _tabulate_choices(run: Run) -> Table | None:
    """Tabulate the settings that a training chose, each with its reason."""
    rows = [[word(choice.key), word(say_setting(choice.value)), word(choice.because)] for choice in run.choices]
    if not rows:
        return None
    return Table(
        f"choices-{run.name}",
        f"Settings of {run.name} that its training chose",
        [Column("Setting"), Column("Chosen"), Column("Because")],
        rows,
        source=f"{run.name}/choices.json",
    )


def say_setting(value: Any) -> str:
    """Return the value of a setting as a config would contain it, rounded to three digits."""
    if value is None:
        return "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _tabulate_steps(run: Run) -> Table | None:
    """Tabulate the scores of the validation images after each step of postprocessing."""
    steps = run.fit.get("steps") or []
    rows: list[list[Cell]] = []
    before: Mapping[str, float] | None = None
    for step in steps:
        cells = [word(STEPS.get(step["step"], step["step"]))]
        for name in ("dice", "ap_kaggle"):
            change = None if before is None else step[name] - before[name]
            cells += [score(step[name]), difference(change)]
        rows.append(cells)
        before = step
    if not rows:
        return None
    columns = [
        Column("After step"),
        Column("Dice", True),
        Column("change", True),
        Column("AP (Kaggle)", True),
        Column("change ", True),
    ]
    name = f"steps_{run.model}"
    source = run.shipped["name"] if run.shipped else hide_folders(run.apply or "")
    whose = f" of {source}" if run.apply else ""
    return Table(name, f"Scores on the validation images{whose} after each step, {run.model}", columns, rows)


def _training_curves(runs: Sequence[Run]) -> list[Figure]:
    trained = [run for run in runs if run.history]
    if not trained:
        return []
    is_one = len(trained) == 1
    # With a number of steps, an epoch is only the interval between two validations.
    key = "step" if all(_counts_steps(run) for run in trained) else "epoch"
    losses, dices, rates = [], [], []
    for index, run in enumerate(trained):
        rows, name = run.history, run.short_label
        places = [cast(float, row[key]) for row in rows]  # in every row
        own = with_pattern(run.style, index)
        other = f"{own} {PALE_STYLE}"
        before, after = ("training", "validation") if is_one else ("", name)
        losses.append(Curve(before, other, places, [row.get("train_loss") for row in rows]))
        losses.append(Curve(after, own, places, [row.get("validation_loss") for row in rows]))
        dices.append(Curve(name, own, places, [row.get("validation_dice") for row in rows]))
        if index == 0:  # all runs of a model share their schedule
            rates.append(Curve(name, own, places, [row.get("learning_rate") for row in rows]))
    best = _find_best(trained[0], key=key) if is_one else None
    note = "Pale lines: training. Full lines: validation." if not is_one else ""
    if best is not None:
        note = "The vertical line marks the epoch whose weights are used."
    positive = [v for c in losses for v in c.y if v is not None and v > 0]
    is_log = bool(positive) and max(positive) > 20 * min(positive)
    panels = (("Loss", losses, is_log, note), ("Validation Dice", dices, False, ""), ("Learning rate", rates, True, ""))
    return [
        draw_curves(curves, title=title, x_label=key, y_label="", is_log=is_logarithmic, mark_x=best, caption=caption)
        for title, curves, is_logarithmic, caption in panels
    ]


def _counts_steps(run: Run) -> bool:
    return not str(run.summary.get("steps_from") or "epochs").startswith("epochs")


def _find_best(run: Run, *, key: str) -> float | None:
    """Return the place of the chosen epoch on the axis of the training curves."""
    best = run.summary.get("best_epoch")
    return next((row[key] for row in run.history if row["epoch"] == best), None) if key == "step" else best


def _score_points(run: Run, scores: pd.DataFrame) -> list[Point]:
    return [
        Point(
            x=row["n_true"],
            y=row["dice"],
            style=run.style,
            tooltip=f"{row['sample']}: Dice {say_score(row['dice'])}, {row['n_true']:.0f} objects",
        )
        for row in final_scores(scores, run=run)
        if math.isfinite(row["dice"])
    ]


def final_scores(scores: pd.DataFrame, *, run: Run) -> list[dict[str, Any]]:
    """Return the rows of scores.csv for a run's final objects, one per test image."""
    if scores.empty:
        return []
    rows = scores[
        (scores["model"] == run.model)
        & (scores["seed"] == run.seed)
        & (scores["split"] == "test")
        & (scores["stage"] == FINAL_STAGE)
        & (scores["geometry"] == RAW)
    ]
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


# Entries of postprocess.json, step by step: section, key, label, unit.
FIT_FACTS = {
    "Threshold": (
        ("threshold", "value", "threshold", ""),
        ("threshold", "method", "chosen by", ""),
        ("threshold", "mcc", "Matthews correlation at the threshold", ""),
        ("threshold", "mcc_at_half", "Matthews correlation at 0.5", ""),
        ("threshold", "images", "validation images", ""),
    ),
    "Boundary classifier": (
        ("boundary", "classifier", "classifier", ""),
        ("boundary", "applied", "applied", ""),
        ("boundary", "validation_dice.without", "validation Dice without it", ""),
        ("boundary", "validation_dice.with", "validation Dice with it", ""),
        ("boundary", "held_out.by_image.mean", "accuracy on held-out images", ""),
        ("boundary", "held_out.by_image.std", "standard deviation of this accuracy", ""),
        ("boundary", "held_out.by_pixel.mean", "accuracy on held-out pixels", ""),
        ("boundary", "kept_accuracy", "accuracy without the classifier", ""),
        ("boundary", "majority_rate", "share of the majority class", ""),
        ("boundary", "pixels", "boundary pixels", ""),
        ("boundary", "images", "training images", ""),
    ),
    "Objects": (
        ("closing", "footprint", "closing", ""),
        ("closing", "radius_px", "closing, radius", "px"),
        ("instances", "method", "splitting method", ""),
        ("instances", "split_depth", "minimum depth of a split", ""),
        ("instances", "min_area_px", "minimum object area", "px"),
        ("instances", "min_area_share", "minimum share of the median object area", ""),
        ("instances", "fill_holes_px", "holes filled up to", "px"),
        ("instances", "median_area_px", "median annotated object area", "px"),
    ),
}
POLARITY_WORDS = {"bright": "bright", "dark": "dark", "image": "the rarer side of the threshold, in each image"}
FIT_WORDS = {
    "svm": "SVM, cubic kernel",
    "bayes": "Gaussian Bayes",
    "mcc": "Matthews correlation",
    "fixed": "the config",
}


def describe_fit(fit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Describe the choices of postprocessing and their reasons.

    Parameters
    ----------
    fit : mapping
        postprocess.json; empty if there is none.

    Returns
    -------
    list of dict
        title, reason and facts of each step.
    """
    groups = []
    for title, wanted in FIT_FACTS.items():
        facts = []
        for step, key, name, unit in wanted:
            value = fit.get(step)
            for part in key.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is not None:
                if isinstance(value, str):
                    says = FIT_WORDS.get(value, value)
                else:
                    says = say_value(value) if unit or not isinstance(value, float) else say_score(value)
                facts.append((name, f"{says} {unit}".strip()))
        if facts:
            reason = hide_folders(str((fit.get(wanted[-1][0]) or {}).get("reason") or ""))
            groups.append({"title": title, "reason": reason[:1].upper() + reason[1:], "facts": facts})
    return groups


def describe_recipe(contents: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Describe the numbers of a run without a network, as `describe_fit`; empty for a run with one."""
    if not contents:
        return []
    recipe, reason = contents["recipe"], hide_folders(str(contents["reason"]))
    window = recipe["window_px"]
    facts = [
        ("smoothing, standard deviation", f"{say_value(recipe['sigma_px'])} px"),
        (
            "threshold",
            "Otsu, one for the image" if window is None else f"Otsu, after subtraction of the mean of {window} px",
        ),
        ("objects", POLARITY_WORDS[recipe["polarity"]]),
    ]
    tried = contents["searched"]
    facts += [("tried combinations", say_value(len(tried)))] if tried else []
    return [{"title": "Image", "reason": reason[:1].upper() + reason[1:], "facts": facts}]


def fitted_threshold(fit: Mapping[str, Any]) -> float | None:
    """Return the threshold of a run; None if there is no fit."""
    step = fit.get("threshold")
    return float(step["value"]) if isinstance(step, Mapping) and step.get("value") is not None else None


def _training_facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not summary:
        return []
    facts = [("device", say_device(summary)), ("training time", say_duration(summary.get("seconds")))]
    if (budget_s := find_budget(summary)) is not None:
        facts.append(("budget", say_duration(budget_s)))
    for key, name in (("parameters", "parameters"), ("steps_done", "steps"), ("epochs_done", "epochs"),
                      ("best_epoch", "chosen epoch"), ("threads", "threads"), ("seed", "seed")):  # fmt: skip
        if summary.get(key) is not None:
            facts.append((name, say_value(summary[key])))
    settings = summary.get("settings") or {}
    return facts + list_facts({key: settings[key] for key in ("network", "input", "train") if key in settings})
