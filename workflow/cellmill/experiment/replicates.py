"""From objects to one value for each replicate, and from replicates to conditions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import pandas as pd

from cellmill.experiment.effects import Effect, compare_means, correct_p_values, estimate_mean
from cellmill.experiment.features import Feature
from cellmill.experiment.tables import ConditionRow, ReplicateRow, only


class Treated(TypedDict):
    """An image of the experiment: what was done to it, and where. `plate` and `well` may be empty."""

    sample: str
    condition: str
    replicate: str
    plate: str
    well: str


@dataclass(frozen=True)
class Replicate:
    """Images of one replicate."""

    place: Treated
    samples: Sequence[str]


def group_images(images: Sequence[Treated]) -> list[Replicate]:
    """Group images by their replicate, in the order of the images."""
    groups: dict[str, list[Treated]] = {}
    for image in images:
        groups.setdefault(image["replicate"], []).append(image)
    return [Replicate(members[0], [image["sample"] for image in members]) for members in groups.values()]


def measure_replicates(
    objects: pd.DataFrame, images: Sequence[Treated], *, features: Sequence[Feature], run: str
) -> list[ReplicateRow]:
    """Compute one value for each replicate and feature.

    Parameters
    ----------
    objects : DataFrame
        objects.csv with the columns `sample` (text) and those of the features; objects of other images are left out.
    images : sequence of Treated
        The images of the experiment, also those without objects.
    features : sequence of Feature
        Features to compute.
    run : str
        Name of the run that found the objects.

    Returns
    -------
    list of ReplicateRow
        The number of objects is a mean over the images of a replicate; all else is a mean over its objects.
    """
    replicates = group_images(images)
    number_of = {sample: number for number, one in enumerate(replicates) for sample in one.samples}
    numbers = objects["sample"].map(number_of)
    inside = objects[numbers.notna()]
    owner = numbers[numbers.notna()].to_numpy(dtype=np.int64)
    counts = np.bincount(owner, minlength=len(replicates))
    found = []
    for feature in features:
        values = (
            _mean_values(inside[feature.column].to_numpy(dtype=np.float64), owner, size=len(replicates))
            if feature.column
            else counts / [len(one.samples) for one in replicates]
        )
        found += [
            ReplicateRow(
                run=run, feature=feature.name, unit=feature.unit, condition=one.place["condition"],
                replicate=one.place["replicate"], plate=one.place["plate"], well=one.place["well"],
                n_images=len(one.samples), n_objects=int(count), value=float(value),
            )
            for one, count, value in zip(replicates, counts, values, strict=True)
        ]  # fmt: skip
    return found


def _mean_values(values: np.ndarray, owner: np.ndarray, *, size: int) -> np.ndarray:
    """Return the mean of the known values of each owner, nan without any."""
    is_known = np.isfinite(values)
    numbers = np.bincount(owner[is_known], minlength=size)
    sums = np.bincount(owner[is_known], weights=values[is_known], minlength=size)
    return np.divide(sums, numbers, out=np.full(size, np.nan), where=numbers > 0)


def compare_conditions(
    rows: Sequence[ReplicateRow], *, conditions: Sequence[str], control: str | None
) -> list[ConditionRow]:
    """Compare the conditions of each feature, with p values corrected for all comparisons together.

    Parameters
    ----------
    rows : sequence of ReplicateRow
        From `measure_replicates`.
    conditions : sequence of str
        The conditions in their order.
    control : str or None
        The condition that the others are compared with; None: no differences.

    Returns
    -------
    list of ConditionRow
        For each feature, a row for each condition.
    """
    found = []
    for feature in dict.fromkeys(row.feature for row in rows):
        own = only(rows, feature=feature)
        values = {name: [row.value for row in only(own, condition=name)] for name in conditions}
        for name in conditions:
            is_compared = control is not None and name != control
            effect = compare_means(values[name], values[str(control)]) if is_compared else Effect()
            found.append(_row_of(only(own, condition=name), effect))
    corrected = correct_p_values([row.p for row in found])
    return [replace(row, p_corrected=p) for row, p in zip(found, corrected, strict=True)]


def _row_of(rows: Sequence[ReplicateRow], effect: Effect) -> ConditionRow:
    mean, first = estimate_mean([row.value for row in rows]), rows[0]
    return ConditionRow(
        run=first.run, feature=first.feature, unit=first.unit, condition=first.condition, n_replicates=mean.n,
        n_images=sum(row.n_images for row in rows), n_objects=sum(row.n_objects for row in rows), mean=mean.value,
        ci_low=mean.low, ci_high=mean.high, sd=mean.sd, difference=effect.difference, difference_low=effect.low,
        difference_high=effect.high, percent=effect.percent, hedges_g=effect.hedges_g, p=effect.p,
        p_corrected=float("nan"),
    )  # fmt: skip
