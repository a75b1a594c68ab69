"""Stage conditions: what the objects of a run say about the conditions of an experiment."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cellmill.experiment.features import Feature, resolve_feature
from cellmill.experiment.replicates import Treated, compare_conditions, measure_replicates
from cellmill.experiment.tables import ConditionRow, ReplicateRow, write_rows
from cellmill.shards import atomic_path

logger = logging.getLogger(__name__)


def summarize_conditions(
    *,
    conditions_path: str | Path,
    replicates_path: str | Path,
    objects_path: str | Path,
    run: str,
    images: Sequence[Treated],
    conditions: Sequence[str],
    control: str | None,
    features: Sequence[str],
) -> None:
    """Summarise the objects of a run by replicate, and compare the conditions.

    Parameters
    ----------
    conditions_path, replicates_path : path
        Output files: one row per feature and condition, and one per feature and replicate.
    objects_path : path
        objects.csv of the run.
    run : str
        Name of the run.
    images : sequence of Treated
        Images of the experiment with their condition and replicate.
    conditions : sequence of str
        The conditions in their order.
    control : str or None
        The condition that the others are compared with.
    features : sequence of str
        Names of `list_features`.

    Raises
    ------
    ValueError
        If objects.csv lacks the column of a feature.
    """
    columns = list(pd.read_csv(objects_path, nrows=0).columns)
    objects = pd.read_csv(
        objects_path,
        dtype={"sample": str},
        keep_default_na=False,  # a sample may be called NA
        na_values={column: ["", "nan"] for column in columns if column != "sample"},
    )
    objects = objects[objects["sample"].isin([image["sample"] for image in images])]
    chosen = _resolve_features(features, objects)
    replicates = measure_replicates(objects, images, features=chosen, run=run)
    compared = compare_conditions(replicates, conditions=conditions, control=control)
    with atomic_path(replicates_path) as path:
        write_rows(path, replicates, ReplicateRow)
    with atomic_path(conditions_path) as path:
        write_rows(path, compared, ConditionRow)
    logger.info("%s: %d objects, %d replicates, %d conditions", run, len(objects), _count(replicates), len(conditions))


def _resolve_features(names: Sequence[str], objects: pd.DataFrame) -> list[Feature]:
    """Return the features of some names, each once."""
    columns = list(objects.columns)
    found = [
        resolve_feature(name, columns, is_known=lambda column: bool(objects[column].notna().all())) for name in names
    ]
    return list(dict.fromkeys(found))


def _count(rows: Sequence[ReplicateRow]) -> int:
    return len({row.replicate for row in rows})
