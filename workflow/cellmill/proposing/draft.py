"""A proposed dataset: values of keys, comments that explain them, and questions that the files do not answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Question:
    """A decision that the files do not settle.

    `choices` are lines of the config with a comment each. An open question has no safe default: the config is refused
    until one of them is written. Otherwise the proposed value stands above the others.
    """

    text: str
    choices: tuple[tuple[str, str], ...] = ()
    is_open: bool = False


@dataclass
class Key:
    """A key of the config with its value (none if it is left open), the comment above it, and questions below it."""

    name: str
    value: Any = None
    comments: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)


@dataclass
class Draft:
    """A proposed dataset, key by key; `facts` are for the last message of the run."""

    name: str
    keys: list[Key] = field(default_factory=list)
    images: int = 0
    annotated: int = 0
    used: set[str] = field(default_factory=set)

    def add(self, name: str, value: Any = None, *comments: str, questions: tuple[Question, ...] = ()) -> Key:
        """Add a key and return it."""
        key = Key(name, value, [text for text in comments if text], list(questions))
        self.keys.append(key)
        return key

    @property
    def values(self) -> Mapping[str, Any]:
        """The proposed values by key."""
        return {key.name: key.value for key in self.keys if key.value is not None}


def count(number: int, word: str) -> str:
    """Return a number with its word, such as ``1 image`` and ``2 images``."""
    plural = word[:-1] + "ies" if word.endswith("y") else word + "s"
    return f"{number} {word if number == 1 else plural}"


def kind_of(suffix: str) -> str:
    """Return the name of a kind of file from its suffix, such as TIFF."""
    name = suffix.removeprefix(".").upper()
    return {"TIF": "TIFF", "JPG": "JPEG", "OME.TIF": "OME-TIFF", "OME.TIFF": "OME-TIFF"}.get(name, name)
