"""Maps of plates: a feature of each well as shade, and its condition as a letter."""

import string
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from cellmill.experiment.tables import ReplicateRow
from cellmill.experiment.wells import find_well, name_row, plate_shape
from cellmill.reports.figures import WIDTH, Figure
from cellmill.reports.wording import say_number_of, say_range, say_value

UNITS = {"um2": "µm²", "um": "µm", "px2": "px²", "px": "px", "deg": "°", "counts": "counts"}

HEAD = 20  # space for the names of rows and columns, px
LETTERS = string.ascii_lowercase + string.ascii_uppercase
PALEST = 0.08  # opacity of the lowest value; that of the highest is 1 - PALEST


def draw_plate(
    rows: Sequence[ReplicateRow], *, conditions: Sequence[str], style: str, title: str, control: str | None
) -> Figure:
    """Draw the wells of one plate, shaded by a feature.

    Parameters
    ----------
    rows : sequence of ReplicateRow
        One feature of the replicates of one plate, each in a well.
    conditions : sequence of str
        All conditions of the experiment; the position of a condition is its letter.
    style : str
        CSS classes of the model that found the objects.
    title : str
        Plain text.
    control : str or None
        Condition whose wells have an outline.

    Returns
    -------
    Figure
        Wells without a value have no shade. The caption explains the letters of the conditions on this plate.
    """
    wells = {well: row for row in rows if (well := find_well(row.well)) is not None}
    shape = plate_shape(wells)
    side = (WIDTH - HEAD) / shape[1]
    letters = dict(zip(conditions, LETTERS, strict=False))
    known = [row.value for row in wells.values() if row.value == row.value]
    parts = [
        _text(HEAD + (column + 0.5) * side, 13, str(column + 1))
        for column in range(shape[1])
        if shape[1] <= 12 or column % 2 == 0
    ]
    parts += [_text(7, HEAD + (row + 0.5) * side + 4, name_row(row)) for row in range(shape[0])]
    for row in range(shape[0]):
        for column in range(shape[1]):
            corner = (HEAD + column * side, HEAD + row * side)
            parts.append(_draw_well(wells.get((row, column)), corner, side, known, letters, style, control))
    present = [name for name in conditions if any(row.condition == name for row in wells.values())]
    caption = f"{say_number_of(len(wells), 'well')}, {say_range(known)}{_unit(rows[0])}: "
    caption += "the stronger the colour, the higher. "
    caption += ", ".join(f"{letters[name]}: {name}" for name in present if name in letters)
    caption += f". Outlined: {control}." if control in present else "."
    head = f'<svg viewBox="0 0 {WIDTH} {HEAD + shape[0] * side:.1f}" role="img" aria-label="{escape(title)}">'
    return Figure(title, Markup(head + "".join(parts) + "</svg>"), caption)


def _draw_well(
    row: ReplicateRow | None,
    corner: tuple[float, float],
    side: float,
    known: Sequence[float],
    letters: Mapping[str, str],
    style: str,
    control: str | None,
) -> str:
    """Draw a well; an empty one if there is no replicate in it."""
    x, y, inner = corner[0] + 0.75, corner[1] + 0.75, side - 1.5
    box = f'x="{x:.1f}" y="{y:.1f}" width="{inner:.1f}" height="{inner:.1f}" rx="2"'
    if row is None:
        return f'<rect class="well" {box}/>'
    has_value = row.value == row.value
    says = f"{row.well}, {row.condition}: {say_value(row.value) + _unit(row) if has_value else 'no objects'}"
    shade = ""
    if has_value:
        span = max(known) - min(known)
        share = (row.value - min(known)) / span if span else 0.5
        shade = f'<rect class="shade {style}" {box} fill-opacity="{PALEST + (1 - 2 * PALEST) * share:.2f}"/>'
    outline = f'<rect class="well {"control" if row.condition == control else "used"}" {box}/>'
    letter = _text(corner[0] + side / 2, corner[1] + side / 2 + 4, letters.get(row.condition, ""), style="well-letter")
    return f"<g><title>{escape(says)}</title>{shade}{outline}{letter}</g>"


def _unit(row: ReplicateRow) -> str:
    """Return the unit of a feature after a value, for a reader; a number of objects has its unit in the title."""
    return f" {UNITS[row.unit]}" if row.unit in UNITS else ""


def _text(x: float, y: float, text: str, *, style: str = "tick") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(text)}</text>'
