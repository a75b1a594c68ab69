"""Compare models over all their seeds: mean scores, and paired differences on the same images, with intervals.

Models are compared image by image, since a hard image is usually hard for both. Intervals come from a bootstrap over
images, drawing those of a group together, and over the seeds of each model that has several. They estimate how much a
difference varies with other images of this kind and another training.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cellmill.evaluation.bootstrap import (
    CONFIDENCE,
    METRICS,
    Bootstrap,
    bootstrap_weights,
    number_groups,
    percentile_interval,
    seeds_of_split,
    weighted_means,
)
from cellmill.metrics.pixel import divide
from cellmill.shards import stable_hash

COMPARISON_COLUMNS = (
    "model", "against", "split", "metric", "value", "ci_low", "ci_high", "n_seeds", "n_seeds_against",
    "n", "n_undefined", "n_groups", "n_better", "n_worse", "n_true", "n_predicted",
)  # fmt: skip
# Row of a model with the numbers of objects in all images: (predicted - annotated) / annotated, not a mean over images
COUNT_DIFFERENCE = "count_difference"
COUNTED = ("n_true", "n_predicted")
# The number of pairs grows with the square of the number of models, so only this many models are compared.
MAX_MODELS = 30


class Compared:
    """Scores of the final objects of each image in the geometry of the raw images, by split, model and seed."""

    def __init__(self) -> None:
        # split -> model -> seed -> sample -> scores in the order of METRICS
        self._scores: dict[str, dict[str, dict[int, dict[str, np.ndarray]]]] = {}
        # the same with the numbers of COUNTED
        self._counts: dict[str, dict[str, dict[int, dict[str, np.ndarray]]]] = {}
        self._groups: dict[str, str] = {}

    @property
    def models(self) -> list[str]:
        """All model names, in the order in which they were added."""
        return list(dict.fromkeys(model for of_split in self._scores.values() for model in of_split))

    def add(
        self,
        *,
        model: str,
        seed: int,
        split: str,
        samples: Sequence[str],
        groups: Sequence[str],
        scores: Mapping[str, np.ndarray],
        counts: Mapping[str, np.ndarray],
    ) -> None:
        """Add the images of a run: their names and groups, and for all images each of METRICS and of COUNTED."""
        for kept, names, values in ((self._scores, METRICS, scores), (self._counts, COUNTED, counts)):
            table = np.stack([np.asarray(values[name], dtype=np.float64) for name in names], axis=1)
            of_run = kept.setdefault(split, {}).setdefault(model, {}).setdefault(seed, {})
            of_run.update(zip(samples, table, strict=True))
        self._groups.update(zip(samples, groups, strict=True))

    def summarize(self, *, bootstrap: int, seed: int) -> Iterator[dict[str, Any]]:
        """Compute the rows of comparisons.csv.

        Parameters
        ----------
        bootstrap : int, >= 0
            Number of replicates.
        seed : int
            Seed of the config.

        Yields
        ------
        dict
            COMPARISON_COLUMNS. If `against` is empty, `value` is the mean of a model over its seeds and images.
            Otherwise it is the mean difference to that model on the images that both share: `n_better` images have a
            higher score, `n_worse` a lower score. `n` images contribute to a value; for `n_undefined` others it is
            undefined. Each model also has a row COUNT_DIFFERENCE; only there, `n_true` and `n_predicted` are the
            annotated objects in all images and the predicted ones, as a mean over the seeds.
        """
        for split, of_split in self._scores.items():
            # Points of learning curves and means of seeds have a dot; they give way if there are too many models.
            models = sorted(of_split, key=lambda model: "." in model)
            samples = sorted({name for runs in of_split.values() for run in runs.values() for name in run})
            groups = number_groups([self._groups[sample] for sample in samples])
            draws = Bootstrap(bootstrap, seeds_of_split(split, seed=seed), groups)
            tables = {model: _tabulate(of_split[model], samples, columns=len(METRICS)) for model in models}
            pairs = itertools.permutations(models[:MAX_MODELS], 2)
            for chosen in itertools.chain(((model,) for model in models), pairs):
                yield from _rows(split, draws, {model: tables[model] for model in chosen})
            for model, runs in self._counts[split].items():
                yield _count_row(split, draws, model, _tabulate(runs, samples, columns=len(COUNTED)))


def _tabulate(runs: Mapping[int, Mapping[str, np.ndarray]], samples: Sequence[str], *, columns: int) -> np.ndarray:
    """Return the numbers of a model, shape (seeds, images, columns), NaN where an image was not scored."""
    missing = np.full(columns, np.nan)
    return np.stack([[run.get(sample, missing) for sample in samples] for run in runs.values()])


def _rows(split: str, draws: Bootstrap, tables: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Compute a row for each of METRICS, for one model or for the difference of two."""
    model, against = (*tables, "")[:2]
    each = _difference([_over_seeds(table) for table in tables.values()])
    drawn = np.concatenate([np.zeros((0, len(METRICS))), *_replicates(tables, draws, score=weighted_means)])
    low, high = percentile_interval(drawn, level=CONFIDENCE)
    n_scored = int(np.all([np.isfinite(table).any(axis=(0, 2)) for table in tables.values()], axis=0).sum())
    for k, metric in enumerate(METRICS):
        known = np.isfinite(each[:, k])
        n = int(np.count_nonzero(known))
        row = {
            "model": model, "against": against, "split": split, "metric": metric,
            "value": float(each[known, k].mean()) if n else np.nan, "ci_low": low[k], "ci_high": high[k],
            "n_seeds": len(tables[model]), "n": n, "n_undefined": n_scored - n,
            "n_groups": len(np.unique(draws.groups[known])),
        }  # fmt: skip
        if against:
            row |= {
                "n_seeds_against": len(tables[against]), "n_better": int(np.count_nonzero(each[known, k] > 0)),
                "n_worse": int(np.count_nonzero(each[known, k] < 0)),
            }  # fmt: skip
        yield row


def _count_row(split: str, draws: Bootstrap, model: str, table: np.ndarray) -> dict[str, Any]:
    """Compare the numbers of predicted and annotated objects in all images, shape (seeds, images, COUNTED)."""
    each = _over_seeds(table)
    known = np.isfinite(each).all(axis=1)
    true, predicted = each[known].sum(axis=0)
    drawn = np.concatenate([np.zeros((0, 1)), *_replicates({model: table}, draws, score=_count_differences)])
    low, high = percentile_interval(drawn, level=CONFIDENCE)
    value = _count_differences(each, np.ones((1, len(each))))[0, 0]
    n = int(np.count_nonzero(known)) if np.isfinite(value) else 0
    return {
        "model": model, "against": "", "split": split, "metric": COUNT_DIFFERENCE, "value": float(value),
        "ci_low": low[0], "ci_high": high[0], "n_seeds": len(table), "n": n,
        "n_undefined": int(np.count_nonzero(known)) - n, "n_groups": len(np.unique(draws.groups[known])),
        "n_true": int(true), "n_predicted": float(predicted),
    }  # fmt: skip


def _count_differences(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (predicted - annotated) / annotated of each replicate, shape (replicates, 1), NaN without annotations."""
    totals = weights @ np.where(np.isfinite(counts), counts, 0.0)
    true, predicted = totals.T
    return divide(predicted - true, true, undefined=np.nan)[:, np.newaxis]


def _replicates(
    named: Mapping[str, np.ndarray], draws: Bootstrap, *, score: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Iterator[np.ndarray]:
    """Score each replicate, for one model or for the difference of two, in pieces.

    `score` takes numbers of shape (images, columns) and weights of shape (replicates, images), and returns one row per
    replicate.
    """
    tables = list(named.values())
    # A model draws the same seeds in every comparison.
    state = int(draws.seeds.generate_state(1)[0])
    rngs = [np.random.default_rng([state, stable_hash(model, purpose="seeds")]) for model in named]
    for weights in draws.weights():
        picked = [
            bootstrap_weights(len(table), replicates=len(weights), rng=rng)
            for table, rng in zip(tables, rngs, strict=True)
        ]
        counts = np.concatenate([np.concatenate(list(pieces)) for pieces in picked], axis=1)
        # Few distinct draws of seeds exist, so the mean over seeds is computed once for each distinct draw.
        ways, of_replicate = np.unique(counts, axis=0, return_inverse=True)
        scores: np.ndarray | None = None
        for number, way in enumerate(ways):
            here = of_replicate.ravel() == number
            parts = np.split(way, np.cumsum([len(table) for table in tables])[:-1])
            values = _difference([_over_seeds(table, part) for table, part in zip(tables, parts, strict=True)])
            scored = score(values, weights[here])
            scores = np.empty((len(weights), scored.shape[1])) if scores is None else scores
            scores[here] = scored
        if scores is not None:
            yield scores


def _over_seeds(table: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Compute the mean over seeds, weighted by `counts` (None: equally), where defined: shape (images, columns)."""
    counts = np.ones(len(table)) if counts is None else counts
    defined = np.isfinite(table)
    total = np.tensordot(counts, np.where(defined, table, 0.0), axes=1)
    return divide(total, np.tensordot(counts, defined.astype(np.float64), axes=1), undefined=np.nan)


def _difference(values: Sequence[np.ndarray]) -> np.ndarray:
    return values[0] if len(values) == 1 else values[0] - values[1]
