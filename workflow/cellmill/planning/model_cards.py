"""Cards of shipped models: what a report states about a model that was trained elsewhere."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cellmill.config.errors import describe_errors
from cellmill.config.model_card import ModelCard
from cellmill.planning.runs import Run
from cellmill.planning.shipped_models import CARD_SUFFIX, COPIES, WEIGHTS_FOLDER, shipped_name, weights_folder

FRONT_MATTER = re.compile(r"---\n(.*?)\n---\n", re.DOTALL)


def read_card(path: str | Path) -> dict[str, Any]:
    """Read the front matter of a model card.

    Returns
    -------
    dict
        title, version, data, licence, cite.

    Raises
    ------
    ValueError
        If the file has no front matter, or the front matter has a mistake.
    """
    text = Path(path).read_text(encoding="utf-8")
    found = FRONT_MATTER.match(text)
    try:
        content = yaml.safe_load(found.group(1)) if found else None
    except yaml.YAMLError:
        content = None
    if not isinstance(content, dict):
        keys = ", ".join(ModelCard.model_fields)
        raise ValueError(
            f"{path}: expected YAML with {keys} between two lines ---, found none at the beginning. Add it."
        )
    try:
        return ModelCard.model_validate(content).model_dump()
    except ValidationError as error:
        raise ValueError("; ".join(f"{path}: {line}" for line in describe_errors(error, model=ModelCard))) from None


def card_facts(name: str) -> dict[str, Any]:
    """Return what reports state about a shipped model: its name, the path of its card, and the facts of the card.

    Without a card, as for a model that a lab puts beside the shipped ones, there is only the name.
    """
    copy = Path(COPIES) / f"{name}{CARD_SUFFIX}"
    if not copy.is_file():
        return {"name": name}
    return {"name": name, "card": f"resources/{WEIGHTS_FOLDER}/{name}{CARD_SUFFIX}", **read_card(copy)}


def wrong_cards(runs: Mapping[str, Sequence[Run]], *, presets_dir: Path) -> list[str]:
    """List the mistakes in the cards of the shipped models that runs use."""
    sources = (source for of_dataset in runs.values() for run in of_dataset for source in (run.apply, run.init_from))
    mistakes = []
    for name in sorted({name for source in sources if (name := shipped_name(source)) is not None}):
        path = weights_folder(presets_dir) / f"{name}{CARD_SUFFIX}"
        try:
            if path.is_file():
                read_card(path)
        except ValueError as error:
            mistakes.append(str(error))
    return mistakes
