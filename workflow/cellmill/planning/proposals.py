"""Plan of `snakemake propose`, which has no datasets."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from cellmill.config.dataset import Config
from cellmill.config.errors import ConfigError, describe_errors
from cellmill.config.propose import Propose
from cellmill.planning.plan import Plan

TARGET = "propose"
LOOK = "look"
HOW = "Run snakemake propose --config look=FOLDER"


def is_proposing(raw: Mapping[str, Any]) -> bool:
    """Return whether a config asks for a proposal."""
    return LOOK in raw


def plan_proposal(raw: Mapping[str, Any]) -> Plan:
    """Return a plan without datasets, which only holds what `propose` is told.

    Parameters
    ----------
    raw : mapping
        The config, of which only `look` and `write` are used.

    Raises
    ------
    ConfigError
        If the keys are wrong.
    """
    known = {key: value for key, value in raw.items() if key not in Config.model_fields}
    try:
        section = Propose.model_validate(known)
    except ValidationError as error:
        raise ConfigError(describe_errors(error, model=Propose)) from None
    config = Config.model_construct(seed=0, images_per_job=1, recheck=False, datasets={})
    return Plan(config=config, runs={}, samples={}, preprocess={}, remarks=[], proposal=section.model_dump())


def wrong_targets(plan: Plan, rules: Iterable[str]) -> str:
    """Return a message if a config that asks for a proposal is run with other rules; "" otherwise."""
    others = sorted(set(rules) - {TARGET})
    if not plan.proposal or not others:
        return ""
    return f"look: expected the target propose, found {', '.join(others)}. {HOW}, or remove look from the config."
