"""Find the number of steps that a training can take in a given time, on this machine.

A copy of the network is trained for some steps, validated and saved once, and thrown away. Weights and random states
stay as they were, so that the result is that of a training with the same number in `train.steps`.
"""

import copy
import logging
import math
import random
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import nn

from cellmill.training.batches import TrainSettings, count_workers
from cellmill.training.checkpoints import Checkpoint, StopRequest, stop_requests
from cellmill.training.imagesets import ImageSet
from cellmill.training.optimisers import set_learning_rate
from cellmill.training.state import Training, count_pass_steps
from cellmill.training.stepping import build_stepper
from cellmill.training.team import Team
from cellmill.training.validation import validate

logger = logging.getLogger(__name__)

# The first steps prepare the device, read the images and make their targets. They are repeated and timed. Each of the
# two takes this share of the budget, and at least the numbers of steps below.
SHARE = 0.02
WARM_UP_STEPS, TIMED_STEPS = 3, 5
# Slow steps are cut short after this share of the budget.
LARGEST_SHARE = 0.25
MOST_STEPS = 1000

# Fewer steps train nothing.
FEWEST_STEPS = 20
# Fewer steps usually leave a network unfinished: `default` gains .03 in AP from 590 to 3,000 (decision 0015).
USUAL_STEPS = 1000

# A training that takes this many times its budget is reported.
LATE = 1.5


@dataclass(frozen=True)
class Costs:
    """Measured times of a training, s.

    Attributes
    ----------
    step_s : float
        One step, with images and targets in memory.
    validation_s : float
        One validation and one checkpoint.
    start_s : float
        Further time before the usual steps that is still to come: reading the other images, compiling, and the
        validation of the weights that the training starts from.
    measuring_s : float
        The measurement itself.
    """

    step_s: float
    validation_s: float
    start_s: float
    measuring_s: float

    def seconds(self, steps: float, *, epochs: int) -> float:
        """Return the time of a training, including the measurement."""
        return self.measuring_s + self.start_s + epochs * self.validation_s + steps * self.step_s

    def steps(self, seconds: float, *, epochs: int) -> float:
        """Return the number of steps of a training that takes a time; negative if the validations take longer."""
        return (seconds - self.seconds(0, epochs=epochs)) / self.step_s


def find_steps(costs: Costs, *, train: TrainSettings, pass_steps: int) -> int:
    """Return the number of steps that fit into the budget, to two significant digits.

    Parameters
    ----------
    costs : Costs
    train : TrainSettings
        minutes and epochs are used.
    pass_steps : int, > 0
        Steps in which each image is used once.

    Raises
    ------
    ValueError
        If there is no time for `pass_steps` or for FEWEST_STEPS.
    """
    minutes, epochs = float(train["minutes"] or 0), int(train["epochs"])
    found = costs.steps(60 * minutes, epochs=epochs)
    steps = round_to_two_digits(found) if found > 0 else 0
    least = max(pass_steps, FEWEST_STEPS)
    if steps < least:
        needed = 1.1 * costs.seconds(least, epochs=epochs) / 60
        reason = "in which each training image is used" if pass_steps >= FEWEST_STEPS else "the fewest that are useful"
        raise ValueError(
            f"train.minutes: expected time for at least {least:,} steps, {reason}, found time for {steps:,} in "
            f"{minutes:g} min. A step takes {costs.step_s:.3g} s on this machine, and {epochs} validations take "
            f"{epochs * costs.validation_s:.3g} s. Raise train.minutes to {_round_up(needed):g}, lower train.epochs, "
            "the number of validations, or choose a smaller train.patch or width."
        )
    logger.info(
        "%.3g steps/s: %s steps in %g min (%d validations of %.3g s, %.0f s of measuring)",
        1 / costs.step_s, f"{steps:,}", minutes, epochs, costs.validation_s, costs.measuring_s,
        extra={"progress": True},
    )  # fmt: skip
    if steps < USUAL_STEPS:
        logger.warning(
            "train.minutes: %s steps in %g min are few, most trainings need %s. Raise train.minutes to %g, or use a "
            "faster device",
            f"{steps:,}", minutes, f"{USUAL_STEPS:,}",
            _round_up(1.1 * costs.seconds(USUAL_STEPS, epochs=epochs) / 60),
        )  # fmt: skip
    return steps


def round_to_two_digits(number: float) -> int:
    """Round a number of steps to two significant digits; a number below 100 to a whole number."""
    unit = 10 ** max(0, math.floor(math.log10(max(number, 1))) - 1)
    return round(number / unit) * unit


def _round_up(minutes: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(minutes)) - 1)
    return float(f"{math.ceil(minutes / unit) * unit:.2g}")


def fix_steps(train: TrainSettings, *, steps: int) -> TrainSettings:
    """Return a copy of the settings with a number of steps in place of minutes."""
    fixed = train.copy()
    fixed["minutes"], fixed["steps"] = None, steps
    return fixed


def count_least_steps(images: ImageSet, *, train: TrainSettings, is_recurrent: bool) -> int:
    """Return the number of steps in which each training image is used about once."""
    once = train.copy()
    once["patches_per_image"] = 1
    return count_pass_steps(images, train=once, is_recurrent=is_recurrent)


def measure_costs(
    model: nn.Module,
    *,
    images: ImageSet,
    validation: ImageSet,
    train: TrainSettings,
    warmup: int,
    seed: int,
    threads: int,
    device: torch.device,
    checkpoint: Checkpoint,
    team: Team,
) -> Costs:
    """Measure the times of a training with a copy of the network.

    All members of a team call this together and get the times of the leader.

    Parameters
    ----------
    model : nn.Module
        With its initial weights; it is not changed, and not moved to the device.
    images, validation : ImageSet
        The images to train and to validate on.
    train : TrainSettings
        With `minutes`, the budget.
    warmup : int
        Recurrent networks only, as for validation.
    seed, threads : int
        As for the training.
    device : torch.device
        Device of the training.
    checkpoint : Checkpoint
        Of the training; the checkpoint of the copy is written beside it and removed.
    team : Team

    Raises
    ------
    Stopped
        After a stop signal; the next run measures again.
    """
    started = time.monotonic()
    budget_s, train = 60 * float(train["minutes"] or 0), fix_steps(train, steps=MOST_STEPS)
    train["epochs"] = 1
    with stop_requests() as stop, _keep_random_states(device):
        trial = Training(
            build_stepper(copy.deepcopy(model), device=device, output=images.output, train=train, team=team)
        )
        set_learning_rate(trial.stepper.optimiser, 0.0)
        clock = _StepClock(trial, images=images, seed=seed, threads=threads, stop=stop)
        pass_steps = count_least_steps(images, train=train, is_recurrent=bool(trial.model.is_recurrent))
        limit_s = LARGEST_SHARE * budget_s
        warm = clock.time_steps(least=WARM_UP_STEPS, most=pass_steps, for_s=SHARE * budget_s, limit_s=limit_s)
        # Preparing batches ahead speeds up the first steps, until all threads have made their first batch.
        ahead = 1 + count_workers(threads, has_gpu=device.type == "cuda")
        least = ahead + TIMED_STEPS
        # Steps after the warm-up would read further images.
        most = MOST_STEPS if len(warm) >= pass_steps else max(least, len(warm))
        timed = clock.time_steps(least=least, most=most, for_s=SHARE * budget_s, limit_s=limit_s)
        step_s = _mean(timed[ahead:] or timed[-1:])
        validation_s = _time_validation(trial, validation, warmup=warmup, beside=checkpoint, stop=stop)
    start_s = max(0.0, _mean(warm[1:] or warm) - step_s) * max(0, pass_steps - len(warm))
    if train["compile"] and device.type == "cuda":
        start_s += max(0.0, warm[0] - step_s)
    del trial, clock
    if device.type == "cuda":
        torch.cuda.empty_cache()
    costs: Costs = team.share(Costs(step_s, validation_s, start_s, time.monotonic() - started))
    return costs


def report_lateness(*, seconds: float, minutes: float | None) -> None:
    """Log a warning if a training has taken much longer than its budget."""
    if minutes is not None and seconds > LATE * 60 * minutes:
        logger.warning(
            "the training took %.3g min, %.1f times its budget of %g min: "
            "this machine, or its load, was slower than during the measurement",
            seconds / 60, seconds / (60 * minutes), minutes,
        )  # fmt: skip


@dataclass
class _StepClock:
    """Take steps and time them, from the first batch of a training on."""

    trial: Training
    images: ImageSet
    seed: int
    threads: int
    stop: StopRequest

    def time_steps(self, *, least: int, most: int, for_s: float, limit_s: float) -> list[float]:
        """Take at least and at most some numbers of steps, for a time if there is a choice; return their times, s."""
        team, times = self.trial.stepper.team, []
        self.trial.model.train()
        started = last = time.monotonic()
        with closing(self.trial.remaining_batches(self.images, seed=self.seed, threads=self.threads)) as batches:
            for batch in islice(batches, max(least, most)):
                self.trial.stepper.take(batch)
                now = time.monotonic()
                times.append(now - last)
                last = now
                if self.stop.agree(team):
                    self.stop.obey()
                is_enough = (len(times) >= least and now - started >= for_s) or now - started >= limit_s
                if team.share(is_enough):  # the clock of the leader
                    break
        self.trial.stepper.memory = None
        return times


def _time_validation(
    trial: Training, validation: ImageSet, *, warmup: int, beside: Checkpoint, stop: StopRequest
) -> float:
    """Return the time (s) of a validation, whose targets have been made, and of a checkpoint after it."""
    team, device = trial.stepper.team, trial.stepper.device
    scores, started = None, time.monotonic()
    if team.leads:
        for index in range(len(validation)):
            validation.truth(index)
        started = time.monotonic()
        scores = validate(trial.kept_model, validation, warmup=warmup, device=device, stop=stop)
    if stop.agree(team):
        stop.obey()
    trial.add_step(0.0, patches=1)
    trial.close_epoch(rate=0.0, validation=team.share(scores))
    # If this process is killed, the file is removed with the checkpoints at the end of the training.
    checkpoint = Checkpoint(beside.path.with_suffix(".trial.pt"))
    checkpoint.save(trial.state(), team=team)
    seconds = time.monotonic() - started
    if team.leads:
        checkpoint.path.unlink()
    return seconds


@contextmanager
def _keep_random_states(device: torch.device) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  the global state, of which others may draw
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
