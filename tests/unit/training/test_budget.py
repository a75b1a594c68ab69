"""Training for a time: the number of steps fits, measuring leaves no trace, interruptions change nothing."""

import csv
import json
import math
import os
import random
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cellmill.stages.train
import cellmill.training.budget
import cellmill.training.stepping
from cellmill.models.choices import read_choices
from cellmill.models.registry import build_network
from cellmill.stages.train import train_model
from cellmill.training.budget import (
    FEWEST_STEPS,
    Costs,
    find_steps,
    measure_costs,
    report_lateness,
    round_to_two_digits,
)
from cellmill.training.checkpoints import Checkpoint, Stopped
from cellmill.training.team import Team
from sequence_shards import recurrent_preset, write_frames
from training_shards import image_set, network_of, tiny_preset, write_training_shard

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Measure with the fewest steps."""
    torch.set_num_threads(1)
    monkeypatch.setattr(cellmill.training.budget, "SHARE", 0.0)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(5)
    y, x = np.mgrid[:40, :40]
    truths = [((y - 15) ** 2 + (x - 8 - 3 * frame) ** 2 < 49).astype(np.uint16) for frame in range(8)]
    frames = [60.0 * labels_yx + rng.normal(0, 8, (40, 40)) for labels_yx in truths]
    return {
        "stills": (
            write_training_shard(folder, "t", shapes=[(48, 48), (40, 70), (64, 64)]),
            write_training_shard(folder, "v", shapes=[(50, 40)], seed=9),
        ),
        "frames": (write_frames(folder, "c", images_tyx=frames, labels_tyx=truths),) * 2,
    }


PRESETS = {
    "stills": {
        "network": {"dropout": 0.2},
        "train": {
            "epochs": 4,
            "sampling": "balanced",
            "ema": 0.5,
            "schedule": {"name": "cosine", "warmup_epochs": 0.5},
            "augmentation": {"flip": True, "noise": 0.1},
        },
    },
    "frames": {"train": {"epochs": 4, "augmentation": {"noise": 0.1}}},
}
# (60 s - 4 s of measuring - 4 validations of 1 s) / 2 s
COSTS, STEPS = Costs(step_s=2.0, validation_s=1.0, start_s=0.0, measuring_s=4.0), 26


def preset_of(kind, **train):
    make = tiny_preset if kind == "stills" else recurrent_preset
    changes = PRESETS[kind]
    return make(**{**changes, "train": {**changes["train"], **train}})


def train(folder, shards, *, kind="stills", **changes):
    """Train and return the bytes of the weights."""
    folder.mkdir(exist_ok=True)
    preset, (own, others) = preset_of(kind, **changes), shards[kind]
    train_model(
        weights_path=folder / "weights.pt",
        history_path=folder / "history.csv",
        summary_path=folder / "train.json",
        choices_path=folder / "choices.json",
        train_images=[own[0]],
        train_labels=[own[1]],
        validation_images=[others[0]],
        validation_labels=[others[1]],
        around_images=[],
        network=network_of(preset),
        input=preset["input"],
        train=preset["train"],
        seed=7,
        init_from=None,
        init_weights="all",
        passages=[[f"c{number:02d}" for number in range(8)]] if kind == "frames" else None,
        classes=None,
        pixel_size_um=None,
        threads=1,
        gpu=0,
        code={},
    )
    return (folder / "weights.pt").read_bytes()


def summary_of(folder):
    return json.loads((folder / "train.json").read_text())


def history_of(folder):
    with (folder / "history.csv").open() as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def measured(monkeypatch):
    """Replace the result of a measurement, which takes place nevertheless, by COSTS; return the list of results."""
    results = []

    def measure(*args, **keywords):
        results.append(measure_costs(*args, **keywords))
        return COSTS

    monkeypatch.setattr(cellmill.stages.train, "measure_costs", measure)
    return results


# ---- the number of steps -----------------------------------------------------------------------------------


def test_the_number_of_steps_is_a_choice_of_the_training_only_if_the_config_gives_a_time(tmp_path, shards, measured):
    train(tmp_path / "timed", shards, minutes=1, steps=None)
    [choice] = read_choices(tmp_path / "timed/choices.json")
    assert (choice.key, choice.value) == ("train.steps", STEPS)
    assert choice.because == "as many as take 1 min at the speed measured on this machine"
    train(tmp_path / "counted", shards, steps=STEPS)
    assert read_choices(tmp_path / "counted/choices.json") == []


def budget_of(*, minutes=1.0, epochs=4):
    return {"minutes": minutes, "epochs": epochs}


def test_the_time_that_is_left_after_measuring_and_validations_is_filled(caplog):
    caplog.set_level("INFO")
    costs = Costs(step_s=1 / 12.4, validation_s=0.1, start_s=2.0, measuring_s=7.0)
    # (900 - 5 - 2 - 7) s at 12.4 steps/s are 10986 steps
    assert find_steps(costs, train=budget_of(minutes=15, epochs=50), pass_steps=9) == 11_000
    assert caplog.messages[0].startswith("12.4 steps/s: 11,000 steps in 15 min (50 validations of 0.1 s, 7 s of")
    assert caplog.records[0].progress


@pytest.mark.parametrize(("step_s", "is_said"), [(0.5, True), (0.2, False)])
def test_few_steps_are_said_with_a_time_for_enough(caplog, step_s, is_said):
    costs = Costs(step_s=step_s, validation_s=0.0, start_s=0.0, measuring_s=0.0)
    find_steps(costs, train=budget_of(minutes=5), pass_steps=9)
    said = [message for message in caplog.messages if "are few" in message]
    # 1,000 steps of 0.5 s take 8.3 min, and a tenth more is 9.2 min
    assert said == is_said * [
        "train.minutes: 600 steps in 5 min are few, most trainings need 1,000. Raise train.minutes to 9.2, or use a "
        "faster device"
    ]


@pytest.mark.parametrize(
    ("number", "rounded"), [(3.4, 3), (26, 26), (99.4, 99), (99.6, 100), (104, 100), (105.1, 110), (11_164, 11_000)]
)
def test_a_number_of_steps_has_two_digits(number, rounded):
    assert round_to_two_digits(number) == rounded


def test_a_budget_for_few_steps_is_refused_with_one_that_is_enough():
    costs = Costs(step_s=3.0, validation_s=2.0, start_s=0.0, measuring_s=9.0)
    # (60 - 9 - 8) / 3 = 14 steps; 20 steps need 60 + 8 + 9 = 77 s
    message = (
        r"^train\.minutes: expected time for at least 20 steps, the fewest that are useful, found time for 14 in 1 min\. "
        r"A step takes 3 s on this machine, and 4 validations take 8 s\. Raise train\.minutes to ([\d.]+), lower "
        r"train\.epochs, the number of validations, or choose a smaller train\.patch or width\.$"
    )
    with pytest.raises(ValueError, match=message) as refused:
        find_steps(costs, train=budget_of(), pass_steps=2)
    enough = float(str(refused.value).partition("Raise train.minutes to ")[2].partition(",")[0])
    assert 77 / 60 <= enough < 1.2 * 77 / 60
    assert find_steps(costs, train=budget_of(minutes=enough), pass_steps=2) >= FEWEST_STEPS


def test_a_budget_for_less_than_one_use_of_each_image_is_refused():
    with pytest.raises(ValueError, match=r"at least 27 steps, in which each training image is used, found time for 26"):
        find_steps(COSTS, train=budget_of(), pass_steps=27)
    assert find_steps(COSTS, train=budget_of(), pass_steps=26) == STEPS


def test_validations_longer_than_the_budget_leave_no_steps():
    costs = Costs(step_s=0.1, validation_s=20.0, start_s=0.0, measuring_s=1.0)
    with pytest.raises(ValueError, match=r"found time for 0 in 1 min\. .* and 4 validations take 80 s"):
        find_steps(costs, train=budget_of(), pass_steps=2)


@pytest.mark.parametrize("kind", ["stills", "frames"])
def test_a_budget_too_short_for_this_machine_is_refused_and_nothing_is_left(tmp_path, shards, kind):
    with pytest.raises(ValueError, match=r"train\.minutes: expected time for at least 20 steps.*found time for \d+ in"):
        train(tmp_path / "run", shards, kind=kind, minutes=1e-5)
    assert list((tmp_path / "run").iterdir()) == []


class Clock:
    """Clock that advances by 2 s a step and 10 s a validation; the first two steps, which read images, take 5 s."""

    def __init__(self, monkeypatch):
        self.now, self.steps = 100.0, 0
        monkeypatch.setattr(cellmill.training.budget, "time", SimpleNamespace(monotonic=lambda: self.now))
        take, check = cellmill.training.stepping.Stepper.take, cellmill.training.budget.validate

        def timed_take(stepper, batch):
            self.steps += 1
            self.now += 5 if self.steps <= 2 else 2
            return take(stepper, batch)

        def timed_check(*args, **keywords):
            self.now += 10
            return check(*args, **keywords)

        monkeypatch.setattr("cellmill.training.stepping.Stepper.take", timed_take)
        monkeypatch.setattr(cellmill.training.budget, "validate", timed_check)


def costs_of(folder, shards, *, minutes=10):
    preset, (own, others) = preset_of("stills", minutes=minutes), shards["stills"]
    return measure_costs(
        build_network(network_of(preset)),
        images=image_set(own),
        validation=image_set(others),
        train=preset["train"],
        warmup=0,
        seed=7,
        threads=1,
        device=CPU,
        checkpoint=Checkpoint(folder / ".weights.checkpoint-a.pt"),
        team=Team(),
    )


def test_costs_are_those_of_the_clock(tmp_path, shards, monkeypatch):
    clock = Clock(monkeypatch)
    costs = costs_of(tmp_path, shards)
    # Three images in batches of two are read in two steps of 5 s, so that nothing is still to be read.
    assert (costs.step_s, costs.validation_s, costs.start_s) == (2, 10, 0)
    assert costs.measuring_s == clock.now - 100 == 2 * clock.steps + 6 + 10


def test_images_that_are_still_to_be_read_take_their_time(tmp_path, shards, monkeypatch):
    Clock(monkeypatch)
    monkeypatch.setattr(cellmill.training.budget, "count_least_steps", lambda *_, **__: 50)
    # Warm-up steps take 5, 5 and 2 s. Without the first, the mean is 1.5 s longer than a step; 47 more steps follow.
    assert costs_of(tmp_path, shards).start_s == pytest.approx(47 * 1.5)


def test_a_large_share_of_a_budget_takes_as_many_steps_as_fit(tmp_path, shards, monkeypatch):
    clock = Clock(monkeypatch)
    monkeypatch.setattr(cellmill.training.budget, "SHARE", 0.05)
    costs_of(tmp_path, shards, minutes=20)
    assert clock.steps == 3 + 30  # the fewest warm-up steps are a pass over the images; then 60 s


# ---- the result is that of the number of steps -------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stills", "frames"])
def test_a_time_gives_the_bytes_of_its_number_of_steps(tmp_path, shards, measured, kind):
    timed = train(tmp_path / "timed", shards, kind=kind, minutes=1)
    assert len(measured) == 1
    counted = train(tmp_path / "counted", shards, kind=kind, steps=STEPS)
    assert timed == counted
    assert len(measured) == 1
    sources = [summary_of(tmp_path / name) for name in ("timed", "counted")]
    assert [(found["steps"], found["steps_from"]) for found in sources] == [(26, "minutes: 1"), (26, "steps: 26")]
    assert [found["measuring_seconds"] for found in sources] == [COSTS.measuring_s, 0]
    assert sources[0]["seconds"] > COSTS.measuring_s
    assert sources[0]["settings"]["train"]["minutes"] == 1
    steps = [[int(row["step"]) for row in history_of(tmp_path / name)] for name in ("timed", "counted")]
    assert steps == [[6, 13, 19, 26]] * 2


def test_measuring_changes_no_weight_and_no_random_state(tmp_path, shards):
    preset = preset_of("stills", minutes=1)
    own, others = shards["stills"]
    model = build_network(network_of(preset))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    costs = measure_costs(
        model,
        images=image_set(own),
        validation=image_set(others),
        train=preset["train"],
        warmup=0,
        seed=7,
        threads=1,
        device=CPU,
        checkpoint=Checkpoint(tmp_path / ".weights.checkpoint-a.pt"),
        team=Team(),
    )
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2][1])  # noqa: NPY002
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert list(tmp_path.iterdir()) == []
    assert all(math.isfinite(seconds) and seconds >= 0 for seconds in vars(costs).values())
    assert 0 < costs.step_s < costs.measuring_s


def test_steps_that_are_slow_are_cut_short(tmp_path, shards, monkeypatch):
    taken = []
    monkeypatch.setattr(cellmill.training.budget, "LARGEST_SHARE", 0.0)
    monkeypatch.setattr("cellmill.training.stepping.Stepper.take", lambda self, batch: taken.append(batch) or 1.0)
    with pytest.raises(ValueError, match="expected time for at least"):
        train(tmp_path / "run", shards, minutes=1e-9)
    assert len(taken) == 2


# ---- interruptions -----------------------------------------------------------------------------------------


def never(*_, **__):
    raise AssertionError("a training that is continued measures nothing")


def state_in(folder):
    [path] = folder.iterdir()
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("kind", ["stills", "frames"])
def test_a_training_stopped_between_two_steps_keeps_its_length_and_its_result(
    tmp_path, shards, measured, monkeypatch, kind
):
    expected = train(tmp_path / "counted", shards, kind=kind, steps=STEPS)
    note = cellmill.stages.train.Watcher.note_step

    def interrupt(self, training, **keywords):
        if training.steps_done == 9:
            os.kill(os.getpid(), signal.SIGTERM)
        note(self, training, **keywords)

    folder = tmp_path / "timed"
    monkeypatch.setattr("cellmill.stages.train.Watcher.note_step", interrupt)
    with pytest.raises(Stopped):
        train(folder, shards, kind=kind, minutes=1)
    state = state_in(folder)
    assert (state["steps"], state["steps_done"], state["epoch"], state["step"]) == (STEPS, 9, 1, 3)
    monkeypatch.undo()
    monkeypatch.setattr(cellmill.stages.train, "measure_costs", never)
    assert train(folder, shards, kind=kind, minutes=1) == expected
    assert summary_of(folder)["measuring_seconds"] == COSTS.measuring_s
    assert sorted(path.name for path in folder.iterdir()) == ["choices.json", "history.csv", "train.json", "weights.pt"]


@pytest.mark.parametrize("after", [0, 7])
def test_a_crash_at_any_moment_keeps_the_length(tmp_path, shards, measured, monkeypatch, after):
    """Nothing is saved at the crash: the length was saved before the first step, the steps since by the clock."""
    expected = train(tmp_path / "counted", shards, steps=STEPS)
    monkeypatch.setattr("cellmill.training.checkpoints.SAVE_EVERY_S", 0.0)
    take, steps = cellmill.training.stepping.Stepper.take, []

    def crash(self, batch):
        if self.train["steps"] == STEPS:
            steps.append(1)
            if len(steps) > after:
                raise RuntimeError("power failure")
        return take(self, batch)

    monkeypatch.setattr("cellmill.training.stepping.Stepper.take", crash)
    with pytest.raises(RuntimeError, match="power failure"):
        train(tmp_path / "timed", shards, minutes=1)
    state = state_in(tmp_path / "timed")
    assert (state["steps"], state["steps_done"]) == (STEPS, after)
    monkeypatch.undo()
    monkeypatch.setattr(cellmill.stages.train, "measure_costs", never)
    assert train(tmp_path / "timed", shards, minutes=1) == expected


@pytest.mark.parametrize("place", ["Stepper.take", "validate"])
def test_a_signal_during_the_measurement_ends_it_and_leaves_nothing(tmp_path, shards, monkeypatch, place):
    target = {
        "Stepper.take": "cellmill.training.stepping.Stepper.take",
        "validate": "cellmill.training.budget.validate",
    }
    real = cellmill.training.stepping.Stepper.take if place == "Stepper.take" else cellmill.training.budget.validate

    def interrupt(*args, **keywords):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*args, **keywords)

    monkeypatch.setattr(target[place], interrupt)
    with pytest.raises(Stopped) as ended:
        train(tmp_path / "run", shards, minutes=1)
    assert ended.value.code == 128 + signal.SIGTERM
    assert list((tmp_path / "run").iterdir()) == []


def test_other_minutes_do_not_take_the_checkpoint(tmp_path, shards, measured, monkeypatch):
    def stop(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("cellmill.training.watching.Watcher.note_epoch", stop)
    for minutes in (1, 2):
        with pytest.raises(Stopped):
            train(tmp_path / "run", shards, minutes=minutes)
    assert len(measured) == 2
    assert len(list((tmp_path / "run").iterdir())) == 2


# ---- a number of steps -------------------------------------------------------------------------------------


def test_a_number_of_steps_is_kept_exactly_and_validated_as_often_as_there_are_epochs(tmp_path, shards):
    train(tmp_path / "run", shards, steps=11, epochs=3, patches_per_image=50)
    assert [int(row["step"]) for row in history_of(tmp_path / "run")] == [3, 7, 11]
    summary = summary_of(tmp_path / "run")
    assert (summary["steps"], summary["steps_done"], summary["epochs_done"]) == (11, 11, 3)


def test_a_number_of_steps_below_that_of_epochs_is_as_many_epochs(tmp_path, shards):
    train(tmp_path / "run", shards, steps=3, epochs=50, schedule={"name": "cosine"})
    rates = [float(row["learning_rate"]) for row in history_of(tmp_path / "run")]
    assert rates == pytest.approx([0.01, 0.0075, 0.0025])  # cosine after none, a third and two thirds


def test_the_steps_of_a_training_with_epochs_are_counted(tmp_path, shards):
    train(tmp_path / "run", shards, patches_per_image=3)
    # 9 patches in batches of 2, the last of which is smaller
    assert [int(row["step"]) for row in history_of(tmp_path / "run")] == [5, 10, 15, 20]
    summary = summary_of(tmp_path / "run")
    assert (summary["steps"], summary["steps_from"], summary["measuring_seconds"]) == (20, "epochs: 4", 0)


def test_patience_ends_a_number_of_steps_before_its_end(tmp_path, shards):
    still = {"optimiser": {"name": "sgd", "learning_rate": 1e-30}, "ema": None, "schedule": {"name": "none"}}
    train(tmp_path / "run", shards, kind="frames", steps=20, epochs=5, patience=1, **still)
    summary = summary_of(tmp_path / "run")
    assert summary["steps"] == 20
    assert summary["steps_done"] == 4 * summary["epochs_done"] < 20


# ---- lateness ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "minutes", "is_late"), [(89, 1.0, False), (91, 1.0, True), (91, None, False), (1500, 15.0, True)]
)
def test_a_training_that_takes_much_longer_than_its_budget_is_reported(caplog, seconds, minutes, is_late):
    report_lateness(seconds=seconds, minutes=minutes)
    assert bool(caplog.records) == is_late
    if is_late:
        assert f"times its budget of {minutes:g} min" in caplog.text
