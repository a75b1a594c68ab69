"""Stage evaluate, second rule: turn the counts of all shards of a dataset into scores with intervals.

Each score is a mean over images and a pooled value, with an interval from a bootstrap over images.
"""

import csv
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.evaluation.bootstrap import (
    FREE_METRICS,
    METRICS,
    PLACES,
    Bootstrap,
    number_groups,
    pack_counts,
    score_counts,
    seeds_of_split,
    summarize_counts,
    unpack_counts,
)
from cellmill.evaluation.comparisons import COMPARISON_COLUMNS, COUNTED, Compared
from cellmill.evaluation.counting import POSTPROCESSED, THRESHOLDED
from cellmill.evaluation.paper_scores import (
    ALL_PIXEL_METRICS,
    BASELINE,
    HALF,
    RATE_METRICS,
    count_at_half,
    read_sections,
    summarize_baselines,
    summarize_rates,
    summarize_sections,
)
from cellmill.evaluation.ranking import count_ranked, summarize_ranking
from cellmill.evaluation.row_file import RowFile
from cellmill.metrics.decimals import round_digits
from cellmill.metrics.instance import SIZE_COUNTS
from cellmill.metrics.pixel import BINS, COUNTS
from cellmill.shards import atomic_path

logger = logging.getLogger(__name__)

METRIC_COLUMNS = (
    "model", "seed", "split", "stage", "geometry", "metric", "aggregation", "value", "ci_low", "ci_high",
    "n", "n_undefined",
)  # fmt: skip
SCORE_COLUMNS = (
    "model", "seed", "split", "stage", "geometry", "sample", "shard", *METRICS, *FREE_METRICS,
    "n_true", "n_predicted",
)  # fmt: skip
CURVE_COLUMNS = ("model", "seed", "split", "geometry", "low", "high", "background", "foreground", "confidence")
SIZE_COLUMNS = (
    "model", "seed", "split", "geometry", "low_px", "high_px", "n_true", "n_found", "n_predicted", "n_right",
)  # fmt: skip
CONFIDENCE_COLUMNS = ("model", "seed", "split", "geometry", "low", "high", "n_right", "n_wrong")
DIGITS = 9


@dataclass
class Group:
    """Counts of all images of one run, split, stage and geometry; each list has one entry per image."""

    numbers: RowFile
    ranked: RowFile
    samples: list[str] = field(default_factory=list)
    shards: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    sections: list[np.ndarray] = field(default_factory=list)

    def add(self, image: Mapping[str, Any], shard: str, counted: Mapping[str, Any], stage: str) -> None:
        """Append an image."""
        self.samples.append(image["sample"])
        self.shards.append(shard)
        self.groups.append(image["group"] or image["sample"])
        self.numbers.append(pack_counts({**counted, **counted[stage]}))
        if stage == THRESHOLDED and "grey" in counted:
            self.sections.append(read_sections(counted))
        if "right_at" in counted[stage]:
            self.ranked.append(count_ranked(counted[stage]))

    def sort(self) -> None:
        """Order the images by name, so that draws depend neither on shards nor on folds."""
        order = sorted(range(len(self.samples)), key=lambda number: self.samples[number])
        self.samples, self.shards, self.groups = (
            [names[number] for number in order] for names in (self.samples, self.shards, self.groups)
        )
        self.numbers = self.numbers.sorted(order)
        self.sections = [self.sections[number] for number in order] if self.sections else []
        self.ranked = self.ranked.sorted(order) if len(self.ranked) else self.ranked


def summarize_evaluation(
    *,
    metrics_path: str | Path,
    scores_path: str | Path,
    comparisons_path: str | Path,
    curves_path: str | Path,
    sizes_path: str | Path,
    confidence_path: str | Path,
    shard_paths: Sequence[str | Path],
    bootstrap: int,
    seed: int,
) -> None:
    """Turn the counts of all shards and runs of a dataset into tables.

    Parameters
    ----------
    metrics_path : path
        Tidy table with one number per row: METRICS and RATE_METRICS as image_mean and pooled, FREE_METRICS pooled for
        the stage `thresholded`, the pixel scores also for the stage `at_0.50`. `n` images contribute to a value;
        `n_undefined` images were left out because their score is undefined. confidence_auroc, pooled, is the score of
        `summarize_ranking`. An mcc of 0/0 enters the mean as 0 and is
        also counted in `n_undefined`. Images that were scored as sections have v_rand and v_info
        (see `summarize_sections`) and rows of the stage `baseline` (see `summarize_baselines`).
    scores_path : path
        Table with one row per image, run, stage and geometry.
    comparisons_path : path
        comparisons.csv: models over all their seeds, and pairs of models on the same images; see
        `cellmill.evaluation.comparisons`.
    curves_path : path
        curves.csv: numbers of background and foreground pixels with a probability from `low` to `high`, and the sum of
        their probabilities. ROC, precision-recall, threshold and calibration curves are computed from it.
    sizes_path : path
        sizes.csv: numbers of true and final objects from `low_px` to below `high_px`, all and those matched at an IoU
        above 0.5.
    confidence_path : path
        confidence.csv: numbers of right and wrong final objects with a confidence from `low` to `high`.
    shard_paths : sequence of path
        Results of `evaluate_shard`; if empty, the tables have only a header. Runs are read one after the other.
    bootstrap : int, >= 0
        Number of replicates for ci_low and ci_high (95 % percentile interval; images of a group are drawn together).
        Both are empty for 0 replicates or a single image.
    seed : int
        Seed of the config. The draws depend on the split and the images, and not on runs.
    """
    sections: Sections = {}
    compared = Compared()
    with (
        atomic_path(metrics_path) as metrics,
        atomic_path(scores_path) as scores,
        atomic_path(comparisons_path) as comparisons,
        atomic_path(curves_path) as curves,
        atomic_path(sizes_path) as sizes,
        atomic_path(confidence_path) as confidence,
        TableWriter(metrics, METRIC_COLUMNS) as metric_rows,
        TableWriter(scores, SCORE_COLUMNS) as score_rows,
        TableWriter(comparisons, COMPARISON_COLUMNS) as comparison_rows,
        TableWriter(curves, CURVE_COLUMNS) as curve_rows,
        TableWriter(sizes, SIZE_COLUMNS) as size_rows,
        TableWriter(confidence, CONFIDENCE_COLUMNS) as confidence_rows,
    ):
        for paths in _paths_of_runs(shard_paths):
            groups = _read_groups(paths, sections=sections, folder=Path(metrics_path).parent)
            metric_rows.write(_metric_rows(groups, bootstrap=bootstrap, seed=seed))
            score_rows.write(_score_rows(groups, compared=compared))
            curve_rows.write(_curve_rows(groups))
            size_rows.write(_size_rows(groups))
            confidence_rows.write(_confidence_rows(groups))
        metric_rows.write(_baseline_rows(sections, bootstrap=bootstrap, seed=seed))
        comparison_rows.write(compared.summarize(bootstrap=bootstrap, seed=seed))
    logger.info("evaluated %d shards of %d models", len(shard_paths), len(compared.models))


def _bootstrap(groups: Sequence[str], split: str, *, replicates: int, seed: int) -> Bootstrap:
    """Return the bootstrap over images with these groups: the draws of the comparisons, if they are the same images."""
    return Bootstrap(replicates, seeds_of_split(split, seed=seed), number_groups(groups))


Key = tuple[str, int, str, str, str]
# geometry -> split -> sample -> its counts
Sections = dict[str, dict[str, dict[str, Any]]]


def _paths_of_runs(paths: Sequence[str | Path]) -> list[list[Path]]:
    """Group the shards by model and seed, across folds; everything in order of name."""
    folders: dict[Path, list[Path]] = {}
    for path in sorted(map(str, paths)):
        folders.setdefault(Path(path).parent, []).append(Path(path))
    runs: dict[tuple[str, int], list[Path]] = {}
    for members in folders.values():
        contents = json.loads(members[0].read_text(encoding="utf-8"))
        runs.setdefault((contents["model"], contents["seed"]), []).extend(members)
    return list(runs.values())


def _read_groups(paths: Sequence[Path], *, sections: Sections, folder: Path) -> dict[Key, Group]:
    """Collect the counts of a run by model, seed, split, stage and geometry; those of many images in a file.

    Images that were scored as sections are also added to `sections`, each once, however many runs there are.
    """
    groups: dict[Key, Group] = {}
    for path in paths:
        contents = json.loads(path.read_text(encoding="utf-8"))
        for image in contents["images"]:
            for geometry, counted in image["geometry"].items():
                # Masks of other programs have no probabilities, so nothing is thresholded.
                for stage in (each for each in (THRESHOLDED, POSTPROCESSED) if each in counted):
                    key = (contents["model"], contents["seed"], contents["split"], stage, geometry)
                    if key not in groups:
                        groups[key] = Group(RowFile(folder), RowFile(folder))
                    groups[key].add(image, contents["shard"], counted, stage)
                if "grey" in counted:
                    of_split = sections.setdefault(geometry, {}).setdefault(contents["split"], {})
                    of_split.setdefault(image["sample"], {**counted, "group": image["group"] or image["sample"]})
    for group in groups.values():
        group.sort()
    return groups


def _metric_rows(groups: Mapping[Key, Group], *, bootstrap: int, seed: int) -> Iterator[dict[str, Any]]:
    for key, group in groups.items():
        model, run_seed, split, stage, geometry = key
        # All runs, stages and geometries share one random stream, so that their intervals use the same draws of images.
        draws = _bootstrap(group.groups, split, replicates=bootstrap, seed=seed)
        names = {
            "model": model, "seed": run_seed, "split": split, "stage": stage, "geometry": geometry,
        }  # fmt: skip
        numbers = group.numbers
        for row in summarize_counts(numbers, bootstrap=draws, with_free=stage == THRESHOLDED):
            yield names | row
        for row in summarize_rates(numbers[:, : len(COUNTS)], metrics=RATE_METRICS, bootstrap=draws):
            yield names | row
        if stage == THRESHOLDED:
            at_half = np.concatenate(
                [count_at_half(block[:, -2 * BINS :].reshape(-1, 2, BINS)) for block in numbers.blocks()]
            )
            for row in summarize_rates(at_half, metrics=ALL_PIXEL_METRICS, bootstrap=draws):
                yield names | {"stage": HALF} | row
        if group.sections:
            scores = np.stack(group.sections)[:, :, :-1]
            for row in summarize_sections(scores, bootstrap=draws):
                yield names | row
        if len(group.ranked):
            yield names | summarize_ranking(group.ranked, bootstrap=draws)


def _baseline_rows(sections: Sections, *, bootstrap: int, seed: int) -> Iterator[dict[str, Any]]:
    for geometry, unordered in sections.items():
        of_geometry = {split: dict(sorted(of_split.items())) for split, of_split in unordered.items()}
        draws = {
            split: _bootstrap([one["group"] for one in of_split.values()], split, replicates=bootstrap, seed=seed)
            for split, of_split in of_geometry.items()
        }
        for row in summarize_baselines(of_geometry, bootstraps=draws):
            yield {"seed": 0, "stage": BASELINE, "geometry": geometry} | row


def _score_rows(groups: Mapping[Key, Group], *, compared: Compared) -> Iterator[dict[str, Any]]:
    for (model, run_seed, split, stage, geometry), group in groups.items():
        numbers = group.numbers
        # Threshold-free scores belong to the probabilities, not to the final objects.
        scores = score_counts(numbers, with_free=stage == THRESHOLDED)
        counts = {name: numbers[:, PLACES[name]][:, 0] for name in COUNTED}
        if (stage, geometry) == (POSTPROCESSED, "raw"):
            compared.add(
                model=model, seed=run_seed, split=split, samples=group.samples, groups=group.groups, scores=scores,
                counts=counts,
            )  # fmt: skip
        names = {"model": model, "seed": run_seed, "split": split, "stage": stage, "geometry": geometry}
        for k, (sample, shard) in enumerate(zip(group.samples, group.shards, strict=True)):
            yield names | {"sample": sample, "shard": shard} | {name: each[k] for name, each in scores.items()} | {
                name: int(counts[name][k]) for name in COUNTED
            }  # fmt: skip


def _curve_rows(groups: Mapping[Key, Group]) -> Iterator[dict[str, Any]]:
    for (model, run_seed, split, stage, geometry), group in groups.items():
        if stage == THRESHOLDED:
            total = unpack_counts(group.numbers.sum(axis=0, keepdims=True))
            for k in range(BINS):
                yield {
                    "model": model, "seed": run_seed, "split": split, "geometry": geometry, "low": k / BINS,
                    "high": (k + 1) / BINS, "background": int(total["background"][0, k]),
                    "foreground": int(total["foreground"][0, k]), "confidence": float(total["confidence"][0, k]),
                }  # fmt: skip


def _size_rows(groups: Mapping[Key, Group]) -> Iterator[dict[str, Any]]:
    for (model, run_seed, split, stage, geometry), group in groups.items():
        if stage == POSTPROCESSED:
            total = unpack_counts(group.numbers.sum(axis=0, keepdims=True))
            counts = np.stack([total[name][0] for name in SIZE_COUNTS], axis=1).astype(np.int64)
            for k in np.flatnonzero(counts.any(axis=1)).tolist():
                yield {
                    "model": model, "seed": run_seed, "split": split, "geometry": geometry, "low_px": 2**k,
                    "high_px": 2 ** (k + 1), **dict(zip(SIZE_COLUMNS[6:], counts[k].tolist(), strict=True)),
                }  # fmt: skip


def _confidence_rows(groups: Mapping[Key, Group]) -> Iterator[dict[str, Any]]:
    for (model, run_seed, split, _, geometry), group in groups.items():
        if len(group.ranked):
            wrong, right = group.ranked.sum(axis=0).reshape(2, BINS).astype(np.int64)
            for k in np.flatnonzero(wrong + right).tolist():
                yield {
                    "model": model, "seed": run_seed, "split": split, "geometry": geometry, "low": k / BINS,
                    "high": (k + 1) / BINS, "n_right": int(right[k]), "n_wrong": int(wrong[k]),
                }  # fmt: skip


class TableWriter:
    """CSV table written row by row, with nine significant digits and empty fields for undefined numbers.

    Parameters
    ----------
    path : path
    columns : sequence of str
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._stream = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._stream, columns, restval="", lineterminator="\n")
        self._writer.writeheader()

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows."""
        for row in rows:
            self._writer.writerow({name: _shown(value) for name, value in row.items()})


def _shown(value: Any) -> Any:
    if not isinstance(value, float | np.floating):
        return value
    return "" if np.isnan(value) else round_digits(float(value), DIGITS)
