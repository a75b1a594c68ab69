"""Config section `simulate.time_lapse`: sequences of frames instead of single images."""

from typing import Annotated

from pydantic import Field, model_validator

from cellmill.config.ranges import CountRange, Fraction, FractionRange, Section

LongCount = Annotated[int, Field(ge=2, le=100_000)]


class Fading(Section):
    """Cells that are faint for some frames, as with a flickering stain. The ground truth has them in every frame."""

    probability: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Probability that a cell of full brightness becomes faint in the next frame.",
    )
    frames: CountRange = Field(
        default=(2, 5),
        description="Number of frames for which a cell stays faint, one number or [smallest, largest]; at least 1.",
    )
    light: FractionRange = Field(
        default=(0.0, 0.3),
        description="Fraction of its light that remains, one number or [smallest, largest] from which a value is "
        "drawn each time.",
    )

    @model_validator(mode="after")
    def _faint_for_a_frame(self) -> "Fading":
        if self.frames[0] == 0:
            raise ValueError(
                f"expected frames of 1 or more, found {list(self.frames)}. For cells that are never faint, remove "
                "fading"
            )
        return self


class TimeLapse(Section):
    """Cells that move, deform, grow, divide, enter and leave in front of a stationary background."""

    frames: LongCount = Field(default=40, description="Number of frames per sequence.")
    speed_px: float = Field(
        default=2.0,
        ge=0,
        le=1000,
        description="Root mean square of a cell's step from frame to frame along each axis, in px.",
    )
    persistence: Fraction = Field(
        default=0.8,
        lt=1,
        description="Correlation of a step with the step before. 0 is Brownian motion; near 1, cells move almost "
        "straight.",
    )
    deformation: Fraction = Field(
        default=0.1,
        description="Fraction of an outline's random variation that is redrawn from frame to frame: 0 is rigid, 1 "
        "gives a new outline in each frame.",
    )
    cycle_frames: CountRange = Field(
        default=(40, 80),
        description="Frames from a cell's birth to its division, one number or [smallest, largest]. A cell doubles "
        "its area in this time, and has cell.radius_px in the middle of it. 0: no cell grows or divides.",
    )
    resting: Fraction = Field(
        default=0.0,
        description="Fraction of the cells that stay in place for part of the sequence, without deforming or dividing.",
    )
    resting_frames: Fraction = Field(
        default=0.6,
        description="Fraction of the sequence for which they stay. A temporal background treats a cell that stays for "
        "more than half of the frames as background; the report warns about this.",
    )
    fading: Fading | None = Field(
        default=None, description="Frames in which cells are faint. Default: constant brightness."
    )

    @model_validator(mode="after")
    def _cycles_all_or_none(self) -> "TimeLapse":
        shortest, longest = self.cycle_frames
        if shortest == 0 < longest:
            raise ValueError(
                f"expected cycle_frames above 0, or 0 alone for cells that never divide, found [0, {longest}]. "
                "Set the smaller number to 1 or more"
            )
        return self
