"""Plots as SVG text: a few kilobytes each, in the page's own fonts and colours, light or dark.

Every panel is drawn 340 px wide, so that its text stays readable on a phone; pages put panels side by side.
A mark carries a <title>, which browsers show as a tooltip. Colours and line patterns are CSS classes of
`cellmill.reports.colours`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from unicodedata import east_asian_width

from markupsafe import Markup, escape

from cellmill.metrics.decimals import round_digits
from cellmill.reports.colours import NEUTRAL_STYLE
from cellmill.reports.scales import Scale, span_of
from cellmill.reports.wording import say_score

WIDTH, HEIGHT = 340, 220
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 38
LABEL = 16  # space for the name of the vertical axis, which stands above it
ROW_PX = 38  # of a dot plot: a name, and below it a value
# Corners of the dots of each line pattern, in units of the radius
SHAPES = {
    "d1": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "d2": ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    "d3": ((0, -1.2), (1.2, 0.9), (-1.2, 0.9)),
    "d4": ((0, 1.2), (1.2, -0.9), (-1.2, -0.9)),
}
MAX_MARKS = 60  # with a tooltip on a curve
MAX_POINTS = 1000  # in a scatter plot


@dataclass(frozen=True)
class Key:
    """An entry of a legend: the CSS class of a series, its name, and how it is drawn."""

    style: str
    label: str
    mark: str = "line"


@dataclass(frozen=True)
class Figure:
    """A drawn panel with its title, caption and legend."""

    title: str
    svg: Markup
    caption: str = ""
    legend: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Curve:
    """One line of `draw_curves`; None leaves a gap, and a line without a label is left out of the legend."""

    label: str
    style: str
    x: Sequence[float]
    y: Sequence[float | None]


@dataclass(frozen=True)
class Dot:
    """One row of `draw_dots`: a value with its interval, and the named single values of which it is the mean."""

    label: str
    style: str
    value: float
    low: float | None = None
    high: float | None = None
    singles: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Band:
    """A range of values that is shaded behind the rows of `draw_dots`, with its meaning."""

    label: str
    low: float
    high: float


@dataclass(frozen=True)
class Change:
    """One row of `draw_distances`: a value before and after, and the band of expected values."""

    label: str
    before: float | None
    after: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Point:
    """One point of `draw_scatter`, with the text of its tooltip."""

    x: float
    y: float
    style: str
    tooltip: str


def draw_curves(
    curves: Sequence[Curve],
    *,
    title: str,
    x_label: str,
    y_label: str,
    is_log: bool,
    mark_x: float | None,
    caption: str,
    x_span: tuple[float, float] | None = None,
    y_span: tuple[float, float] | None = None,
    is_log_x: bool = False,
) -> Figure:
    """Draw lines over a common axis, such as a loss over epochs.

    Parameters
    ----------
    curves : sequence of Curve
        Non-finite or missing values leave a gap; on a logarithmic axis so do values that are not positive.
    title, x_label, y_label, caption : str
        Plain text; `y_label` is empty if the title contains it.
    is_log : bool
        Logarithmic vertical axis.
    mark_x : float or None
        Position of a vertical line, such as the chosen epoch.
    x_span, y_span : (low, high) or None
        Range of an axis; None for the range of the values.
    is_log_x : bool
        Logarithmic horizontal axis.

    Returns
    -------
    Figure
    """
    x_span = x_span or span_of([value for curve in curves for value in curve.x], is_log=is_log_x)
    y_span = y_span or span_of([v for c in curves for v in c.y if v is not None], is_log=is_log)
    x, y = _scales(x_span, y_span, is_log_x=is_log_x, is_log_y=is_log, has_label=bool(y_label))
    x = replace(x, is_whole=not is_log_x and all(float(value).is_integer() for curve in curves for value in curve.x))
    parts = [_frame(x, y, x_label=x_label, y_label=y_label)]
    if mark_x is not None:
        parts.append(
            f'<line class="mark" x1="{x.at(mark_x):.1f}" x2="{x.at(mark_x):.1f}" y1="{y.end:.1f}" y2="{y.start:.1f}">'
            f"<title>{escape(x_label)} {mark_x:g}</title></line>"
        )
    for curve in curves:
        parts += _curve(curve, x, y, x_label=x_label, is_log=is_log)
    legend = tuple(Key(curve.style, curve.label) for curve in curves if curve.label) if len(curves) > 1 else ()
    return Figure(title, _svg(parts, height=HEIGHT, label=title), caption, legend)


def draw_dots(
    rows: Sequence[Dot],
    *,
    title: str,
    caption: str,
    band: Band | None = None,
    say: Callable[[float], str] = say_score,
) -> Figure:
    """Draw one value per row with its interval, to compare runs.

    Parameters
    ----------
    rows : sequence of Dot
        From top to bottom. The label stands above its line, so that long names fit.
    title, caption : str
        Plain text.
    band : Band or None
        Shaded behind the rows, and named in the legend.
    say : callable
        Writes a value for its tooltip.

    Returns
    -------
    Figure
    """
    values = [number for row in rows for number in (row.value, row.low, row.high) if number is not None]
    values += [value for row in rows for _, value in row.singles]
    values += [band.low, band.high] if band else []
    height = ROW_PX * len(rows) + 34
    x = Scale(*span_of(values), 10, WIDTH - 12)
    parts: list[str] = []
    legend: tuple[Key, ...] = ()
    if band is not None:
        left, right = x.at(band.low), x.at(band.high)
        parts.append(
            f'<rect class="backdrop {NEUTRAL_STYLE}" x="{left:.1f}" y="4" width="{right - left:.1f}" '
            f'height="{height - 32}"><title>{escape(band.label)}: {say_score(band.low)} to '
            f"{say_score(band.high)}</title></rect>"
        )
        legend = (Key(NEUTRAL_STYLE, band.label, "backdrop"),)
    parts += [_text(x.at(tick), height - 12, says, anchor="middle") for tick, says in x.ticks()]
    for index, row in enumerate(rows):
        centre = ROW_PX * index + 28
        # Grid lines are interrupted where names are.
        parts += [_tick_line(x.at(tick), x.at(tick), centre - 8, centre + 9) for tick, _ in x.ticks()]
        says = f"{row.label}: {say(row.value)}"
        if row.low is not None and row.high is not None:
            says += f" ({say(row.low)} to {say(row.high)})"
            left, right = x.at(row.low), x.at(row.high)
            parts.append(
                f'<line class="whisker {row.style}" x1="{left:.1f}" x2="{right:.1f}" y1="{centre}" y2="{centre}"/>'
            )
        parts.append(_text(10, centre - 12, row.label, anchor="start", style="row-label", room_px=WIDTH - 22))
        parts += [
            _mark(f"open {row.style}", x.at(value), centre, size=3, title=f"{name}: {say(value)}")
            for name, value in row.singles
        ]
        parts.append(_mark(f"dot {row.style}", x.at(row.value), centre, size=5, title=says))
    return Figure(title, _svg(parts, height=height, label=title), caption, legend)


def draw_changes(rows: Sequence[tuple[str, float, float]], *, style: str, title: str, caption: str) -> Figure:
    """Draw the effect of a step on several scores: an open dot before, a filled dot after.

    Parameters
    ----------
    rows : sequence of (label, before, after)
        Scores in [-1, 1].
    style : str
        CSS class of the series.
    title, caption : str
        Plain text.

    Returns
    -------
    Figure
    """
    height = 26 * len(rows) + 34
    x = Scale(*span_of([v for _, *pair in rows for v in pair], include=(1.0,)), 104, WIDTH - 12)
    parts = []
    for tick, says in x.ticks():
        parts.append(_tick_line(x.at(tick), x.at(tick), 4, height - 28))
        parts.append(_text(x.at(tick), height - 12, says, anchor="middle"))
    for index, (label, before, after) in enumerate(rows):
        centre, left, right = 26 * index + 18, x.at(before), x.at(after)
        parts.append(_text(96, centre + 4, label, anchor="end", style="row-label"))
        parts.append(
            f"<g><title>{escape(label)}: {say_score(before)} before, {say_score(after)} after</title>"
            f'<line class="whisker {style}" x1="{left:.1f}" x2="{right:.1f}" y1="{centre}" y2="{centre}"/>'
            f"{_mark(f'open {style}', left, centre, size=4.5)}{_mark(f'dot {style}', right, centre, size=4.5)}</g>"
        )
    legend = (Key(style, "thresholded only", "open"), Key(style, "postprocessed", "dot"))
    return Figure(title, _svg(parts, height=height, label=title), caption, legend)


def draw_distances(rows: Sequence[Change], *, title: str, caption: str) -> Figure:
    """Draw distances before and after, on a band of expected values.

    Parameters
    ----------
    rows : sequence of Change
        From top to bottom; values of None are not drawn.
    title, caption : str
        Plain text.

    Returns
    -------
    Figure
    """
    height = 26 * len(rows) + 34
    values = [number for row in rows for number in (row.before, row.after, row.high) if number is not None]
    x = Scale(*span_of(values, include=(0.0,)), 124, WIDTH - 12)
    parts = []
    for tick, says in x.ticks():
        parts.append(_tick_line(x.at(tick), x.at(tick), 4, height - 28))
        parts.append(_text(x.at(tick), height - 12, says, anchor="middle"))
    for index, row in enumerate(rows):
        centre = 26 * index + 18
        says = f"{row.label}: " + ", ".join(
            f"{say_score(value)} {when}"
            for value, when in ((row.before, "before"), (row.after, "after"))
            if value is not None
        )
        parts.append(_text(116, centre + 4, row.label, anchor="end", style="row-label"))
        parts.append(f"<g><title>{escape(says)}</title>")
        if row.low is not None and row.high is not None:
            left, right = x.at(row.low), x.at(row.high)
            parts.append(
                f'<line class="band {NEUTRAL_STYLE}" x1="{left:.1f}" x2="{right:.1f}" y1="{centre}" y2="{centre}"/>'
            )
        for value, style in ((row.before, f"open {NEUTRAL_STYLE}"), (row.after, f"dot {NEUTRAL_STYLE}")):
            if value is not None:
                parts.append(_mark(style, x.at(value), centre, size=4.5))
        parts.append("</g>")
    legend = (Key(NEUTRAL_STYLE, "before", "open"), Key(NEUTRAL_STYLE, "after", "dot"))
    return Figure(title, _svg(parts, height=height, label=title), caption, legend)


def draw_scatter(
    points: Sequence[Point],
    *,
    title: str,
    x_label: str,
    y_label: str,
    is_agreement: bool,
    legend: tuple[Key, ...],
    caption: str,
) -> Figure:
    """Draw points over two axes that start at 0.

    Parameters
    ----------
    points : sequence of Point
        If there are more than MAX_POINTS, evenly spaced ones are drawn.
    title, x_label, y_label, caption : str
        Plain text.
    is_agreement : bool
        Same range on both axes, and a diagonal on which both values agree.
    legend : tuple of Key
        Names of the series.

    Returns
    -------
    Figure
    """
    shown = points[:: -(-len(points) // MAX_POINTS) or 1]
    x_span = span_of([point.x for point in shown], include=(0.0,))
    y_span = span_of([point.y for point in shown], include=(0.0,) if is_agreement else (0.0, 1.0))
    if is_agreement:
        x_span = y_span = (0.0, max(x_span[1], y_span[1]))
    x, y = _scales(x_span, y_span)
    parts = [_frame(x, y, x_label=x_label, y_label=y_label)]
    if is_agreement:
        parts.append(f'<line class="mark" x1="{x.start:.1f}" y1="{y.start:.1f}" x2="{x.end:.1f}" y2="{y.end:.1f}"/>')
    for point in shown:
        parts.append(_mark(f"point {point.style}", x.at(point.x), y.at(point.y), size=4, title=point.tooltip))
    if len(shown) < len(points):
        caption += f" {len(shown):,} of {len(points):,} points are drawn."
    return Figure(title, _svg(parts, height=HEIGHT, label=title), caption, legend if len(legend) > 1 else ())


def draw_histogram(
    series: Sequence[tuple[Key, Sequence[float]]], *, title: str, x_label: str, is_log: bool, caption: str
) -> Figure:
    """Draw distributions, one outline per series, as shares of the series.

    Parameters
    ----------
    series : sequence of (Key, values)
        Values must be positive if the axis is logarithmic.
    title, x_label, caption : str
        Plain text.
    is_log : bool
        Logarithmic horizontal axis, with bins of equal width on it.

    Returns
    -------
    Figure
    """
    values = [value for _, numbers in series for value in numbers]
    low, high = (min(values), max(values)) if values else (1.0, 2.0)
    if low == high:
        low, high = (low / 1.5, high * 1.5) if is_log else (low - 0.5, high + 0.5)
    largest = max((len(numbers) for _, numbers in series), default=1)
    bins = min(30, max(6, round(2 * largest ** (1 / 3))))  # Rice's rule
    place = Scale(low, high, 0, bins, is_log)
    heights = []
    for _, numbers in series:
        counts = [0] * bins
        for value in numbers:
            counts[min(int(place.at(value)), bins - 1)] += 1
        heights.append([count / max(len(numbers), 1) for count in counts])
    y_top = max((share for shares in heights for share in shares), default=1.0) * 1.08 or 1.0
    x, y = _scales((low, high), (0.0, y_top), is_log_x=is_log)
    parts = [_frame(x, y, x_label=x_label, y_label="share")]
    width = (x.end - x.start) / bins
    for (key, numbers), shares in zip(series, heights, strict=True):
        path = f"M{x.start:.1f},{y.start:.1f}"
        for index, share in enumerate(shares):
            path += f"V{y.at(share):.1f}H{x.start + (index + 1) * width:.1f}"
        path += f"V{y.start:.1f}"
        parts.append(
            f'<path class="outline {key.style}" d="{path}"><title>{escape(key.label)}: {len(numbers):,}</title></path>'
        )
    return Figure(title, _svg(parts, height=HEIGHT, label=title), caption, tuple(key for key, _ in series))


def _scales(
    x: tuple[float, float],
    y: tuple[float, float],
    *,
    is_log_x: bool = False,
    is_log_y: bool = False,
    has_label: bool = True,
) -> tuple[Scale, Scale]:
    return (
        Scale(*x, LEFT, WIDTH - RIGHT, is_log_x),
        Scale(*y, HEIGHT - BOTTOM, TOP + (LABEL if has_label else 0), is_log_y),
    )


def _frame(x: Scale, y: Scale, *, x_label: str, y_label: str) -> str:
    """Draw grid lines, tick labels and the names of both axes."""
    parts = []
    for tick, says in y.ticks():
        parts.append(_tick_line(x.start, x.end, y.at(tick), y.at(tick)))
        parts.append(_text(x.start - 6, y.at(tick) + 4, says, anchor="end"))
    for tick, says in x.ticks():
        parts.append(_text(x.at(tick), y.start + 15, says, anchor="middle"))
    parts.append(f'<line class="axis" x1="{x.start}" x2="{x.end}" y1="{y.start}" y2="{y.start}"/>')
    parts.append(_text((x.start + x.end) / 2, HEIGHT - 5, x_label, anchor="middle", style="axis-label"))
    parts.append(_text(0, 11, y_label, anchor="start", style="axis-label"))
    return "".join(parts)


def _curve(curve: Curve, x: Scale, y: Scale, *, x_label: str, is_log: bool) -> list[str]:
    """Draw one line, and marks with tooltips at some of its values."""
    path, pen = "", "M"
    places = []
    for value_x, value in zip(curve.x, curve.y, strict=True):
        if value is None or not math.isfinite(value) or (is_log and value <= 0):
            pen = "M"
            continue
        path += f"{pen}{x.at(value_x):.1f},{y.at(value):.1f}"
        pen = "L"
        places.append((value_x, value))
    before = f"{curve.label}, " if curve.label else ""
    marks = [
        f'<circle class="sense {curve.style}" cx="{x.at(value_x):.1f}" cy="{y.at(value):.1f}" r="5">'
        f"<title>{escape(before)}{escape(x_label)} {round_digits(value_x, 6)}: {round_digits(value, 4)}</title>"
        "</circle>"
        for value_x, value in places[:: -(-len(places) // MAX_MARKS) or 1]
    ]
    if len(places) == 1 or "marked" in curve.style.split():
        marks += [
            f'<circle class="dot {curve.style}" cx="{x.at(value_x):.1f}" cy="{y.at(value):.1f}" r="3.5"/>'
            for value_x, value in places
        ]
    return [f'<path class="curve {curve.style}" d="{path}"/>' if path else "", *marks]


def draw_key(key: Key) -> Markup:
    """Draw the mark of a legend's entry as a small picture, in the colour, line pattern and shape of its series."""
    if key.mark in ("dot", "open"):
        kind, size, mark = "key round", 12, _mark(f"{key.mark} {key.style}", 6, 6, size=4.5)
    elif key.mark == "backdrop":
        kind, size, mark = "key", 28, f'<rect class="backdrop {key.style}" width="28" height="12"/>'
    else:
        kind, size = "key", 28
        mark = f'<path class="{"outline" if key.mark == "area" else "curve"} {key.style}" d="M0,6H28"/>'
    return Markup(f'<svg class="{kind}" viewBox="0 0 {size} 12" aria-hidden="true" aria-label="mark">{mark}</svg>')


def _mark(style: str, x: float, y: float, *, size: float, title: str = "") -> str:
    """Draw a dot: a circle, or another shape for each line pattern."""
    whole = f"<title>{escape(title)}</title>" if title else ""
    pattern = next((word for word in style.split() if word in SHAPES), "")
    if not pattern:
        return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{size:g}">{whole}</circle>'
    corners = " ".join(f"{x + size * right:.1f},{y + size * down:.1f}" for right, down in SHAPES[pattern])
    return f'<polygon class="{style}" points="{corners}">{whole}</polygon>'


def _svg(parts: Sequence[str], *, height: int, label: str) -> Markup:
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">'
    return Markup(head + "".join(parts) + "</svg>")  # all text in the parts is escaped where it enters


def _text(x: float, y: float, text: str, *, anchor: str, style: str = "tick", room_px: float = math.inf) -> str:
    """Write text; a longer one than fits into `room_px` is shortened in the middle, with the whole as a tooltip."""
    shown = shorten(text, room_px)
    whole = "" if shown == text else f"<title>{escape(text)}</title>"
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(shown)}{whole}</text>'


def shorten(text: str, room_px: float) -> str:
    """Replace the middle of a name that needs more than `room_px` by an ellipsis, since many differ at their ends only.

    Returns
    -------
    str
        The text itself if it fits; otherwise as much of both ends as fits, at least one character of each.
    """
    if sum(map(_width_px, text)) <= room_px:
        return text
    kept = len(text) - 1
    while kept > 2 and sum(map(_width_px, text[: -(-kept // 2)] + text[len(text) - kept // 2 :])) > room_px - 12:
        kept -= 1
    return f"{text[: -(-kept // 2)]}…{text[len(text) - kept // 2 :]}"


def _width_px(character: str) -> float:
    """Return the width of a character of a name, 12 px high, in the widest of the usual fonts."""
    if east_asian_width(character) in "WF":
        return 12.0
    return 12.0 if character in "mwMW@%" else 9.0 if character.isupper() else 7.2


def _tick_line(x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="grid" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'
