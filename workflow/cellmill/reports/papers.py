"""The chapter that compares the published figures of a paper with those measured here.

A run is assigned to a system of the paper by its preset, not by its name, and its changes to the preset are listed
beside it. The only files read here are those of `cellmill.reports.published`.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from cellmill.metrics.decimals import round_decimals
from cellmill.reports.published import Baseline, Measure, Paper, PaperTable, Published, System
from cellmill.reports.results import Origin, Run
from cellmill.reports.verdict import Number
from cellmill.reports.wording import MISSING, Cell, Column, Table, say_number_of, say_value, word

COLUMNS = (
    Column("System"),
    Column("Score"),
    Column("Paper", True, "as printed; below it, the value compared with if the printed one contradicts its label"),
    Column("Here", True, "with 95 % confidence interval; for several seeds, the mean with the lowest and the highest"),
    Column("Difference", True, "here minus paper"),
    Column("Images", True, "number of images in the score measured here"),
    Column("Remark"),
)
NOT_RUN, NOT_MEASURED = "not run", "not measured"
BASELINE_STAGE, BASELINE_SEED = "baseline", 0
SMALL = "Networks narrower than those of the paper are small variants, not reproductions."
WAYS = {
    "applied": "trained elsewhere and applied unchanged",
    "fine_tuned": "fine-tuned from trained weights",
    "averaged": "mean of the predictions of all seeds",
}


def compare_with_paper(paper: Paper, *, runs: Sequence[Run], metrics: pd.DataFrame) -> dict[str, Any]:
    """Compare the published figures of a paper with the measured ones, for the page.

    Parameters
    ----------
    paper : Paper
        From `load_paper`.
    runs : sequence of Run
        A run without `made_from` belongs to no system.
    metrics : DataFrame
        metrics.csv.

    Returns
    -------
    dict
        title, citation, sentence, tables, remarks.
    """
    models = _group(runs)
    placed = {id(model) for table in paper.tables for system in table.systems for model in _matching(system, models)}
    others = [model for model in models if id(model) not in placed]
    is_small = any(_is_small(model[0]) for model in models if id(model) in placed)
    tables = [
        _tabulate(table, models=models, others=others if number == 0 else [], metrics=metrics)
        for number, table in enumerate(paper.tables)
    ]
    first = paper.tables[0]
    done = sum(bool(_matching(system, models)) for system in first.systems)
    measures = [measure for table in paper.tables for measure in table.measures.values()]
    said = dict.fromkeys(f"{measure.label}: {measure.remark}." for measure in measures if measure.remark)
    return {
        "title": paper.title,
        "citation": paper.citation,
        "sentence": f"{done} of the {say_number_of(len(first.systems), 'system')} of the paper "
        f"{'is' if done == 1 else 'are'} measured here.{f' {SMALL}' if is_small else ''}",
        "tables": tables,
        "remarks": [*paper.remarks, *said],
    }


def _group(runs: Sequence[Run]) -> list[list[Run]]:
    """Group the runs by model, whatever their seeds and folds."""
    models: dict[str, list[Run]] = {}
    for run in runs:
        models.setdefault(run.model, []).append(run)
    return list(models.values())


def _matching(system: System, models: Sequence[Sequence[Run]]) -> list[Sequence[Run]]:
    return [model for model in models if _is_of(system, model[0].made_from)]


def _is_of(system: System, made_from: Origin | None) -> bool:
    if made_from is None or not system.preset or made_from["preset"] != system.preset:
        return False
    has_settings = all(_look_up(made_from["settings"], key) == value for key, value in system.settings.items())
    return has_settings and system.how in ("any", made_from["how"])


def _is_small(run: Run) -> bool:
    """Check whether the network of a run has fewer channels than that of its paper."""
    width = None if run.made_from is None else _look_up(run.made_from["settings"], "width")
    return width is not None and width < 1


def _look_up(settings: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key, None if there is no such key."""
    value: Any = settings
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _tabulate(
    table: PaperTable, *, models: Sequence[Sequence[Run]], others: Sequence[Sequence[Run]], metrics: pd.DataFrame
) -> Table:
    rows: list[list[Cell]] = []
    for system in table.systems:
        found = _matching(system, models)
        for model in found:
            rows += _rows_of_run(table, system, model, metrics=metrics)
        if not found:
            rows += _rows_not_run(table, system)
    for model in others:
        system = System(label=model[0].model, remark="not in the paper")
        rows += _rows_of_run(table, system, model, metrics=metrics)
    for baseline in table.baselines:
        rows += _rows_of_baseline(table, baseline, metrics=metrics)
    return Table(f"paper_{table.name}", table.caption, COLUMNS, rows, source="metrics.csv and resources/papers")


def _rows_of_run(table: PaperTable, system: System, model: Sequence[Run], *, metrics: pd.DataFrame) -> list[list[Cell]]:
    run, seeds = model[0], {run.seed for run in model}
    # Changes are listed once, in the first row of a run.
    notes = itertools.chain([_describe(run, system)], itertools.repeat(_name(run, system)))
    rows = []
    for key, measure in table.measures.items():
        published = system.values.get(key)
        numbers = [
            find_measured(metrics, measure, model=run.model, seed=seed, stage=system.stage or measure.stage)
            for seed in sorted(seeds)
        ]
        ours = mean_of_seeds(number for number in numbers if number is not None)
        is_measured = bool(measure.metric)
        if published is None and not is_measured:
            continue
        name = Cell(system.label, system.label, next(notes), style=run.style)
        rows.append(_row(name, measure, published, ours, len(seeds), NOT_MEASURED if is_measured else MISSING, system))
    return rows


def _rows_not_run(table: PaperTable, system: System) -> list[list[Cell]]:
    name = word(system.label)
    rows = [
        _row(name, table.measures[key], published, None, 0, NOT_RUN, system) for key, published in system.values.items()
    ]
    blank = [word(None), Cell(MISSING), Cell(NOT_RUN), Cell(MISSING), Cell(MISSING), Cell(system.remark, system.remark)]
    return rows or [[name, *blank]]


def _rows_of_baseline(table: PaperTable, baseline: Baseline, *, metrics: pd.DataFrame) -> list[list[Cell]]:
    rows = []
    for measure in table.measures.values():
        ours = find_measured(metrics, measure, model=baseline.model, seed=BASELINE_SEED, stage=BASELINE_STAGE)
        if ours is not None:
            system = System(label=baseline.label, remark=baseline.remark)
            rows.append(_row(word(baseline.label), measure, None, ours, 1, "", system))
    return rows


def _row(
    name: Cell, measure: Measure, published: Published | None, ours: Number | None, seeds: int, otherwise: str,
    system: System,
) -> list[Cell]:  # fmt: skip
    paper, difference = Cell(MISSING), Cell(MISSING)
    if published is not None:
        read_as = published.read_as
        note = "" if read_as is None else f"read as {_say(read_as, measure)}"
        paper = Cell(_say(published.published, measure), published.published, note)
        if ours is not None:
            less = ours.value - (published.published if read_as is None else read_as)
            difference = Cell(_say(less, measure, is_signed=True), less)
    here, images = Cell(otherwise), Cell(MISSING)
    if ours is not None:
        known = ours.low is not None and ours.high is not None
        interval = f"{_say(ours.low, measure)}–{_say(ours.high, measure)}" if known else ""
        here = Cell(_say(ours.value, measure), ours.value, f"{interval}, {seeds} seeds" if seeds > 1 else interval)
        images = Cell(f"{ours.n:,}", float(ours.n), f"{ours.n_undefined} undefined" if ours.n_undefined else "")
    # The remark of a system concerns its published figures; a system without any is ours, or a baseline.
    of_system = system.remark if published or not system.values else ""
    remark = "; ".join(text for text in (published.remark if published else "", of_system) if text)
    return [name, word(measure.label), paper, here, difference, images, Cell(remark, remark)]


def _describe(run: Run, system: System) -> str:
    """Describe a run and its changes to the preset."""
    parts: list[str] = []
    if run.made_from is not None:
        preset, way = run.made_from["preset"], WAYS.get(run.made_from["how"])
        parts += [f"preset {preset}"] if preset and not system.preset else []
        parts += [way] if way is not None else []
        changes = _flatten(run.made_from["overrides"])
        parts += [f"{key} {say_value(value)}" for key, value in changes if key not in system.settings]
    return ": ".join(text for text in (_name(run, system), ", ".join(parts)) if text)


def _name(run: Run, system: System) -> str:
    return "" if system.label == run.model else run.model


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in settings.items():
        pairs += _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return pairs


def find_measured(metrics: pd.DataFrame, measure: Measure, *, model: str, seed: int, stage: str) -> Number | None:
    """Look up the row of metrics.csv that corresponds to a measure.

    Returns
    -------
    Number or None
        For the fitted geometry, the row of the raw images is used if nothing was resized, cropped or padded. None if
        there is no such row or no value in it.
    """
    if metrics.empty or not measure.metric:
        return None
    wanted = {
        "model": model, "seed": seed, "split": measure.split, "stage": stage, "metric": measure.metric,
        "aggregation": measure.aggregation,
    }  # fmt: skip
    rows = metrics
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    of_geometry = rows[rows["geometry"] == measure.geometry]
    if of_geometry.empty and measure.geometry == "fitted":
        of_geometry = rows[rows["geometry"] == "raw"]
    if of_geometry.empty or not math.isfinite(of_geometry["value"].iloc[0]):
        return None
    row = of_geometry.iloc[0]
    low, high = (float(row[end]) if math.isfinite(row[end]) else None for end in ("ci_low", "ci_high"))
    return Number(float(row["value"]), low, high, int(row["n"]), int(row["n_undefined"]))


def mean_of_seeds(numbers: Iterable[Number]) -> Number | None:
    """Return a single number unchanged, of several the mean with the lowest and the highest; None if there is none."""
    known = list(numbers)
    if len(known) <= 1:
        return known[0] if known else None
    values = [number.value for number in known]
    return Number(
        sum(values) / len(values), min(values), max(values), known[0].n, max(number.n_undefined for number in known)
    )


def _say(value: float | None, measure: Measure, *, is_signed: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return MISSING
    return round_decimals(value, measure.digits, is_signed=is_signed)
