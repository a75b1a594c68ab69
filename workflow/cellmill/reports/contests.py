"""Compare the best model with a rival: a model without a network, masks of another program, or another annotator."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from markupsafe import Markup

from cellmill.metrics.glossary import GLOSSARY
from cellmill.reports.verdict import BY_OBJECTS, BY_PIXELS, Difference, Number, Standing, find_difference
from cellmill.reports.wording import say_difference, say_interval, say_score

Kind = Literal["floor", "masks", "annotator"]


@dataclass(frozen=True)
class Contest:
    """The best rival of a kind, the best model, and how much higher the latter scores in `metric`."""

    kind: Kind
    rival: str
    model: str
    metric: str
    rival_score: Number
    model_score: Number
    difference: Difference
    is_rival_best: bool  # whether the rival is the best of all
    is_ahead: bool  # whether the model has the higher Dice

    def is_between(self, first: str, second: str) -> bool:
        """Return whether these two models are compared, in either order."""
        return {first, second} == {self.rival, self.model}


def find_contest(
    kind: Kind,
    standings: Sequence[Standing],
    *,
    rivals: Collection[str],
    models: Collection[str],
    comparisons: pd.DataFrame,
    rank_by: str = BY_OBJECTS,
) -> Contest | None:
    """Find the best model and its best rival of a kind.

    Parameters
    ----------
    kind : str
        What the rivals are: `floor`, models without a network; `masks` of other programs; `annotator`.
    standings : sequence of Standing
        The best first.
    rivals, models : collection of str
        Names of the rivals, and of the models to compare with them.
    comparisons : DataFrame
        comparisons.csv.
    rank_by : str
        The score that is compared, see `cellmill.reports.verdict.rank_models`; Dice where one of the two lacks it.

    Returns
    -------
    Contest or None
        None if there is no rival or no model, or if they share no scored image.
    """
    rival = next((one for one in standings if one.model in rivals), None)
    model = next((one for one in standings if one.model in models and one.model not in rivals), None)
    if rival is None or model is None:
        return None
    for metric in dict.fromkeys((rank_by, BY_PIXELS)):
        scores = rival.score(metric), model.score(metric)
        found = find_difference(comparisons, model=model.model, against=rival.model, metric=metric)
        if found is not None and scores[0] is not None and scores[1] is not None:
            is_ahead = model.dice.value > rival.dice.value  # not their places: people come after all models
            return Contest(
                kind, rival.model, model.model, metric, scores[0], scores[1], found, standings[0] is rival, is_ahead
            )  # fmt: skip
    return None


def write_contest(found: Contest) -> Markup:
    """Write whether the best model is surely better than its rival, with both scores and their difference."""
    write = {"floor": _claim_of_floor, "masks": _claim_of_masks, "annotator": _claim_of_annotator}[found.kind]
    names = {
        "model": Markup("<strong>{}</strong>").format(found.model),
        "rival": Markup("<strong>{}</strong>").format(found.rival),
    }
    claim = write(found)
    if found.kind != "floor" and found.metric != BY_PIXELS and found.difference.value < 0 and found.is_ahead:
        claim += ", although its Dice is higher"
    return Markup(claim).format(**names) + Markup(" ({} {} against {}, difference {}).").format(
        GLOSSARY[found.metric].heading,
        say_score(found.model_score.value),
        say_score(found.rival_score.value),
        _say_size(found.difference),
    )


def _claim_of_floor(found: Contest) -> str:
    if found.difference.value > 0:
        if found.difference.is_sure is None:
            return "{model} scores higher than the floor {rival}, which needs no training, on too few images to be sure"
        verb = "is" if found.difference.is_sure else "is not surely"
        return "{model} " + verb + " better than the floor {rival}, which needs no training"
    if found.is_rival_best:
        return "No trained model is better than this floor, which needs no training; the next is {model}"
    return "{model} is not better than the floor {rival}, which needs no training"


def _claim_of_masks(found: Contest) -> str:
    value = found.difference.value
    how = "better" if value > 0 else "worse" if value < 0 else "better or worse"
    verb = "is" if found.difference.is_sure else "is not surely"
    return "{model} " + f"{verb} {how}" + " than {rival}, masks made elsewhere"


def _claim_of_annotator(found: Contest) -> str:
    if not found.difference.is_sure:
        return "{model} and the annotator {rival} agree with the annotations equally well, as far as can be told"
    how = "more" if found.difference.value > 0 else "less"
    return "{model} agrees " + how + " with the annotations than the annotator {rival} does"


def _say_size(difference: Difference) -> Markup:
    text = Markup("{}").format(say_difference(difference.value))
    if interval := say_interval(difference.low, difference.high):
        text += Markup(', <span class="whole">95 % confidence interval {}</span>').format(interval)
    return text
