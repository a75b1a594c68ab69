"""Config section `stack` of a dataset: what the planes of a file are, and which of them are images."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from cellmill.config.closed import Closed

# Text of a range of planes, and of the projections of some planes
RANGE_PATTERN = r"\d+-\d+"
Position = Annotated[int, Field(strict=True, ge=0)]
OtherPlace = Position | Literal["all"]


class Stack(Closed):
    """Meaning of the planes of image files with several planes, and the planes that are images."""

    axis: Literal["auto", "time", "z", "channel"] = Field(
        "auto",
        description="auto: as defined in the metadata of the files (OME, ImageJ, OME-Zarr); an error if they do not "
        "define it. time: frames of one sequence. z: sections. channel: channels of one image. Any value other than "
        "auto overrides the metadata.",
    )
    scene: Position | str | None = Field(
        None,
        description="Scene of a microscope file (scene of CZI, position of ND2, series of LIF): its "
        "name or its number from 0. all: each scene is an image, named {sample}_s000. Needed if a file has several "
        "scenes.",
    )
    time: Position | str | None = Field(
        None,
        description="all: each time point is an image, and those of a file form a sequence. A number from 0: that time "
        "point only. A range such as 0-9. Default: all; a microscope file needs a choice if it has "
        "several time points.",
    )
    z: Position | str | None = Field(
        None,
        description="sections: each section is an image, and the sections of a file form a sequence. A number from 0: "
        "that section only. A range such as 3-8. maximum, mean: one image, projected along z; maximum 3-8, mean 3-8: "
        "of these sections. Default: sections; a microscope file needs a choice if it has several "
        "sections.",
    )
    others: dict[str, OtherPlace] = Field(
        default_factory=dict,
        description="Positions along further axes of a microscope file, by the letter of the axis, such "
        "as {H: 0} for the phases of CZI or {M: all} for the tiles of LIF. all: each position is an image.",
    )

    @field_validator("time")
    @classmethod
    def _time_is_a_choice(cls, choice: int | str | None) -> int | str | None:
        if isinstance(choice, str) and choice != "all":
            _check_range(choice, RANGE_PATTERN, expected="all, a number from 0 or a range such as 0-9", key="time")
        return choice

    @field_validator("z", mode="before")
    @classmethod
    def _max_is_maximum(cls, choice: Any) -> Any:
        return re.sub(r"^max\b", "maximum", choice) if isinstance(choice, str) else choice

    @field_validator("z")
    @classmethod
    def _z_is_a_choice(cls, choice: int | str | None) -> int | str | None:
        if isinstance(choice, str) and choice not in ("sections", "maximum", "mean"):
            expected = "sections, maximum, mean, a number from 0 or a range such as 3-8 or maximum 3-8"
            _check_range(choice, rf"((maximum|mean) )?{RANGE_PATTERN}", expected=expected, key="z")
        return choice


def _check_range(choice: str, pattern: str, *, expected: str, key: str) -> None:
    """Check the text of a range of planes."""
    numbers = [int(number) for number in re.findall(r"\d+", choice)]
    if not re.fullmatch(pattern, choice) or numbers[0] > numbers[1]:
        raise ValueError(f"expected {expected}, found {choice!r}. Change {key}")
