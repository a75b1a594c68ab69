"""Compare the best trained model with the floor: a model without a network, which nobody had to train."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from cellmill.metrics.glossary import GLOSSARY
from cellmill.reports.verdict import Difference, Number, Standing, find_difference
from cellmill.reports.wording import say_difference, say_interval, say_score

# Objects decide, because a model may find the right pixels and join all objects.
METRIC, OTHERWISE = "ap_kaggle", "dice"


@dataclass(frozen=True)
class Floor:
    """The best model without a network, the best trained model, and how much higher the latter scores in `metric`."""

    floor: str
    trained: str
    metric: str
    floor_score: Number
    trained_score: Number
    difference: Difference
    is_best: bool  # whether the floor is the best of all models

    def is_between(self, first: str, second: str) -> bool:
        """Return whether these two models are compared, in either order."""
        return {first, second} == {self.floor, self.trained}


def find_floor(standings: Sequence[Standing], *, floors: Collection[str], comparisons: pd.DataFrame) -> Floor | None:
    """Find the floor among the models of a report.

    Parameters
    ----------
    standings : sequence of Standing
        The best first.
    floors : collection of str
        Models without a network.
    comparisons : DataFrame
        comparisons.csv.

    Returns
    -------
    Floor or None
        None if the floor or every trained model is missing, or if they share no scored image.
    """
    floor = next((one for one in standings if one.model in floors), None)
    trained = next((one for one in standings if one.model not in floors), None)
    if floor is None or trained is None:
        return None
    for metric, scores in ((METRIC, (floor.ap, trained.ap)), (OTHERWISE, (floor.dice, trained.dice))):
        found = find_difference(comparisons, model=trained.model, against=floor.model, metric=metric)
        if found is not None and scores[0] is not None and scores[1] is not None:
            return Floor(floor.model, trained.model, metric, scores[0], scores[1], found, standings[0] is floor)
    return None


def write_floor(found: Floor) -> Markup:
    """Write whether the best trained model is surely better than the floor."""
    value, is_sure = found.difference.value, found.difference.is_sure
    names = {
        "trained": Markup("<strong>{}</strong>").format(found.trained),
        "floor": Markup("<strong>{}</strong>").format(found.floor),
    }
    if value > 0:
        verb = "is not surely better than" if is_sure is False else "is better than"
        claim = Markup("{trained} {} the floor {floor}, which needs no training").format(verb, **names)
    elif found.is_best:
        claim = Markup("No trained model is better than this floor, which needs no training; the next is {trained}")
        claim = claim.format(**names)
    else:
        claim = Markup("{trained} is not better than the floor {floor}, which needs no training").format(**names)
    return claim + Markup(" ({} {} against {}, difference {}).").format(
        GLOSSARY[found.metric].heading,
        say_score(found.trained_score.value),
        say_score(found.floor_score.value),
        _say_size(found.difference),
    )


def _say_size(difference: Difference) -> Markup:
    text = Markup("{}").format(say_difference(difference.value))
    if interval := say_interval(difference.low, difference.high):
        text += Markup(', <span class="whole">95 % confidence interval {}</span>').format(interval)
    return text
