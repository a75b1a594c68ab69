"""Scores of a model with several seeds: their mean with its interval, and the spread of the seeds.

The mean of the scores of several networks is not the score of the mean of their predictions: the latter belongs to the
run `{model}.mean`, which is a model of its own here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import stdev

import pandas as pd

from cellmill.reports.results import Run
from cellmill.reports.verdict import Number, find_mean, find_number
from cellmill.reports.wording import Cell, say_number_of, say_score, score

EXPLANATION = (
    "A row of several seeds contains their mean, its 95 % interval over images and seeds, and after ± the standard "
    "deviation of the seeds. A row of a single seed has an interval over images only."
)


@dataclass(frozen=True)
class SeedMean:
    """One score of a model: the mean over its seeds with its interval, and the value of each seed."""

    number: Number
    values: tuple[tuple[int, float], ...]

    @property
    def spread(self) -> float | None:
        """Standard deviation of the seeds; None for a single seed."""
        return stdev(value for _, value in self.values) if len(self.values) > 1 else None


def average_seeds(
    runs: Sequence[Run], *, metric: str, metrics: pd.DataFrame, comparisons: pd.DataFrame
) -> SeedMean | None:
    """Look up one score of a model on the test images.

    Parameters
    ----------
    runs : sequence of Run
        One for each seed of the model.
    metric : str
        A name of METRICS.
    metrics, comparisons : DataFrame
        metrics.csv and comparisons.csv.

    Returns
    -------
    SeedMean or None
        None if no seed has a value. With a single seed, the interval is that of metrics.csv, otherwise that of
        comparisons.csv.
    """
    found = [(run.seed, find_number(metrics, model=run.model, seed=run.seed, metric=metric)) for run in runs]
    known = [(seed, number) for seed, number in found if number is not None]
    if not known:
        return None
    values = tuple((seed, number.value) for seed, number in known)
    first = known[0][1]
    if len(runs) == 1:
        return SeedMean(first, values)
    mean = sum(value for _, value in values) / len(values)
    number = find_mean(comparisons, model=runs[0].model, metric=metric)
    return SeedMean(number or Number(mean, None, None, first.n, first.n_undefined), values)


def name_mean(runs: Sequence[Run]) -> str:
    """Write the name of a model in a comparison: with the number of its seeds if there are several."""
    model = runs[0].model
    return f"{model}, mean of {say_number_of(len(runs), 'seed')}" if len(runs) > 1 else name_run(runs[0])


def name_run(run: Run) -> str:
    """Write the name of a model with a single run, and whether it is averaged or drawn by a person."""
    if run.is_annotator:
        return f"{run.model} (annotator)"
    return f"{run.model} (averaged)" if run.averages else run.model


def mean_cell(mean: SeedMean | None) -> Cell:
    """Make the cell of a score: mean, interval, and the spread of several seeds."""
    if mean is None:
        return score(None)
    cell = score(mean.number.value, low=mean.number.low, high=mean.number.high)
    if mean.spread is None:
        return cell
    return replace(cell, note=", ".join(filter(None, (cell.note, f"± {say_score(mean.spread)}"))))
