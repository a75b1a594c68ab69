"""Would more annotated images help? Scores of one model trained on fewer of them, and what doubling is worth."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import pandas as pd
from markupsafe import Markup

from cellmill.metrics.glossary import GLOSSARY
from cellmill.reports.colours import PALE_STYLE, style_of_model, with_pattern
from cellmill.reports.figures import Curve, draw_curves
from cellmill.reports.verdict import Number, find_difference, find_mean
from cellmill.reports.wording import Column, Table, count, say_difference, say_interval, say_number_of, score, word

METRICS = ("ap_kaggle", "dice")


class CurveModels(TypedDict):
    """Models of a learning curve: the one with all training images, their number, draws, and (images, model)."""

    model: str
    images: int
    draws: int
    parts: Sequence[tuple[int, str]]


@dataclass(frozen=True)
class Doubling:
    """Two points of a curve, and by how much the score of the one with more images is higher."""

    fewer: int
    more: int
    value: float
    low: float | None
    high: float | None

    @property
    def per_doubling(self) -> float:
        """The difference for twice as many images, if the score rises in proportion to the logarithm."""
        return self.value / math.log2(self.more / self.fewer)


def describe_curve(curve: CurveModels, comparisons: pd.DataFrame) -> dict[str, Any] | None:
    """Draw the learning curve and say what doubling the annotated images would be worth.

    Parameters
    ----------
    curve : mapping
        CurveModels.
    comparisons : DataFrame
        comparisons.csv, with the models of the curve.

    Returns
    -------
    dict or None
        sentence, figures (one for each of METRICS) and table; None if fewer than two points have a score.
    """
    points = [*((int(images), model) for images, model in curve["parts"]), (curve["images"], curve["model"])]
    means = {
        (images, name): find_mean(comparisons, model=model, metric=name) for images, model in points for name in METRICS
    }
    numbers = {
        name: {images: found for images, _ in points if (found := means[images, name]) is not None} for name in METRICS
    }
    metric = next((name for name in METRICS if len(numbers[name]) > 1), None)
    if metric is None:
        return None
    names = dict(points)
    figures = [
        _draw(found, title=GLOSSARY[name].heading, draws=curve["draws"])
        for name, found in numbers.items()
        if len(found) > 1
    ]
    rows = [[count(images), word(model), *(_cell(means[images, name]) for name in METRICS)] for images, model in points]
    columns = [
        Column("Training images", True), Column("Model"),
        *(Column(GLOSSARY[name].heading, True, GLOSSARY[name].words) for name in METRICS),
    ]  # fmt: skip
    step = _find_step(sorted(numbers[metric]), names=names, metric=metric, comparisons=comparisons)
    return {
        "sentence": _say_step(step, model=curve["model"], metric=metric) if step else Markup(""),
        "draws": curve["draws"],
        "figures": figures,
        "table": Table("learning_curve", "Scores by number of training images", columns, rows),
    }


def _find_step(
    images: Sequence[int], *, names: Mapping[int, str], metric: str, comparisons: pd.DataFrame
) -> Doubling | None:
    """Return the step from about half of the images to all of them."""
    most = images[-1]
    fewer = min(images[:-1], key=lambda number: abs(math.log2(most / number) - 1))
    found = find_difference(comparisons, model=names[most], against=names[fewer], metric=metric)
    return None if found is None else Doubling(fewer, most, found.value, found.low, found.high)


def _say_step(step: Doubling, *, model: str, metric: str) -> Markup:
    heading = GLOSSARY[metric].heading
    text = Markup("From {} to {} training images, the {} of <strong>{}</strong> changed by <strong>{}</strong>").format(
        step.fewer, step.more, heading, model, say_difference(step.value)
    )
    if interval := say_interval(step.low, step.high):
        text += Markup(' (<span class="whole">95 % confidence interval {}</span>)').format(interval)
    is_sure = step.low is not None and step.high is not None and (step.low > 0 or step.high < 0)
    if step.low is not None and step.value > 0 and is_sure:
        return text + Markup(
            ". If it goes on like this, twice as many as {} would be worth about {}. Gains usually become smaller."
        ).format(say_number_of(step.more, "image"), say_difference(step.per_doubling))
    if step.low is None:
        return text + Markup(". With a single test image, nothing can be said about other images.")
    if is_sure:
        return text + Markup(". More of these images did not help: look at their annotations before adding others.")
    return text + Markup(". The interval includes 0: it is not sure that more annotated images would help.")


def _cell(number: Number | None) -> Any:
    return score(None) if number is None else score(number.value, low=number.low, high=number.high)


def _draw(numbers: Mapping[int, Number], *, title: str, draws: int) -> Any:
    places = [float(images) for images in sorted(numbers)]
    style = with_pattern(style_of_model(0), 0)
    found = [numbers[int(images)] for images in places]
    ends = [
        Curve("", f"{style} {PALE_STYLE}", places, values)
        for values in ([number.low for number in found], [number.high for number in found])
        if any(value is not None for value in values)
    ]
    return draw_curves(
        [*ends, Curve("", f"{style} marked", places, [number.value for number in found])],
        title=title, x_label="training images", y_label="", is_log=False, mark_x=None, is_log_x=True,
        caption=f"Means over {say_number_of(draws, 'draw')} of images. Pale lines: 95 % confidence interval over test "
        "images and draws. The last point is the model itself.",
    )  # fmt: skip
