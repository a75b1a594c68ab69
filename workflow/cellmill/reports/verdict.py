"""Find the best model: read tables, rank models, and look up differences with their intervals.

Final objects are compared in the geometry of the raw images, by their mean score over the test images: by Kaggle's AP,
since a model may find the right pixels and join all objects; by Dice where the annotation does not separate objects.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

TEXT_COLUMNS = frozenset(
    {"model", "against", "split", "stage", "geometry", "metric", "aggregation", "sample", "shard", "run", "class"}
)
# The metric of the rows with numbers of objects, written by cellmill.evaluation.comparisons; imported from there, each
# edit of an interval would rebuild the pages
COUNT_DIFFERENCE = "count_difference"
# Scores that models are ranked by: for annotated objects, and for binary masks
BY_OBJECTS, BY_PIXELS = "ap_kaggle", "dice"
FINAL_STAGE, FIRST_STAGE, RAW = "postprocessed", "thresholded", "raw"
# Fewer images, or groups of images, are few: a percentile bootstrap of the mean is too narrow by sqrt((n - 1) / n) and
# uses no Student factor. For normally distributed scores, a 95 % interval from n images contains the true mean in
# 81 % of the cases for n = 4, 90 % for n = 10 and 93 % for n = 20: P(|t| < 1.96 sqrt((n - 1) / n)), n - 1 degrees.
FEW_IMAGES = 10


@dataclass(frozen=True)
class Number:
    """A score with its 95 % interval, from `n` images, of which `n_undefined` have no score."""

    value: float
    low: float | None
    high: float | None
    n: int
    n_undefined: int


@dataclass(frozen=True)
class Counts:
    """Objects in all test images: annotated, and found as a mean over the seeds.

    `error` is (found - annotated) / annotated with its 95 % interval, None if nothing is annotated.
    """

    annotated: int
    found: float
    error: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Standing:
    """A model's scores on the test images, averaged over seeds. `n_groups`: sequences, wells or single images."""

    model: str
    n_seeds: int
    n_groups: int
    dice: Number
    ap: Number | None
    counts: Counts | None = None

    @property
    def n_images(self) -> int:
        """Number of test images, with or without a Dice."""
        return self.dice.n + self.dice.n_undefined

    def score(self, metric: str) -> Number | None:
        """Return the mean Kaggle AP or the mean Dice."""
        return self.dice if metric == BY_PIXELS else self.ap


@dataclass(frozen=True)
class Difference:
    """How much higher one model scores than another on the same images, with its 95 % interval.

    `better` of `images` images have a higher score, `worse` a lower one. The images are from `groups` groups.
    """

    value: float
    low: float | None
    high: float | None
    images: int
    better: int
    worse: int
    groups: int = 0

    @property
    def is_sure(self) -> bool | None:
        """Whether the interval excludes 0; None without an interval."""
        return None if self.low is None or self.high is None else self.low > 0 or self.high < 0


def read_table(path: str | Path, *, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read metrics.csv, scores.csv or objects.csv: names as text, everything else as numbers.

    Parameters
    ----------
    path : path
        A CSV file; it may have a header only.
    columns : sequence of str or None
        Columns to read, if present. None: all.

    Returns
    -------
    DataFrame

    Raises
    ------
    ValueError
        If the file is not a CSV table.
    """
    try:
        names = pd.read_csv(path, nrows=0).columns
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(
            f"{path}: expected a CSV table, found an unreadable file ({error}). Delete it and run snakemake again."
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
    """Look up one score in metrics.csv, in the geometry of the raw images.

    Returns
    -------
    Number or None
        None if the table has no such row or no value in it.
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
    row = rows.iloc[0].to_dict()
    return Number(float(row["value"]), *_ends(row), _whole(row["n"]), _whole(row["n_undefined"]))


def rank_models(comparisons: pd.DataFrame, *, rank_by: str = BY_OBJECTS) -> list[Standing]:
    """Rank the models on the test images, the best first.

    Parameters
    ----------
    comparisons : DataFrame
        comparisons.csv, from `read_table`.
    rank_by : str
        BY_OBJECTS or BY_PIXELS.

    Returns
    -------
    list of Standing
        By the mean of this score, then by the other one, then by name. Models without a Dice on test images are left
        out.
    """
    standings = []
    for model in dict.fromkeys(comparisons["model"]) if not comparisons.empty else ():
        dice, ap = (find_mean(comparisons, model=model, metric=metric) for metric in ("dice", "ap_kaggle"))
        if dice is not None:
            counts = find_counts(comparisons, model=str(model))
            standings.append(Standing(str(model), *_basis_of(comparisons, model=model), dice, ap, counts))
    other = BY_PIXELS if rank_by == BY_OBJECTS else BY_OBJECTS
    return sorted(standings, key=lambda one: (_place(one.score(rank_by)), _place(one.score(other)), one.model))


def _place(number: Number | None) -> float:
    return math.inf if number is None else -number.value


def find_difference(comparisons: pd.DataFrame, *, model: str, against: str, metric: str) -> Difference | None:
    """Look up the difference of two models on the test images.

    Parameters
    ----------
    comparisons : DataFrame
        comparisons.csv, from `read_table`.
    model, against : str
        Names of the models.
    metric : str
        One of `cellmill.evaluation.bootstrap.METRICS`.

    Returns
    -------
    Difference or None
        None if no image has both scores.
    """
    row = _row_of(comparisons, model=model, against=against, metric=metric)
    if row is None:
        return None
    numbers = (_whole(row[name]) for name in ("n", "n_better", "n_worse", "n_groups"))
    return Difference(float(row["value"]), *_ends(row), *numbers)


def find_counts(comparisons: pd.DataFrame, *, model: str) -> Counts | None:
    """Look up the numbers of annotated and found objects of a model on the test images; None if there is no row."""
    row = _row_of(comparisons, model=model, against="", metric=COUNT_DIFFERENCE, is_defined=False)
    if row is None or not math.isfinite(row["n_predicted"]):
        return None
    error = float(row["value"]) if math.isfinite(row["value"]) else None
    return Counts(_whole(row["n_true"]), float(row["n_predicted"]), error, *_ends(row))


def count_objects(scores: pd.DataFrame, *, model: str) -> Counts | None:
    """Add up the objects of scores.csv, without an interval; None if the model has no final objects there."""
    if scores.empty:
        return None
    rows = scores[
        (scores["model"] == model)
        & (scores["split"] == "test")
        & (scores["stage"] == FINAL_STAGE)
        & (scores["geometry"] == RAW)
    ]
    if rows.empty:
        return None
    annotated, found = rows.groupby("sample")[["n_true", "n_predicted"]].mean().sum()
    error = float((found - annotated) / annotated) if annotated else None
    return Counts(int(annotated), float(found), error)


def say_few(n_images: int, n_groups: int) -> str:
    """Describe a number of test images on which intervals are unreliable; "" if there are enough.

    Images of a group are alike, so groups count where there are several.
    """
    if n_images < 2 or min(n_images, n_groups if n_groups > 1 else n_images) >= FEW_IMAGES:
        return ""
    if 1 < n_groups < n_images:
        return f"only {n_groups} groups of test images"
    return f"only {n_images} test images"


def find_mean(comparisons: pd.DataFrame, *, model: str, metric: str) -> Number | None:
    """Look up the mean of a model over its seeds and test images, with the interval over both."""
    row = _row_of(comparisons, model=model, against="", metric=metric)
    if row is None:
        return None
    return Number(float(row["value"]), *_ends(row), _whole(row["n"]), _whole(row["n_undefined"]))


def _row_of(
    comparisons: pd.DataFrame, *, model: str, against: str, metric: str, is_defined: bool = True
) -> Mapping[Any, Any] | None:
    if comparisons.empty:
        return None
    rows = comparisons[
        (comparisons["model"] == model)
        & (comparisons["against"] == against)
        & (comparisons["split"] == "test")
        & (comparisons["metric"] == metric)
    ]
    if rows.empty or (is_defined and not math.isfinite(rows["value"].iloc[0])):
        return None
    return rows.iloc[0].to_dict()


def _ends(row: Mapping[Any, Any]) -> tuple[float | None, float | None]:
    low, high = (float(row[name]) if math.isfinite(row[name]) else None for name in ("ci_low", "ci_high"))
    return low, high


def _basis_of(comparisons: pd.DataFrame, *, model: str) -> tuple[int, int]:
    row = _row_of(comparisons, model=model, against="", metric="dice")
    assert row is not None
    return _whole(row["n_seeds"]), _whole(row["n_groups"])


def _whole(value: float) -> int:
    return int(value) if math.isfinite(value) else 0


def say_caution(flags: Sequence[Mapping[str, str]], *, samples: Sequence[Mapping[str, Any]]) -> str:
    """Return a first sentence on images that the models may not fit; empty if there are none.

    Parameters
    ----------
    flags : sequence of mapping
        Rows of flags.csv; notes are not counted.
    samples : sequence of mapping
        Rows of the sample table. Training images are not counted.
    """
    flagged = {row["sample"] for row in flags if row["severity"] != "note"}
    judged = [row for row in samples if row["split"] != "train"]
    count = sum(row["sample"] in flagged for row in judged)
    if not count:
        return ""
    images = "1 image" if len(judged) == 1 else f"{len(judged):,} images"
    verb, them = ("is", "it") if count == 1 else ("are", "them")
    of = f"{count:,} of {images}" if len(judged) > 1 else images
    return f"Caution: {of} {verb} flagged, because a model may not fit {them} (see Data)."
