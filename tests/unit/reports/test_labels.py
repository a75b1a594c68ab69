"""Labels of runs in drawings: none lies over a line or a dot, over another name, or beyond the edge."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from cellmill.reports import figures
from cellmill.reports.figures import Dot, Key, Point, draw_dots, draw_key, draw_scatter, shorten

# Of the page's fonts, px: generous, since the font of the reader is unknown
HEIGHT_PX, DESCENT_PX = 10, 3
LONG = "unet with a wide bottleneck, pretrained on simulated nuclei, learning rate 0.0003, second attempt"


def width_of(character):
    return 11.9 if character in "mwMW" else 12 if ord(character) > 0x3000 else 7


def boxes_of(svg):
    """Return the boxes of all texts: left, top, right, bottom."""
    found = []
    for part in svg.iter("text"):
        x, y, width = float(part.get("x")), float(part.get("y")), sum(map(width_of, part.text or ""))
        left = x - {"start": 0, "middle": width / 2, "end": width}[part.get("text-anchor")]
        found.append((part.text, left, y - HEIGHT_PX, left + width, y + DESCENT_PX))
    return found


def points_of(svg):
    """Yield points on all lines, curves and dots."""
    for part in svg.iter():
        if part.tag == "line":
            ends = np.array([[float(part.get(f"{axis}{end}")) for axis in "xy"] for end in (1, 2)])
            yield from ends[0] + (ends[1] - ends[0]) * np.linspace(0, 1, 80)[:, None]
        elif part.tag == "circle" and "sense" not in part.get("class"):
            x, y, r = (float(part.get(key)) for key in ("cx", "cy", "r"))
            yield from ((x, y - r), (x, y + r), (x - r, y), (x + r, y))
        elif part.tag == "polygon":
            yield from ([float(n) for n in pair.split(",")] for pair in part.get("points").split())
        elif part.tag == "path":
            corners = np.array([[float(n) for n in pair] for pair in re.findall(r"([\d.]+),([\d.]+)", part.get("d"))])
            for first, second in itertools.pairwise(corners):
                yield from first + (second - first) * np.linspace(0, 1, 40)[:, None]


def find_clashes(figure):
    svg = ElementTree.fromstring(str(figure.svg))
    boxes = boxes_of(svg)
    for x, y in points_of(svg):
        for text, left, top, right, bottom in boxes:
            if left < x < right and top < y < bottom:
                yield f"a line at ({x:.0f}, {y:.0f}) crosses {text!r}"
    for number, (text, left, top, right, bottom) in enumerate(boxes):
        for other, left_2, top_2, right_2, bottom_2 in boxes[number + 1 :]:
            if min(right, right_2) - max(left, left_2) > 1 and min(bottom, bottom_2) - max(top, top_2) > 1:
                yield f"{text!r} lies over {other!r}"
        if left < -1 or right > figures.WIDTH + 1:
            yield f"{text!r} is beyond the edge"


@pytest.mark.parametrize("count", [1, 2, 7, 15])
@pytest.mark.parametrize("name", ["u", "unet, mean of 3 seeds", LONG, "W" * 200, "細胞核の分割" * 9])
def test_names_in_a_comparison_lie_over_nothing(count, name):
    rows = [
        Dot(f"{name}{k}"[-200:], "s0 d1", 0.5 + k / 50, 0.4, 0.55 + k / 50, (("seed 1", 0.45), ("seed 2", 0.6)))
        for k in range(count)
    ]
    assert list(find_clashes(draw_dots(rows, title="Dice", caption=""))) == []


def test_scores_at_the_ends_of_the_axis_keep_the_names_free():
    rows = [Dot("zero", "s0", 0.0), Dot("one", "s1", 1.0, 0.99, 1.0), Dot(LONG, "s2", 0.0, 0.0, 1.0)]
    assert list(find_clashes(draw_dots(rows, title="Dice", caption=""))) == []


def test_names_of_curves_and_points_are_in_the_legend_and_not_in_the_drawing():
    curves = [figures.Curve(f"{LONG} {k}", f"s{k}", [1, 2, 3], [0.1 * k, 0.5, 0.9]) for k in range(4)]
    drawn = figures.draw_curves(curves, title="Loss", x_label="epoch", y_label="", is_log=False, mark_x=2, caption="")
    points = [Point(1, 2, "s0", LONG), Point(3, 4, "s1", LONG)]
    legend = (Key("s0", LONG, "dot"), Key("s1", "other", "dot"))
    scatter = draw_scatter(
        points, title="Objects", x_label="annotated", y_label="predicted", is_agreement=True, legend=legend, caption=""
    )
    for figure in (drawn, scatter):
        assert list(find_clashes(figure)) == []
        texts = [part.text or "" for part in ElementTree.fromstring(str(figure.svg)).iter("text")]
        assert not any("unet" in text for text in texts)
        assert any(key.label.startswith("unet") for key in figure.legend)


def test_a_shortened_name_keeps_its_ends_and_the_whole_is_a_tooltip():
    assert shorten("abc", 60) == "abc"
    for room_px in (60, 120, 200):
        short = shorten(LONG, room_px)
        head, tail = short.split("…")
        assert (LONG.startswith(head), LONG.endswith(tail)) == (True, True)
        assert sum(map(width_of, short)) <= room_px
        assert len(head) - len(tail) in (0, 1)
    drawn = str(draw_dots([Dot(LONG, "s0", 0.5)], title="", caption="").svg)
    assert f"<title>{LONG}</title>" in drawn
    label = next(part for part in ElementTree.fromstring(drawn).iter("text") if part.get("class") == "row-label")
    assert label.text.startswith("unet with")
    assert label.text.endswith("attempt")


@pytest.mark.parametrize("mark", ["line", "area", "dot", "open"])
def test_each_pattern_has_its_own_key(mark):
    drawn = [str(draw_key(Key(style, "", mark))) for style in ("s0", "s0 d1", "s0 d2", "s0 d3", "s0 d4")]
    assert len(set(drawn)) == 5
    assert all(ElementTree.fromstring(one).get("aria-hidden") == "true" for one in drawn)


def test_dots_of_models_that_share_a_colour_differ_in_shape():
    points = [Point(1, 2, style, "") for style in ("s0", "s0 d1", "s0 d2")]
    svg = str(draw_scatter(points, title="", x_label="", y_label="", is_agreement=False, legend=(), caption="").svg)
    shapes = [part.tag for part in ElementTree.fromstring(svg).iter() if "point" in (part.get("class") or "")]
    assert shapes == ["circle", "polygon", "polygon"]


def test_the_pattern_of_this_test_finds_a_name_on_a_line():
    crossed = figures.Figure("", figures.Markup(
        '<svg><line x1="0" x2="300" y1="20" y2="20"/><text x="10" y="22" text-anchor="start">unet</text></svg>'
    ))  # fmt: skip
    assert list(find_clashes(crossed))
