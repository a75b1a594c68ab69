"""Similarity of simulated images to the real images that they were matched to: a table, a figure, a sentence.

No files are read here.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cellmill.matching.statistic_names import STATISTICS
from cellmill.reports.figures import Change, Figure, draw_distances
from cellmill.reports.wording import MISSING, Cell, Column, Table, say_score, say_value

COLUMNS = [
    Column("Statistic"),
    Column("Real", True, "median over the real images; below it, the 10 % and 90 % quantiles"),
    Column("Before", True, "the same for images simulated with the settings in the config"),
    Column("After", True, "the same for images simulated with the matched settings"),
    Column("Distance before", True, "Wasserstein distance to the real images, in pooled standard deviations"),
    Column("Distance after", True, "the same after matching"),
    Column("Expected distance", meaning="95 % range if real and matched images had the same distribution"),
    Column("Images", True, "numbers of real + simulated images with a value"),
]


def describe_likeness(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Describe the match for the page.

    Parameters
    ----------
    rows : sequence of mappings
        Rows of match.csv; None for undefined numbers.

    Returns
    -------
    dict
        sentence, figure, table.
    """
    fitted = [row for row in rows if row["is_primary"]]
    means = [_mean(row[key] for row in fitted) for key in ("distance_before", "distance_after")]
    judged = [row for row in fitted if row["distance_after"] is not None and row["interval_high"] is not None]
    within = sum(row["distance_after"] <= row["interval_high"] for row in judged)
    return {
        "sentence": f"Mean distance to the real images over {len(fitted)} statistics: {say_score(means[0])} with the "
        f"settings in the config, {say_score(means[1])} after matching. After matching, {within} of {len(judged)} "
        "distances are no larger than expected for images from the same distribution.",
        "figure": _draw(rows),
        "table": _tabulate(rows),
    }


def _draw(rows: Sequence[Mapping[str, Any]]) -> Figure:
    changes = [
        Change(
            STATISTICS[row["statistic"]].label,
            row["distance_before"], row["distance_after"], row["interval_low"], row["interval_high"],
        )
        for row in rows
        if row["distance_after"] is not None
    ]  # fmt: skip
    return draw_distances(
        changes,
        title="Distance to the real images",
        caption="Band: 95 % range of the distances expected if real and simulated images had the same distribution.",
    )


def _tabulate(rows: Sequence[Mapping[str, Any]]) -> Table:
    cells = []
    for row in rows:
        statistic = STATISTICS[row["statistic"]]
        name = f"{statistic.label}, {statistic.unit}" if statistic.unit else statistic.label
        note = statistic.method if statistic.is_primary else f"{statistic.method}; no setting is matched to it"
        values = [
            Cell(
                MISSING if row[side] is None else say_value(float(row[side])),
                row[side],
                "" if row[side] is None else f"{say_value(row[f'{side}_low'])} to {say_value(row[f'{side}_high'])}",
            )
            for side in ("real", "before", "after")
        ]
        low, high = row["interval_low"], row["interval_high"]
        expected = Cell(MISSING if high is None else f"{say_score(low)} to {say_score(high)}", high)
        n_real, n_simulated = (int(row[key] or 0) for key in ("n_real", "n_simulated"))
        undefined = int(row["n_undefined"] or 0)
        images = Cell(f"{n_real} + {n_simulated}", n_real + n_simulated, f"{undefined} undefined" if undefined else "")
        distances = [Cell(say_score(row[key]), row[key]) for key in ("distance_before", "distance_after")]
        cells.append([Cell(name, name, note), *values, *distances, expected, images])
    return Table("likeness", "Real and simulated images by statistic", COLUMNS, cells, source="match.csv")


def _mean(values: Any) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan
