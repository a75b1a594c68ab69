"""The first sentences of a report: which run is the best, how many objects it found, its scores, and what limits them.

Sentences are put together from parts, each written by one function.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from cellmill.metrics.glossary import GLOSSARY
from cellmill.reports.contests import Contest, write_contest
from cellmill.reports.verdict import (  # fmt: skip
    BY_OBJECTS,
    BY_PIXELS,
    FEW_IMAGES,
    Counts,
    Difference,
    Number,
    Standing,
    say_few,
)
from cellmill.reports.wording import (  # fmt: skip
    say_count,
    say_difference,
    say_interval,
    say_mean_count,
    say_number_of,
    say_percent,
    say_percent_interval,
    say_score,
)

CONFIDENCE = "95 % confidence interval"


@dataclass(frozen=True)
class Headline:
    """Sentences on the best run, remarks in smaller print, and notices that no reader should miss."""

    sentences: tuple[Markup, ...]
    asides: tuple[str, ...]
    notices: tuple[str, ...]


def write_headline(
    best: Standing,
    *,
    second: Standing | None,
    difference: Difference | None,
    n_models: int,
    thresholds: Sequence[float] = (),
    averages: str = "",
    contests: Sequence[Contest] = (),
    rank_by: str = BY_OBJECTS,
) -> Headline:
    """Write the first sentences of a report.

    Parameters
    ----------
    best, second : Standing
        The best model and the next one, None for a single model.
    difference : Difference or None
        Of the score that ranks both.
    n_models : int
        Number of models in the report.
    thresholds : sequence of float
        Thresholds of the best model's runs.
    averages : str
        The model whose seeds' predictions the best run averages; "" for any other run.
    contests : sequence of Contest
        Comparisons with a model without a network, with masks of other programs, and with annotators.
    rank_by : str
        The score that the models are ranked by, see `cellmill.reports.verdict.rank_models`.

    Returns
    -------
    Headline
    """
    sentences = [
        write_first_sentence(best, n_models=n_models, thresholds=thresholds, averages=averages, rank_by=rank_by)
    ]
    asides = []
    same = next((one for one in contests if second is not None and one.is_between(best.model, second.model)), None)
    if same is not None:
        difference = same.difference  # one difference of the two is enough
    elif second is not None and difference is not None:
        sentences.append(_write_difference(difference, second=second, rank_by=rank_by))
    sentences += [write_contest(contest) for contest in contests]
    if second is not None and difference is not None:
        asides.append(say_certainty(difference, has_seeds=max(best.n_seeds, second.n_seeds) > 1))
    if second is not None:
        asides.append(
            f"The best model was selected on these same test images, by {GLOSSARY[rank_by].heading}, so its score is "
            "slightly optimistic."
        )
    return Headline(tuple(sentences), tuple(filter(None, asides)), tuple(filter(None, list_limits(best))))


def write_first_sentence(
    best: Standing, *, n_models: int, thresholds: Sequence[float], averages: str, rank_by: str = BY_OBJECTS
) -> Markup:
    """Write which run is the best, on how many images, and its counts and scores; the score that ranks comes first."""
    verb = "is the best" if n_models > 1 else "was scored"
    start = f"Of {n_models} models, " if n_models > 1 else ""
    whose = f", which averages the predictions of all seeds of {averages}," if averages else ""
    parts = [Markup("{}<strong>{}</strong>{} {}").format(start, best.model, whose, verb), _write_basis(best)]
    named = [("a Kaggle average precision of", best.ap), ("Dice", best.dice)]
    notes = iter((f"{CONFIDENCE} ", ""))
    scores = [
        _write_number(name, number, note=next(notes))
        for name, number in (named[::-1] if rank_by == BY_PIXELS else named)
        if number is not None
    ]
    said = Markup(" and ").join(scores) + _say_thresholds(thresholds)
    counts = None if best.counts is None else _write_counts(best.counts)
    facts = said if counts is None else counts + Markup(", with ") + said
    return Markup(" ").join(parts) + Markup(": ") + facts + Markup(".")


def say_certainty(difference: Difference, *, has_seeds: bool) -> str:
    """Describe whether the interval of a difference excludes 0, and how little this means with few images."""
    if difference.is_sure is None:
        return ""
    if not difference.is_sure:
        other = "images or seeds" if has_seeds else "images"
        return f"The confidence interval of the difference includes 0: with other {other} the ranking could change."
    few = say_few(difference.images, difference.groups)
    if few:
        return (
            f"The confidence interval of the difference excludes 0, but it is computed from {few}. "
            "This suggests a ranking and does not establish it."
        )
    return "The confidence interval of the difference excludes 0."


def list_limits(best: Standing) -> list[str]:
    """List what limits the intervals of a model's scores: few images, or images of a single group."""
    limits = []
    few = say_few(best.dice.n, best.n_groups)
    if few and best.dice.low is not None:
        limits.append(
            f"There are {few}. With fewer than {FEW_IMAGES}, confidence intervals are too narrow: the scores of other "
            "images can be outside of them."
        )
    if best.n_groups == 1 and best.dice.n > 1:
        limits.append(
            "All test images belong to a single sequence or group. The confidence intervals apply to other images of "
            "this group, not to other groups."
        )
    return limits


def _write_basis(best: Standing) -> Markup:
    basis = f"on {say_number_of(best.n_images, 'test image')}"
    if best.n_seeds > 1:
        basis += f" (mean of {best.n_seeds} seeds, with intervals over images and seeds)"
    return escape(basis)


def _write_counts(counts: Counts) -> Markup:
    found = Markup("it found <strong>{}</strong> {}").format(
        say_mean_count(counts.found), "object" if counts.found == 1 else "objects"
    )
    if counts.error is None:
        return found + Markup(" where none is annotated")
    verb = "is" if counts.annotated == 1 else "are"
    parts = [Markup("an error of <strong>{}</strong>").format(say_percent(counts.error, is_signed=True))]
    if interval := say_percent_interval(counts.low, counts.high):
        parts.append(Markup('{} <span class="whole">{}</span>').format(CONFIDENCE, interval))
    annotated = Markup(" where <strong>{}</strong> {} annotated").format(say_count(counts.annotated), verb)
    return found + annotated + Markup(" ({})").format(Markup(", ").join(parts))


def _write_number(name: str, number: Number, *, note: str = "") -> Markup:
    text = Markup("{}&nbsp;<strong>{}</strong>").format(name, say_score(number.value))
    if interval := say_interval(number.low, number.high):
        text += Markup(' ({}<span class="whole">{})</span>').format(note, interval)
    return text


def _say_thresholds(thresholds: Sequence[float]) -> Markup:
    if not thresholds:
        return Markup("")
    low, high = say_score(min(thresholds)), say_score(max(thresholds))
    return escape(f", at a threshold of {low}" if low == high else f", at thresholds from {low} to {high}")


def _write_difference(difference: Difference, *, second: Standing, rank_by: str) -> Markup:
    name, size = GLOSSARY[rank_by].heading, say_score(abs(difference.value))
    if say_difference(difference.value) == say_score(0.0):
        text = Markup("Its {} equals that of {}").format(name, second.model)
    else:
        than = "higher" if difference.value > 0 else "lower"
        text = Markup("Its {} is {} {} than that of {}").format(name, size, than, second.model)
    if interval := say_interval(difference.low, difference.high):
        text += Markup(' <span class="whole">({})</span>').format(interval)
    images = say_number_of(difference.images, "image")
    return text + Markup("; it is higher on {} of {}.").format(difference.better, images)
