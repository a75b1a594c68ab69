"""What does an experiment say? Features by condition, effects against the control, and maps of the plates."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from markupsafe import Markup

from cellmill.experiment.tables import ConditionRow, ReplicateRow, only, read_rows
from cellmill.objects.units import UNITS_OF_ENDS
from cellmill.reports.figures import Dot, Figure, draw_dots
from cellmill.reports.plates import UNITS, draw_plate
from cellmill.reports.wording import (  # fmt: skip
    MAX_ROWS,
    MISSING,
    Cell,
    Column,
    Table,
    count,
    say_list,
    say_number_of,
    say_percent,
    say_range,
    say_value,
    word,
)

SURE = 0.05
MAX_DRAWN = 24  # conditions in a figure; the table has more
MAX_FEATURES = 6  # with a figure
MAX_MAPS = 6
# Ends of the names of columns that state a unit, as in objects/units.py
ENDS = tuple(UNITS_OF_ENDS)


class Experiment(TypedDict):
    """An experiment in the settings of the rule `report`. `learned`: images that its model was trained or tuned on."""

    conditions_path: str | Path
    replicates_path: str | Path
    column: str
    replicate: Sequence[str]
    control: str | None
    learned: int
    left_out: int


def describe_conditions(experiment: Experiment, *, styles: dict[str, str]) -> dict[str, Any]:
    """Draw and tabulate an experiment, and write its first sentence and its notes.

    Parameters
    ----------
    experiment : mapping
        Experiment.
    styles : mapping
        Run -> CSS classes of its colour.

    Returns
    -------
    dict
        run, sentence, notes, figures (one for each feature), maps, table, and the facts of how it was computed.
    """
    rows = read_rows(experiment["conditions_path"], ConditionRow)
    replicates = read_rows(experiment["replicates_path"], ReplicateRow)
    run, control = rows[0].run, experiment["control"]
    conditions = list(dict.fromkeys(row.condition for row in rows))
    clearest = _find_clearest(rows)
    # The feature of the first sentence comes first.
    features = list(dict.fromkeys([*([clearest.feature] if clearest else []), *(row.feature for row in rows)]))
    style = styles[run]
    drawn = [name for name in features if any(_is_known(row.mean) for row in only(rows, feature=name))]
    return {
        "run": run,
        "column": experiment["column"],
        "replicate": " and ".join(experiment["replicate"]),
        "control": control,
        "compared": sum(_is_known(row.p) for row in rows),
        "sentence": _say_values(rows)
        if control is None
        else _say_effects(rows, clearest, control=control, column=experiment["column"]),
        "notes": _list_notes(rows, experiment),
        "figures": [
            _draw_feature(only(rows, feature=name), only(replicates, feature=name), style=style)
            for name in drawn[:MAX_FEATURES]
        ],
        "maps": _draw_maps(replicates, features=drawn, conditions=conditions, style=style, control=control),
        "table": _tabulate(rows, control=control),
    }


def name_feature(row: ConditionRow | ReplicateRow) -> str:
    """Return the name of a feature for a reader, such as "area, µm²"."""
    ends = [end for end in ENDS if row.feature.endswith(end)] if row.unit in UNITS else []
    name = row.feature.removesuffix(ends[0] if ends else "").replace("_", " ")
    return f"{name}, {UNITS[row.unit]}" if row.unit in UNITS else name


def _find_clearest(rows: Sequence[ConditionRow]) -> ConditionRow | None:
    """Return the comparison with the lowest p value, or else the first one with a difference."""
    tested = [row for row in rows if _is_known(row.p)]
    compared = [row for row in rows if _is_known(row.difference)]
    return min(tested, key=lambda row: row.p) if tested else compared[0] if compared else None


def _say_effects(rows: Sequence[ConditionRow], clearest: ConditionRow | None, *, control: str, column: str) -> Markup:
    """Write how many comparisons are sure, and the clearest one."""
    if clearest is None:
        return Markup("Nothing can be compared with the control <strong>{}</strong>: there are no objects.").format(
            control
        )
    tested = [row for row in rows if _is_known(row.p)]
    sure = sum(row.p_corrected < SURE for row in tested)
    n = say_number_of(len(tested), "comparison")
    if not tested:
        text = Markup("No comparison with the control <strong>{}</strong> has a p value. ").format(control)
    elif sure:
        have = "has" if sure == 1 else "have"
        text = Markup("{} of {} with the control <strong>{}</strong> {} a corrected p below 0.05. ").format(
            sure, n, control, have
        )
    elif len(tested) == 1:
        text = Markup("The comparison with the control <strong>{}</strong> has a corrected p of 0.05 or more. ").format(
            control
        )
    else:
        text = Markup("None of {} with the control <strong>{}</strong> has a corrected p below 0.05. ").format(
            n, control
        )
    other = next(row for row in rows if row.feature == clearest.feature and row.condition == control)
    text += Markup("{} {}: {} where {} is <strong>{}</strong>, {} where it is {}").format(
        "The clearest is" if len(tested) > 1 else "It is" if tested else "The first is",
        name_feature(clearest),
        say_value(clearest.mean),
        column,
        clearest.condition,
        say_value(other.mean),
        control,
    )
    text += Markup("; difference <strong>{}</strong>{}").format(_say_difference(clearest.difference), _aside(clearest))
    text += f", {_say_replicates(clearest.n_replicates, other.n_replicates)}."
    if tested and not sure:
        text += (
            " This does not show that there is no effect: the intervals contain the differences that remain possible."
        )
    return text


def _say_replicates(own: int, other: int) -> str:
    return f"from {say_number_of(own, 'replicate')} each" if own == other else f"from {own} and {other} replicates"


def _aside(row: ConditionRow) -> Markup:
    """Return percentage, interval and corrected p of a comparison in brackets, as far as they are known."""
    parts = [say_percent(row.percent / 100, is_signed=True)] if _is_known(row.percent) else []
    if _is_known(row.difference_low):
        parts.append(f"95\N{NO-BREAK SPACE}% confidence interval {_say_ends(row.difference_low, row.difference_high)}")
    parts += [f"corrected p {_say_p(row.p_corrected)}"] if _is_known(row.p_corrected) else []
    return Markup(" ({})").format("; ".join(parts)) if parts else Markup("")


def _say_values(rows: Sequence[ConditionRow]) -> Markup:
    """Write which conditions have the lowest and the highest mean of the first feature with values."""
    feature = next((row.feature for row in rows if _is_known(row.mean)), None)
    if feature is None:
        return Markup("There are no objects.")
    known = [row for row in only(rows, feature=feature) if _is_known(row.mean)]
    low, high = min(known, key=lambda row: row.mean), max(known, key=lambda row: row.mean)
    most = max(row.n_replicates for row in known)
    text = Markup("{}, from {} {} each. ").format(
        say_number_of(len(known), "condition"),
        say_range(row.n_replicates for row in known),
        "replicate" if most == 1 else "replicates",
    )
    if low.mean == high.mean:
        text += Markup("{}: {} in all. ").format(_capital(name_feature(low)), say_value(low.mean))
    else:
        text += Markup("{}: lowest in <strong>{}</strong> ({}) and highest in <strong>{}</strong> ({}). ").format(
            _capital(name_feature(low)), low.condition, say_value(low.mean), high.condition, say_value(high.mean)
        )
    return text + Markup("No control is set, so nothing is compared.")


def _list_notes(rows: Sequence[ConditionRow], experiment: Experiment) -> list[str]:
    """List what limits the conclusions: few replicates, features without values, images left out or learned from."""
    first = only(rows, feature=rows[0].feature)
    notes = []
    for number, consequence in (
        (
            1,
            "which gives no interval and no p value: its difference from another one may be that of any two replicates",
        ),
        (2, "which give very wide intervals; a third one would narrow them most"),
    ):
        if few := [row.condition for row in first if row.n_replicates == number]:
            have = f"{'has' if len(few) == 1 else 'have'} {say_number_of(number, 'replicate')} only"
            notes.append(f"{say_list(few, most=5)} {have}, {consequence}.")
    if equal := sorted({name_feature(row) for row in rows if row.n_replicates > 1 and row.sd == 0}):
        notes.append(f"Where all replicates of a condition are equal, it has no interval: {say_list(equal, most=5)}.")
    unknown = [
        name
        for name in dict.fromkeys(row.feature for row in rows)
        if not any(_is_known(row.mean) for row in only(rows, feature=name))
    ]
    if unknown:
        notes.append(f"No object has a value of {say_list(unknown, most=5)}.")
    if number := experiment["left_out"]:
        have = "has no row in the sample sheet and is" if number == 1 else "have no row in the sample sheet and are"
        notes.append(f"{say_number_of(number, 'image')} {have} left out.")
    if number := experiment["learned"]:
        was = "was" if number == 1 else "were"
        notes.append(
            f"{say_number_of(number, 'image')} of the experiment {was} used to train or tune the model, whose objects "
            "may be better there."
        )
    return notes


def _draw_feature(rows: Sequence[ConditionRow], replicates: Sequence[ReplicateRow], *, style: str) -> Figure:
    """Draw the replicates of each condition, their mean and its interval."""
    known = [row for row in rows if _is_known(row.mean)]
    dots = [
        Dot(
            row.condition,
            style,
            row.mean,
            row.ci_low if _is_known(row.ci_low) else None,
            row.ci_high if _is_known(row.ci_high) else None,
            tuple(
                (one.replicate, one.value) for one in only(replicates, condition=row.condition) if _is_known(one.value)
            ),
        )
        for row in known[:MAX_DRAWN]
    ]
    caption = "Open: replicates. Filled: their mean, with its 95 % confidence interval."
    if len(known) > MAX_DRAWN:
        caption += f" The first {MAX_DRAWN} of {len(known)} conditions; the others are in the table."
    return draw_dots(dots, title=_capital(name_feature(rows[0])), caption=caption, say=say_value)


def _draw_maps(
    replicates: Sequence[ReplicateRow],
    *,
    features: Sequence[str],
    conditions: Sequence[str],
    style: str,
    control: str | None,
) -> list[Figure]:
    """Draw the plates by the first feature, then by the others, at most MAX_MAPS in all."""
    plates = list(dict.fromkeys(row.plate for row in replicates if row.well))
    maps = []
    for feature, plate in [(feature, plate) for feature in features for plate in plates][:MAX_MAPS]:
        rows = [row for row in only(replicates, feature=feature, plate=plate) if row.well]
        name = name_feature(rows[0])
        title = f"Plate {plate}: {name}" if plate else _capital(name)
        maps.append(draw_plate(rows, conditions=conditions, style=style, title=title, control=control))
    return maps


def _tabulate(rows: Sequence[ConditionRow], *, control: str | None) -> Table:
    """Tabulate conditions.csv; without a control, the columns of differences are left out."""
    columns = [
        Column("Feature"), Column("Condition"),
        Column("Mean", True, "mean of the replicates, and its 95 % confidence interval"),
    ]  # fmt: skip
    if control is not None:
        columns += [
            Column("Difference", True, f"from {control}, with its 95 % confidence interval"),
            Column("Difference, %", True, f"in per cent of the mean of {control}"),
            Column("p, corrected", True, "for all comparisons of this table"),
            Column("p", True, "Welch's t test of the replicates"),
            Column("Hedges' g", True, "difference in standard deviations between replicates"),
        ]
    columns += [Column("Replicates", True), Column("Images", True), Column("Objects", True)]
    body = []
    for row in rows[:MAX_ROWS]:
        cells = [word(name_feature(row)), word(row.condition), _cell(row.mean, row.ci_low, row.ci_high)]
        if control is not None:
            percent = say_percent(row.percent / 100, is_signed=True) if _is_known(row.percent) else MISSING
            cells += [
                _cell(row.difference, row.difference_low, row.difference_high, is_signed=True),
                Cell(percent, row.percent if _is_known(row.percent) else None),
                *(Cell(_say_p(p), p if _is_known(p) else None) for p in (row.p_corrected, row.p)),
                _cell(row.hedges_g, is_signed=True),
            ]
        body.append([*cells, count(row.n_replicates), count(row.n_images), count(row.n_objects)])
    return Table("conditions", "Conditions", columns, body, max(0, len(rows) - MAX_ROWS), "conditions.csv")


def _cell(value: float, low: float = math.nan, high: float = math.nan, *, is_signed: bool = False) -> Cell:
    if not _is_known(value):
        return Cell(MISSING)
    text = _say_difference(value) if is_signed else say_value(value)
    if not _is_known(low):
        return Cell(text, value)
    return Cell(text, value, _say_ends(low, high), ends=(low, high))


def _say_difference(value: float) -> str:
    return f"+{say_value(value)}" if value > 0 else say_value(value)


def _say_ends(low: float, high: float) -> str:
    return f"{say_value(low)} to {say_value(high)}"


def _say_p(p: float) -> str:
    """Write a p value with two digits, or that it is below 0.0001."""
    if not _is_known(p):
        return MISSING
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _is_known(value: float) -> bool:
    return not math.isnan(value)
