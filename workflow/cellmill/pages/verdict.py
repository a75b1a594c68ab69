"""Which model is best: metrics.csv read, runs of one model put together, models ranked.

What is compared are final objects in the geometry of the raw images: mean Dice over the test images, then mean
Kaggle AP.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

TEXT_COLUMNS = frozenset(
    {"model", "split", "stage", "geometry", "metric", "aggregation", "sample", "shard", "run", "class"}
)
FINAL_STAGE, FIRST_STAGE, RAW = "postprocessed", "thresholded", "raw"


@dataclass(frozen=True)
class Number:
    """A score with its 95 % interval, from `n` images of which `n_undefined` have none."""

    value: float
    low: float | None
    high: float | None
    n: int
    n_undefined: int


@dataclass(frozen=True)
class Standing:
    """A model on the test images. With several seeds the values are means, and low and high the extreme seeds."""

    model: str
    seeds: tuple[int, ...]
    dice: Number
    ap: Number | None


def read_table(path: str | Path, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read metrics.csv, scores.csv or objects.csv: names as text, everything else as numbers.

    Parameters
    ----------
    path : path
        A CSV file; it may have a header only.
    columns : sequence of str or None
        Read only these, as far as they are there.

    Returns
    -------
    DataFrame

    Raises
    ------
    ValueError
        If the file is no CSV table.
    """
    try:
        names = pd.read_csv(path, nrows=0).columns
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(
            f"{path}: expected a CSV table, found something else ({error}). Delete it and run snakemake again."
        ) from None
    return pd.read_csv(
        path,
        usecols=[name for name in names if columns is None or name in columns],
        dtype={name: str for name in names if name in TEXT_COLUMNS},
        keep_default_na=False,  # a sample may be called NA
        na_values={name: ["", "nan"] for name in names if name not in TEXT_COLUMNS},
    )


def find_number(
    metrics: pd.DataFrame,
    *,
    model: str,
    seed: int,
    metric: str,
    split: str = "test",
    stage: str = FINAL_STAGE,
    aggregation: str = "image_mean",
) -> Number | None:
    """Look one score up in metrics.csv, in the geometry of the raw images.

    Returns
    -------
    Number or None
        None where the table has no such row or no value in it.
    """
    if metrics.empty:
        return None
    rows = metrics[
        (metrics["model"] == model)
        & (metrics["seed"] == seed)
        & (metrics["split"] == split)
        & (metrics["stage"] == stage)
        & (metrics["geometry"] == RAW)
        & (metrics["metric"] == metric)
        & (metrics["aggregation"] == aggregation)
    ]
    if rows.empty or not math.isfinite(rows["value"].iloc[0]):
        return None
    row = rows.iloc[0]
    low, high = (float(row[name]) if math.isfinite(row[name]) else None for name in ("ci_low", "ci_high"))
    return Number(float(row["value"]), low, high, _whole(row["n"]), _whole(row["n_undefined"]))


def rank_models(metrics: pd.DataFrame) -> list[Standing]:
    """Rank the models on the test images, the best first.

    Parameters
    ----------
    metrics : DataFrame
        From `read_table`.

    Returns
    -------
    list of Standing
        By mean Dice, then by Kaggle AP, then by name. Models without a Dice on test images are left out.
    """
    standings = []
    for model, rows in metrics.groupby("model", sort=True) if not metrics.empty else ():
        seeds = sorted({int(seed) for seed in rows["seed"]})
        dice = [find_number(rows, model=str(model), seed=seed, metric="dice") for seed in seeds]
        ap = [find_number(rows, model=str(model), seed=seed, metric="ap_kaggle") for seed in seeds]
        if (mean_dice := _over_seeds(dice)) is not None:
            standings.append(Standing(str(model), tuple(seeds), mean_dice, _over_seeds(ap)))
    return sorted(
        standings,
        key=lambda one: (-one.dice.value, -one.ap.value if one.ap else math.inf, one.model),
    )


def count_wins(scores: pd.DataFrame, *, winner: str, other: str) -> tuple[int, int]:
    """Count the test images on which one model has a higher Dice than another.

    Parameters
    ----------
    scores : DataFrame
        scores.csv, from `read_table`.
    winner, other : str
        Names of models; of several seeds the mean counts.

    Returns
    -------
    tuple of int
        Images on which `winner` is better, and images on which both have a Dice.
    """
    if scores.empty:
        return 0, 0
    rows = scores[(scores["split"] == "test") & (scores["stage"] == FINAL_STAGE) & (scores["geometry"] == RAW)]
    table = rows.pivot_table(index="sample", columns="model", values="dice", aggfunc="mean")
    if winner not in table or other not in table:
        return 0, 0
    both = table[[winner, other]].dropna()
    return int((both[winner] > both[other]).sum()), len(both)


def _over_seeds(numbers: Sequence[Number | None]) -> Number | None:
    known = [number for number in numbers if number is not None]
    if len(known) <= 1:
        return known[0] if known else None
    values = [number.value for number in known]
    mean = sum(values) / len(values)
    return Number(mean, min(values), max(values), known[0].n, max(number.n_undefined for number in known))


def _whole(value: float) -> int:
    return int(value) if math.isfinite(value) else 0
