"""Settings that a training chose, from its images or the speed of the machine: choices.json."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

# Key of the choice whether the training started from the weights of a shipped model
START = "start"


@dataclass(frozen=True)
class Choice:
    """A chosen setting: its key in the config, its value, and the reason."""

    key: str
    value: str | float | int | None
    because: str


def write_choices(path: Path, choices: Sequence[Choice]) -> None:
    """Write choices.json."""
    path.write_text(json.dumps([asdict(choice) for choice in choices], indent=1) + "\n", encoding="utf-8")


def read_choices(path: str | Path) -> list[Choice]:
    """Read choices.json."""
    return [Choice(**row) for row in json.loads(Path(path).read_text(encoding="utf-8"))]


def has_left_start(choices: Sequence[Choice]) -> bool:
    """Return whether a training was offered the weights of a shipped model and did not start from them."""
    return any(choice.key == START and choice.value is None for choice in choices)
