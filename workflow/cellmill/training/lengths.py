"""Length of a training: its epochs, its optimiser steps, and the fraction that is done.

It is set as a number of passes over the training images (`epochs`), as a number of optimiser steps (`steps`), or as a
time (`minutes`), for which `cellmill.training.budget` finds the number of steps. With a number of steps, an epoch is
only the interval between two validations.
"""

from dataclasses import dataclass
from typing import TypedDict


class LengthSettings(TypedDict):
    """Part of the section `train` of a preset that determines the length."""

    epochs: int
    minutes: float | None
    steps: int | None


@dataclass(frozen=True)
class Length:
    """Optimiser steps of a training, divided into epochs whose lengths differ by at most one step.

    `schedule_epochs` is the unit of learning-rate schedules: the whole training is that many epochs of a schedule.
    """

    steps: int
    epochs: int
    schedule_epochs: int
    counts_steps: bool  # whether the number of steps was set, so that an epoch is not a pass over the images

    def before(self, epoch: int) -> int:
        """Return the number of steps before an epoch, the first of which is 0."""
        return self.steps * epoch // self.epochs

    def of(self, epoch: int) -> int:
        """Return the number of steps of an epoch."""
        return self.before(epoch + 1) - self.before(epoch)

    def progress(self, epoch: int, step: int) -> float:
        """Return the progress after some steps of an epoch, in epochs of the schedule."""
        return (epoch + step / self.of(epoch)) * (self.schedule_epochs / self.epochs)

    def __str__(self) -> str:
        if self.counts_steps:
            return f"{self.steps:,} steps in {self.epochs} epochs"
        return f"{self.epochs} epochs of {self.of(0)} steps"


def plan_length(train: LengthSettings, *, pass_steps: int) -> Length:
    """Plan the length of a training.

    Parameters
    ----------
    train : LengthSettings
        Section `train` of a preset, with a number of steps in place of minutes.
    pass_steps : int, > 0
        Steps of a pass over the training images; not used if the number of steps is set.

    Returns
    -------
    Length
        With fewer steps than epochs, each step is an epoch.
    """
    assert train["minutes"] is None
    epochs = int(train["epochs"])
    if train["steps"] is None:
        return Length(steps=epochs * pass_steps, epochs=epochs, schedule_epochs=epochs, counts_steps=False)
    steps = int(train["steps"])
    return Length(steps=steps, epochs=min(epochs, steps), schedule_epochs=epochs, counts_steps=True)


def describe_source(train: LengthSettings) -> str:
    """Return the key that determines the length, and its value, such as ``minutes: 15``."""
    for key, value in (("minutes", train["minutes"]), ("steps", train["steps"])):
        if value is not None:
            return f"{key}: {value:.15g}"
    return f"epochs: {int(train['epochs'])}"
