"""Datasets that are divided by their illumination profile: are there enough images to estimate it from?"""

from cellmill.planning.plan import Plan
from cellmill.preprocessing.shading import ENOUGH, FEWEST


def wrong_flat_fields(plan: Plan) -> list[str]:
    """List the datasets with too few images for an illumination profile."""
    return [
        f"datasets.{dataset}.preprocess.background.method: expected at least {FEWEST} images for flat_field, found "
        f"{count} to estimate the illumination from. Add images, or set another method."
        for dataset, count in _counts(plan).items()
        if count < FEWEST
    ]


def remarks_on_flat_fields(plan: Plan) -> list[str]:
    """Return remarks on illumination profiles from few images, which objects can print through to."""
    return [
        f"datasets.{dataset}.preprocess.background.method: the illumination profile is estimated from {count} images "
        f"only; {ENOUGH} or more of different places make it reliable. The report shows its error"
        for dataset, count in _counts(plan).items()
        if FEWEST <= count < ENOUGH
    ]


def _counts(plan: Plan) -> dict[str, int]:
    return {name: len(plan.flat_field_rows(name)) for name in plan.samples if plan.flat_field_path(name) is not None}
